//! What Python answers to a call: the full record of an end, as JSON text.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use unified_scheduler::{Failure, HandlerError, JobResult, Outcome, Status};

/// What a handler is waited for.
pub(crate) type Answer = Result<Outcome, HandlerError>;

/// The answer as it comes from Python. Everything may be left out.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct Record {
    status: Option<String>,
    message: String,
    details: Value,
    records_processed: i64,
    records_affected: i64,
    errors: Vec<String>,
    warnings: Vec<String>,
    /// An exception that ended it.
    error: Option<Failure>,
    /// Run again after so many seconds.
    retry_after: Option<f64>,
    /// How long the work proper took, by the caller's measure.
    pub(crate) duration_seconds: Option<f64>,
}

impl Record {
    pub(crate) fn into_answer(self) -> Answer {
        let has_result = !self.message.is_empty()
            || !self.details.is_null()
            || !self.errors.is_empty()
            || !self.warnings.is_empty()
            || self.records_processed != 0
            || self.records_affected != 0;
        let mut result = JobResult {
            message: self.message,
            details: self.details,
            records_processed: self.records_processed,
            records_affected: self.records_affected,
            errors: self.errors,
            warnings: self.warnings,
        };
        if self.error.is_some() || self.retry_after.is_some() {
            let mut failed = HandlerError::new(result.message.clone());
            failed.failure = self.error.unwrap_or(failed.failure);
            failed.retry_after = self.retry_after.and_then(seconds);
            return Err(if has_result { failed.with_result(result) } else { failed });
        }
        let status = match self.status.as_deref() {
            None => Status::Success,
            Some(text) => text.parse().ok().filter(|s: &Status| s.is_final()).unwrap_or_else(|| {
                result.warnings.push(format!("`{text}` is no status that an execution can end with"));
                Status::Failed
            }),
        };
        Ok(Outcome { status, result })
    }
}

/// Seconds, where they are a length of time.
pub(crate) fn seconds(value: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(value).ok()
}
