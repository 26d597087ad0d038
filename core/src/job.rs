//! Jobs: what to run, when, and under which policies; and what the scheduler knows about it.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Fault, Result};
use crate::execution::Status;
use crate::id::{ExecutionId, JobId};
use crate::policy::{Chain, History, Misfire, Notifications, Overlap, Retry};
use crate::schedule::{CompiledSchedule, Schedule};
use crate::seconds;
use crate::time::Timestamp;

/// Where a job comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Registered in code.
    Static,
    /// Made at run time from a template.
    #[default]
    Dynamic,
}

impl Origin {
    /// The origin as it stands in stores and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Dynamic => "dynamic",
        }
    }
}

/// What somebody says a job is. Changing any of it is an edit, which makes a new version of the job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobDefinition {
    /// For people; unique among the jobs made through our interfaces. 1 to 200 characters.
    pub name: String,
    /// For people; at most 1,000 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The name of the handler, or the type of the template, that runs it.
    #[serde(rename = "template_type")]
    pub handler: String,
    /// Where it comes from.
    #[serde(default)]
    pub origin: Origin,
    /// What the handler gets; an object.
    #[serde(default)]
    pub parameters: Map<String, Value>,
    /// When it runs.
    pub schedule: Schedule,
    /// What happens to late occurrences.
    #[serde(default)]
    pub misfire: Misfire,
    /// What happens to occurrences due while it runs.
    #[serde(default)]
    pub overlap: Overlap,
    /// Whether what went wrong runs again.
    #[serde(default, rename = "retry_policy")]
    pub retry: Retry,
    /// How long one attempt may take; from 1 ms to 7 days.
    #[serde(rename = "timeout_seconds", with = "seconds", default = "default_timeout")]
    pub timeout: Duration,
    /// Higher is claimed first when there is more due than there are free slots; from -100 to 100.
    #[serde(default)]
    pub priority: i32,
    /// After how many failures in a row the job disables itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_after_failures: Option<u32>,
    /// What of its history is kept.
    #[serde(default)]
    pub history: History,
    /// What runs when it ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chains: Vec<Chain>,
    /// Whom to tell.
    #[serde(default)]
    pub notifications: Notifications,
    /// For filters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Fields of a document that we do not know: kept and shown, never interpreted.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub extra: Map<String, Value>,
}

/// An hour, as in the programs that this one replaces.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3600);

fn default_timeout() -> Duration {
    DEFAULT_TIMEOUT
}

impl JobDefinition {
    /// A dynamic job with every policy at its default.
    pub fn new(name: impl Into<String>, handler: impl Into<String>, schedule: Schedule) -> Self {
        Self {
            name: name.into(),
            description: String::new(),
            handler: handler.into(),
            origin: Origin::Dynamic,
            parameters: Map::new(),
            schedule,
            misfire: Misfire::default(),
            overlap: Overlap::default(),
            retry: Retry::default(),
            timeout: DEFAULT_TIMEOUT,
            priority: 0,
            pause_after_failures: None,
            history: History::default(),
            chains: Vec::new(),
            notifications: Notifications::default(),
            tags: Vec::new(),
            extra: Map::new(),
        }
    }

    /// Everything that is wrong with it, but for its schedule (see [`Schedule::compile`]) and for what
    /// only a template knows of its parameters.
    pub(crate) fn own_faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut check = |ok: bool, field: &str, message: String| {
            if !ok {
                faults.push(Fault::new(field, message));
            }
        };
        let length = self.name.chars().count();
        check(!self.name.trim().is_empty(), "name", "is blank; give the job a name".into());
        check(length <= 200, "name", format!("has {length} characters; at most 200"));
        check(
            !self.name.chars().any(char::is_control),
            "name",
            "holds a control character; use one line of text".into(),
        );
        let length = self.description.chars().count();
        check(length <= 1000, "description", format!("has {length} characters; at most 1,000"));
        check(!self.handler.trim().is_empty(), "template_type", "is blank; name what the job runs".into());
        check(
            (Duration::from_millis(1)..=Duration::from_secs(7 * 86_400)).contains(&self.timeout),
            "timeout_seconds",
            format!("is {} s; from 0.001 to 604800 (7 days)", self.timeout.as_secs_f64()),
        );
        check(
            (-100..=100).contains(&self.priority),
            "priority",
            format!("is {}; from -100 to 100", self.priority),
        );
        check(
            self.retry.max_retries <= 1000,
            "retry_policy.max_retries",
            format!("is {}; at most 1000", self.retry.max_retries),
        );
        check(
            (0.0..=1.0).contains(&self.retry.jitter),
            "retry_policy.jitter",
            format!("is {}; a part of the wait, from 0 to 1", self.retry.jitter),
        );
        check(
            self.retry.crash_limit >= 1,
            "retry_policy.crash_limit",
            "is 0; at least 1 crash must happen before a job is parked".into(),
        );
        if let Overlap::Allow { max } = self.overlap {
            check((1..=10_000).contains(&max), "overlap.max", format!("is {max}; from 1 to 10000"));
        }
        if let Misfire::RunAll { limit } = self.misfire {
            check((1..=1000).contains(&limit), "misfire.limit", format!("is {limit}; from 1 to 1000"));
        }
        if let Misfire::Skip { grace } = self.misfire {
            check(
                grace >= Duration::from_secs(1),
                "misfire.grace_seconds",
                format!("is {}; at least 1, since nothing is ever exactly on time", grace.as_secs_f64()),
            );
        }
        check(
            self.pause_after_failures != Some(0),
            "pause_after_failures",
            "is 0; give at least 1, or leave it out".into(),
        );
        faults
    }
}

