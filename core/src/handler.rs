//! What runs: handlers, what they are given, and what they answer.

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::context::Context;
use crate::execution::{Failure, JobResult, Status};

/// The function that runs an execution.
///
/// Implemented by async closures (`|ctx| async move { … }`); see [`blocking`] for plain functions.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Runs one execution.
    ///
    /// The future is dropped when its time is out, or some seconds after its token was cancelled: what
    /// must happen all the same belongs in a destructor. A panic is a failure with its message.
    async fn run(&self, ctx: Context) -> Result<Outcome, HandlerError>;

    /// Whether it could begin one at this moment. While it could not, what is due is left to other nodes;
    /// this one looks again when [`crate::Scheduler::look`] is called, or after the poll interval.
    ///
    /// A handler whose work goes through something that can be stuck says so here, and is not given work
    /// that another node could begin at once.
    fn is_ready(&self) -> bool {
        true
    }
}

/// What a handler that did not fail answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// A final status; success, unless the handler says otherwise.
    pub status: Status,
    /// What it did.
    pub result: JobResult,
}

impl Outcome {
    /// Went well in part.
    pub fn partial(result: JobResult) -> Self {
        Self { status: Status::Partial, result }
    }

    /// The handler found that there was nothing to do.
    pub fn skipped(message: impl Into<String>) -> Self {
        Self {
            status: Status::Skipped,
            result: JobResult { message: message.into(), ..JobResult::default() },
        }
    }
}

impl From<()> for Outcome {
    fn from((): ()) -> Self {
        Self { status: Status::Success, result: JobResult::default() }
    }
}

impl From<JobResult> for Outcome {
    fn from(result: JobResult) -> Self {
        Self { status: Status::Success, result }
    }
}

impl From<String> for Outcome {
    fn from(message: String) -> Self {
        JobResult { message, ..JobResult::default() }.into()
    }
}

impl From<&str> for Outcome {
    fn from(message: &str) -> Self {
        message.to_owned().into()
    }
}

/// What a handler that failed answers. Made from any error with `?`.
#[derive(Debug, Clone, PartialEq)]
pub struct HandlerError {
    /// What went wrong.
    pub failure: Failure,
    /// What it did before, if it wants to say.
    pub result: Option<Box<JobResult>>,
    /// Run again after this long, whatever the job's retry policy says.
    pub retry_after: Option<Duration>,
}

impl HandlerError {
    /// A failure with a message.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            failure: Failure { kind: "error".to_owned(), message: message.into(), trace: None },
            result: None,
            retry_after: None,
        }
    }

    /// A failure that wants to be run again after `wait`, whatever the job's retry policy says.
    pub fn retry_after(wait: Duration, message: impl Into<String>) -> Self {
        Self { retry_after: Some(wait), ..Self::new(message) }
    }

    /// The same failure, with what was done before it.
    #[must_use]
    pub fn with_result(mut self, result: JobResult) -> Self {
        self.result = Some(Box::new(result));
        self
    }

    pub(crate) fn panicked(payload: &(dyn std::any::Any + Send)) -> Self {
        let message = payload
            .downcast_ref::<&str>()
            .map(|s| (*s).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "the handler panicked".to_owned());
        let mut error = Self::new(message);
        "panic".clone_into(&mut error.failure.kind);
        error
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.failure.message)
    }
}

// `HandlerError` is no `std::error::Error` itself, which is what lets every other error become one.
impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> From<E> for HandlerError {
    fn from(error: E) -> Self {
        let error = error.into();
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            source = cause.source();
        }
        Self::new(message)
    }
}

/// What a handler's function may return: nothing, a message, a result, or a `Result` of either.
pub trait IntoOutcome {
    /// As the engine wants it.
    ///
    /// # Errors
    ///
    /// The handler's own.
    fn into_outcome(self) -> Result<Outcome, HandlerError>;
}

impl IntoOutcome for () {
    fn into_outcome(self) -> Result<Outcome, HandlerError> {
        Ok(self.into())
    }
}

impl IntoOutcome for JobResult {
    fn into_outcome(self) -> Result<Outcome, HandlerError> {
        Ok(self.into())
    }
}

impl IntoOutcome for String {
    fn into_outcome(self) -> Result<Outcome, HandlerError> {
        Ok(self.into())
    }
}

impl IntoOutcome for &'static str {
    fn into_outcome(self) -> Result<Outcome, HandlerError> {
        Ok(self.into())
    }
}

impl IntoOutcome for Outcome {
    fn into_outcome(self) -> Result<Outcome, HandlerError> {
        Ok(self)
    }
}

impl<T: Into<Outcome>, E: Into<HandlerError>> IntoOutcome for Result<T, E> {
    fn into_outcome(self) -> Result<Outcome, HandlerError> {
        self.map(Into::into).map_err(Into::into)
    }
}

#[async_trait]
impl<F, Fut> Handler for F
where
    F: Fn(Context) -> Fut + Send + Sync + 'static,
    Fut: Future + Send + 'static,
    Fut::Output: IntoOutcome,
{
    async fn run(&self, ctx: Context) -> Result<Outcome, HandlerError> {
        self(ctx).await.into_outcome()
    }
}

/// A handler from a plain function, run on a thread of its own kind, where it may block.
///
/// A thread can't be stopped from outside: when its time is out, the execution is recorded as such at
/// once, and whatever the function answers later is dropped. Long functions should look at
/// [`Context::is_cancelled`].
pub fn blocking<F, R>(function: F) -> impl Handler
where
    F: Fn(Context) -> R + Send + Sync + 'static,
    R: IntoOutcome + Send + 'static,
{
    Blocking(Arc::new(move |ctx| function(ctx).into_outcome()))
}

type BlockingFn = dyn Fn(Context) -> Result<Outcome, HandlerError> + Send + Sync;

struct Blocking(Arc<BlockingFn>);

#[async_trait]
impl Handler for Blocking {
    async fn run(&self, ctx: Context) -> Result<Outcome, HandlerError> {
        let function = Arc::clone(&self.0);
        let _outside = ctx.outside();
        let task = tokio::task::spawn_blocking(move || {
            std::panic::catch_unwind(AssertUnwindSafe(|| function(ctx)))
                .unwrap_or_else(|payload| Err(HandlerError::panicked(&*payload)))
        });
        task.await.unwrap_or_else(|e| Err(HandlerError::new(format!("the handler's thread ended: {e}"))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_the_chain_of_its_causes() {
        let inner = crate::Error::invalid("inner");
        let outer = crate::Error::internal("outer").caused_by(inner);
        assert_eq!(HandlerError::from(outer).failure.message, "outer: inner");
    }

    #[test]
    fn a_panic_keeps_its_message() {
        assert_eq!(HandlerError::panicked(&"boom").failure.message, "boom");
        assert_eq!(HandlerError::panicked(&String::from("bang")).failure.kind, "panic");
    }
}
