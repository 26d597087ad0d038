//! Claims of due jobs.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use unified_scheduler_core::error::Result;
use unified_scheduler_core::execution::{Status, Trigger};
use unified_scheduler_core::job::{Due, EndReason, Job};
use unified_scheduler_core::policy::{Misfire, Overlap};
use unified_scheduler_core::schedule::{Calendars, Schedule};
use unified_scheduler_core::store::{Live, NextDue, Plan, UpdateJob, UpdateOutcome};
use unified_scheduler_core::time::Timestamp;

use super::group;
use crate::ctx::{Ctx, MINUTE, claimed_jobs};
use crate::planner::Changed;

group! { "claims":
    a_due_job_runs_and_moves_on_from_its_previous_due_time,
    nothing_is_claimed_before_the_stores_clock_has_come_to_it,
    what_is_claimed_is_stored_as_it_was_given,
    jobs_are_claimed_by_priority_then_time,
    a_claim_takes_no_more_than_its_limit_and_says_that_there_is_more,
    a_claim_without_room_takes_nothing,
    the_next_due_time_is_told,
    handlers_that_were_not_named_are_not_claimed,
    unknown_handlers_never_hide_others,
    a_disabled_job_is_not_claimed_and_keeps_its_due_time,
    an_edit_wins_over_what_was_due,
    an_occurrence_has_one_execution_even_when_an_edit_sets_the_job_back,
    a_job_at_its_limit_ends,
    an_overlap_is_skipped_with_a_record,
    live_executions_are_counted_for_the_planner,
    a_queued_occurrence_waits_and_then_runs,
    cancel_running_asks_what_runs_to_stop,
    run_all_records_every_missed_occurrence,
    a_long_outage_is_one_execution_that_says_what_it_stands_for,
    skip_next_and_the_count_of_firings_are_written,
    after_completion_sets_the_next_occurrence_once,
    jobs_of_another_process_are_claimed,
}

async fn a_due_job_runs_and_moves_on_from_its_previous_due_time(ctx: &Ctx<'_>) -> Result<()> {
    let job = ctx.create(ctx.job("steady")).await?;
    let node = ctx.join("node").await?;
    let first = ctx.now();
    // Late by less than a period: the next is counted from the due time, not from the claim.
    ctx.advance(Duration::from_millis(41_003));
    let claimed = ctx.claim_one(&node).await?;
    let e = &claimed.execution;
    assert_eq!((e.due_at, e.status, e.trigger, e.attempt), (first, Status::Running, Trigger::Schedule, 1));
    assert_eq!((e.root_id, e.nonce.as_str(), e.next_due_at), (e.id, "", Some(first.saturating_add(MINUTE))));
    assert_eq!((e.node_id.as_ref(), e.epoch, e.claim), (Some(&node.id), node.epoch, 1));
    assert_eq!((e.started_at, e.created_at), (Some(ctx.now()), ctx.now()), "by the store's clock");
    let after = ctx.get(&job.id).await?;
    assert_eq!(after.due.map(|due| due.due_at), Some(first.saturating_add(MINUTE)));
    assert_eq!((after.n_fired, after.version), (1, job.version));
    Ok(())
}

async fn nothing_is_claimed_before_the_stores_clock_has_come_to_it(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let mut job = ctx.job("later");
    let at = ctx.now().saturating_add(Duration::from_secs(1));
    job.due = Some(Due { due_at: ctx.now(), fire_at: at });
    ctx.create(job).await?;
    ctx.advance(Duration::from_millis(999));
    let batch = ctx.claim(&node, 10).await?;
    assert_eq!((batch.claimed.len(), batch.now, batch.next_at), (0, ctx.now(), Some(at)));
    ctx.advance(Duration::from_millis(1));
    ctx.claim_one(&node).await?;
    Ok(())
}

async fn what_is_claimed_is_stored_as_it_was_given(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let claimed = ctx.running("stored", &node).await?;
    assert_eq!(ctx.execution(&claimed.execution.id).await?, claimed.execution);
    assert_eq!(ctx.executions(&claimed.job.id).await?, std::slice::from_ref(&claimed.execution));
    let owned = ctx.store().owned(&node).await?;
    assert_eq!(owned.len(), 1);
    assert_eq!(owned[0].execution, claimed.execution);
    assert_eq!(owned[0].job.id, claimed.job.id);
    Ok(())
}

