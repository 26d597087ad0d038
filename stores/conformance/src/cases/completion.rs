//! The ends of executions, and all that follows from them.

use std::time::Duration;

use serde_json::{Value, json};
use unified_scheduler_core::error::Result;
use unified_scheduler_core::execution::{Failure, JobResult, Level, LogLine, Status, Trigger};
use unified_scheduler_core::id::JobId;
use unified_scheduler_core::policy::{Chain, ChainOn, Keep, Overlap, Retry};
use unified_scheduler_core::schedule::Schedule;
use unified_scheduler_core::store::CompleteOutcome;

use super::group;
use crate::ctx::{Ctx, MINUTE};

group! { "completion":
    an_end_is_written_with_everything_it_says,
    the_job_shows_its_last_run,
    a_batch_answers_each_completion_in_order,
    a_retry_is_made_in_the_same_step_and_runs_at_its_time,
    a_repeated_completion_is_applied_once,
    an_end_is_final_for_completions,
    an_execution_that_is_unknown_can_not_be_completed,
    failures_are_counted_and_reset,
    a_job_pauses_itself_once,
    a_chained_job_runs,
    a_chain_to_a_disabled_or_missing_job_makes_none,
    a_crash_limit_parks_the_job,
    keep_failures_removes_what_went_well,
    keep_none_removes_every_end,
    a_job_deleted_while_it_ran_stays_deleted,
    large_details_come_back,
    a_status_that_is_no_end_is_an_error,
}

fn line(ctx: &Ctx<'_>, message: &str) -> LogLine {
    let fields = json!({"n": 1});
    LogLine { timestamp: ctx.now(), level: Level::Warning, message: message.to_owned(), fields }
}

async fn an_end_is_written_with_everything_it_says(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let claimed = ctx.running("rich", &node).await?;
    ctx.advance(Duration::from_millis(1_234));
    let mut end = ctx.ending(&claimed, Status::PartialSuccess);
    end.duration = Some(Duration::from_millis(1_233));
    end.result = Some(JobResult {
        message: "some \u{1F680} went".to_owned(),
        details: json!({"list": [1, 2.5, "x", null], "deep": {"a": {"b": true}}}),
        records_processed: 5_000_000_000,
        records_affected: 7,
        errors: vec!["one".to_owned()],
        warnings: vec!["two".to_owned()],
    });
    let trace = Some("line 1\nline 2".to_owned());
    end.error = Some(Failure { kind: "error".to_owned(), message: "m".to_owned(), trace });
    end.reason = Some("error".to_owned());
    end.logs = vec![line(ctx, "first"), line(ctx, "second")];
    let _ = ctx.complete(&node, &[end.clone()]).await?;
    let mut expected = claimed.execution.clone();
    expected.status = end.status;
    expected.reason = end.reason;
    expected.ended_at = Some(ctx.now());
    expected.duration = end.duration;
    expected.result = end.result;
    expected.error = end.error;
    assert_eq!(ctx.execution(&claimed.execution.id).await?, expected);
    assert_eq!(ctx.store().list_logs(&claimed.execution.id, 0, 10).await?, end.logs);
    assert!(ctx.store().owned(&node).await?.is_empty());
    Ok(())
}

async fn the_job_shows_its_last_run(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let claimed = ctx.running("shown", &node).await?;
    let started = ctx.now();
    assert_eq!(ctx.get(&claimed.job.id).await?.last_status, None, "it has not finished");
    ctx.advance(Duration::from_secs(5));
    ctx.end(&node, &claimed, Status::Completed).await?;
    let job = ctx.get(&claimed.job.id).await?;
    assert_eq!((job.last_run_at, job.last_status), (Some(started), Some(Status::Completed)));
    assert_eq!(job.last_execution_id, Some(claimed.execution.id));
    assert_eq!(job.version, claimed.job.version, "a run is not an edit");
    Ok(())
}

async fn a_batch_answers_each_completion_in_order(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let first = ctx.running("first", &node).await?;
    let second = ctx.running("second", &node).await?;
    let mut foreign = ctx.ending(&first, Status::Success);
    foreign.execution_id = ctx.id();
    let ends = [ctx.ending(&first, Status::Success), foreign, ctx.ending(&second, Status::Failed)];
    let outcomes = ctx.complete(&node, &ends).await?;
    let applied = CompleteOutcome::Applied { paused: false };
    assert_eq!(outcomes, [applied, CompleteOutcome::Refused, applied]);
    assert_eq!(ctx.execution(&second.execution.id).await?.status, Status::Failed);
    assert!(ctx.complete(&node, &[]).await?.is_empty());
    Ok(())
}

