//! Fencing: what a node may still write, and what it may not.

use std::time::Duration;

use serde_json::Value;
use unified_scheduler_core::error::Result;
use unified_scheduler_core::execution::{Level, LogLine, Progress, Status};
use unified_scheduler_core::id::Epoch;
use unified_scheduler_core::store::{Claimed, CompleteOutcome, HeartbeatOutcome, NodeRef, Report};

use super::group;
use crate::ctx::{Ctx, MINUTE};

group! { "fencing":
    another_node_can_not_complete,
    an_older_epoch_can_not_complete_or_claim_or_renew,
    another_claim_counter_can_not_complete,
    a_zombie_can_not_complete_after_it_was_reaped,
    a_node_that_is_dead_can_not_complete_before_it_is_reaped,
    an_epoch_owns_what_it_runs_until_it_is_dead,
    a_completion_after_the_lease_but_before_death_counts,
    reports_are_written_in_order_and_only_while_owned,
    a_node_that_never_joined_can_do_nothing,
}

async fn is_refused(ctx: &Ctx<'_>, node: &NodeRef, claimed: &Claimed) -> Result<bool> {
    let before = ctx.execution(&claimed.execution.id).await?;
    let outcomes = ctx.complete(node, &[ctx.ending(claimed, Status::Success)]).await?;
    let untouched = ctx.execution(&before.id).await? == before;
    Ok(outcomes == [CompleteOutcome::Refused] && untouched)
}

async fn another_node_can_not_complete(ctx: &Ctx<'_>) -> Result<()> {
    let (owner, other) = (ctx.join("owner").await?, ctx.join("other").await?);
    let claimed = ctx.running("mine", &owner).await?;
    assert!(is_refused(ctx, &other, &claimed).await?);
    assert_eq!(ctx.get(&claimed.job.id).await?.last_status, None);
    Ok(())
}

async fn an_older_epoch_can_not_complete_or_claim_or_renew(ctx: &Ctx<'_>) -> Result<()> {
    let old = ctx.join("node").await?;
    let claimed = ctx.running("job", &old).await?;
    let new = ctx.join("node").await?;
    assert!(new.epoch > old.epoch);
    assert!(is_refused(ctx, &old, &claimed).await?);
    assert!(is_refused(ctx, &new, &claimed).await?, "the new epoch does not inherit");
    assert!(ctx.is_refused(&old).await?);
    assert_eq!(ctx.heartbeat(&old, MINUTE).await?, HeartbeatOutcome::Refused);
    assert!(!ctx.is_refused(&new).await?);
    Ok(())
}

async fn another_claim_counter_can_not_complete(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let mut claimed = ctx.running("job", &node).await?;
    claimed.execution.claim += 1;
    assert!(is_refused(ctx, &node, &claimed).await?);
    Ok(())
}

async fn a_zombie_can_not_complete_after_it_was_reaped(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join_for("zombie", MINUTE).await?;
    let claimed = ctx.running("job", &node).await?;
    ctx.advance(2 * MINUTE);
    let reaped = ctx.reap().await?;
    assert_eq!(reaped.ended.len(), 1);
    assert!(is_refused(ctx, &node, &claimed).await?);
    assert_eq!(ctx.execution(&claimed.execution.id).await?.status, Status::Lost);
    assert_eq!(ctx.heartbeat(&node, MINUTE).await?, HeartbeatOutcome::Refused);
    assert!(ctx.is_refused(&node).await?);
    Ok(())
}

async fn a_node_that_is_dead_can_not_complete_before_it_is_reaped(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let claimed = ctx.running("job", &node).await?;
    ctx.kill(&node).await?;
    assert!(is_refused(ctx, &node, &claimed).await?);
    Ok(())
}

