//! The store: what a database must do for the scheduler, and nothing else.
//!
//! # The contract
//!
//! Each verb is one atomic step: in every state that any reader can see, after any crash, it has
//! happened whole or not at all. The doc comment of a verb is its specification; the suite in
//! `stores/conformance` tests each sentence on every store.
//!
//! - **Unique occurrence.** `(job_id, due_at, attempt, nonce)` is unique among executions, enforced by
//!   the store itself. The schedule's own executions have an empty nonce.
//! - **Compare and set.** A claim moves a job only from the `(version, due_at)` it read. An edit makes a
//!   new version, so an edit in between wins.
//! - **Fencing.** What a node writes of an execution takes effect only while that execution is `running`,
//!   owned by this node and epoch, with this claim counter, and the node is not dead.
//! - **An end is final.** Nothing changes an execution that has ended, reaping and administrators included.
//! - **Unknown outcomes.** Any call may commit and lose its reply. Ids are made by the caller, so that the
//!   same call again changes nothing and answers what is true.
//! - **The store's clock** decides what is due and which lease has run out. Nothing is claimed before it.
//! - **Bounded work.** Every query is paged and served by an index; the cost of a claim grows with what is
//!   due, not with what is stored.
//! - **A lost race is an answer**, not an error. Errors are for what the caller can't act on by deciding.
//! - **Strangers.** A definition that can't be read is set aside with its fault shown, and never stops the
//!   others. A field that we do not know is kept.
//!
//! # Who decides what
//!
//! The store picks what is due and makes the writes atomic. What to write is decided by the [`Planner`],
//! which is pure and which the store calls inside its atomic step.

mod claim;
mod history;
mod import;
mod jobs;
mod memory;
mod nodes;
mod steps;
mod walk;

use std::fmt::Debug;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use claim::*;
pub use history::*;
pub use import::*;
pub use jobs::*;
pub use memory::MemoryStore;
pub use nodes::*;
pub use steps::Change;
pub use walk::{ExecutionPages, JobPages};

use crate::error::Result;
use crate::execution::{Execution, LogLine};
use crate::id::{ExecutionId, JobId};
use crate::job::Job;
use crate::schedule::Calendar;
use crate::time::Timestamp;