async fn a_retry_is_made_in_the_same_step_and_runs_at_its_time(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let retry = Retry::times(1, Duration::from_millis(7_001));
    ctx.create(ctx.job_with("flaky", Schedule::every(MINUTE), |d| d.retry = retry)).await?;
    let first = ctx.claim_one(&node).await?;
    ctx.end(&node, &first, Status::Failed).await?;
    let rows = ctx.executions(&first.job.id).await?;
    assert_eq!(rows.len(), 2);
    let second = &rows[1];
    assert_eq!((second.attempt, second.retries, second.crashes), (2, 1, 0));
    assert_eq!((second.root_id, second.due_at), (first.execution.id, first.execution.due_at));
    assert_eq!((second.status, second.trigger), (Status::Pending, Trigger::Schedule));
    assert_eq!(second.run_at, ctx.now().saturating_add(Duration::from_millis(7_001)));
    let due = ctx.get(&first.job.id).await?.due.map(|due| due.due_at);
    assert_eq!(due, Some(first.execution.due_at.saturating_add(MINUTE)), "retries never move the schedule");
    ctx.advance(Duration::from_millis(7_001));
    let again = ctx.claim_one(&node).await?;
    assert_eq!(again.execution.id, second.id);
    ctx.end(&node, &again, Status::Failed).await?;
    assert_eq!(ctx.executions(&first.job.id).await?.len(), 2, "one retry, as the policy says");
    Ok(())
}

async fn a_repeated_completion_is_applied_once(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    ctx.create(ctx.manual_job("next")).await?;
    let chain = Chain { on: ChainOn::Any, job: JobId::from("job-next") };
    ctx.create(ctx.job_with("flaky", Schedule::every(MINUTE), |d| {
        d.retry = Retry::times(1, MINUTE);
        d.chains = vec![chain];
    }))
    .await?;
    let claimed = ctx.claim_one(&node).await?;
    let mut end = ctx.ending(&claimed, Status::Failed);
    end.logs = vec![line(ctx, "once")];
    let success = ctx.ending(&claimed, Status::Success);
    // Both a retry and a chained execution, to see that neither is made twice.
    end.chained = success.chained;
    let applied = CompleteOutcome::Applied { paused: false };
    assert_eq!(ctx.complete(&node, &[end.clone()]).await?, [applied]);
    let stored = ctx.execution(&claimed.execution.id).await?;
    for _ in 0..2 {
        ctx.advance(Duration::from_secs(1));
        assert_eq!(ctx.complete(&node, &[end.clone(), end.clone()]).await?, [applied, applied]);
    }
    assert_eq!(ctx.execution(&claimed.execution.id).await?, stored);
    assert_eq!(ctx.executions(&claimed.job.id).await?.len(), 2, "one retry");
    assert_eq!(ctx.executions(&JobId::from("job-next")).await?.len(), 1, "one chained execution");
    assert_eq!(ctx.store().list_logs(&stored.id, 0, 10).await?.len(), 1);
    assert_eq!(ctx.get(&claimed.job.id).await?.failures_in_row, 1, "counted once");
    Ok(())
}

async fn an_end_is_final_for_completions(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let claimed = ctx.running("final", &node).await?;
    let ended = ctx.end(&node, &claimed, Status::Success).await?;
    ctx.advance(Duration::from_secs(1));
    let other = ctx.ending(&claimed, Status::Failed);
    assert_eq!(ctx.complete(&node, &[other]).await?, [CompleteOutcome::Refused]);
    assert_eq!(ctx.execution(&ended.id).await?, ended);
    assert_eq!(ctx.get(&claimed.job.id).await?.last_status, Some(Status::Success));
    Ok(())
}

async fn an_execution_that_is_unknown_can_not_be_completed(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let claimed = ctx.running("known", &node).await?;
    let mut end = ctx.ending(&claimed, Status::Success);
    end.execution_id = ctx.id();
    assert_eq!(ctx.complete(&node, &[end]).await?, [CompleteOutcome::Refused]);
    assert_eq!(ctx.get(&claimed.job.id).await?.last_status, None, "and nothing follows from it");
    Ok(())
}