async fn jobs_are_claimed_by_priority_then_time(ctx: &Ctx<'_>) -> Result<()> {
    let start = ctx.now();
    for (name, priority, second) in [("c", 0, 2), ("a", 9, 5), ("d", 0, 3), ("e", -9, 0), ("b", 9, 6)] {
        let mut job = ctx.job_with(name, Schedule::every(MINUTE), |d| d.priority = priority);
        let at = start.saturating_add(Duration::from_secs(second));
        job.due = Some(Due { due_at: at, fire_at: at });
        ctx.create(job).await?;
    }
    ctx.advance(MINUTE / 2);
    let node = ctx.join("node").await?;
    assert_eq!(claimed_jobs(&ctx.claim(&node, 2).await?), ["job-a", "job-b"]);
    assert_eq!(claimed_jobs(&ctx.claim(&node, 10).await?), ["job-c", "job-d", "job-e"]);
    Ok(())
}

async fn a_claim_takes_no_more_than_its_limit_and_says_that_there_is_more(ctx: &Ctx<'_>) -> Result<()> {
    for i in 0..7 {
        ctx.create(ctx.job(&format!("{i}"))).await?;
    }
    let node = ctx.join("node").await?;
    let mut seen = BTreeSet::new();
    for (n, more) in [(3, true), (3, true), (1, false)] {
        let batch = ctx.claim(&node, 3).await?;
        assert_eq!((batch.claimed.len(), batch.more), (n, more));
        seen.extend(batch.claimed.into_iter().map(|claimed| claimed.job.id));
    }
    assert_eq!(seen.len(), 7);
    Ok(())
}

async fn a_claim_without_room_takes_nothing(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let job = ctx.create(ctx.job("waits")).await?;
    let batch = ctx.claim(&node, 0).await?;
    assert_eq!((batch.claimed.len(), batch.more), (0, true));
    assert_eq!(ctx.get(&job.id).await?, job);
    Ok(())
}

async fn the_next_due_time_is_told(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    assert_eq!(ctx.claim(&node, 10).await?.next_at, None, "nothing is ever due");
    let start = ctx.now();
    ctx.create(ctx.job_with("other", Schedule::every(MINUTE), |d| d.handler = "other".into())).await?;
    ctx.create(ctx.job_with("slow", Schedule::every(10 * MINUTE), |d| d.priority = 50)).await?;
    let fast = ctx.create(ctx.job("fast")).await?;
    let batch = ctx.claim(&node, 10).await?;
    assert_eq!(batch.next_at, Some(start.saturating_add(MINUTE)), "the earliest, whatever the priority");
    ctx.update(&fast.id, "disabled", |edit| edit.enabled = Some(false)).await?;
    assert_eq!(ctx.claim(&node, 10).await?.next_at, Some(start.saturating_add(10 * MINUTE)));
    let mut pending = ctx.manual(&fast.id);
    pending.run_at = start.saturating_add(Duration::from_millis(1501));
    ctx.trigger_new(pending).await?;
    let next = ctx.claim(&node, 10).await?.next_at;
    assert_eq!(next, Some(start.saturating_add(Duration::from_millis(1501))), "pending ones count");
    Ok(())
}

async fn handlers_that_were_not_named_are_not_claimed(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let job = ctx.create(ctx.job("mine")).await?;
    let batch = ctx.claim_of(&node, &["other", "wor", "work2", "Work"], 10).await?;
    assert_eq!((batch.claimed.len(), batch.more, batch.next_at), (0, false, None));
    let batch = ctx.claim_of(&node, &[], 10).await?;
    assert_eq!((batch.claimed.len(), batch.more), (0, false));
    assert_eq!(ctx.get(&job.id).await?, job, "nothing of it was touched");
    Ok(())
}

async fn unknown_handlers_never_hide_others(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let mut strangers = Vec::new();
    for i in 0..120 {
        let urgent = ctx.job_with(&format!("urgent-{i}"), Schedule::every(MINUTE), |d| {
            d.handler = "unknown".into();
            d.priority = 100;
        });
        strangers.push(urgent);
    }
    let manual = strangers[0].id.clone();
    let _ = ctx.create_all(strangers).await?;
    for _ in 0..120 {
        ctx.trigger(&manual).await?;
    }
    let job = ctx.create(ctx.job("known")).await?;
    let batch = ctx.claim(&node, 1).await?;
    assert_eq!(claimed_jobs(&batch), [job.id.as_str()]);
    assert!(!batch.more, "what this node can't run is not more for it");
    Ok(())
}

