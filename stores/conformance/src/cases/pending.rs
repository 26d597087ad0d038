//! Claims of pending executions.

use std::time::Duration;

use unified_scheduler_core::error::Result;
use unified_scheduler_core::execution::{Execution, Status, Trigger};
use unified_scheduler_core::id::JobId;
use unified_scheduler_core::policy::Overlap;
use unified_scheduler_core::schedule::Schedule;
use unified_scheduler_core::store::{UpdateJob, UpdateOutcome};

use super::group;
use crate::ctx::{Ctx, LONG, MINUTE, claimed_jobs};
use crate::planner;

group! { "pending":
    pending_executions_are_claimed_by_priority_then_time,
    pending_executions_come_before_due_jobs,
    a_pending_execution_is_not_claimed_before_its_time,
    a_blocked_execution_does_not_hide_others,
    one_claim_starts_no_more_of_a_job_than_its_overlap_lets_run,
    a_manual_execution_waits_for_the_scheduled_one,
    a_pending_execution_of_a_disabled_job_runs,
    a_pending_execution_of_a_job_set_aside_waits,
    pending_executions_count_against_the_limit,
    a_claimed_pending_execution_is_owned,
    a_pending_execution_follows_its_job_to_another_handler,
}

/// Manual jobs of these names and priorities.
async fn manual_jobs(ctx: &Ctx<'_>, jobs: &[(&str, i32)]) -> Result<Vec<JobId>> {
    let mut ids = Vec::new();
    for (name, priority) in jobs {
        let job = ctx.job_with(name, Schedule::manual(), |d| d.priority = *priority);
        ids.push(ctx.create(job).await?.id);
    }
    Ok(ids)
}

async fn trigger_after(ctx: &Ctx<'_>, job: &JobId, after: Duration) -> Result<Execution> {
    let mut new = ctx.manual(job);
    new.run_at = ctx.now().saturating_add(after);
    ctx.trigger_new(new).await
}

async fn pending_executions_are_claimed_by_priority_then_time(ctx: &Ctx<'_>) -> Result<()> {
    let ids = manual_jobs(ctx, &[("c", 0), ("a", 9), ("d", 0), ("e", -9), ("b", 9)]).await?;
    for (id, seconds) in ids.iter().zip([2, 5, 3, 1, 6]) {
        trigger_after(ctx, id, Duration::from_secs(seconds)).await?;
    }
    let node = ctx.join("node").await?;
    ctx.advance(MINUTE);
    assert_eq!(claimed_jobs(&ctx.claim(&node, 2).await?), ["job-a", "job-b"]);
    assert_eq!(claimed_jobs(&ctx.claim(&node, 10).await?), ["job-c", "job-d", "job-e"]);
    Ok(())
}

async fn pending_executions_come_before_due_jobs(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    ctx.create(ctx.job_with("due", Schedule::every(MINUTE), |d| d.priority = 100)).await?;
    let ids = manual_jobs(ctx, &[("pending", -100)]).await?;
    ctx.trigger(&ids[0]).await?;
    let batch = ctx.claim(&node, 1).await?;
    assert_eq!((claimed_jobs(&batch), batch.more), (vec!["job-pending"], true));
    assert_eq!(claimed_jobs(&ctx.claim(&node, 1).await?), ["job-due"]);
    Ok(())
}

async fn a_pending_execution_is_not_claimed_before_its_time(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let ids = manual_jobs(ctx, &[("later", 0)]).await?;
    let wait = Duration::from_millis(12_345);
    let pending = trigger_after(ctx, &ids[0], wait).await?;
    assert_eq!((pending.status, pending.run_at), (Status::Pending, ctx.now().saturating_add(wait)));
    ctx.advance(wait.saturating_sub(Duration::from_millis(1)));
    let batch = ctx.claim(&node, 10).await?;
    assert_eq!((batch.claimed.len(), batch.next_at), (0, Some(pending.run_at)));
    ctx.advance(Duration::from_millis(1));
    assert_eq!(ctx.claim_one(&node).await?.execution.id, pending.id);
    Ok(())
}

async fn a_blocked_execution_does_not_hide_others(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let ids = manual_jobs(ctx, &[("blocked", 50), ("free", 0)]).await?;
    ctx.trigger(&ids[0]).await?;
    ctx.claim_one(&node).await?;
    for _ in 0..150 {
        ctx.trigger(&ids[0]).await?;
    }
    ctx.trigger(&ids[1]).await?;
    let batch = ctx.claim(&node, 1).await?;
    assert_eq!(claimed_jobs(&batch), ["job-free"]);
    assert!(batch.blocked, "one was passed over");
    let batch = ctx.claim(&node, 5).await?;
    assert_eq!((batch.claimed.len(), batch.more), (0, false), "blocked ones are not more to take");
    Ok(())
}

