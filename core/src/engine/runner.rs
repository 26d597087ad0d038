//! The runner: one task for each execution.
//!
//! An execution ends in one of these ways, and whichever comes first is recorded: its handler answers,
//! fails or panics; its time is out; it is called off; the scheduler stops. When it is asked to stop it
//! has a grace to do so by itself; then its future is dropped. When the node's epoch is dead nothing is
//! recorded: the execution belongs to somebody else by then.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use super::caught::caught;
use super::owned::{Running, StopReason};
use super::recorder::Finished;
use crate::context::Context;
use crate::event::Event;
use crate::execution::Status;
use crate::handler::{Handler, HandlerError, Outcome};
use crate::secret;
use crate::settle::{Ending, INTERRUPTED};
use crate::store::{Claimed, NodeRef};

/// Takes a claimed execution in and starts it in a task of its own.
pub(crate) fn start(engine: &Arc<Engine>, node: &NodeRef, claimed: Claimed) {
    // Found by a node that lost the reply of its claim, and by then there was nothing to run any more.
    let gone = claimed.is_of_deleted_job();
    let Claimed { execution, job } = claimed;
    let handler = engine.registry.get(&execution.handler);
    let retry_safe = engine.registry.retry_safe(&execution.handler);
    let cancelled_before = execution.cancel_requested;
    engine.events.tell(|| Event::ExecutionStarted { execution: Box::new(execution.clone()) });
    let ctx = Context::new(
        execution,
        job,
        Arc::clone(&engine.clock),
        Arc::clone(&engine.store_clock),
        Arc::clone(&engine.store),
        Arc::clone(&engine.dirty),
    );
    let running = Arc::new(Running::new(ctx, node.clone()));
    if !engine.owned.insert(Arc::clone(&running)) {
        return;
    }
    if cancelled_before || gone {
        running.stop(StopReason::Cancelled);
    }
    let guard = Guard { engine: Arc::clone(engine), running, began: engine.clock.steady(), done: false };
    engine.runtimes.spawn_handler(async move {
        let answer = match (resolve(&guard.engine, &guard.running.ctx), handler) {
            _ if gone => None,
            (Err(error), _) => Some(Err(error)),
            (Ok(()), None) => Some(Err(HandlerError::new("this node no longer has the job's handler"))),
            (Ok(()), Some(handler)) => drive(&guard.engine, &guard.running, &*handler).await,
        };
        guard.finish(answer, retry_safe);
    });
}

/// Runs the handler until it ends by itself, or its grace after being asked to stop is over.
async fn drive(
    engine: &Engine,
    running: &Running,
    handler: &dyn Handler,
) -> Option<Result<Outcome, HandlerError>> {
    let ctx = running.ctx.clone();
    let timeout = ctx.job().definition.timeout;
    let mut work = pin!(contained(handler, ctx));
    tokio::select! {
        biased;
        answer = &mut work => return Some(answer),
        () = running.ctx.cancelled() => {}
        () = engine.clock.sleep(timeout) => running.stop(StopReason::Timeout),
    }
    let grace = match running.stop_reason() {
        Some(StopReason::Shutdown) => engine.options.cancel_grace.min(Duration::from_secs(1)),
        _ => engine.options.cancel_grace,
    };
    tokio::select! {
        biased;
        answer = work => Some(answer),
        () = engine.clock.sleep(grace) => None,
    }
}

/// The handler's answer; a panic in it is a failure with its message.
async fn contained(handler: &dyn Handler, ctx: Context) -> Result<Outcome, HandlerError> {
    caught(async { handler.run(ctx).await })
        .await
        .unwrap_or_else(|payload| Err(HandlerError::panicked(&*payload)))
}

/// The parameters with their secrets, which somebody else's code looks up.
fn resolve(engine: &Engine, ctx: &Context) -> Result<(), HandlerError> {
    let given = match &ctx.execution().parameters {
        Some(serde_json::Value::Object(map)) => map,
        _ => &ctx.job().definition.parameters,
    };
    let lookup = AssertUnwindSafe(|| secret::resolve(given, &*engine.secrets));
    let resolved = std::panic::catch_unwind(lookup)
        .map_err(|payload| HandlerError::panicked(&*payload))?
        .map_err(HandlerError::from)?;
    ctx.set_parameters(resolved);
    Ok(())
}

