//! One call of a Python function: what it is given, and where its answer goes.

use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use tokio::sync::oneshot;
use unified_scheduler::{Context as CoreContext, HandlerError};

use crate::answer::Answer;
use crate::handler::{Kind, PythonHandler};
use crate::lane::Queue;

/// A call, on its way through a lane.
pub(crate) struct Call {
    pub(crate) key: u64,
    pub(crate) ctx: CoreContext,
    pub(crate) target: Arc<Py<PyAny>>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) kind: Kind,
    stage: Mutex<Stage>,
    clock: Mutex<Still>,
}

enum Stage {
    /// In the lane.
    Queued(oneshot::Sender<Answer>),
    /// Python has it.
    Running(oneshot::Sender<Answer>),
    /// Python has it, and nobody waits for it.
    Abandoned,
    /// Answered, or never begun.
    Over,
}

/// Whether a clock that moves by hand stands still for this call.
enum Still {
    /// It moves by itself.
    Never,
    /// It stands until this is dropped.
    Now { _guard: Box<dyn Any + Send> },
    /// The call itself waits for it.
    NotNow,
}

impl Call {
    pub(crate) fn new(ctx: CoreContext, handler: &PythonHandler) -> (Arc<Self>, oneshot::Receiver<Answer>) {
        let (sender, receiver) = oneshot::channel();
        let clock = if handler.manual_clock { stand_still(&ctx) } else { Still::Never };
        let call = Self {
            key: handler.queue.next_key(),
            ctx,
            target: Arc::clone(&handler.target),
            queue: Arc::clone(&handler.queue),
            kind: handler.kind,
            stage: Mutex::new(Stage::Queued(sender)),
            clock: Mutex::new(clock),
        };
        call.queue.opened();
        (Arc::new(call), receiver)
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_clock(&self, still: Still) {
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*clock, Still::Never) {
            *clock = still;
        }
    }

    /// Python takes it; `false` when nobody waits for it any more.
    pub(crate) fn begin(&self) -> bool {
        let mut stage = self.stage();
        match std::mem::replace(&mut *stage, Stage::Over) {
            Stage::Queued(sender) => {
                *stage = Stage::Running(sender);
                true
            }
            other => {
                *stage = other;
                false
            }
        }
    }

    /// Answers it; `false` when nobody waits for it any more.
    pub(crate) fn answer(&self, answer: Answer) -> bool {
        let before = std::mem::replace(&mut *self.stage(), Stage::Over);
        match before {
            Stage::Queued(sender) | Stage::Running(sender) => sender.send(answer).is_ok(),
            Stage::Abandoned => {
                self.queue.forget(self.ctx.job_id());
                false
            }
            Stage::Over => false,
        }
    }

    /// Whether Python has it and somebody waits for its answer.
    pub(crate) fn is_running(&self) -> bool {
        matches!(*self.stage(), Stage::Running(_))
    }

    /// Whether Python has it, waited for or not.
    pub(crate) fn is_begun(&self) -> bool {
        matches!(*self.stage(), Stage::Running(_) | Stage::Abandoned)
    }

    /// A clock that moves by hand need not wait for it.
    pub(crate) fn let_clock_go(&self) {
        self.set_clock(Still::NotNow);
    }

    /// A clock that moves by hand waits for it.
    pub(crate) fn hold_clock(&self) {
        self.set_clock(stand_still(&self.ctx));
    }

    /// Ends one that nobody will run.
    pub(crate) fn interrupt(&self) {
        self.answer(Err(HandlerError::new("the Python side stopped before it ran")));
    }
}

fn stand_still(ctx: &CoreContext) -> Still {
    Still::Now { _guard: Box::new(ctx.outside()) }
}

/// The engine's end of a call. When it goes, nobody waits for the answer.
pub(crate) struct Waiting(pub(crate) Arc<Call>);

impl Waiting {
    /// Asks Python to stop it; `false` when Python does not have it yet, and now never will.
    pub(crate) fn ask_to_stop(&self) -> bool {
        let running = self.0.is_running();
        if running && self.0.kind == Kind::Loop {
            self.0.queue.push_cancel(self.0.key);
        }
        running
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let call = &self.0;
        let mut stage = call.stage();
        if matches!(*stage, Stage::Running(_)) {
            *stage = Stage::Abandoned;
            call.queue.abandon(call.ctx.job_id());
        } else if !matches!(*stage, Stage::Abandoned) {
            *stage = Stage::Over;
        }
        drop(stage);
        call.let_clock_go();
        call.queue.closed_one();
    }
}