async fn failures_are_counted_and_reset(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let job = ctx.create(ctx.job("counted")).await?;
    let ends = [
        (Status::Failed, 1),
        (Status::Timeout, 2),
        (Status::Cancelled, 2),
        (Status::Failed, 3),
        (Status::Partial, 0),
        (Status::Failed, 1),
        (Status::Success, 0),
    ];
    for (status, failures) in ends {
        let claimed = ctx.claim_one(&node).await?;
        ctx.end(&node, &claimed, status).await?;
        assert_eq!(ctx.get(&job.id).await?.failures_in_row, failures, "after {status}");
        ctx.advance(MINUTE);
    }
    Ok(())
}

async fn a_job_pauses_itself_once(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let job = ctx.job_with("pausing", Schedule::every(MINUTE), |d| {
        d.pause_after_failures = Some(2);
        d.overlap = Overlap::Allow { max: 5 };
    });
    let job = ctx.create(job).await?;
    let mut ends = Vec::new();
    for _ in 0..4 {
        ends.push(ctx.ending(&ctx.claim_one(&node).await?, Status::Failed));
        ctx.advance(MINUTE);
    }
    let paused = |outcomes: &[CompleteOutcome]| -> Vec<bool> {
        outcomes.iter().map(|o| matches!(o, CompleteOutcome::Applied { paused: true })).collect()
    };
    assert_eq!(paused(&ctx.complete(&node, &ends[..3]).await?), [false, true, false]);
    assert_eq!(paused(&ctx.complete(&node, &ends[3..]).await?), [false]);
    let stored = ctx.get(&job.id).await?;
    assert_eq!((stored.enabled, stored.failures_in_row, stored.due.is_some()), (false, 4, true));
    assert_eq!(ctx.audit(&job.id).await?.len(), 2, "paused once");
    ctx.advance(MINUTE);
    assert_eq!(ctx.claim(&node, 10).await?.claimed.len(), 0);
    Ok(())
}

async fn a_chained_job_runs(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let next = ctx.job_with("next", Schedule::manual(), |d| {
        d.handler = "next".into();
        d.priority = 5;
    });
    let next = ctx.create(next).await?;
    let chains = vec![
        Chain { on: ChainOn::Success, job: next.id.clone() },
        Chain { on: ChainOn::Failure, job: next.id.clone() },
    ];
    ctx.create(ctx.job_with("first", Schedule::every(MINUTE), |d| d.chains = chains)).await?;
    let first = ctx.claim_one(&node).await?;
    ctx.end(&node, &first, Status::Success).await?;
    let rows = ctx.executions(&next.id).await?;
    assert_eq!(rows.len(), 1);
    let chained = &rows[0];
    assert_eq!((chained.trigger, chained.status), (Trigger::Chain, Status::Pending));
    assert_eq!(chained.triggered_by, format!("chain:{}", first.execution.id));
    assert_eq!((chained.handler.as_str(), chained.job_name.as_str()), ("next", "next"));
    assert_eq!((chained.priority, chained.version), (5, 1), "as its job says");
    let batch = ctx.claim_of(&node, &["next"], 10).await?;
    assert_eq!(batch.claimed[0].execution.id, chained.id);
    Ok(())
}

async fn a_chain_to_a_disabled_or_missing_job_makes_none(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let mut off = ctx.manual_job("off");
    off.enabled = false;
    let off = ctx.create(off).await?;
    let chains = vec![
        Chain { on: ChainOn::Any, job: off.id.clone() },
        Chain { on: ChainOn::Any, job: JobId::from("nobody") },
    ];
    ctx.create(ctx.job_with("first", Schedule::every(MINUTE), |d| d.chains = chains)).await?;
    let first = ctx.claim_one(&node).await?;
    assert_eq!(ctx.end(&node, &first, Status::Success).await?.status, Status::Success);
    assert!(ctx.executions(&off.id).await?.is_empty());
    assert!(ctx.executions(&JobId::from("nobody")).await?.is_empty());
    Ok(())
}

async fn a_crash_limit_parks_the_job(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let claimed = ctx.running("poison", &node).await?;
    let mut end = ctx.ending(&claimed, Status::Lost);
    end.effect.set_aside = Some("its node died 3 times".to_owned());
    let _ = ctx.complete(&node, &[end]).await?;
    let job = ctx.get(&claimed.job.id).await?;
    assert_eq!(job.fault.as_deref(), Some("its node died 3 times"));
    ctx.advance(MINUTE);
    let batch = ctx.claim(&node, 10).await?;
    assert_eq!((batch.claimed.len(), batch.next_at), (0, None), "it does not run until it is edited");
    ctx.update(&job.id, "updated", |edit| edit.reset.fault = true).await?;
    ctx.claim_one(&node).await?;
    Ok(())
}

