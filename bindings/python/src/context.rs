//! What a Python handler is given of its call.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;
use serde_json::Value;
use unified_scheduler::{Context as CoreContext, HandlerError, Level, document};

use crate::answer::{Record, seconds};
use crate::call::Call;
use crate::done::Done;
use crate::handler::Kind;

/// What a handler is given: which execution it runs, its parameters, its log, and whether it is to stop.
#[pyclass(frozen, module = "unified_scheduler_engine._engine")]
pub(crate) struct Context {
    call: Arc<Call>,
    parameters: PyOnceLock<Py<PyAny>>,
}

impl Context {
    pub(crate) fn new(call: Arc<Call>) -> Self {
        Self { call, parameters: PyOnceLock::new() }
    }

    fn ctx(&self) -> &CoreContext {
        &self.call.ctx
    }

    fn write(
        &self,
        py: Python<'_>,
        level: Level,
        message: &Bound<'_, PyAny>,
        fields: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        let message = text_of(py, message)?;
        let fields = match fields.filter(|fields| !fields.is_empty()) {
            None => Value::Null,
            Some(fields) => {
                let json: String = results(py)?.getattr("to_json")?.call1((fields,))?.extract()?;
                serde_json::from_str(&json).unwrap_or(Value::Null)
            }
        };
        self.ctx().log_with(level, message, fields);
        Ok(())
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // The task that had it is gone.
        if self.call.is_begun() {
            self.call.answer(Err(HandlerError::new("its task was dropped before it ended")));
        }
    }
}

fn results(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    py.import("unified_scheduler_engine._results")
}

