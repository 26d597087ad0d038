//! What is kept of executions, and what is removed.

use std::time::Duration;

use serde_json::Value;
use unified_scheduler_core::error::Result;
use unified_scheduler_core::execution::{Execution, Level, LogLine, Status};
use unified_scheduler_core::job::{Due, Job};
use unified_scheduler_core::policy::History;
use unified_scheduler_core::schedule::Schedule;
use unified_scheduler_core::store::{NodeRef, PruneRequest};

use super::group;
use crate::ctx::{Ctx, MINUTE};

group! { "history":
    an_unknown_execution_is_none,
    only_executions_that_have_ended_are_deleted,
    pruning_by_age_removes_what_ended_long_ago,
    pruning_goes_page_by_page,
    a_jobs_own_age_goes_before,
    a_jobs_own_count_keeps_the_newest,
    what_is_open_is_never_pruned,
    history_of_a_deleted_job_is_pruned_too,
    counts_follow_every_change,
    the_oldest_due_is_told,
}

/// Runs `job` once with success, and moves on by a minute.
async fn run(ctx: &Ctx<'_>, node: &NodeRef) -> Result<Execution> {
    let claimed = ctx.claim_one(node).await?;
    let mut end = ctx.ending(&claimed, Status::Success);
    end.logs = vec![LogLine {
        timestamp: ctx.now(),
        level: Level::Debug,
        message: "ran".to_owned(),
        fields: Value::Null,
    }];
    let _ = ctx.complete(node, &[end]).await?;
    ctx.advance(MINUTE);
    ctx.execution(&claimed.execution.id).await
}

fn older_than(max_age: Duration, limit: usize) -> PruneRequest {
    PruneRequest { max_age: Some(max_age), limit }
}

async fn with_history(ctx: &Ctx<'_>, name: &str, history: History) -> Result<Job> {
    ctx.create(ctx.job_with(name, Schedule::every(MINUTE), |d| d.history = history)).await
}

async fn an_unknown_execution_is_none(ctx: &Ctx<'_>) -> Result<()> {
    let id = ctx.id();
    assert_eq!(ctx.store().get_execution(&id).await?, None);
    assert!(ctx.store().list_logs(&id, 0, 10).await?.is_empty());
    assert_eq!(ctx.store().delete_executions(&[id]).await?, 0);
    Ok(())
}

async fn only_executions_that_have_ended_are_deleted(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let job = ctx.create(ctx.job("job")).await?;
    let ended = run(ctx, &node).await?;
    let running = ctx.claim_one(&node).await?.execution;
    let pending = ctx.trigger(&job.id).await?;
    let ids = [ended.id, running.id, pending.id, ctx.id(), ended.id];
    assert_eq!(ctx.store().delete_executions(&ids).await?, 1);
    assert_eq!(ctx.store().get_execution(&ended.id).await?, None);
    assert!(ctx.store().list_logs(&ended.id, 0, 10).await?.is_empty(), "its logs go with it");
    assert_eq!(ctx.execution(&running.id).await?, running);
    assert_eq!(ctx.execution(&pending.id).await?, pending);
    assert_eq!(ctx.store().delete_executions(&[]).await?, 0);
    Ok(())
}

async fn pruning_by_age_removes_what_ended_long_ago(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let job = ctx.create(ctx.job("job")).await?;
    let mut runs = Vec::new();
    for _ in 0..5 {
        runs.push(run(ctx, &node).await?);
    }
    assert_eq!(ctx.store().prune(PruneRequest { max_age: None, limit: 100 }).await?, 0);
    // The last one ended a minute ago, the first one five.
    assert_eq!(ctx.store().prune(older_than(3 * MINUTE, 100)).await?, 2);
    assert_eq!(ctx.executions(&job.id).await?, runs[2..]);
    assert!(ctx.store().list_logs(&runs[0].id, 0, 10).await?.is_empty());
    assert_eq!(ctx.store().list_logs(&runs[2].id, 0, 10).await?.len(), 1);
    Ok(())
}

async fn pruning_goes_page_by_page(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let job = with_history(ctx, "job", History { max_count: Some(2), ..History::default() }).await?;
    for _ in 0..7 {
        run(ctx, &node).await?;
    }
    ctx.advance(MINUTE);
    assert_eq!(ctx.store().prune(older_than(5 * MINUTE, 2)).await?, 2);
    assert_eq!(ctx.store().prune(older_than(5 * MINUTE, 2)).await?, 2);
    assert_eq!(ctx.store().prune(older_than(5 * MINUTE, 2)).await?, 1, "fewer: none is left to remove");
    assert_eq!(ctx.store().prune(older_than(5 * MINUTE, 2)).await?, 0);
    assert_eq!(ctx.executions(&job.id).await?.len(), 2);
    Ok(())
}