async fn a_disabled_job_is_not_claimed_and_keeps_its_due_time(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let job = ctx.create(ctx.job("paused")).await?;
    ctx.update(&job.id, "disabled", |edit| edit.enabled = Some(false)).await?;
    ctx.advance(3 * MINUTE);
    let batch = ctx.claim(&node, 10).await?;
    assert_eq!((batch.claimed.len(), batch.skipped.len(), batch.next_at), (0, 0, None));
    assert_eq!(ctx.get(&job.id).await?.due, job.due, "so that resuming can tell what was missed");
    ctx.update(&job.id, "enabled", |edit| edit.enabled = Some(true)).await?;
    let claimed = ctx.claim_one(&node).await?;
    assert_eq!(Some(claimed.execution.due_at), job.due.map(|due| due.due_at));
    Ok(())
}

async fn an_edit_wins_over_what_was_due(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let job = ctx.create(ctx.job("moved")).await?;
    let later = ctx.now().saturating_add(5 * MINUTE);
    let due = Due { due_at: later, fire_at: later };
    ctx.update(&job.id, "updated", |edit| edit.due = Some((Some(due), None))).await?;
    assert_eq!(ctx.claim(&node, 10).await?.claimed.len(), 0);
    ctx.advance(5 * MINUTE);
    assert_eq!(ctx.claim_one(&node).await?.execution.due_at, later);
    Ok(())
}

async fn an_occurrence_has_one_execution_even_when_an_edit_sets_the_job_back(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let first = ctx.running("set-back", &node).await?;
    ctx.end(&node, &first, Status::Success).await?;
    let old = Due { due_at: first.execution.due_at, fire_at: first.execution.due_at };
    ctx.update(&first.job.id, "updated", |edit| edit.due = Some((Some(old), None))).await?;
    let batch = ctx.claim(&node, 10).await?;
    assert_eq!(batch.claimed.len(), 0, "the occurrence has run already");
    assert_eq!(ctx.executions(&first.job.id).await?.len(), 1);
    let due = ctx.get(&first.job.id).await?.due.map(|due| due.due_at);
    assert_eq!(due, Some(old.due_at.saturating_add(MINUTE)), "and the job moves on");
    Ok(())
}

async fn a_job_at_its_limit_ends(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let job = ctx.create(ctx.job_with("twice", Schedule::every(MINUTE).limit(2), |_| {})).await?;
    let first = ctx.claim_one(&node).await?;
    ctx.end(&node, &first, Status::Success).await?;
    ctx.advance(MINUTE);
    let batch = ctx.claim(&node, 10).await?;
    assert_eq!(batch.claimed.len(), 1);
    assert_eq!(batch.ended, [(job.id.clone(), EndReason::Limit)]);
    let stored = ctx.get(&job.id).await?;
    assert_eq!((stored.due, stored.ended, stored.n_fired), (None, Some(EndReason::Limit), 2));
    ctx.advance(MINUTE);
    assert_eq!(ctx.claim(&node, 10).await?.claimed.len(), 0);
    Ok(())
}

async fn an_overlap_is_skipped_with_a_record(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let running = ctx.running("slow", &node).await?;
    ctx.advance(MINUTE);
    let batch = ctx.claim(&node, 10).await?;
    assert_eq!((batch.claimed.len(), batch.skipped.len()), (0, 1));
    let record = &batch.skipped[0];
    assert_eq!(record.due_at, running.execution.due_at.saturating_add(MINUTE));
    assert_eq!((record.status, record.reason.as_deref()), (Status::Skipped, Some("overlap")));
    assert_eq!(record.ended_at, Some(ctx.now()));
    assert_eq!(ctx.execution(&record.id).await?, *record);
    Ok(())
}