/// Text, also where Python's holds what UTF-8 can't.
fn text_of(py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<String> {
    match value.extract::<String>() {
        Ok(text) => Ok(text),
        Err(_) => results(py)?.getattr("to_text")?.call1((value,))?.extract(),
    }
}

/// A level by its name in `logging`, or its number there.
fn level_of(level: &Bound<'_, PyAny>) -> Level {
    if let Ok(number) = level.extract::<i64>() {
        return match number {
            ..20 => Level::Debug,
            20..30 => Level::Info,
            30..40 => Level::Warning,
            40.. => Level::Error,
        };
    }
    match level.str().map(|text| text.to_string().to_ascii_lowercase()).as_deref() {
        Ok("debug" | "trace") => Level::Debug,
        Ok("warning" | "warn") => Level::Warning,
        Ok("error" | "critical" | "fatal" | "exception") => Level::Error,
        _ => Level::Info,
    }
}

#[pymethods]
impl Context {
    #[getter]
    fn key(&self) -> u64 {
        self.call.key
    }

    #[getter]
    fn target(&self, py: Python<'_>) -> Py<PyAny> {
        self.call.target.clone_ref(py)
    }

    #[getter]
    fn kind(&self) -> &'static str {
        match self.call.kind {
            Kind::Loop => "loop",
            Kind::Thread => "thread",
            Kind::Process => "process",
        }
    }

    #[getter]
    fn job_id(&self) -> &str {
        self.ctx().job_id().as_str()
    }

    #[getter]
    fn job_name(&self) -> &str {
        self.ctx().job_name()
    }

    #[getter]
    fn handler(&self) -> &str {
        &self.ctx().execution().handler
    }

    #[getter]
    fn execution_id(&self) -> String {
        self.ctx().execution_id().to_string()
    }

    #[getter]
    fn attempt(&self) -> u32 {
        self.ctx().attempt()
    }

    #[getter]
    fn due_at(&self) -> DateTime<Utc> {
        self.ctx().due_at().to_datetime()
    }

    #[getter]
    fn started_at(&self) -> Option<DateTime<Utc>> {
        self.ctx().execution().started_at.map(unified_scheduler::Timestamp::to_datetime)
    }

    #[getter]
    fn last_run_at(&self) -> Option<DateTime<Utc>> {
        self.ctx().job().last_run_at.map(unified_scheduler::Timestamp::to_datetime)
    }

    #[getter]
    fn n_occurrences(&self) -> u64 {
        self.ctx().n_occurrences()
    }

    #[getter]
    fn trigger(&self) -> &'static str {
        self.ctx().execution().trigger.as_str()
    }

    #[getter]
    fn triggered_by(&self) -> &str {
        self.ctx().triggered_by()
    }

    #[getter]
    fn timeout(&self) -> f64 {
        self.ctx().job().definition.timeout.as_secs_f64()
    }

    #[getter]
    fn idempotency_key(&self) -> String {
        self.ctx().idempotency_key()
    }

    #[getter]
    fn fence(&self) -> (i64, u32) {
        let (epoch, claim) = self.ctx().fence();
        (epoch.0, claim)
    }

    #[getter]
    fn now(&self) -> DateTime<Utc> {
        self.ctx().now().to_datetime()
    }

    #[getter]
    fn cancelled(&self) -> bool {
        self.ctx().is_cancelled()
    }

    /// The parameters, secrets resolved; a copy of this call's own.
    #[getter]
    fn parameters(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let parameters = self.parameters.get_or_try_init(py, || -> PyResult<Py<PyAny>> {
            let map = self.ctx().parameters();
            if map.is_empty() {
                return Ok(PyDict::new(py).into_any().unbind());
            }
            let text = serde_json::to_string(map).unwrap_or_default();
            Ok(py.import("json")?.getattr("loads")?.call1((text,))?.unbind())
        })?;
        Ok(parameters.clone_ref(py))
    }

    /// The job as it was claimed, as JSON.
    fn job_json(&self) -> String {
        document::write(self.ctx().job()).to_string()
    }

    /// The execution as it was claimed, as JSON.
    fn execution_json(&self) -> String {
        serde_json::to_string(self.ctx().execution()).unwrap_or_default()
    }

    #[pyo3(signature = (level, message, /, **fields))]
    fn log(
        &self,
        py: Python<'_>,
        level: &Bound<'_, PyAny>,
        message: &Bound<'_, PyAny>,
        fields: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        self.write(py, level_of(level), message, fields)
    }

    #[pyo3(signature = (message, /, **fields))]
    fn debug(
        &self,
        py: Python<'_>,
        message: &Bound<'_, PyAny>,
        fields: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        self.write(py, Level::Debug, message, fields)
    }

    #[pyo3(signature = (message, /, **fields))]
    fn info(
        &self,
        py: Python<'_>,
        message: &Bound<'_, PyAny>,
        fields: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        self.write(py, Level::Info, message, fields)
    }

    #[pyo3(signature = (message, /, **fields))]
    fn warning(
        &self,
        py: Python<'_>,
        message: &Bound<'_, PyAny>,
        fields: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        self.write(py, Level::Warning, message, fields)
    }

    #[pyo3(signature = (message, /, **fields))]
    fn error(
        &self,
        py: Python<'_>,
        message: &Bound<'_, PyAny>,
        fields: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        self.write(py, Level::Error, message, fields)
    }

    #[pyo3(signature = (done, total = None, message = ""))]
    fn progress(&self, done: u64, total: Option<u64>, message: &str) {
        self.ctx().progress(done, total, message);
    }

    /// Says how long the work proper took, in seconds.
    fn measured(&self, duration: f64) {
        if let Some(duration) = seconds(duration) {
            self.ctx().measured(duration);
        }
    }

    /// Ends the call: `None` for a plain success, else a record as JSON. `False` when nobody waits for it
    /// any more: its end is recorded already.
    #[pyo3(signature = (record = None))]
    fn answer(&self, record: Option<&str>) -> bool {
        let answer = match record {
            None => Ok(().into()),
            Some(text) => match serde_json::from_str::<Record>(text) {
                Ok(record) => {
                    if let Some(duration) = record.duration_seconds.and_then(seconds) {
                        self.ctx().measured(duration);
                    }
                    record.into_answer()
                }
                Err(error) => Err(HandlerError::new(format!("the result can't be read: {error}"))),
            },
        };
        self.call.answer(answer)
    }

    /// Waits by the scheduler's clock, shorter when the execution is to stop; then calls `done`.
    fn sleep_then(&self, duration: f64, done: Py<PyAny>) {
        let done = Done::new(done);
        let call = Arc::clone(&self.call);
        let duration = seconds(duration).unwrap_or_default();
        let Some(runtime) = call.queue.runtime().cloned() else { return done.tell(Ok(Value::Null)) };
        runtime.spawn(async move {
            call.let_clock_go();
            tokio::select! {
                biased;
                () = call.ctx.cancelled() => {}
                () = call.ctx.sleep(duration) => {}
            }
            if call.is_running() {
                call.hold_clock();
            }
            done.tell(Ok(Value::Null));
        });
    }

    /// Waits by the scheduler's clock, in seconds; to be awaited.
    fn sleep<'py>(slf: &Bound<'py, Self>, duration: f64) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("unified_scheduler_engine._bridge")?.getattr("sleep")?.call1((slf, duration))
    }

    fn __repr__(&self) -> String {
        format!("<Context of {} attempt {}>", self.ctx().job_name(), self.attempt())
    }
}
