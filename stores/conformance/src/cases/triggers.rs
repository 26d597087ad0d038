//! Manual triggers and cancellations.

use serde_json::json;
use unified_scheduler_core::error::Result;
use unified_scheduler_core::execution::Status;
use unified_scheduler_core::id::{ExecutionId, JobId};
use unified_scheduler_core::store::{
    CancelOutcome, CompleteOutcome, NewExecution, TriggerOutcome, TriggerRequest,
};

use super::group;
use crate::ctx::{Ctx, MINUTE};

group! { "triggers":
    a_trigger_makes_a_pending_execution_as_asked,
    a_trigger_does_not_move_the_schedule,
    a_repeated_trigger_answers_the_same_execution,
    a_key_answers_the_execution_it_made_also_after_its_end,
    a_key_counts_within_its_job,
    a_trigger_of_an_unknown_job_is_an_answer,
    unless_open_refuses_while_something_is_open,
    triggers_of_one_instant_are_different_executions,
    a_pending_execution_is_cancelled_and_never_starts,
    a_running_execution_is_asked_to_stop,
    an_end_is_final_for_cancellations,
    an_unknown_execution_is_not_cancelled,
    a_cancelled_execution_can_not_be_completed,
}

async fn ask(ctx: &Ctx<'_>, execution: NewExecution, key: Option<&str>) -> Result<TriggerOutcome> {
    let idempotency_key = key.map(str::to_owned);
    ctx.store().trigger(TriggerRequest { execution, idempotency_key, unless_open: false }).await
}

async fn a_trigger_makes_a_pending_execution_as_asked(ctx: &Ctx<'_>) -> Result<()> {
    let job = ctx.create(ctx.manual_job("asked")).await?;
    let mut new = ctx.manual(&job.id);
    new.parameters = Some(json!({"only": ["this", 1.5]}));
    let made = ctx.trigger_new(new.clone()).await?;
    let expected = new.into_execution(&job, ctx.now());
    assert_eq!(made, expected);
    assert_eq!(ctx.execution(&made.id).await?, expected);
    Ok(())
}

async fn a_trigger_does_not_move_the_schedule(ctx: &Ctx<'_>) -> Result<()> {
    let job = ctx.create(ctx.job("cadence")).await?;
    ctx.trigger(&job.id).await?;
    assert_eq!(ctx.get(&job.id).await?, job);
    Ok(())
}

async fn a_repeated_trigger_answers_the_same_execution(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let job = ctx.create(ctx.manual_job("asked")).await?;
    let new = ctx.manual(&job.id);
    let made = ctx.trigger_new(new.clone()).await?;
    assert_eq!(ask(ctx, new.clone(), None).await?, TriggerOutcome::Exists(Box::new(made)));
    let claimed = ctx.claim_one(&node).await?;
    let ended = ctx.end(&node, &claimed, Status::Success).await?;
    assert_eq!(ask(ctx, new, None).await?, TriggerOutcome::Exists(Box::new(ended)));
    assert_eq!(ctx.executions(&job.id).await?.len(), 1);
    Ok(())
}

async fn a_key_answers_the_execution_it_made_also_after_its_end(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let job = ctx.create(ctx.manual_job("asked")).await?;
    let key = Some("order-17 'ü'");
    let first = ask(ctx, ctx.manual(&job.id), key).await?;
    let TriggerOutcome::Created(made) = first else { panic!("{first:?}") };
    ctx.advance(MINUTE);
    assert_eq!(ask(ctx, ctx.manual(&job.id), key).await?, TriggerOutcome::Exists(made.clone()));
    let claimed = ctx.claim_one(&node).await?;
    let ended = ctx.end(&node, &claimed, Status::Failed).await?;
    ctx.advance(MINUTE);
    assert_eq!(ask(ctx, ctx.manual(&job.id), key).await?, TriggerOutcome::Exists(Box::new(ended)));
    assert_eq!(ctx.executions(&job.id).await?.len(), 1);
    Ok(())
}

async fn a_key_counts_within_its_job(ctx: &Ctx<'_>) -> Result<()> {
    let one = ctx.create(ctx.manual_job("one")).await?;
    let two = ctx.create(ctx.manual_job("two")).await?;
    for job in [&one, &two] {
        let outcome = ask(ctx, ctx.manual(&job.id), Some("same")).await?;
        assert!(matches!(outcome, TriggerOutcome::Created(_)), "{outcome:?}");
    }
    let outcome = ask(ctx, ctx.manual(&one.id), Some("other")).await?;
    assert!(matches!(outcome, TriggerOutcome::Created(_)), "{outcome:?}");
    Ok(())
}

