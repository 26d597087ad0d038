//! What a handler is given: which execution it runs, its parameters, its log and its token.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::engine::store_clock::StoreClock;
use crate::error::Result;
use crate::execution::{Execution, Level, LogLine, Progress, Trigger};
use crate::id::{Epoch, ExecutionId, JobId};
use crate::job::Job;
use crate::secret;
use crate::store::Store;
use crate::time::Timestamp;

/// The most log lines kept of one execution; then one line says that more were dropped.
pub const MAX_LOG_LINES: usize = 10_000;
/// The most bytes of log messages kept of one execution.
pub const MAX_LOG_BYTES: usize = 2 * 1024 * 1024;

/// What a handler is given. Cheap to clone.
#[derive(Clone)]
pub struct Context(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) execution: Execution,
    pub(crate) job: Job,
    /// Set once, before the handler starts.
    parameters: OnceLock<Map<String, Value>>,
    token: CancellationToken,
    clock: Arc<dyn Clock>,
    store_clock: Arc<StoreClock>,
    store: Arc<dyn Store>,
    news: Mutex<News>,
    /// Tells the recorder that there is something to report.
    dirty: Arc<Notify>,
    /// How long the work took, when the handler says so itself.
    duration: OnceLock<Duration>,
}

/// What the handler said and the store does not know yet.
#[derive(Default)]
struct News {
    lines: Vec<LogLine>,
    /// How many lines were taken before these.
    taken: u64,
    n_lines: usize,
    bytes: usize,
    progress: Option<Progress>,
}

impl Context {
    pub(crate) fn new(
        execution: Execution,
        job: Job,
        clock: Arc<dyn Clock>,
        store_clock: Arc<StoreClock>,
        store: Arc<dyn Store>,
        dirty: Arc<Notify>,
    ) -> Self {
        Self(Arc::new(Inner {
            execution,
            job,
            parameters: OnceLock::new(),
            token: CancellationToken::new(),
            clock,
            store_clock,
            store,
            news: Mutex::default(),
            dirty,
            duration: OnceLock::new(),
        }))
    }

    /// The job.
    pub fn job_id(&self) -> &JobId {
        &self.0.job.id
    }

    /// Its name.
    pub fn job_name(&self) -> &str {
        &self.0.job.definition.name
    }

    /// The job as it was when it was claimed.
    pub fn job(&self) -> &Job {
        &self.0.job
    }

    /// The execution as it was when it was claimed.
    pub fn execution(&self) -> &Execution {
        &self.0.execution
    }

    /// The execution's id; another one for each attempt.
    pub fn execution_id(&self) -> ExecutionId {
        self.0.execution.id
    }

