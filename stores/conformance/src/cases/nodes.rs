//! Nodes: joining, leases, heartbeats, leaving.

use std::time::Duration;

use unified_scheduler_core::error::Result;
use unified_scheduler_core::execution::Status;
use unified_scheduler_core::store::{
    HeartbeatOutcome, HeartbeatRequest, JoinRequest, Node, NodeInfo, NodeRef,
};

use super::group;
use crate::ctx::{Ctx, LONG, MINUTE};

group! { "nodes":
    epochs_only_grow,
    a_node_is_shown_as_it_told_of_itself,
    a_claim_is_refused_from_the_instant_the_lease_ends,
    a_heartbeat_renews_from_the_stores_clock,
    a_heartbeat_tells_what_to_cancel,
    a_heartbeat_tells_how_much_runs,
    a_heartbeat_tells_that_there_is_something_to_reap,
    a_node_that_left_is_dead_at_once,
    an_old_epoch_that_leaves_does_not_take_the_new_one_along,
    a_dead_node_is_shown_for_a_day,
}

async fn shown(ctx: &Ctx<'_>, name: &str) -> Result<Option<Node>> {
    Ok(ctx.store().list_nodes().await?.into_iter().find(|node| node.id.as_str() == name))
}

async fn epochs_only_grow(ctx: &Ctx<'_>) -> Result<()> {
    let mut last = ctx.join("a").await?.epoch;
    let other = ctx.other().await?;
    for name in ["b", "a", "c", "a", "a"] {
        let request = JoinRequest { id: name.into(), ttl: LONG, info: NodeInfo::default() };
        let joined = if name == "c" { other.join(request).await? } else { ctx.store().join(request).await? };
        assert!(joined.epoch > last, "{} after {last}", joined.epoch);
        assert_eq!(joined.now, ctx.now(), "the store's clock");
        last = joined.epoch;
    }
    assert_eq!(ctx.store().list_nodes().await?.len(), 3, "a node is shown in its last epoch");
    Ok(())
}

async fn a_node_is_shown_as_it_told_of_itself(ctx: &Ctx<'_>) -> Result<()> {
    let info = NodeInfo {
        host: "höst".to_owned(),
        pid: u32::MAX,
        version: "1.2.3".to_owned(),
        tzdb: "2026f".to_owned(),
        handlers: vec!["a".to_owned(), "b".to_owned()],
        concurrency: 32,
        running: 3,
        clock_skew_ms: -1_500,
        draining: false,
    };
    let request = JoinRequest { id: "node".into(), ttl: MINUTE, info: info.clone() };
    let joined = ctx.store().join(request).await?;
    let mut expected = Node {
        id: "node".into(),
        epoch: joined.epoch,
        dead: false,
        joined_at: ctx.now(),
        seen_at: ctx.now(),
        lease_until: ctx.now().saturating_add(MINUTE),
        info,
    };
    assert_eq!(shown(ctx, "node").await?, Some(expected.clone()));
    ctx.advance(Duration::from_secs(7));
    expected.info.draining = true;
    expected.info.running = 0;
    let request = HeartbeatRequest {
        node: NodeRef { id: "node".into(), epoch: joined.epoch },
        ttl: 2 * MINUTE,
        info: expected.info.clone(),
    };
    let _ = ctx.store().heartbeat(request).await?;
    expected.seen_at = ctx.now();
    expected.lease_until = ctx.now().saturating_add(2 * MINUTE);
    assert_eq!(shown(ctx, "node").await?, Some(expected));
    Ok(())
}

async fn a_claim_is_refused_from_the_instant_the_lease_ends(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join_for("node", MINUTE).await?;
    ctx.create(ctx.job("job")).await?;
    ctx.advance(MINUTE);
    assert!(ctx.is_refused(&node).await?);
    let job = ctx.get(&"job-job".into()).await?;
    assert_eq!(job.n_fired, 0, "a refused claim writes nothing");
    Ok(())
}

async fn a_heartbeat_renews_from_the_stores_clock(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join_for("node", MINUTE).await?;
    for _ in 0..5 {
        ctx.advance(Duration::from_secs(59));
        let beat = ctx.heartbeat(&node, MINUTE).await?;
        assert_eq!(
            beat,
            HeartbeatOutcome::Renewed { now: ctx.now(), cancel: vec![], n_running: 0, overdue: false }
        );
    }
    assert!(!ctx.is_refused(&node).await?);
    assert!(ctx.reap().await?.nodes.is_empty());
    // Late, but nobody has found it dead.
    ctx.advance(2 * MINUTE);
    assert!(matches!(ctx.heartbeat(&node, MINUTE).await?, HeartbeatOutcome::Renewed { .. }));
    assert!(!ctx.is_refused(&node).await?);
    Ok(())
}

