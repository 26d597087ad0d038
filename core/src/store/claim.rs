//! Requests and answers about claims and completions, and the planner that decides them.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::NodeRef;
use crate::execution::{Execution, Failure, JobResult, LogLine, Progress, SkipReason, Status, Trigger};
use crate::id::{ExecutionId, JobId};
use crate::job::{Due, EndReason, Job, JobDefinition};
use crate::policy::Keep;
use crate::schedule::{Calendars, Schedule};
use crate::time::Timestamp;

/// What a node asks to be given.
#[derive(Debug, Clone, Copy)]
pub struct ClaimRequest<'a> {
    /// Who asks.
    pub node: &'a NodeRef,
    /// The handlers it has.
    pub handlers: &'a BTreeSet<String>,
    /// The most executions it can start now.
    pub limit: usize,
}

/// What became of a claim.
#[must_use]
#[derive(Debug)]
pub enum ClaimOutcome {
    /// Whatever there was.
    Claimed(Box<ClaimBatch>),
    /// The node is dead, or its lease has run out: it must cancel what it runs and join again.
    Refused,
}

/// What one claim gave.
#[derive(Debug, Default)]
pub struct ClaimBatch {
    /// The store's clock during the claim.
    pub now: Timestamp,
    /// To be started now.
    pub claimed: Vec<Claimed>,
    /// Recorded as skipped.
    pub skipped: Vec<Execution>,
    /// Recorded as pending, because of an overlap or misfire policy.
    pub queued: Vec<Execution>,
    /// Running executions, on any node, that an overlap policy asks to stop.
    pub cancel: Vec<ExecutionId>,
    /// Jobs that were set aside, with the reason.
    pub set_aside: Vec<(JobId, String)>,
    /// Jobs that will not fire again.
    pub ended: Vec<(JobId, EndReason)>,
    /// Whether there was more than `limit` let it take.
    pub more: bool,
    /// Whether a pending execution was passed over because its job runs as often as it may.
    pub blocked: bool,
    /// When something of these handlers is due next, if nobody changes anything: a fire time of a job
    /// or a pending execution's `run_at`, later than `now`.
    pub next_at: Option<Timestamp>,
}

/// An execution that this node now owns, and its job.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// Running, owned by this node and epoch.
    pub execution: Execution,
    /// The job, as the claim read it.
    pub job: Job,
}

impl Claimed {
    /// An execution whose job is gone: in place of the job stands one that does nothing, disabled and
    /// with a fault that says so. Only [`super::Store::owned`] gives it; it is not to be started, but ended.
    pub fn of_deleted_job(execution: Execution) -> Self {
        let definition = JobDefinition::new(&execution.job_name, &execution.handler, Schedule::manual());
        let mut job = Job::new(execution.job_id.clone(), definition, execution.created_at);
        job.enabled = false;
        job.fault = Some("the job was deleted".to_owned());
        Self { execution, job }
    }

    /// Whether it is what [`Self::of_deleted_job`] makes.
    pub fn is_of_deleted_job(&self) -> bool {
        !self.job.enabled && self.job.fault.is_some() && self.job.definition.schedule.is_manual()
    }
}

/// How many executions of one job are open, over all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Live {
    /// Running.
    pub running: u32,
    /// Pending first attempts of the schedule's own: those that an overlap or misfire policy queued.
    pub queued: u32,
}

/// Decides, purely, what a claim and a reaping write. Called inside the store's atomic step.
pub trait Planner: Send + Sync {
    /// What to do with a job that is due at `now`, the store's time.
    fn plan(&self, job: &Job, live: Live, now: Timestamp, calendars: &Calendars) -> Plan;

    /// How to end an execution whose node is dead. `job` is `None` when the job is gone.
    fn lost(&self, job: Option<&Job>, execution: &Execution, now: Timestamp) -> Completion;
}

/// What to write for one due job.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// In the order of their due times; together they account for every occurrence from the job's
    /// previous due time up to, and without, the next.
    pub records: Vec<Planned>,
    /// What is next.
    pub next: NextDue,
    /// The job's new number of occurrences to skip.
    pub skip_next: u32,
    /// The job's new count of firings.
    pub n_fired: u64,
    /// Whether the job's running executions are asked to stop.
    pub cancel_running: bool,
}