/// Sees to it that an execution that was started also ends, even when its task is dropped.
struct Guard {
    engine: Arc<Engine>,
    running: Arc<Running>,
    began: Duration,
    done: bool,
}

impl Guard {
    fn finish(mut self, answer: Option<Result<Outcome, HandlerError>>, retry_safe: bool) {
        self.end(answer, retry_safe);
    }

    fn end(&mut self, answer: Option<Result<Outcome, HandlerError>>, retry_safe: bool) {
        self.done = true;
        let engine = &self.engine;
        if engine.owned.free_slot() >= engine.options.concurrency {
            engine.wake.notify_one();
        }
        let stop = self.running.stop_reason();
        if stop == Some(StopReason::LeaseLost) {
            engine.owned.release([&self.running.id()]);
            let execution = Box::new(self.running.ctx.execution().clone());
            engine.events.tell(|| Event::ExecutionRefused { execution });
            return;
        }
        let mut ending = ending(stop, answer, &self.running.ctx);
        let measured = || engine.clock.steady().saturating_sub(self.began);
        ending.duration = Some(self.running.ctx.duration().unwrap_or_else(measured));
        ending.retry_safe = retry_safe;
        // An error means that the recorder has ended: the reaper of another node will find it.
        let _ = engine.finished.send(Finished { running: Arc::clone(&self.running), ending });
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let engine = &self.engine;
        if !engine.stopping.is_cancelled() {
            // Nothing runs here any more. Were the node to live on, it would claim what is due and drop it.
            tracing::error!("the runtime of the handlers has gone; this node ends, and others take over");
            engine.stopping.cancel();
            engine.quiet.cancel();
            engine.ended.cancel();
            return;
        }
        self.running.stop(StopReason::Shutdown);
        self.end(None, false);
    }
}

/// What is recorded, from why it was asked to stop (if it was) and what the handler answered (if it did).
fn ending(stop: Option<StopReason>, answer: Option<Result<Outcome, HandlerError>>, ctx: &Context) -> Ending {
    let now = ctx.now();
    let mut ending = match (stop, answer) {
        (Some(StopReason::Timeout), answer) => {
            let seconds = ctx.job().definition.timeout.as_secs_f64();
            let mut ending =
                Ending::new(Status::Timeout, now).error("timeout", format!("ran longer than {seconds} s"));
            ending.result = answer.and_then(result_of);
            ending
        }
        // What ended well all the same is not turned into a failure.
        (_, Some(Ok(outcome))) => {
            let mut ending =
                Ending::new(if outcome.status.is_final() { outcome.status } else { Status::Success }, now);
            ending.result = Some(outcome.result);
            ending
        }
        (Some(StopReason::Shutdown), _) => {
            Ending::new(Status::Failed, now).error(INTERRUPTED, "the scheduler stopped while it ran")
        }
        (Some(_), answer) => {
            let mut ending = Ending::new(Status::Cancelled, now);
            ending.result = answer.and_then(result_of);
            ending
        }
        (None, Some(Err(error))) => {
            let mut ending = Ending::new(Status::Failed, now);
            let mut error = error;
            if error.failure.kind == INTERRUPTED {
                // Only a node that stops hands its work back; nobody asked this one to.
                "error".clone_into(&mut error.failure.kind);
            }
            ending.retry_after = error.retry_after;
            ending.result = error.result.map(|r| *r);
            ending.error = Some(error.failure);
            ending
        }
        (None, None) => Ending::new(Status::Failed, now).error(INTERRUPTED, "its task was dropped"),
    };
    if ending.status.class() == crate::execution::StatusClass::Bad && ending.error.is_none() {
        ending.error = ending.result.as_ref().map(|result| crate::execution::Failure {
            kind: "error".to_owned(),
            message: result.errors.first().unwrap_or(&result.message).clone(),
            trace: None,
        });
    }
    ending
}

fn result_of(answer: Result<Outcome, HandlerError>) -> Option<crate::execution::JobResult> {
    match answer {
        Ok(outcome) => Some(outcome.result),
        Err(error) => error.result.map(|r| *r),
    }
}