async fn an_epoch_owns_what_it_runs_until_it_is_dead(ctx: &Ctx<'_>) -> Result<()> {
    let n_owned = async |node: &NodeRef| ctx.store().owned(node).await.map(|owned| owned.len());
    let old = ctx.join_for("node", MINUTE).await?;
    let claimed = ctx.running("job", &old).await?;
    ctx.advance(2 * MINUTE);
    assert_eq!(n_owned(&old).await?, 1, "nobody has taken it yet, and it may renew");
    let new = ctx.join("node").await?;
    assert_eq!((n_owned(&old).await?, n_owned(&new).await?), (0, 0), "the next epoch has ended it");
    assert_eq!(
        ctx.execution(&claimed.execution.id).await?.status,
        Status::Running,
        "it is still to be reaped"
    );

    let leaver = ctx.join("leaver").await?;
    ctx.running("other", &leaver).await?;
    ctx.store().leave(&leaver).await?;
    assert_eq!(n_owned(&leaver).await?, 0);
    Ok(())
}

async fn a_completion_after_the_lease_but_before_death_counts(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join_for("slow", MINUTE).await?;
    let claimed = ctx.running("job", &node).await?;
    ctx.advance(2 * MINUTE);
    assert!(ctx.is_refused(&node).await?, "without a lease it takes nothing new");
    let ended = ctx.end(&node, &claimed, Status::Success).await?;
    assert_eq!(ended.status, Status::Success, "but nobody has taken from it what it ran");
    Ok(())
}

async fn reports_are_written_in_order_and_only_while_owned(ctx: &Ctx<'_>) -> Result<()> {
    let (node, other) = (ctx.join("node").await?, ctx.join("other").await?);
    let claimed = ctx.running("job", &node).await?;
    let line = |n: usize| LogLine {
        timestamp: ctx.now(),
        level: Level::Info,
        message: format!("line {n}"),
        fields: Value::Null,
    };
    let progress = |done: u64| Some(Progress { done, total: Some(9), message: "so far".to_owned() });
    let report = |lines: std::ops::Range<usize>, done: Option<u64>| Report {
        execution_id: claimed.execution.id,
        claim: claimed.execution.claim,
        first_line: lines.start as u64,
        logs: lines.map(line).collect(),
        progress: done.and_then(progress),
    };
    let store = ctx.store();
    assert_eq!(store.report(&node, &[report(0..3, Some(1)), report(3..4, None)]).await?, 2);
    assert_eq!(store.report(&node, &[report(4..4, Some(2))]).await?, 1);
    assert_eq!(store.report(&node, &[report(2..4, None)]).await?, 1, "a repeat of lines that are there");
    let mut wrong = report(90..91, Some(7));
    wrong.claim += 1;
    let stale = NodeRef { id: node.id.clone(), epoch: Epoch(node.epoch.0 - 1) };
    assert_eq!(store.report(&node, &[wrong]).await?, 0, "another claim");
    assert_eq!(store.report(&other, &[report(91..92, Some(7))]).await?, 0, "another node");
    assert_eq!(store.report(&stale, &[report(92..93, Some(7))]).await?, 0, "another epoch");
    assert_eq!(ctx.execution(&claimed.execution.id).await?.progress, progress(2));

    let mut end = ctx.ending(&claimed, Status::Success);
    (end.first_line, end.logs) = (4, vec![line(4), line(5)]);
    let _ = ctx.complete(&node, &[end]).await?;
    assert_eq!(store.report(&node, &[report(93..94, Some(7))]).await?, 0, "it has ended");
    let id = &claimed.execution.id;
    let expected: Vec<LogLine> = (0..6).map(line).collect();
    assert_eq!(store.list_logs(id, 0, 100).await?, expected);
    assert_eq!(store.list_logs(id, 2, 3).await?, expected[2..5]);
    assert!(store.list_logs(id, 6, 3).await?.is_empty());
    Ok(())
}

async fn a_node_that_never_joined_can_do_nothing(ctx: &Ctx<'_>) -> Result<()> {
    let owner = ctx.join("owner").await?;
    let claimed = ctx.running("job", &owner).await?;
    let nobody = NodeRef { id: "nobody".into(), epoch: Epoch(1_000_000) };
    assert!(ctx.is_refused(&nobody).await?);
    assert!(is_refused(ctx, &nobody, &claimed).await?);
    assert_eq!(ctx.heartbeat(&nobody, Duration::from_secs(1)).await?, HeartbeatOutcome::Refused);
    ctx.store().leave(&nobody).await?;
    assert!(ctx.store().owned(&nobody).await?.is_empty());
    Ok(())
}
