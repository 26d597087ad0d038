//! Reaping: ending what dead nodes left running.

use std::collections::BTreeSet;
use std::time::Duration;

use unified_scheduler_core::error::Result;
use unified_scheduler_core::execution::Status;
use unified_scheduler_core::policy::{Chain, ChainOn, Keep, Overlap, Retry};
use unified_scheduler_core::schedule::Schedule;
use unified_scheduler_core::store::ReapRequest;

use super::group;
use crate::ctx::{Ctx, LONG, MINUTE};

group! { "reaping":
    a_living_node_is_left_alone,
    grace_is_respected,
    a_lost_execution_ends_as_lost,
    a_lost_execution_is_retried_where_the_policy_says_so,
    a_crash_is_not_a_retry_and_too_many_park_the_job,
    reaping_goes_page_by_page,
    two_reapers_are_as_one,
    an_execution_of_a_deleted_job_is_reaped,
    an_epoch_replaced_by_a_join_is_reaped,
    a_lost_execution_frees_its_slot,
    a_lost_execution_is_removed_where_nothing_is_kept,
    an_end_is_final_for_reapers,
}

async fn a_living_node_is_left_alone(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join_for("alive", MINUTE).await?;
    let claimed = ctx.running("job", &node).await?;
    ctx.advance(Duration::from_secs(59));
    let reaped = ctx.reap().await?;
    assert!(reaped.nodes.is_empty() && reaped.ended.is_empty() && !reaped.more);
    assert_eq!(ctx.execution(&claimed.execution.id).await?, claimed.execution);
    Ok(())
}

async fn grace_is_respected(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join_for("late", MINUTE).await?;
    ctx.running("job", &node).await?;
    let request = ReapRequest { grace: Duration::from_secs(5), limit: 10 };
    ctx.advance(Duration::from_millis(64_999));
    assert!(ctx.store().reap(request, &ctx.planner).await?.nodes.is_empty());
    ctx.advance(Duration::from_millis(2));
    let reaped = ctx.store().reap(request, &ctx.planner).await?;
    assert_eq!((reaped.nodes, reaped.ended.len()), (vec![node], 1));
    Ok(())
}

async fn a_lost_execution_ends_as_lost(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join_for("dying", MINUTE).await?;
    let claimed = ctx.running("job", &node).await?;
    ctx.advance(2 * MINUTE);
    let reaped = ctx.reap().await?;
    assert_eq!(reaped.nodes, std::slice::from_ref(&node));
    let stored = ctx.execution(&claimed.execution.id).await?;
    assert_eq!(reaped.ended, std::slice::from_ref(&stored), "told as they are now");
    assert_eq!((stored.status, stored.reason.as_deref()), (Status::Lost, Some("lost")));
    assert_eq!((stored.ended_at, stored.node_id), (Some(ctx.now()), Some(node.id)));
    let job = ctx.get(&claimed.job.id).await?;
    assert_eq!((job.last_status, job.failures_in_row), (Some(Status::Lost), 1));
    let again = ctx.reap().await?;
    assert!(again.nodes.is_empty() && again.ended.is_empty() && !again.more, "found once");
    Ok(())
}

async fn a_lost_execution_is_retried_where_the_policy_says_so(ctx: &Ctx<'_>) -> Result<()> {
    let (node, other) = (ctx.join_for("dying", MINUTE).await?, ctx.join("other").await?);
    ctx.create(ctx.job_with("again", Schedule::every(LONG), |d| d.retry = Retry::times(1, MINUTE))).await?;
    let first = ctx.claim_one(&node).await?;
    ctx.advance(2 * MINUTE);
    let _ = ctx.reap().await?;
    let second = ctx.claim_one(&other).await?.execution;
    assert_eq!((second.attempt, second.retries, second.crashes), (2, 0, 1));
    assert_eq!((second.root_id, second.due_at), (first.execution.id, first.execution.due_at));
    Ok(())
}

async fn a_crash_is_not_a_retry_and_too_many_park_the_job(ctx: &Ctx<'_>) -> Result<()> {
    let retry = Retry { crash_limit: 2, ..Retry::times(0, MINUTE) };
    let job = ctx.create(ctx.job_with("poison", Schedule::every(LONG), |d| d.retry = retry)).await?;
    for crash in 1..=2 {
        let node = ctx.join(&format!("victim-{crash}")).await?;
        ctx.claim_one(&node).await?;
        ctx.kill(&node).await?;
        let _ = ctx.reap().await?;
    }
    let rows = ctx.executions(&job.id).await?;
    assert_eq!(rows.iter().map(|e| (e.status, e.retries)).collect::<Vec<_>>(), [(Status::Lost, 0); 2]);
    let stored = ctx.get(&job.id).await?;
    assert!(stored.fault.is_some(), "parked");
    assert_eq!(ctx.audit(&job.id).await?.last().map(|e| e.action.clone()), Some("set_aside".to_owned()));
    Ok(())
}

