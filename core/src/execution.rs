//! Executions: what ran, is running, waits to run, or was skipped, and how it ended.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::id::{Epoch, ExecutionId, JobId, NodeId};
use crate::time::Timestamp;

/// Where an execution stands.
///
/// Edges: `pending → running | cancelled`, `running → any end`, and nothing else. An end is final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Waits for its time, a free slot, or the end of another execution of its job.
    Pending,
    /// Claimed by a node.
    Running,
    /// Went well.
    Success,
    /// Went well, in the words of some templates.
    Completed,
    /// Went well in part.
    Partial,
    /// Went well in part, in the words of some templates.
    PartialSuccess,
    /// The handler answered with an error, panicked, or was interrupted.
    Failed,
    /// Ran out of time.
    Timeout,
    /// Somebody, or the handler itself, called it off.
    Cancelled,
    /// Did not run; the reason says why.
    Skipped,
    /// Its node died.
    Lost,
}

/// How an end counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StatusClass {
    /// Not an end.
    Open,
    /// Well.
    Ok,
    /// Well in part.
    Part,
    /// Neither.
    Neutral,
    /// Badly.
    Bad,
}

impl Status {
    /// Every status.
    pub const ALL: &'static [Status] = &[
        Self::Pending,
        Self::Running,
        Self::Success,
        Self::Completed,
        Self::Partial,
        Self::PartialSuccess,
        Self::Failed,
        Self::Timeout,
        Self::Cancelled,
        Self::Skipped,
        Self::Lost,
    ];

    /// The status as it stands in stores and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Success => "success",
            Self::Completed => "completed",
            Self::Partial => "partial",
            Self::PartialSuccess => "partial_success",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
            Self::Lost => "lost",
        }
    }

    /// How it counts.
    pub const fn class(self) -> StatusClass {
        match self {
            Self::Pending | Self::Running => StatusClass::Open,
            Self::Success | Self::Completed => StatusClass::Ok,
            Self::Partial | Self::PartialSuccess => StatusClass::Part,
            Self::Skipped | Self::Cancelled => StatusClass::Neutral,
            Self::Failed | Self::Timeout | Self::Lost => StatusClass::Bad,
        }
    }

    /// Whether it is an end, which nothing changes any more.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Status {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.iter().copied().find(|s| s.as_str() == text).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|s| s.as_str()).collect();
            Error::invalid(format!("no status `{text}`; there are {}", known.join(", ")))
        })
    }
}

/// What made an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// The schedule.
    Schedule,
    /// Somebody asked for it.
    Manual,
    /// Another job ended.
    Chain,
}

impl Trigger {
    /// The trigger as it stands in stores and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Manual => "manual",
            Self::Chain => "chain",
        }
    }
}

impl FromStr for Trigger {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Schedule, Self::Manual, Self::Chain]
            .into_iter()
            .find(|t| t.as_str() == text)
            .ok_or_else(|| Error::invalid(format!("no trigger `{text}`")))
    }
}

/// Why an occurrence did not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// Found later than the job's misfire policy lets it run.
    Misfire,
    /// The job was still running.
    Overlap,
    /// A date, weekday, window or calendar excludes it.
    Excluded,
    /// Somebody asked to skip it.
    Requested,
}

impl SkipReason {
    /// The reason as it stands in stores and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Misfire => "misfire",
            Self::Overlap => "overlap",
            Self::Excluded => "excluded",
            Self::Requested => "requested",
        }
    }
}

/// What a handler answers when it went well, in whole or in part.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct JobResult {
    /// One line for a person.
    pub message: String,
    /// Whatever the handler wants to keep.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub details: Value,
    /// How many records it looked at.
    pub records_processed: i64,
    /// How many it changed.
    pub records_affected: i64,
    /// What went wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
    /// What did not go wrong, but should be seen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// What went wrong in a handler.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Failure {
    /// `error`, `panic`, `timeout`, `lost`, `interrupted`, or a type name of the handler's language.
    pub kind: String,
    /// What went wrong.
    pub message: String,
    /// Where, when that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
}