/// What is next for a job that was due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextDue {
    /// This occurrence.
    At(Due),
    /// None, for this reason.
    Ended(EndReason),
    /// None until the execution that the plan starts has ended, which sets it.
    AfterCompletion,
    /// None: the definition can't be used, for this reason. Nothing else of the plan counts.
    SetAside(String),
}

/// One record that a plan makes.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// The id of the execution.
    pub id: ExecutionId,
    /// The occurrence.
    pub due_at: Timestamp,
    /// The last of the occurrences it stands for, where that is more than one.
    pub covers_until: Option<Timestamp>,
    /// How many it stands for, at least.
    pub n_occurrences: u64,
    /// The nominal due time after it; `None` too while it is counted from an end that is to come.
    pub next_due_at: Option<Timestamp>,
    /// What becomes of it.
    pub disposition: Disposition,
}

/// What becomes of an occurrence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disposition {
    /// It starts now.
    Start,
    /// It waits for the job's running execution to end.
    Queue,
    /// It does not run; the text says more than the reason.
    Skip(SkipReason, String),
}

impl Planned {
    /// The row to insert for this record of `job`, made at `now`; a start is owned by `node`.
    pub fn into_execution(self, job: &Job, now: Timestamp, node: &NodeRef) -> Execution {
        let new = NewExecution {
            id: self.id,
            job_id: job.id.clone(),
            trigger: Trigger::Schedule,
            triggered_by: "scheduler".to_owned(),
            due_at: self.due_at,
            covers_until: self.covers_until,
            n_occurrences: self.n_occurrences,
            run_at: now,
            attempt: 1,
            retries: 0,
            crashes: 0,
            root_id: self.id,
            nonce: String::new(),
            parameters: None,
        };
        let mut execution = new.into_execution(job, now);
        execution.next_due_at = self.next_due_at;
        match self.disposition {
            Disposition::Start => execution.own(node, now),
            Disposition::Queue => {}
            Disposition::Skip(reason, detail) => {
                execution.status = Status::Skipped;
                execution.reason = Some(reason.as_str().to_owned());
                execution.ended_at = Some(now);
                if !detail.is_empty() {
                    execution.result = Some(JobResult { message: detail, ..JobResult::default() });
                }
            }
        }
        execution
    }
}

impl Execution {
    /// Makes a pending execution running, owned by `node`.
    pub fn own(&mut self, node: &NodeRef, now: Timestamp) {
        self.status = Status::Running;
        self.started_at = Some(now);
        self.node_id = Some(node.id.clone());
        self.epoch = node.epoch;
        self.claim += 1;
    }
}

/// A pending execution to make: a retry, a chained or a manual one. What it does not say (name, handler,
/// priority, version) the store takes from the job; without a job, or for a chained one with a disabled
/// job, it makes none.
#[derive(Debug, Clone, PartialEq)]
pub struct NewExecution {
    /// Made by the caller.
    pub id: ExecutionId,
    /// Of which job.
    pub job_id: JobId,
    /// What makes it.
    pub trigger: Trigger,
    /// Who or what.
    pub triggered_by: String,
    /// The occurrence, or when it was asked for.
    pub due_at: Timestamp,
    /// See [`Execution::covers_until`].
    pub covers_until: Option<Timestamp>,
    /// See [`Execution::n_occurrences`].
    pub n_occurrences: u64,
    /// Not to be claimed before.
    pub run_at: Timestamp,
    /// Counted from 1.
    pub attempt: u32,
    /// Retries before it.
    pub retries: u32,
    /// Crashes before it.
    pub crashes: u32,
    /// The first attempt.
    pub root_id: ExecutionId,
    /// See [`Execution::nonce`].
    pub nonce: String,
    /// In place of the job's.
    pub parameters: Option<Value>,
}

impl NewExecution {
    /// The row to insert for this execution of `job`, made at `now`.
    pub fn into_execution(self, job: &Job, now: Timestamp) -> Execution {
        Execution {
            id: self.id,
            job_id: self.job_id,
            job_name: job.definition.name.clone(),
            handler: job.definition.handler.clone(),
            status: Status::Pending,
            reason: None,
            trigger: self.trigger,
            triggered_by: self.triggered_by,
            due_at: self.due_at,
            covers_until: self.covers_until,
            n_occurrences: self.n_occurrences,
            next_due_at: None,
            version: job.version,
            attempt: self.attempt,
            retries: self.retries,
            crashes: self.crashes,
            root_id: self.root_id,
            nonce: self.nonce,
            parameters: self.parameters,
            priority: job.definition.priority,
            created_at: now,
            run_at: self.run_at,
            started_at: None,
            ended_at: None,
            duration: None,
            node_id: None,
            epoch: crate::id::Epoch(0),
            claim: 0,
            cancel_requested: false,
            progress: None,
            result: None,
            error: None,
        }
    }
}