async fn a_heartbeat_tells_what_to_cancel(ctx: &Ctx<'_>) -> Result<()> {
    let (node, other) = (ctx.join("node").await?, ctx.join("other").await?);
    let claimed = ctx.running("job", &node).await?;
    let kept = ctx.running("kept", &node).await?;
    let _ = ctx.store().cancel(&claimed.execution.id, "tester").await?;
    let asked = |beat: HeartbeatOutcome| match beat {
        HeartbeatOutcome::Renewed { cancel, .. } => cancel,
        HeartbeatOutcome::Refused => panic!("refused"),
    };
    assert_eq!(asked(ctx.heartbeat(&node, LONG).await?), [claimed.execution.id]);
    assert_eq!(asked(ctx.heartbeat(&node, LONG).await?), [claimed.execution.id], "until it has ended");
    assert!(asked(ctx.heartbeat(&other, LONG).await?).is_empty(), "only its own");
    assert!(!ctx.execution(&kept.execution.id).await?.cancel_requested);
    Ok(())
}

async fn a_heartbeat_tells_how_much_runs(ctx: &Ctx<'_>) -> Result<()> {
    let (node, other) = (ctx.join("node").await?, ctx.join("other").await?);
    let first = ctx.running("first", &node).await?;
    ctx.running("second", &node).await?;
    let running = |beat: HeartbeatOutcome| match beat {
        HeartbeatOutcome::Renewed { n_running, .. } => n_running,
        HeartbeatOutcome::Refused => panic!("refused"),
    };
    assert_eq!(running(ctx.heartbeat(&node, LONG).await?), 2);
    assert_eq!(running(ctx.heartbeat(&other, LONG).await?), 0, "only its own");
    ctx.end(&node, &first, Status::Success).await?;
    assert_eq!(running(ctx.heartbeat(&node, LONG).await?), 1);
    Ok(())
}

async fn a_heartbeat_tells_that_there_is_something_to_reap(ctx: &Ctx<'_>) -> Result<()> {
    let overdue = |beat: HeartbeatOutcome| matches!(beat, HeartbeatOutcome::Renewed { overdue: true, .. });
    let node = ctx.join("node").await?;
    let dying = ctx.join_for("dying", MINUTE).await?;
    ctx.running("job", &dying).await?;
    assert!(!overdue(ctx.heartbeat(&node, LONG).await?));
    ctx.advance(2 * MINUTE);
    assert!(overdue(ctx.heartbeat(&node, LONG).await?), "a lease has run out");
    let _ = ctx.reap().await?;
    assert!(!overdue(ctx.heartbeat(&node, LONG).await?), "it has been reaped");
    let leaving = ctx.join("leaving").await?;
    assert!(!ctx.claim(&leaving, 10).await?.claimed.is_empty());
    ctx.kill(&leaving).await?;
    assert!(overdue(ctx.heartbeat(&node, LONG).await?), "a dead epoch has left something running");
    Ok(())
}

async fn a_node_that_left_is_dead_at_once(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let claimed = ctx.running("job", &node).await?;
    ctx.store().leave(&node).await?;
    ctx.store().leave(&node).await?;
    assert!(ctx.is_refused(&node).await?);
    assert_eq!(ctx.heartbeat(&node, MINUTE).await?, HeartbeatOutcome::Refused);
    assert_eq!(shown(ctx, "node").await?.map(|node| node.dead), Some(true));
    let reaped = ctx.reap().await?;
    assert_eq!(reaped.ended.len(), 1, "at once, whatever was left of its lease");
    assert_eq!(reaped.ended[0].id, claimed.execution.id);
    Ok(())
}

async fn an_old_epoch_that_leaves_does_not_take_the_new_one_along(ctx: &Ctx<'_>) -> Result<()> {
    let old = ctx.join("node").await?;
    let new = ctx.join("node").await?;
    ctx.store().leave(&old).await?;
    assert!(!ctx.is_refused(&new).await?);
    Ok(())
}

async fn a_dead_node_is_shown_for_a_day(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join_for("short", MINUTE).await?;
    ctx.running("job", &node).await?;
    ctx.advance(2 * MINUTE);
    let reaped = ctx.reap().await?;
    assert_eq!(reaped.nodes, std::slice::from_ref(&node));
    ctx.advance(Duration::from_secs(23 * 3600));
    assert_eq!(shown(ctx, "short").await?.map(|node| node.dead), Some(true));
    ctx.advance(Duration::from_secs(2 * 3600));
    let _ = ctx.reap().await?;
    assert_eq!(shown(ctx, "short").await?, None);
    assert!(ctx.is_refused(&node).await?, "forgotten is as dead as dead");
    Ok(())
}