async fn reaping_goes_page_by_page(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let jobs = (0..7).map(|i| ctx.job(&format!("{i}"))).collect();
    let _ = ctx.create_all(jobs).await?;
    assert_eq!(ctx.claim(&node, 10).await?.claimed.len(), 7);
    ctx.kill(&node).await?;
    let mut ended = BTreeSet::new();
    for (n, more) in [(3, true), (3, true), (1, false)] {
        let request = ReapRequest { grace: Duration::ZERO, limit: 3 };
        let reaped = ctx.store().reap(request, &ctx.planner).await?;
        assert_eq!(reaped.ended.len(), n);
        assert!(reaped.more || !more, "it must not say that nothing is left");
        ended.extend(reaped.ended.into_iter().map(|e| e.id));
    }
    assert_eq!(ended.len(), 7);
    assert!(ctx.store().owned(&node).await?.is_empty());
    Ok(())
}

async fn two_reapers_are_as_one(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let next = ctx.create(ctx.manual_job("next")).await?;
    let mut jobs = Vec::new();
    for i in 0..40 {
        jobs.push(ctx.job_with(&format!("{i}"), Schedule::every(LONG), |d| {
            d.retry = Retry { on_lost: i % 2 == 0, ..Retry::times(1, MINUTE) };
            d.chains = vec![Chain { on: ChainOn::Any, job: next.id.clone() }];
        }));
    }
    let _ = ctx.create_all(jobs).await?;
    assert_eq!(ctx.claim(&node, 100).await?.claimed.len(), 40);
    ctx.kill(&node).await?;
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let (store, planner) = (ctx.other().await?, ctx.planner.clone());
        tasks.push(tokio::spawn(async move {
            let mut ended = Vec::new();
            loop {
                let request = ReapRequest { grace: Duration::ZERO, limit: 7 };
                let reaped = store.reap(request, &planner).await?;
                ended.extend(reaped.ended.into_iter().map(|e| e.id));
                if !reaped.more {
                    return Ok(ended);
                }
            }
        }));
    }
    let ended = crate::cases::races::join_all(tasks).await?.concat();
    let distinct: BTreeSet<_> = ended.iter().collect();
    assert_eq!((ended.len(), distinct.len()), (40, 40), "each was ended by one of them");
    let counts = ctx.store().counts().await?.executions;
    assert_eq!(counts.get(&Status::Lost), Some(&40));
    assert_eq!(counts.get(&Status::Pending), Some(&40), "20 retries, and 20 chained executions");
    Ok(())
}

async fn an_execution_of_a_deleted_job_is_reaped(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let claimed = ctx.running("gone", &node).await?;
    ctx.store().delete_job(&claimed.job.id, "tester").await?;
    ctx.kill(&node).await?;
    assert_eq!(ctx.reap().await?.ended.len(), 1);
    assert_eq!(ctx.execution(&claimed.execution.id).await?.status, Status::Lost);
    assert_eq!(ctx.store().get_job(&claimed.job.id).await?, None);
    Ok(())
}

async fn an_epoch_replaced_by_a_join_is_reaped(ctx: &Ctx<'_>) -> Result<()> {
    let old = ctx.join("node").await?;
    let lost = ctx.running("old", &old).await?;
    let new = ctx.join("node").await?;
    let kept = ctx.running("new", &new).await?;
    let reaped = ctx.reap().await?;
    assert_eq!(reaped.ended.iter().map(|e| e.id).collect::<Vec<_>>(), [lost.execution.id]);
    assert_eq!(ctx.execution(&kept.execution.id).await?, kept.execution);
    assert!(!ctx.is_refused(&new).await?);
    Ok(())
}

async fn a_lost_execution_frees_its_slot(ctx: &Ctx<'_>) -> Result<()> {
    let (node, other) = (ctx.join("dying").await?, ctx.join("other").await?);
    let queue = ctx.job_with("queue", Schedule::every(MINUTE), |d| d.overlap = Overlap::QueueOne);
    ctx.create(queue).await?;
    ctx.claim_one(&node).await?;
    ctx.advance(MINUTE);
    assert_eq!(ctx.claim(&other, 10).await?.queued.len(), 1);
    ctx.kill(&node).await?;
    let _ = ctx.reap().await?;
    ctx.claim_one(&other).await?;
    Ok(())
}

async fn a_lost_execution_is_removed_where_nothing_is_kept(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    ctx.create(ctx.job_with("none", Schedule::every(MINUTE), |d| d.history.keep = Keep::None)).await?;
    let claimed = ctx.claim_one(&node).await?;
    ctx.kill(&node).await?;
    let reaped = ctx.reap().await?;
    assert_eq!(reaped.ended.iter().map(|e| e.status).collect::<Vec<_>>(), [Status::Lost]);
    assert!(ctx.executions(&claimed.job.id).await?.is_empty());
    Ok(())
}

async fn an_end_is_final_for_reapers(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join_for("node", MINUTE).await?;
    let claimed = ctx.running("job", &node).await?;
    let ended = ctx.end(&node, &claimed, Status::Success).await?;
    ctx.advance(2 * MINUTE);
    let reaped = ctx.reap().await?;
    assert_eq!((reaped.nodes.len(), reaped.ended.len()), (1, 0));
    assert_eq!(ctx.execution(&ended.id).await?, ended);
    Ok(())
}