    /// Which attempt at the occurrence this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.0.execution.attempt
    }

    /// The due time of the occurrence; for a manual or chained execution, when it was asked for.
    pub fn due_at(&self) -> Timestamp {
        self.0.execution.due_at
    }

    /// How many occurrences this execution stands for: more than one after some were missed.
    pub fn n_occurrences(&self) -> u64 {
        self.0.execution.n_occurrences
    }

    /// `scheduler`, `manual:USER` or `chain:EXECUTION`.
    pub fn triggered_by(&self) -> &str {
        &self.0.execution.triggered_by
    }

    /// The parameters, secrets resolved.
    pub fn parameters(&self) -> &Map<String, Value> {
        self.0.parameters.get_or_init(Map::new)
    }

    pub(crate) fn set_parameters(&self, resolved: Map<String, Value>) {
        // Set once for each execution; a second time changes nothing.
        let _ = self.0.parameters.set(resolved);
    }

    /// The parameters as a type of the handler's own.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::Invalid`] when they don't fit it; without the details when secrets are among
    /// them, since those details hold values.
    pub fn parse<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_value(Value::Object(self.parameters().clone())).map_err(|e| {
            let given = self.0.execution.parameters.as_ref();
            let secret = secret::is_in(&self.0.job.definition.parameters)
                || given.and_then(Value::as_object).is_some_and(secret::is_in);
            let details =
                if secret { "secrets are among them, so no more is said".to_owned() } else { e.to_string() };
            crate::Error::invalid(format!("the parameters don't fit: {details}"))
        })
    }

    /// The same for every attempt at one occurrence, and for no other: give it to outside systems, so
    /// that an effect repeated after a crash is recognized.
    pub fn idempotency_key(&self) -> String {
        self.0.execution.idempotency_key()
    }

    /// What an outside system can compare to refuse the late writes of a node that was cut off: it grows
    /// with each claim of the job by a later node.
    pub fn fence(&self) -> (Epoch, u32) {
        (self.0.execution.epoch, self.0.execution.claim)
    }

    /// Cancelled when the execution is to stop: on request, at its timeout, or because the node stops or
    /// has lost its lease.
    pub fn token(&self) -> &CancellationToken {
        &self.0.token
    }

    /// Whether the execution is to stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.token.is_cancelled()
    }

    /// Waits until the execution is to stop.
    pub async fn cancelled(&self) {
        self.0.token.cancelled().await;
    }

    /// The store's clock, as this node knows it.
    pub fn now(&self) -> Timestamp {
        self.0.store_clock.now()
    }

    /// Waits by the scheduler's clock: a manual one in a test.
    pub async fn sleep(&self, duration: Duration) {
        self.0.clock.sleep(duration).await;
    }

    /// Tells the clock that work goes on outside the runtime, until the guard is dropped: a manual one
    /// stands still meanwhile.
    pub fn outside(&self) -> impl Drop + Send + use<> {
        self.0.clock.work_outside(true);
        Outside(Arc::clone(&self.0.clock))
    }

    /// The execution whose end started this one, with its result; `None` when it is not a chained one,
    /// or its record is gone.
    ///
    /// # Errors
    ///
    /// As [`Store::get_execution`].
    pub async fn parent(&self) -> Result<Option<Execution>> {
        let parent = self.0.execution.triggered_by.strip_prefix("chain:");
        match (self.0.execution.trigger, parent.and_then(|id| id.parse().ok())) {
            (Trigger::Chain, Some(id)) => self.0.store.get_execution(&id).await,
            _ => Ok(None),
        }
    }

    /// Adds a line to the execution's log, which is written while it runs, every second or so.
    pub fn log(&self, level: Level, message: impl Into<String>) {
        self.log_with(level, message, Value::Null);
    }

    /// Adds a line with fields beside its message.
    pub fn log_with(&self, level: Level, message: impl Into<String>, fields: Value) {
        let timestamp = self.now();
        {
            let mut news = self.0.news.lock().unwrap_or_else(PoisonError::into_inner);
            let mut line = LogLine { timestamp, level, message: message.into(), fields };
            if news.n_lines >= MAX_LOG_LINES || news.bytes >= MAX_LOG_BYTES {
                if news.n_lines == usize::MAX {
                    return;
                }
                news.n_lines = usize::MAX;
                "more was logged than is kept; the rest is dropped".clone_into(&mut line.message);
                line.fields = Value::Null;
            } else {
                news.n_lines += 1;
                news.bytes += line.message.len();
            }
            news.lines.push(line);
        }
        self.0.dirty.notify_one();
    }

    /// [`Self::log`] at [`Level::Info`].
    pub fn info(&self, message: impl Into<String>) {
        self.log(Level::Info, message);
    }

    /// [`Self::log`] at [`Level::Warning`].
    pub fn warn(&self, message: impl Into<String>) {
        self.log(Level::Warning, message);
    }

    /// [`Self::log`] at [`Level::Error`].
    pub fn error(&self, message: impl Into<String>) {
        self.log(Level::Error, message);
    }

    /// Says how far the execution is; the last word counts.
    pub fn progress(&self, done: u64, total: Option<u64>, message: impl Into<String>) {
        {
            let mut news = self.0.news.lock().unwrap_or_else(PoisonError::into_inner);
            news.progress = Some(Progress { done, total, message: message.into() });
        }
        self.0.dirty.notify_one();
    }

    /// Says how long the work proper took, without what the handler does before and after it. Only the
    /// first word counts; without one, the whole call is measured.
    pub fn measured(&self, duration: Duration) {
        let _ = self.0.duration.set(duration);
    }

    pub(crate) fn duration(&self) -> Option<Duration> {
        self.0.duration.get().copied()
    }

    /// What was said since the last call, and how many lines were taken before.
    pub(crate) fn take_news(&self) -> (u64, Vec<LogLine>, Option<Progress>) {
        let mut news = self.0.news.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, lines) = (news.taken, std::mem::take(&mut news.lines));
        news.taken += lines.len() as u64;
        (first, lines, news.progress.take())
    }

    /// Puts back, in front, what could not be reported.
    pub(crate) fn return_news(&self, mut lines: Vec<LogLine>, progress: Option<Progress>) {
        let mut news = self.0.news.lock().unwrap_or_else(PoisonError::into_inner);
        news.taken = news.taken.saturating_sub(lines.len() as u64);
        lines.append(&mut news.lines);
        news.lines = lines;
        if news.progress.is_none() {
            news.progress = progress;
        }
    }
}

struct Outside(Arc<dyn Clock>);

impl Drop for Outside {
    fn drop(&mut self) {
        self.0.work_outside(false);
    }
}
