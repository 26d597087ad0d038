//! Handlers and templates of Python, as the engine sees them: their body is a [`crate::lane`].

use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use serde_json::{Map, Value};
use unified_scheduler::{
    Context, Fault, Handler, HandlerError, Outcome, Template, TemplateMetadata, async_trait,
};

use crate::answer::Answer;
use crate::call::{Call, Waiting};
use crate::check::Check;
use crate::lane::Queue;

/// How long a template's own check of parameters may take.
const CHECK_TIME: Duration = Duration::from_secs(30);

/// Where and how a function runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A coroutine on the event loop: it can be cancelled, and has a grace to end.
    Loop,
    /// A plain function in a thread, which nothing can stop: it is waited for no more once its time is out.
    Thread,
    /// A plain function in a process of its own, which is killed and then answers.
    Process,
}

impl Kind {
    pub(crate) fn read(text: &str) -> Option<Self> {
        match text {
            "loop" => Some(Self::Loop),
            "thread" => Some(Self::Thread),
            "process" => Some(Self::Process),
            _ => None,
        }
    }
}

/// A function of Python.
#[derive(Clone)]
pub(crate) struct PythonHandler {
    pub(crate) queue: Arc<Queue>,
    /// Whatever Python wants to get back with each call.
    pub(crate) target: Arc<Py<PyAny>>,
    pub(crate) kind: Kind,
    /// Whether the clock moves by hand, and must stand still while Python works.
    pub(crate) manual_clock: bool,
}

#[async_trait]
impl Handler for PythonHandler {
    async fn run(&self, ctx: Context) -> Answer {
        if self.queue.is_closed() {
            return Err(HandlerError::new("the Python side has stopped"));
        }
        let still = self.queue.n_abandoned(ctx.job_id());
        if still > 0 && still >= ctx.job().definition.overlap.max_running() {
            return Ok(Outcome::skipped(
                "the code of an earlier execution, whose time was out, still runs in this process",
            ));
        }
        let token = ctx.token().clone();
        let (call, mut answer) = Call::new(ctx, self);
        let waiting = Waiting(Arc::clone(&call));
        self.queue.push(call);
        tokio::select! {
            biased;
            answer = &mut answer => return given(answer),
            () = token.cancelled() => {}
        }
        if self.kind == Kind::Thread || !waiting.ask_to_stop() {
            return Err(HandlerError::new("it was asked to stop"));
        }
        given(answer.await)
    }

    fn is_ready(&self) -> bool {
        // With a clock that moves by hand, everybody waits for everybody.
        self.kind != Kind::Loop || self.manual_clock || self.queue.is_lively()
    }
}

fn given(answer: Result<Answer, tokio::sync::oneshot::error::RecvError>) -> Answer {
    answer.unwrap_or_else(|_| Err(HandlerError::new("Python dropped the call without an answer")))
}

/// A template of Python.
#[derive(Clone)]
pub(crate) struct PythonTemplate {
    pub(crate) metadata: TemplateMetadata,
    pub(crate) handler: PythonHandler,
    /// The lane on which it checks parameters, if it wants to.
    pub(crate) checks: Option<Arc<Queue>>,
}

#[async_trait]
impl Template for PythonTemplate {
    fn metadata(&self) -> TemplateMetadata {
        self.metadata.clone()
    }

    fn check(&self, parameters: &mut Map<String, Value>) -> Vec<Fault> {
        let Some(queue) = self.checks.as_ref().filter(|queue| queue.is_served()) else { return Vec::new() };
        let (check, answer) = Check::new(Arc::clone(&self.handler.target), parameters);
        queue.push_check(check);
        match answer.recv_timeout(CHECK_TIME) {
            Ok((faults, mended)) => {
                if let Some(mended) = mended.filter(|_| faults.is_empty()) {
                    *parameters = mended;
                }
                faults
            }
            Err(_) => vec![Fault::new("", "the template did not answer whether it accepts them")],
        }
    }

    async fn run(&self, ctx: Context) -> Answer {
        self.handler.run(ctx).await
    }

    fn is_ready(&self) -> bool {
        self.handler.is_ready()
    }
}