async fn live_executions_are_counted_for_the_planner(ctx: &Ctx<'_>) -> Result<()> {
    let (one, two) = (ctx.join("one").await?, ctx.join("two").await?);
    let allow = ctx.job_with("counted", Schedule::every(MINUTE), |d| d.overlap = Overlap::Allow { max: 2 });
    let job = ctx.create(allow).await?;
    ctx.claim_one(&one).await?;
    ctx.advance(MINUTE);
    ctx.claim_one(&two).await?;
    ctx.trigger(&job.id).await?;
    let asked = AtomicUsize::new(0);
    let change = |_: &Job, live: Live, _: &Calendars, _: &mut Plan| {
        assert_eq!(live, Live { running: 2, queued: 0 }, "of all nodes; a manual one is not queued");
        asked.fetch_add(1, Ordering::Relaxed);
    };
    ctx.advance(MINUTE);
    let planner = Changed { engine: ctx.planner.clone(), change };
    let batch = ctx.claim_with(&one, 10, &planner).await?;
    assert_eq!((batch.claimed.len(), batch.skipped.len(), asked.load(Ordering::Relaxed)), (0, 1, 1));
    Ok(())
}

async fn a_queued_occurrence_waits_and_then_runs(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let queue = ctx.job_with("queued", Schedule::every(MINUTE), |d| d.overlap = Overlap::QueueOne);
    ctx.create(queue).await?;
    let first = ctx.claim_one(&node).await?;
    ctx.advance(MINUTE);
    let batch = ctx.claim(&node, 10).await?;
    assert_eq!((batch.claimed.len(), batch.queued.len(), batch.blocked), (0, 1, true));
    assert_eq!((batch.queued[0].status, batch.queued[0].started_at), (Status::Pending, None));
    ctx.advance(MINUTE);
    let batch = ctx.claim(&node, 10).await?;
    assert_eq!((batch.claimed.len(), batch.queued.len(), batch.skipped.len()), (0, 0, 1), "one waits");
    ctx.end(&node, &first, Status::Success).await?;
    let second = ctx.claim_one(&node).await?;
    assert_eq!(second.execution.due_at, first.execution.due_at.saturating_add(MINUTE));
    Ok(())
}

async fn cancel_running_asks_what_runs_to_stop(ctx: &Ctx<'_>) -> Result<()> {
    let (one, two) = (ctx.join("one").await?, ctx.join("two").await?);
    let cancel = ctx.job_with("latest", Schedule::every(MINUTE), |d| d.overlap = Overlap::CancelRunning);
    ctx.create(cancel).await?;
    let first = ctx.claim_one(&one).await?;
    ctx.advance(MINUTE);
    let batch = ctx.claim(&two, 10).await?;
    assert_eq!(batch.cancel, [first.execution.id]);
    assert_eq!((batch.claimed.len(), batch.queued.len()), (0, 1));
    assert!(ctx.execution(&first.execution.id).await?.cancel_requested);
    ctx.end(&one, &first, Status::Cancelled).await?;
    assert_eq!(ctx.claim_one(&two).await?.execution.id, batch.queued[0].id);
    Ok(())
}

async fn run_all_records_every_missed_occurrence(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let all = ctx.job_with("all", Schedule::every(MINUTE), |d| d.misfire = Misfire::RunAll { limit: 3 });
    let job = ctx.create(all).await?;
    ctx.advance(4 * MINUTE);
    let batch = ctx.claim(&node, 10).await?;
    assert_eq!((batch.claimed.len(), batch.queued.len(), batch.skipped.len()), (1, 2, 1));
    let range = &batch.skipped[0];
    assert_eq!((range.n_occurrences, range.reason.as_deref()), (2, Some("misfire")));
    let stored = ctx.executions(&job.id).await?;
    let sum: u64 = stored.iter().map(|e| e.n_occurrences).sum();
    assert_eq!(sum, 5, "every occurrence has its record");
    let mut claimed = batch.claimed;
    for n in 0..3 {
        let running = claimed.pop().unwrap_or_else(|| panic!("attempt {n} to run is claimed"));
        ctx.end(&node, &running, Status::Success).await?;
        claimed = ctx.claim(&node, 10).await?.claimed;
    }
    assert!(claimed.is_empty());
    Ok(())
}

async fn a_long_outage_is_one_execution_that_says_what_it_stands_for(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let job = ctx.create(ctx.job("missed")).await?;
    let first = ctx.now();
    ctx.advance(100 * MINUTE);
    let claimed = ctx.claim_one(&node).await?;
    let stored = ctx.execution(&claimed.execution.id).await?;
    assert_eq!((stored.due_at, stored.n_occurrences), (first, 101));
    assert_eq!(stored.covers_until, Some(first.saturating_add(100 * MINUTE)));
    let due = ctx.get(&job.id).await?.due.map(|due| due.due_at);
    assert_eq!(due, Some(first.saturating_add(101 * MINUTE)));
    Ok(())
}