/// How grave a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Level {
    Debug,
    Info,
    Warning,
    Error,
}

impl Level {
    /// The level as it stands in stores and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One line that a handler logged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    /// When, by the store's clock as the node knows it.
    pub timestamp: Timestamp,
    /// How grave.
    pub level: Level,
    /// What.
    pub message: String,
    /// Fields beside it.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub fields: Value,
}

/// How far a running execution says it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Done so far.
    pub done: u64,
    /// Of how many, when that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// At what.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// One execution, as stored and shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Execution {
    /// Sorts by when it was made.
    pub id: ExecutionId,
    /// The job; it may be gone.
    pub job_id: JobId,
    /// The job's name when the execution was made.
    pub job_name: String,
    /// The handler or template that runs it.
    pub handler: String,
    /// Where it stands.
    pub status: Status,
    /// Why it was skipped (see [`SkipReason`]), or what kind of failure ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What made it.
    pub trigger: Trigger,
    /// `scheduler`, `manual:USER`, `chain:EXECUTION`. A retry keeps what the first attempt had.
    pub triggered_by: String,
    /// The occurrence it is for; for a manual or chained one, when it was asked for.
    pub due_at: Timestamp,
    /// The last of the occurrences it stands for, where that is more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub covers_until: Option<Timestamp>,
    /// How many occurrences it stands for, at least.
    pub n_occurrences: u64,
    /// The occurrence after it, as planned when it was made: what `verify` joins records by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_due_at: Option<Timestamp>,
    /// The version of the job's definition that it was planned from.
    pub version: i64,
    /// Counted from 1 over all attempts at the same occurrence.
    pub attempt: u32,
    /// How many of the attempts before were retries after a failure or timeout.
    pub retries: u32,
    /// How many of the attempts before were lost with their node.
    pub crashes: u32,
    /// The first attempt's id; the same as `id` for a first attempt.
    pub root_id: ExecutionId,
    /// Tells apart executions with the same due time: empty for the schedule's own, else the root id
    /// or the caller's idempotency key.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub nonce: String,
    /// Parameters given with a manual trigger, in place of the job's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Value>,
    /// Higher is claimed first.
    pub priority: i32,
    /// When it was made.
    pub created_at: Timestamp,
    /// While pending: not before this.
    pub run_at: Timestamp,
    /// When it was claimed, by the store's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// How long the handler ran, by the node's steady clock.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        rename = "duration_seconds",
        with = "crate::seconds::option"
    )]
    pub duration: Option<Duration>,
    /// Who runs or ran it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_id: Option<NodeId>,
    /// With which epoch.
    #[serde(default)]
    pub epoch: Epoch,
    /// How often it was claimed: the second half of the fence.
    #[serde(default)]
    pub claim: u32,
    /// Whether somebody asked the running one to stop.
    #[serde(default)]
    pub cancel_requested: bool,
    /// What the handler last said of its progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// What the handler answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<JobResult>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

impl Execution {
    /// The same for every attempt at one occurrence, and for no other: what a handler gives to outside
    /// systems so that an effect repeated after a crash is recognized.
    pub fn idempotency_key(&self) -> String {
        match self.trigger {
            Trigger::Schedule => format!("{}@{}", self.job_id, self.due_at),
            Trigger::Manual | Trigger::Chain => format!("{}#{}", self.job_id, self.root_id),
        }
    }

    /// The last occurrence it stands for.
    pub fn last_due_at(&self) -> Timestamp {
        self.covers_until.unwrap_or(self.due_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_reads_as_it_is_written() {
        for status in Status::ALL {
            assert_eq!(status.as_str().parse::<Status>().unwrap(), *status);
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        }
        assert!("done".parse::<Status>().unwrap_err().to_string().contains("partial_success"));
    }
}