/// A [`JobDefinition`] that does not change any more, with its schedule compiled once. Cheap to clone.
#[derive(Clone)]
pub struct Definition(Arc<Prepared>);

struct Prepared {
    id: JobId,
    definition: JobDefinition,
    compiled: OnceLock<Result<CompiledSchedule, Vec<Fault>>>,
}

impl Definition {
    /// The definition of job `id`. Nothing is checked; see [`Self::validate`].
    pub fn new(id: JobId, definition: JobDefinition) -> Self {
        Self(Arc::new(Prepared { id, definition, compiled: OnceLock::new() }))
    }

    /// The schedule, ready to answer; compiled at the first call.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn compiled(&self) -> Result<&CompiledSchedule, &[Fault]> {
        self.0
            .compiled
            .get_or_init(|| self.0.definition.schedule.compile(self.0.id.as_str()))
            .as_ref()
            .map_err(Vec::as_slice)
    }

    /// Everything that is wrong with it, but for what only a template knows of its parameters.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = self.0.definition.own_faults();
        if let Err(found) = self.compiled() {
            faults.extend(found.iter().cloned().map(|f| f.under("schedule")));
        }
        faults
    }

    /// # Errors
    ///
    /// [`crate::ErrorKind::Invalid`] with all of [`Self::faults`], if there are any.
    pub fn validate(&self) -> Result<()> {
        let faults = self.faults();
        if faults.is_empty() {
            return Ok(());
        }
        Err(Error::faults_of(format!("the job `{}` can't be accepted", self.name), faults))
    }

    /// A copy to change.
    pub fn to_owned(&self) -> JobDefinition {
        self.0.definition.clone()
    }
}

impl Deref for Definition {
    type Target = JobDefinition;

    fn deref(&self) -> &JobDefinition {
        &self.0.definition
    }
}

impl PartialEq for Definition {
    fn eq(&self, other: &Self) -> bool {
        self.0.definition == other.0.definition
    }
}

impl fmt::Debug for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.definition.fmt(f)
    }
}

/// The next occurrence of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Due {
    /// When it is due: half of the occurrence's key.
    pub due_at: Timestamp,
    /// When it may be claimed: the due time and its jitter.
    pub fire_at: Timestamp,
}

/// Why a job has no next occurrence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The schedule holds no later time: a `once` that has fired, an `end` that has passed.
    Exhausted,
    /// It has run as often as its limit says.
    Limit,
}

impl EndReason {
    /// The reason as it stands in stores and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::Limit => "limit",
        }
    }
}

/// A job as stored: its definition, and what the scheduler knows about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Never changes.
    pub id: JobId,
    /// What somebody said it is.
    pub definition: Definition,
    /// Whether its schedule counts. Manual triggers work either way.
    pub enabled: bool,
    /// Grows by one with each edit, also when the scheduler itself pauses the job or sets it aside, and
    /// not with runs.
    pub version: i64,
    /// The next occurrence; kept while disabled, so that resuming can tell what was missed.
    pub due: Option<Due>,
    /// Why there is no next occurrence.
    pub ended: Option<EndReason>,
    /// Why the scheduler has set it aside: it does not run until it is edited.
    pub fault: Option<String>,
    /// How many of the next occurrences are to be skipped.
    pub skip_next: u32,
    /// How many executions the schedule has made; what a limit counts.
    pub n_fired: u64,
    /// How many executions in a row went badly.
    pub failures_in_row: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last edited.
    pub updated_at: Timestamp,
    /// By whom it was made.
    pub created_by: Option<String>,
    /// When its last finished execution started.
    pub last_run_at: Option<Timestamp>,
    /// How that ended.
    pub last_status: Option<Status>,
    /// Which that was.
    pub last_execution_id: Option<ExecutionId>,
}

impl Job {
    /// A new, enabled job, first due as its schedule says for one registered at `now`.
    pub fn new(id: JobId, definition: JobDefinition, now: Timestamp) -> Self {
        let definition = Definition::new(id.clone(), definition);
        let due = first_due(&definition, now);
        let ended = (due.is_none() && definition.compiled().is_ok_and(|s| !s.is_manual()))
            .then_some(EndReason::Exhausted);
        Self {
            id,
            definition,
            enabled: true,
            version: 1,
            due,
            ended,
            fault: None,
            skip_next: 0,
            n_fired: 0,
            failures_in_row: 0,
            created_at: now,
            updated_at: now,
            created_by: None,
            last_run_at: None,
            last_status: None,
            last_execution_id: None,
        }
    }

    /// Whether the schedule may fire it: enabled, not set aside, and with a next occurrence.
    pub fn is_scheduled(&self) -> bool {
        self.enabled && self.fault.is_none() && self.due.is_some()
    }
}

/// The first occurrence of a job registered, or rescheduled, at `now`; `None` when there is none or the
/// schedule can't be read.
pub fn first_due(definition: &Definition, now: Timestamp) -> Option<Due> {
    let schedule = definition.compiled().ok()?;
    schedule.first_due(now).map(|due_at| due_with_jitter(schedule, due_at))
}

/// `due_at` and the instant from which it may be claimed.
pub fn due_with_jitter(schedule: &CompiledSchedule, due_at: Timestamp) -> Due {
    Due { due_at, fire_at: due_at.saturating_add(schedule.jitter_offset(due_at)) }
}