/// What a database must do for the scheduler. See the [module](self) for what holds of every verb.
///
/// No verb has a default body, so that no store inherits a silent fallback.
#[async_trait]
pub trait Store: Debug + Send + Sync + 'static {
    /// Which store this is and where, without secrets.
    fn describe(&self) -> StoreDescription;

    /// A counter that changes when somebody, in this process or another, may have made something due:
    /// a job created, edited or resumed, an execution triggered, cancelled or made pending. A hint may
    /// be lost or late. Claims and completions that make nothing new due give none.
    fn hints(&self) -> watch::Receiver<u64>;

    /// The store's clock.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::Unavailable`], as every verb.
    async fn now(&self) -> Result<Timestamp>;

    // ---- job definitions ----

    /// Stores all of the jobs, or none.
    ///
    /// A job whose id exists already is, when `jobs` came from the same caller (same id, and same
    /// definition), taken as the repeat of a call whose reply was lost: nothing changes and it counts as
    /// created. With `unique_names`, a name in use by another job, or twice in the request, refuses all.
    async fn create_jobs(&self, request: CreateJobs) -> Result<CreateOutcome>;

    /// Applies an edit to the job as it was at `expected_version`, makes it `expected_version + 1`, and
    /// records who did it. What the edit does not name stays as it is, claims in between included. Pending
    /// executions of the job get its new handler and priority.
    async fn update_job(&self, request: UpdateJob) -> Result<UpdateOutcome>;

    /// Removes a job. Its pending executions end as `cancelled`; running ones go on; history stays.
    /// A job that is gone already is an answer, `false`.
    async fn delete_job(&self, id: &JobId, actor: &str) -> Result<bool>;

    /// One job, or `None`. One that can't be read comes back with its fault.
    async fn get_job(&self, id: &JobId) -> Result<Option<Job>>;

    /// A page of jobs.
    async fn list_jobs(&self, query: &JobQuery) -> Result<Page<Job>>;

    /// Stores a shared exclusion calendar, in place of one of the same name.
    async fn put_calendar(&self, calendar: &Calendar) -> Result<()>;

    /// Removes a calendar; `false` when there is none.
    async fn delete_calendar(&self, name: &str) -> Result<bool>;

    /// Every calendar, by name. They are few.
    async fn list_calendars(&self) -> Result<Vec<Calendar>>;

    /// What was done to jobs, and by whom; newest first.
    async fn list_audit(&self, query: &AuditQuery) -> Result<Vec<AuditEntry>>;

    // ---- claims and completions ----

    /// Takes due work for a node: first pending executions, by priority, then time; then due jobs, by
    /// priority, then time; only of the handlers named, at most `limit` executions in all.
    ///
    /// A pending execution of a job that already runs as often as its overlap policy lets it, or that is
    /// set aside, is passed over; whether a job is enabled counts only for its schedule. At most as many
    /// due jobs are looked at as `limit` leaves room for. An occurrence that has its execution already,
    /// because an edit set the job back, gets no second one, and the job moves on. For each due job the planner is asked; its records, the job's next occurrence, and the
    /// counters it answers are written in the same step. A job whose definition can't be read is set
    /// aside. Refused when the node's epoch is dead or its lease has run out.
    async fn claim(&self, request: ClaimRequest<'_>, planner: &dyn Planner) -> Result<ClaimOutcome>;

    /// What is recorded as running under this node and epoch: how a node that lost the reply of a claim
    /// finds out what it owns. Nothing when the epoch is dead: the rows are there until they are reaped, and
    /// a node that does not know yet must start nothing of them, least of all what it ran and was refused.
    /// Where the job is gone: see [`Claimed::of_deleted_job`].
    async fn owned(&self, node: &NodeRef) -> Result<Vec<Claimed>>;

    /// Ends executions, each only while owned (see fencing), with its logs, its retry, its chained
    /// executions, the job's last status and failure count, all in one step for each, in one batch for
    /// all. Answers one outcome for each completion, in order. A repeat of what was applied is `Applied`
    /// (its `paused` may then be false), also when nothing of the execution was to be kept. A completion
    /// whose status is no end is an error.
    async fn complete(&self, request: CompleteRequest<'_>) -> Result<Vec<CompleteOutcome>>;

    /// Writes log lines and progress of running executions, each only while owned. Answers how many of
    /// the reports were applied.
    async fn report(&self, node: &NodeRef, reports: &[Report]) -> Result<usize>;

    /// Makes a pending execution of a job, enabled or not, for `run_at`, without moving its schedule.
    /// With an idempotency key, or an execution id, that the job has seen: answers that execution, for as
    /// long as it is in the history, also when it has ended, and before anything else is looked at.
    async fn trigger(&self, request: TriggerRequest) -> Result<TriggerOutcome>;

    /// Ends a pending execution as `cancelled`, or marks a running one, which its node learns at the
    /// next heartbeat at the latest.
    async fn cancel(&self, id: &ExecutionId, actor: &str) -> Result<CancelOutcome>;

    // ---- nodes ----

    /// Enters a node, or enters it again after its lease was lost, with a new epoch: larger than any
    /// that this store has given. An older epoch of the same node id is dead from this instant.
    async fn join(&self, request: JoinRequest) -> Result<Joined>;

    /// Renews the lease of a node that is not dead, and tells it which of its executions somebody asked
    /// to cancel. The lease is counted from the store's clock.
    async fn heartbeat(&self, request: HeartbeatRequest) -> Result<HeartbeatOutcome>;

    /// Ends a node's membership. What it still runs is reaped like that of a dead node, at once.
    async fn leave(&self, node: &NodeRef) -> Result<()>;

    /// Marks every epoch dead whose lease ran out more than `grace` ago, then ends what dead epochs left
    /// running, at most `limit` executions a call, as the planner says: each only if it is still running
    /// under that dead epoch. One that can't be ended does not hide the others.
    async fn reap(&self, request: ReapRequest, planner: &dyn Planner) -> Result<Reaped>;

    /// Every node that is alive, or that died within the last day.
    async fn list_nodes(&self) -> Result<Vec<Node>>;

    // ---- history ----

    /// One execution, or `None`.
    async fn get_execution(&self, id: &ExecutionId) -> Result<Option<Execution>>;

    /// A page of executions.
    async fn list_executions(&self, query: &ExecutionQuery) -> Result<Page<Execution>>;

    /// Log lines of an execution, oldest first, from the `skip`th on, at most `limit`.
    async fn list_logs(&self, id: &ExecutionId, skip: u64, limit: usize) -> Result<Vec<LogLine>>;

    /// Removes executions that have ended, with their logs; others are left. Answers how many went.
    async fn delete_executions(&self, ids: &[ExecutionId]) -> Result<u64>;

    /// Removes, of the executions that have ended, at most `limit` that the retention no longer keeps: a
    /// job's own age goes before that of the request, and its own count keeps the last that were made.
    /// Answers how many went; fewer than `limit` means that none is left to remove.
    async fn prune(&self, request: PruneRequest) -> Result<u64>;

    /// Adds rows as another store holds them, each as a step of its own. One that is there already (a job
    /// of this id; an execution of this id or occurrence; an equal audit entry) stays as it is, so that an
    /// import that was cut off can be repeated. An execution that is running is an error. Answers how many
    /// were added; of the import itself there is no audit entry.
    async fn import(&self, import: Import) -> Result<Imported>;

    /// How many jobs and executions there are, by state.
    async fn counts(&self) -> Result<Counts>;

    // ---- the store itself ----

    /// What the store knows about its own health and settings, for `doctor`.
    async fn diagnose(&self) -> Result<Vec<Check>>;

    /// Ends all connections, after what was asked before has been written. Later calls answer
    /// [`crate::ErrorKind::Stopped`].
    async fn close(&self) -> Result<()>;
}

/// Which store, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreDescription {
    /// `memory`, `sqlite`, `postgres`, `mongodb`, `redis`.
    pub kind: String,
    /// Its URL, without secrets.
    pub location: String,
    /// Whether other processes can share it.
    pub shared: bool,
    /// Whether what was committed survives the loss of power.
    pub durable: bool,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// What is on the page.
    pub items: Vec<T>,
    /// How many there are on all pages; `None` when it was not asked for.
    pub total: Option<u64>,
}

/// How a check of `doctor` came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckLevel {
    /// Well.
    Ok,
    /// Works, with something to know.
    Warning,
    /// Does not work.
    Failed,
}

/// One thing that `doctor` looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// How it came out.
    pub level: CheckLevel,
    /// What was found, and how to mend it.
    pub detail: String,
}

impl Check {
    /// A check that came out as `level`.
    pub fn new(name: impl Into<String>, level: CheckLevel, detail: impl Into<String>) -> Self {
        Self { name: name.into(), level, detail: detail.into() }
    }
}
