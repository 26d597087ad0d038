//! Requests and answers about job definitions.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::JobId;
use crate::job::{Due, EndReason, Job, JobDefinition, Origin};
use crate::time::Timestamp;

/// Jobs to store, all or none.
#[derive(Debug, Clone)]
pub struct CreateJobs {
    /// Each with an id made by the caller.
    pub jobs: Vec<Job>,
    /// Whether a name that is in use refuses the request.
    pub unique_names: bool,
    /// Who asks, for the audit record.
    pub actor: String,
}

/// What became of [`CreateJobs`].
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CreateOutcome {
    /// All are stored.
    Created,
    /// None is.
    Refused(Vec<CreateConflict>),
}

/// Why one of the jobs could not be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateConflict {
    /// Its place in the request.
    pub index: usize,
    /// What is in the way.
    pub conflict: ConflictKind,
}

/// What is in the way of a new job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConflictKind {
    /// Another job has this id.
    Id,
    /// This job has the same name.
    Name(JobId),
}

/// An edit of one job. `None` leaves a field as it is.
#[derive(Debug, Clone)]
pub struct UpdateJob {
    /// Which job.
    pub id: JobId,
    /// The version that the edit was made from.
    pub expected_version: i64,
    /// A new definition.
    pub definition: Option<JobDefinition>,
    /// Enable or disable.
    pub enabled: Option<bool>,
    /// A new next occurrence (or none, with the reason).
    pub due: Option<(Option<Due>, Option<EndReason>)>,
    /// A new number of occurrences to skip.
    pub skip_next: Option<u32>,
    /// Clear the fault, the failures in a row and, with a new schedule, the count of firings.
    pub reset: Reset,
    /// Refuse a new name that another job has.
    pub unique_name: bool,
    /// Who asks.
    pub actor: String,
    /// What it amounts to: `updated`, `enabled`, `disabled`, `skip_next`, …
    pub action: String,
}

/// Which of the scheduler's own notes about a job an edit clears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reset {
    /// The fault that set the job aside.
    pub fault: bool,
    /// The failures in a row.
    pub failures: bool,
    /// The count of firings that a limit counts.
    pub n_fired: bool,
}

impl UpdateJob {
    /// An edit that changes nothing yet.
    pub fn new(job: &Job, actor: impl Into<String>, action: impl Into<String>) -> Self {
        Self {
            id: job.id.clone(),
            expected_version: job.version,
            definition: None,
            enabled: None,
            due: None,
            skip_next: None,
            reset: Reset::default(),
            unique_name: false,
            actor: actor.into(),
            action: action.into(),
        }
    }
}

/// What became of [`UpdateJob`].
#[must_use]
#[derive(Debug, Clone, PartialEq)]
pub enum UpdateOutcome {
    /// Done; the job as it is now.
    Updated(Box<Job>),
    /// The job has another version by now; the job as it is.
    Stale(Box<Job>),
    /// Another job has the new name.
    NameTaken(JobId),
    /// There is no such job.
    NotFound,
}

/// By what jobs are sorted; ties go by id, also in a descending list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobSort {
    /// By name.
    #[default]
    Name,
    /// By when they were made.
    CreatedAt,
    /// By the next occurrence; those without one last.
    DueAt,
    /// By the last run; those that never ran last.
    LastRunAt,
    /// By id, in an order of the store's own that never changes: how a long list is walked.
    Id,
}

/// Which jobs, in which order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobQuery {
    /// Of this name.
    pub name: Option<String>,
    /// With this text in the name or description, whatever the case.
    pub search: Option<String>,
    /// Of one of these handlers; empty is all.
    pub handlers: Vec<String>,
    /// Enabled or disabled.
    pub enabled: Option<bool>,
    /// From code or made at run time.
    pub origin: Option<Origin>,
    /// With this tag.
    pub tag: Option<String>,
    /// Set aside with a fault, or not.
    pub faulty: Option<bool>,
    /// By what they are sorted.
    pub sort: JobSort,
    /// From the largest.
    pub descending: bool,
    /// Only those after this one, which may be gone; only ascending by [`JobSort::Id`], with `offset` 0.
    pub after: Option<JobId>,
    /// How many to pass over.
    pub offset: u64,
    /// How many to give, at most.
    pub limit: usize,
    /// Whether to count them all.
    pub count: bool,
}

impl Default for JobQuery {
    fn default() -> Self {
        Self {
            name: None,
            search: None,
            handlers: Vec::new(),
            enabled: None,
            origin: None,
            tag: None,
            faulty: None,
            sort: JobSort::Name,
            descending: false,
            after: None,
            offset: 0,
            limit: 50,
            count: false,
        }
    }
}

/// One change of a job, and who made it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When, by the store's clock.
    pub at: Timestamp,
    /// Which job; it may be gone.
    pub job_id: JobId,
    /// Its name at that time.
    pub job_name: String,
    /// `created`, `updated`, `enabled`, `disabled`, `deleted`, `skip_next`, `paused`, `set_aside`, …
    pub action: String,
    /// Who.
    pub actor: String,
    /// The job's version from then on.
    pub version: i64,
    /// The stored next occurrence before, that of a disabled job included; `verify` needs it to join the
    /// records across an edit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_before: Option<Timestamp>,
    /// The occurrence that was next after; `None` also when the job no longer fires (disabled,
    /// deleted, set aside).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_after: Option<Timestamp>,
    /// More to it, such as the reason of a fault.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub detail: Value,
}

/// Which audit entries; newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditQuery {
    /// Of this job.
    pub job_id: Option<JobId>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// How many to pass over.
    pub offset: u64,
    /// How many to give, at most.
    pub limit: usize,
}

impl Default for AuditQuery {
    fn default() -> Self {
        Self { job_id: None, since: None, offset: 0, limit: 100 }
    }
}