async fn one_claim_starts_no_more_of_a_job_than_its_overlap_lets_run(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let job = ctx.job_with("two", Schedule::manual(), |d| d.overlap = Overlap::Allow { max: 2 });
    let job = ctx.create(job).await?;
    for _ in 0..5 {
        ctx.trigger(&job.id).await?;
    }
    let first = ctx.claim(&node, 10).await?;
    assert_eq!((first.claimed.len(), first.more), (2, false));
    ctx.end(&node, &first.claimed[0], Status::Success).await?;
    assert_eq!(ctx.claim(&node, 10).await?.claimed.len(), 1, "each end frees one slot");
    assert_eq!(ctx.claim(&node, 10).await?.claimed.len(), 0);
    Ok(())
}

async fn a_manual_execution_waits_for_the_scheduled_one(ctx: &Ctx<'_>) -> Result<()> {
    let (one, two) = (ctx.join("one").await?, ctx.join("two").await?);
    let running = ctx.running("both", &one).await?;
    let manual = ctx.trigger(&running.job.id).await?;
    assert_eq!(ctx.claim(&two, 10).await?.claimed.len(), 0, "it runs on another node");
    ctx.end(&one, &running, Status::Success).await?;
    assert_eq!(ctx.claim_one(&two).await?.execution.id, manual.id);
    Ok(())
}

async fn a_pending_execution_of_a_disabled_job_runs(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let mut job = ctx.job("disabled");
    job.enabled = false;
    let job = ctx.create(job).await?;
    let manual = ctx.trigger(&job.id).await?;
    let claimed = ctx.claim_one(&node).await?;
    assert_eq!((claimed.execution.id, claimed.execution.trigger), (manual.id, Trigger::Manual));
    assert_eq!(ctx.get(&job.id).await?.due, job.due, "without moving its schedule");
    Ok(())
}

async fn a_pending_execution_of_a_job_set_aside_waits(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let job = ctx.create(ctx.job("broken")).await?;
    ctx.claim_with(&node, 10, &planner::set_aside(&ctx.planner, "broken")).await?;
    let manual = ctx.trigger(&job.id).await?;
    assert_eq!(ctx.claim(&node, 10).await?.claimed.len(), 0, "it does not run until it is edited");
    ctx.update(&job.id, "updated", |edit| {
        edit.reset.fault = true;
        edit.enabled = Some(false);
    })
    .await?;
    assert_eq!(ctx.claim_one(&node).await?.execution.id, manual.id);
    Ok(())
}

async fn pending_executions_count_against_the_limit(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let ids = manual_jobs(ctx, &[("a", 0), ("b", 0), ("c", 0)]).await?;
    for id in &ids {
        ctx.trigger(id).await?;
    }
    ctx.create(ctx.job("due")).await?;
    let batch = ctx.claim(&node, 2).await?;
    assert_eq!((batch.claimed.len(), batch.more), (2, true));
    let batch = ctx.claim(&node, 2).await?;
    assert_eq!((claimed_jobs(&batch)[1], batch.more), ("job-due", false));
    Ok(())
}

async fn a_claimed_pending_execution_is_owned(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join_for("node", LONG).await?;
    let ids = manual_jobs(ctx, &[("owned", 3)]).await?;
    let pending = ctx.trigger(&ids[0]).await?;
    ctx.advance(MINUTE);
    let claimed = ctx.claim_one(&node).await?;
    let mut expected = pending;
    expected.own(&node, ctx.now());
    assert_eq!(claimed.execution, expected);
    assert_eq!(ctx.execution(&expected.id).await?, expected);
    assert_eq!((expected.priority, expected.claim), (3, 1), "the priority is the job's");
    Ok(())
}

async fn a_pending_execution_follows_its_job_to_another_handler(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let ids = manual_jobs(ctx, &[("moves", 0), ("stays", 1)]).await?;
    ctx.trigger(&ids[0]).await?;
    ctx.trigger(&ids[1]).await?;
    let mut edit = UpdateJob::new(&ctx.get(&ids[0]).await?, "tester", "updated");
    let mut definition = ctx.get(&ids[0]).await?.definition.to_owned();
    "another".clone_into(&mut definition.handler);
    definition.priority = 7;
    edit.definition = Some(definition);
    assert!(matches!(ctx.store().update_job(edit).await?, UpdateOutcome::Updated(_)));
    assert_eq!(claimed_jobs(&ctx.claim(&node, 9).await?), ["job-stays"], "this node lacks the new handler");
    let batch = crate::ctx::claim_on(&*ctx.shared(), &node, &["another"], 9, &ctx.planner).await?;
    let moved = &batch.claimed[0].execution;
    assert_eq!((moved.handler.as_str(), moved.priority), ("another", 7));
    Ok(())
}