async fn a_jobs_own_age_goes_before(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let short = with_history(ctx, "short", History { max_age: Some(MINUTE), ..History::default() }).await?;
    run(ctx, &node).await?;
    ctx.update(&short.id, "disabled", |edit| edit.enabled = Some(false)).await?;
    let long = History { max_age: Some(100 * MINUTE), ..History::default() };
    let long = with_history(ctx, "long", long).await?;
    run(ctx, &node).await?;
    ctx.advance(10 * MINUTE);
    assert_eq!(ctx.store().prune(older_than(5 * MINUTE, 100)).await?, 1);
    assert_eq!(ctx.executions(&short.id).await?.len(), 0);
    assert_eq!(ctx.executions(&long.id).await?.len(), 1, "the job says longer than the scheduler");
    let ageless = PruneRequest { max_age: None, limit: 100 };
    ctx.advance(100 * MINUTE);
    assert_eq!(ctx.store().prune(ageless).await?, 1, "its own age counts without any other");
    Ok(())
}

async fn a_jobs_own_count_keeps_the_newest(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let job = with_history(ctx, "few", History { max_count: Some(2), ..History::default() }).await?;
    let mut runs = Vec::new();
    for _ in 0..5 {
        runs.push(run(ctx, &node).await?);
    }
    assert_eq!(ctx.store().prune(PruneRequest { max_age: None, limit: 100 }).await?, 3);
    assert_eq!(ctx.executions(&job.id).await?, runs[3..]);
    Ok(())
}

async fn what_is_open_is_never_pruned(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let nothing = History { max_age: Some(Duration::ZERO), max_count: Some(0), ..History::default() };
    let job = with_history(ctx, "open", nothing).await?;
    let running = ctx.claim_one(&node).await?;
    let pending = ctx.trigger(&job.id).await?;
    ctx.advance(1000 * MINUTE);
    assert_eq!(ctx.store().prune(older_than(Duration::ZERO, 100)).await?, 0);
    assert_eq!(ctx.execution(&running.execution.id).await?, running.execution);
    assert_eq!(ctx.execution(&pending.id).await?, pending);
    Ok(())
}

async fn history_of_a_deleted_job_is_pruned_too(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let long = History { max_age: Some(1000 * MINUTE), ..History::default() };
    let job = with_history(ctx, "gone", long).await?;
    run(ctx, &node).await?;
    ctx.store().delete_job(&job.id, "tester").await?;
    ctx.advance(10 * MINUTE);
    assert_eq!(ctx.store().prune(older_than(5 * MINUTE, 100)).await?, 1);
    Ok(())
}

async fn counts_follow_every_change(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    assert_eq!(ctx.store().counts().await?, unified_scheduler_core::store::Counts::default());
    let mut off = ctx.job("off");
    off.enabled = false;
    ctx.create(off).await?;
    let mut broken = ctx.job("broken");
    broken.fault = Some("broken".to_owned());
    ctx.create(broken).await?;
    let job = ctx.create(ctx.job("job")).await?;
    run(ctx, &node).await?;
    ctx.claim_one(&node).await?;
    ctx.trigger(&job.id).await?;
    ctx.advance(MINUTE);
    let _ = ctx.claim(&node, 10).await?;
    let counts = ctx.store().counts().await?;
    assert_eq!((counts.jobs, counts.enabled, counts.faulty), (3, 2, 1));
    let of = |status| counts.executions.get(&status).copied().unwrap_or_default();
    assert_eq!((of(Status::Pending), of(Status::Running)), (1, 1));
    assert_eq!((of(Status::Success), of(Status::Skipped), of(Status::Failed)), (1, 1, 0));
    ctx.store().prune(older_than(Duration::ZERO, 1)).await?;
    let left: u64 = ctx.store().counts().await?.executions.values().sum();
    assert_eq!(left, 3);
    Ok(())
}

async fn the_oldest_due_is_told(ctx: &Ctx<'_>) -> Result<()> {
    let due_at = ctx.now().saturating_add(Duration::from_millis(1_001));
    let mut job = ctx.job_with("later", Schedule::every(MINUTE), |d| d.handler = "nobody has it".into());
    job.due = Some(Due { due_at, fire_at: due_at });
    let job = ctx.create(job).await?;
    assert_eq!(ctx.store().counts().await?.oldest_due, None, "not due yet");
    ctx.advance(MINUTE);
    assert_eq!(ctx.store().counts().await?.oldest_due, Some(due_at));
    ctx.update(&job.id, "disabled", |edit| edit.enabled = Some(false)).await?;
    assert_eq!(ctx.store().counts().await?.oldest_due, None);
    let pending = ctx.trigger(&job.id).await?;
    ctx.advance(MINUTE);
    assert_eq!(ctx.store().counts().await?.oldest_due, Some(pending.run_at));
    Ok(())
}