async fn keep_failures_removes_what_went_well(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let job = ctx.job_with("tidy", Schedule::every(MINUTE), |d| d.history.keep = Keep::Failures);
    let job = ctx.create(job).await?;
    for (status, left) in [(Status::Success, 0), (Status::Failed, 1), (Status::Cancelled, 1)] {
        let claimed = ctx.claim_one(&node).await?;
        let mut end = ctx.ending(&claimed, status);
        end.logs = vec![line(ctx, "gone with it")];
        let applied = CompleteOutcome::Applied { paused: false };
        assert_eq!(ctx.complete(&node, &[end.clone()]).await?, [applied]);
        assert_eq!(ctx.executions(&job.id).await?.len(), left, "after {status}");
        assert_eq!(ctx.complete(&node, &[end]).await?, [applied], "a repeat, after {status}");
        if left == 0 {
            assert!(ctx.store().list_logs(&claimed.execution.id, 0, 10).await?.is_empty());
            assert_eq!(ctx.get(&job.id).await?.last_execution_id, Some(claimed.execution.id));
        }
        ctx.advance(MINUTE);
    }
    Ok(())
}

async fn keep_none_removes_every_end(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let job = ctx.job_with("silent", Schedule::every(MINUTE), |d| d.history.keep = Keep::None);
    let job = ctx.create(job).await?;
    for status in [Status::Success, Status::Failed] {
        let claimed = ctx.claim_one(&node).await?;
        assert_eq!(ctx.executions(&job.id).await?.len(), 1, "it is there while it runs");
        let _ = ctx.complete(&node, &[ctx.ending(&claimed, status)]).await?;
        assert!(ctx.executions(&job.id).await?.is_empty());
        assert_eq!(ctx.get(&job.id).await?.last_status, Some(status));
        ctx.advance(MINUTE);
    }
    Ok(())
}

async fn a_job_deleted_while_it_ran_stays_deleted(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let job = ctx.job_with("gone", Schedule::every(MINUTE), |d| d.retry = Retry::times(3, MINUTE));
    ctx.create(job).await?;
    let running = ctx.claim_one(&node).await?;
    let pending = ctx.trigger(&running.job.id).await?;
    ctx.store().delete_job(&running.job.id, "tester").await?;
    assert_eq!(ctx.execution(&pending.id).await?.status, Status::Cancelled, "what waited never starts");
    assert_eq!(ctx.execution(&running.execution.id).await?.status, Status::Running, "what runs goes on");
    let owned = ctx.store().owned(&node).await?;
    assert_eq!(owned.len(), 1, "its node still owns it");
    assert!(owned[0].job.fault.is_some(), "and sees that the job is gone");
    let ended = ctx.end(&node, &running, Status::Failed).await?;
    assert_eq!(ended.status, Status::Failed);
    assert_eq!(ctx.store().get_job(&running.job.id).await?, None);
    let open = ctx.executions(&running.job.id).await?.into_iter().filter(|e| !e.status.is_final());
    assert_eq!(open.count(), 0, "no retry of a job that is gone");
    Ok(())
}

async fn large_details_come_back(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let claimed = ctx.running("large", &node).await?;
    let mut end = ctx.ending(&claimed, Status::Success);
    let details = Value::String("0123456789abcdeü".repeat(4 * 1024 * 1024 / 17));
    end.result = Some(JobResult { details: details.clone(), ..JobResult::default() });
    let _ = ctx.complete(&node, &[end]).await?;
    let stored = ctx.execution(&claimed.execution.id).await?;
    assert!(stored.result.is_some_and(|result| result.details == details), "4 MB, unchanged");
    Ok(())
}

async fn a_status_that_is_no_end_is_an_error(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let claimed = ctx.running("open", &node).await?;
    let mut end = ctx.ending(&claimed, Status::Success);
    end.status = Status::Pending;
    assert!(ctx.complete(&node, &[end]).await.is_err());
    assert_eq!(ctx.execution(&claimed.execution.id).await?, claimed.execution);
    Ok(())
}