async fn skip_next_and_the_count_of_firings_are_written(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let job = ctx.create(ctx.job("skipping")).await?;
    ctx.update(&job.id, "skip_next", |edit| edit.skip_next = Some(1)).await?;
    let batch = ctx.claim(&node, 10).await?;
    assert_eq!((batch.claimed.len(), batch.skipped.len()), (0, 1));
    assert_eq!(batch.skipped[0].reason.as_deref(), Some("requested"));
    let stored = ctx.get(&job.id).await?;
    assert_eq!((stored.skip_next, stored.n_fired), (0, 0));
    ctx.advance(MINUTE);
    ctx.claim_one(&node).await?;
    assert_eq!(ctx.get(&job.id).await?.n_fired, 1);
    Ok(())
}

async fn after_completion_sets_the_next_occurrence_once(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let job = ctx.create(ctx.job("chained-to-itself")).await?;
    let change = |_: &Job, _: Live, _: &Calendars, plan: &mut Plan| plan.next = NextDue::AfterCompletion;
    let planner = Changed { engine: ctx.planner.clone(), change };
    let batch = ctx.claim_with(&node, 10, &planner).await?;
    let claimed = &batch.claimed[0];
    assert_eq!(ctx.get(&job.id).await?.due, None);
    ctx.advance(MINUTE);
    assert_eq!(ctx.claim(&node, 10).await?.claimed.len(), 0, "none until it has ended");
    let at = Timestamp::from_millis(ctx.now().as_millis() + 777);
    let mut end = ctx.ending(claimed, Status::Success);
    end.next = Some(Due { due_at: at, fire_at: at });
    let _ = ctx.complete(&node, &[end]).await?;
    assert_eq!(ctx.get(&job.id).await?.due, Some(Due { due_at: at, fire_at: at }));

    // An edit in between that leaves the due time alone must not end the cadence; one that sets it wins.
    ctx.advance(MINUTE);
    let batch = ctx.claim_with(&node, 10, &planner).await?;
    let claimed = &batch.claimed[0];
    let mut edit = UpdateJob::new(&ctx.get(&job.id).await?, "tester", "updated");
    edit.skip_next = Some(0);
    assert!(matches!(ctx.store().update_job(edit).await?, UpdateOutcome::Updated(_)));
    let at = Timestamp::from_millis(ctx.now().as_millis() + 777);
    let mut end = ctx.ending(claimed, Status::Success);
    end.next = Some(Due { due_at: at, fire_at: at });
    let _ = ctx.complete(&node, &[end]).await?;
    assert_eq!(ctx.get(&job.id).await?.due, Some(Due { due_at: at, fire_at: at }));

    ctx.advance(MINUTE);
    let batch = ctx.claim_with(&node, 10, &planner).await?;
    let mut edit = UpdateJob::new(&ctx.get(&job.id).await?, "tester", "updated");
    let later = Timestamp::from_millis(at.as_millis() + 3_600_000);
    edit.due = Some((Some(Due { due_at: later, fire_at: later }), None));
    assert!(matches!(ctx.store().update_job(edit).await?, UpdateOutcome::Updated(_)));
    let mut end = ctx.ending(&batch.claimed[0], Status::Success);
    end.next = Some(Due { due_at: at, fire_at: at });
    let _ = ctx.complete(&node, &[end]).await?;
    assert_eq!(ctx.get(&job.id).await?.due, Some(Due { due_at: later, fire_at: later }));
    Ok(())
}

async fn jobs_of_another_process_are_claimed(ctx: &Ctx<'_>) -> Result<()> {
    let other = ctx.other().await?;
    let node = ctx.join("node").await?;
    let job = ctx.create(ctx.job("shared")).await?;
    let batch = crate::ctx::claim_on(&*other, &node, &["work"], 10, &ctx.planner).await?;
    assert_eq!(claimed_jobs(&batch), [job.id.as_str()]);
    assert_eq!(ctx.claim(&node, 10).await?.claimed.len(), 0);
    assert_eq!(ctx.store().owned(&node).await?.len(), 1);
    Ok(())
}