/// Ends of executions to record.
#[derive(Debug, Clone, Copy)]
pub struct CompleteRequest<'a> {
    /// Who owns them.
    pub node: &'a NodeRef,
    /// Which, and how they ended.
    pub completions: &'a [Completion],
}

/// The end of one execution, with all that follows from it.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// Which.
    pub execution_id: ExecutionId,
    /// Of which job.
    pub job_id: JobId,
    /// The claim counter it was owned with.
    pub claim: u32,
    /// A final status.
    pub status: Status,
    /// What kind of failure, if one.
    pub reason: Option<String>,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// How long the handler ran.
    pub duration: Option<Duration>,
    /// What it answered.
    pub result: Option<JobResult>,
    /// What went wrong.
    pub error: Option<Failure>,
    /// Log lines not yet reported.
    pub logs: Vec<LogLine>,
    /// How many lines of this execution were written before them.
    pub first_line: u64,
    /// The next attempt; none is made when somebody has asked to cancel this one.
    pub retry: Option<NewExecution>,
    /// Executions of other jobs that this end makes.
    pub chained: Vec<NewExecution>,
    /// What it means for the job.
    pub effect: JobEffect,
    /// Whether the execution stays in the history.
    pub keep: Keep,
    /// The job's next occurrence, where that is counted from the end of the last. Applies only while the
    /// job has no next occurrence and has not ended, whatever edits came in between: without it such a
    /// job would never fire again.
    pub next: Option<Due>,
}

impl Completion {
    /// Whether the row stays, by its status and the job's [`Keep`].
    pub fn keeps_row(&self) -> bool {
        use crate::execution::StatusClass::{Bad, Part};
        match self.keep {
            Keep::All => true,
            Keep::Failures => matches!(self.status.class(), Bad | Part) || self.retry.is_some(),
            Keep::None => false,
        }
    }
}

/// What the end of an execution means for its job.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobEffect {
    /// How the failures in a row change.
    pub failures: FailureCount,
    /// Set the job aside, for this reason.
    pub set_aside: Option<String>,
}

/// How the failures in a row change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FailureCount {
    /// Not at all.
    #[default]
    Keep,
    /// To none.
    Reset,
    /// One more; the job disables itself when that makes this many.
    Increment {
        /// After how many it disables itself.
        pause_after: Option<u32>,
    },
}

/// What became of a completion.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompleteOutcome {
    /// Recorded, now or by an earlier call.
    Applied {
        /// Whether the job has disabled itself because of it.
        paused: bool,
    },
    /// This node does not own it any more. Nothing was written.
    Refused,
}

/// News of a running execution.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Which.
    pub execution_id: ExecutionId,
    /// The claim counter it is owned with.
    pub claim: u32,
    /// New log lines.
    pub logs: Vec<LogLine>,
    /// How many lines came before them: a line whose place is taken is not written again, so that a
    /// report whose reply was lost can be repeated.
    pub first_line: u64,
    /// New progress.
    pub progress: Option<Progress>,
}

/// A manual trigger.
#[derive(Debug, Clone, PartialEq)]
pub struct TriggerRequest {
    /// What to make.
    pub execution: NewExecution,
    /// A key of the caller's: the same key again gives the same execution.
    pub idempotency_key: Option<String>,
    /// Whether to refuse when the job has an open execution already.
    pub unless_open: bool,
}

/// What became of a trigger.
#[must_use]
#[derive(Debug, Clone, PartialEq)]
pub enum TriggerOutcome {
    /// A new pending execution.
    Created(Box<Execution>),
    /// The one that the same id or key made before.
    Exists(Box<Execution>),
    /// The job has this open execution.
    Busy(ExecutionId),
    /// There is no such job.
    NotFound,
}

/// What became of a cancellation.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelOutcome {
    /// It had not started, and will not.
    Cancelled,
    /// It runs; its node has been asked to stop it.
    Requested,
    /// It has ended already, like this.
    Ended(Status),
    /// There is no such execution.
    NotFound,
}
