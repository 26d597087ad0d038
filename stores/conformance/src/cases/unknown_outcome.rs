//! A reply that was lost: the same call again changes nothing and answers what is true.

use unified_scheduler_core::error::Result;
use unified_scheduler_core::execution::Status;
use unified_scheduler_core::store::{
    CancelOutcome, CreateOutcome, TriggerOutcome, TriggerRequest, UpdateJob, UpdateOutcome,
};

use super::group;
use crate::ctx::{Ctx, MINUTE};

group! { "unknown_outcome":
    a_claim_whose_reply_was_lost_is_found_again,
    what_has_ended_is_not_owned,
    a_creation_of_many_is_repeated,
    an_edit_whose_reply_was_lost_is_told_as_stale_with_its_result,
    a_deletion_is_repeated,
    a_cancellation_is_repeated,
    a_trigger_of_a_job_deleted_since_answers_what_it_made,
    a_join_whose_reply_was_lost_leaves_one_living_epoch,
}

async fn a_claim_whose_reply_was_lost_is_found_again(ctx: &Ctx<'_>) -> Result<()> {
    let (node, other) = (ctx.join("node").await?, ctx.join("other").await?);
    let jobs = (0..5).map(|i| ctx.job(&format!("{i}"))).collect();
    let _ = ctx.create_all(jobs).await?;
    let mut lost = ctx.claim(&node, 3).await?.claimed;
    assert_eq!(ctx.claim(&other, 10).await?.claimed.len(), 2);
    let mut owned = ctx.store().owned(&node).await?;
    lost.sort_by_key(|claimed| claimed.execution.id);
    owned.sort_by_key(|claimed| claimed.execution.id);
    assert_eq!(owned.len(), 3);
    for (lost, owned) in lost.iter().zip(&owned) {
        assert_eq!(owned.execution, lost.execution);
        assert_eq!(owned.job.definition, lost.job.definition);
    }
    Ok(())
}

async fn what_has_ended_is_not_owned(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let claimed = ctx.running("job", &node).await?;
    ctx.end(&node, &claimed, Status::Success).await?;
    assert!(ctx.store().owned(&node).await?.is_empty());
    Ok(())
}

async fn a_creation_of_many_is_repeated(ctx: &Ctx<'_>) -> Result<()> {
    let jobs: Vec<_> = (0..5).map(|i| ctx.job(&format!("{i}"))).collect();
    for _ in 0..2 {
        assert_eq!(ctx.create_all(jobs.clone()).await?, CreateOutcome::Created);
    }
    assert_eq!(ctx.store().counts().await?.jobs, 5);
    Ok(())
}

async fn an_edit_whose_reply_was_lost_is_told_as_stale_with_its_result(ctx: &Ctx<'_>) -> Result<()> {
    let job = ctx.create(ctx.job("edited")).await?;
    let mut edit = UpdateJob::new(&job, "tester", "skip_next");
    edit.skip_next = Some(2);
    let UpdateOutcome::Updated(first) = ctx.store().update_job(edit.clone()).await? else {
        panic!("the first edit wins");
    };
    assert_eq!(ctx.store().update_job(edit).await?, UpdateOutcome::Stale(first));
    assert_eq!(ctx.audit(&job.id).await?.len(), 2);
    Ok(())
}

async fn a_deletion_is_repeated(ctx: &Ctx<'_>) -> Result<()> {
    let job = ctx.create(ctx.job("gone")).await?;
    assert!(ctx.store().delete_job(&job.id, "tester").await?);
    assert!(!ctx.store().delete_job(&job.id, "tester").await?);
    assert_eq!(ctx.audit(&job.id).await?.len(), 2);
    Ok(())
}

async fn a_cancellation_is_repeated(ctx: &Ctx<'_>) -> Result<()> {
    let job = ctx.create(ctx.manual_job("waiting")).await?;
    let pending = ctx.trigger(&job.id).await?;
    let _ = ctx.store().cancel(&pending.id, "tester").await?;
    let stored = ctx.execution(&pending.id).await?;
    ctx.advance(MINUTE);
    let again = ctx.store().cancel(&pending.id, "tester").await?;
    assert_eq!(again, CancelOutcome::Ended(Status::Cancelled));
    assert_eq!(ctx.execution(&pending.id).await?, stored);
    Ok(())
}

async fn a_trigger_of_a_job_deleted_since_answers_what_it_made(ctx: &Ctx<'_>) -> Result<()> {
    let job = ctx.create(ctx.manual_job("gone")).await?;
    let execution = ctx.manual(&job.id);
    let request = TriggerRequest { execution, idempotency_key: None, unless_open: true };
    let first = ctx.store().trigger(request.clone()).await?;
    let TriggerOutcome::Created(made) = first else { panic!("{first:?}") };
    ctx.store().delete_job(&job.id, "tester").await?;
    let again = ctx.store().trigger(request).await?;
    let TriggerOutcome::Exists(found) = again else { panic!("{again:?}") };
    assert_eq!((found.id, found.status), (made.id, Status::Cancelled));
    Ok(())
}

async fn a_join_whose_reply_was_lost_leaves_one_living_epoch(ctx: &Ctx<'_>) -> Result<()> {
    let lost = ctx.join("node").await?;
    let node = ctx.join("node").await?;
    assert!(ctx.is_refused(&lost).await?);
    assert!(!ctx.is_refused(&node).await?);
    assert_eq!(ctx.store().list_nodes().await?.len(), 1);
    Ok(())
}
