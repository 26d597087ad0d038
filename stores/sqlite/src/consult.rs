//! How a step on the writer's thread asks the planner, which lives with the caller.
//!
//! The planner is borrowed from the caller's stack, and the writer's thread outlives that. So the step
//! sends its questions to the caller, all of a page at once, and waits, inside its transaction, for the
//! answers. A caller that has gone, or does not answer in time, fails the step, which is rolled back.

use std::future::Future;
use std::sync::mpsc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use unified_scheduler_core::{Error, Result};

use crate::error::Step;

/// How long a step waits for its caller, who only computes.
const PATIENCE: Duration = Duration::from_secs(5);

/// The end that asks.
pub(crate) struct Asker<Q, A> {
    questions: UnboundedSender<Q>,
    answers: mpsc::Receiver<A>,
}

/// The end that answers.
pub(crate) struct Adviser<Q, A> {
    questions: UnboundedReceiver<Q>,
    answers: mpsc::Sender<A>,
}

/// Both ends.
pub(crate) fn consultation<Q, A>() -> (Asker<Q, A>, Adviser<Q, A>) {
    let (ask, questions) = unbounded_channel();
    let (answer, answers) = mpsc::channel();
    (Asker { questions: ask, answers }, Adviser { questions, answers: answer })
}

impl<Q, A> Asker<Q, A> {
    pub(crate) fn ask(&self, question: Q) -> Step<A> {
        let gone = || Error::unavailable("the caller did not answer in time, and nothing was written");
        self.questions.send(question).map_err(|_| gone())?;
        Ok(self.answers.recv_timeout(PATIENCE).map_err(|_| gone())?)
    }
}

impl<Q, A> Adviser<Q, A> {
    /// Answers questions until `step` is done.
    pub(crate) async fn attend<T>(
        mut self,
        step: impl Future<Output = Result<T>>,
        mut answer: impl FnMut(Q) -> A,
    ) -> Result<T> {
        let mut step = std::pin::pin!(step);
        loop {
            tokio::select! {
                Some(question) = self.questions.recv() => {
                    // A step that has given up waiting does not take the answer.
                    drop(self.answers.send(answer(question)));
                }
                result = &mut step => return result,
            }
        }
    }
}