async fn a_trigger_of_an_unknown_job_is_an_answer(ctx: &Ctx<'_>) -> Result<()> {
    let new = ctx.manual(&JobId::from("nobody"));
    let id = new.id;
    assert_eq!(ask(ctx, new, Some("key")).await?, TriggerOutcome::NotFound);
    assert_eq!(ctx.store().get_execution(&id).await?, None);
    Ok(())
}

async fn unless_open_refuses_while_something_is_open(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let job = ctx.create(ctx.manual_job("single")).await?;
    let single = |key: Option<&str>| TriggerRequest {
        execution: ctx.manual(&job.id),
        idempotency_key: key.map(str::to_owned),
        unless_open: true,
    };
    let store = ctx.store();
    let first = store.trigger(single(Some("key"))).await?;
    let TriggerOutcome::Created(made) = first else { panic!("{first:?}") };
    assert_eq!(store.trigger(single(None)).await?, TriggerOutcome::Busy(made.id), "pending is open");
    let claimed = ctx.claim_one(&node).await?;
    assert_eq!(store.trigger(single(None)).await?, TriggerOutcome::Busy(made.id), "so is running");
    let repeat = store.trigger(single(Some("key"))).await?;
    assert!(matches!(repeat, TriggerOutcome::Exists(_)), "a repeat is not in its own way: {repeat:?}");
    ctx.end(&node, &claimed, Status::Success).await?;
    assert!(matches!(store.trigger(single(None)).await?, TriggerOutcome::Created(_)));
    Ok(())
}

async fn triggers_of_one_instant_are_different_executions(ctx: &Ctx<'_>) -> Result<()> {
    let job = ctx.create(ctx.job("often")).await?;
    let mut ids: Vec<ExecutionId> = Vec::new();
    for _ in 0..5 {
        ids.push(ctx.trigger(&job.id).await?.id);
    }
    let mut stored: Vec<ExecutionId> = ctx.executions(&job.id).await?.iter().map(|e| e.id).collect();
    stored.sort();
    assert_eq!(stored, ids);
    Ok(())
}

async fn a_pending_execution_is_cancelled_and_never_starts(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let job = ctx.create(ctx.manual_job("waiting")).await?;
    let pending = ctx.trigger(&job.id).await?;
    let store = ctx.store();
    assert_eq!(store.cancel(&pending.id, "tester").await?, CancelOutcome::Cancelled);
    let stored = ctx.execution(&pending.id).await?;
    assert_eq!((stored.status, stored.ended_at), (Status::Cancelled, Some(ctx.now())));
    assert_eq!((stored.started_at, stored.node_id.as_ref()), (None, None));
    assert_eq!(ctx.claim(&node, 10).await?.claimed.len(), 0);
    let again = store.cancel(&pending.id, "tester").await?;
    assert_eq!(again, CancelOutcome::Ended(Status::Cancelled));
    Ok(())
}

async fn a_running_execution_is_asked_to_stop(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let claimed = ctx.running("running", &node).await?;
    let id = claimed.execution.id;
    for _ in 0..2 {
        assert_eq!(ctx.store().cancel(&id, "tester").await?, CancelOutcome::Requested);
    }
    let stored = ctx.execution(&id).await?;
    assert_eq!((stored.status, stored.cancel_requested), (Status::Running, true));
    let ended = ctx.end(&node, &claimed, Status::Cancelled).await?;
    assert_eq!(ended.status, Status::Cancelled);
    Ok(())
}

async fn an_end_is_final_for_cancellations(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let claimed = ctx.running("ended", &node).await?;
    let ended = ctx.end(&node, &claimed, Status::Partial).await?;
    let outcome = ctx.store().cancel(&ended.id, "tester").await?;
    assert_eq!(outcome, CancelOutcome::Ended(Status::Partial));
    assert_eq!(ctx.execution(&ended.id).await?, ended);
    Ok(())
}

async fn an_unknown_execution_is_not_cancelled(ctx: &Ctx<'_>) -> Result<()> {
    assert_eq!(ctx.store().cancel(&ctx.id(), "tester").await?, CancelOutcome::NotFound);
    assert_eq!(ctx.store().get_execution(&ctx.id()).await?, None);
    Ok(())
}

async fn a_cancelled_execution_can_not_be_completed(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let mut claimed = ctx.running("job", &node).await?;
    let pending = ctx.trigger(&claimed.job.id).await?;
    let _ = ctx.store().cancel(&pending.id, "tester").await?;
    claimed.execution = pending;
    claimed.execution.own(&node, ctx.now());
    let outcomes = ctx.complete(&node, &[ctx.ending(&claimed, Status::Success)]).await?;
    assert_eq!(outcomes, [CompleteOutcome::Refused]);
    assert_eq!(ctx.execution(&claimed.execution.id).await?.status, Status::Cancelled);
    Ok(())
}
