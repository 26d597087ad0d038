//! The model of what was committed, and its rules.
//!
//! Every call that commits passes here, in the order in which it does: the store in memory answers at
//! once, so each is one atomic step. The model keeps each row as it was left, so that a row that changes
//! without a call that may change it is seen, and each change is held against the edges that there are.
//! The numbers (I1, I8, …) are those of the list of invariants in `docs`.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use unified_scheduler_core::execution::Trigger;
use unified_scheduler_core::plan::EnginePlanner;
use unified_scheduler_core::schedule::Calendars;
use unified_scheduler_core::store::{
    ClaimBatch, Completion, ExecutionQuery, ExecutionSort, JobQuery, Live, MemoryStore, NextDue, NodeRef,
    Plan, Planner, Store,
};
use unified_scheduler_core::{Execution, ExecutionId, IdSource, Job, JobId, NodeId, Status, Timestamp};

use crate::reference;

/// Sees every commit.
#[derive(Debug)]
pub struct Witness {
    pub(crate) store: MemoryStore,
    pub(crate) planner: RecordingPlanner,
    model: Mutex<Model>,
}

/// What the store must hold.
#[derive(Debug, Default)]
pub struct Model {
    /// Jobs as they were left.
    pub jobs: BTreeMap<JobId, Job>,
    /// Executions as they were left, removed ones included.
    pub rows: BTreeMap<ExecutionId, Row>,
    /// Open executions of each job.
    pub open: BTreeMap<JobId, BTreeSet<ExecutionId>>,
    /// Epochs that are alive, and until when.
    pub nodes: BTreeMap<NodeId, (i64, Timestamp)>,
    /// Scheduled occurrences that have a record, and the execution that it is.
    pub occurrences: BTreeMap<(JobId, Timestamp), ExecutionId>,
    /// What idempotency keys stand for.
    pub keys: BTreeMap<(JobId, String), ExecutionId>,
    /// What must not have happened.
    pub violations: Vec<String>,
    /// How many calls committed.
    pub commits: u64,
    /// A hash of all of them, in order.
    pub trace: u64,
    /// Whether the store's clock has ever stepped.
    pub store_clock_steps: bool,
}

/// An execution in the model.
#[derive(Debug, Clone)]
pub struct Row {
    /// As it was last seen.
    pub execution: Execution,
    /// Whether it is gone from the store.
    pub removed: bool,
    /// The job as the claim read it.
    pub job: Option<Job>,
}

/// A plan that was asked for, and what came of it.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) job: Job,
    pub(crate) live: Live,
    pub(crate) plan: Plan,
    pub(crate) faults: Vec<String>,
}

/// The engine's planner, which remembers what it was asked.
#[derive(Debug)]
pub(crate) struct RecordingPlanner {
    inner: EnginePlanner,
    asked: Mutex<Vec<Asked>>,
    lost: Mutex<Vec<Completion>>,
}

impl RecordingPlanner {
    pub(crate) fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn take_lost(&self) -> Vec<Completion> {
        std::mem::take(&mut self.lost.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Planner for RecordingPlanner {
    fn plan(&self, job: &Job, live: Live, now: Timestamp, calendars: &Calendars) -> Plan {
        let plan = self.inner.plan(job, live, now, calendars);
        let faults = match plan.next {
            NextDue::SetAside(_) => Vec::new(),
            _ => reference::plan_faults(job, live, now, calendars, &plan),
        };
        let asked = Asked { job: job.clone(), live, plan: plan.clone(), faults };
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
        plan
    }

    fn lost(&self, job: Option<&Job>, execution: &Execution, now: Timestamp) -> Completion {
        let completion = self.inner.lost(job, execution, now);
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).push(completion.clone());
        completion
    }
}

impl Witness {
    /// A witness of everything that happens to `store`.
    pub fn new(store: MemoryStore, seed: u64) -> Self {
        let planner = RecordingPlanner {
            inner: EnginePlanner::new(Arc::new(IdSource::seeded(seed ^ 0x5eed))),
            asked: Mutex::default(),
            lost: Mutex::default(),
        };
        Self { store, planner, model: Mutex::default() }
    }

    /// The model.
    ///
    /// # Panics
    ///
    /// Never: a poisoned one is taken as it is.
    pub fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store's clock.
    pub fn now(&self) -> Timestamp {
        at_once(self.store.now()).unwrap_or_default()
    }

    pub(crate) fn row(&self, id: &ExecutionId) -> Option<Execution> {
        at_once(self.store.get_execution(id)).unwrap_or_default()
    }

    pub(crate) fn job(&self, id: &JobId) -> Option<Job> {
        at_once(self.store.get_job(id)).unwrap_or_default()
    }

    /// Compares everything that the store holds with the model: what changed without a call is found.
    pub fn sweep(&self) {
        let query =
            ExecutionQuery { sort: ExecutionSort::Oldest, limit: usize::MAX, ..ExecutionQuery::default() };
        let rows = at_once(self.store.list_executions(&query)).map(|p| p.items).unwrap_or_default();
        let jobs = JobQuery { limit: usize::MAX, ..JobQuery::default() };
        let jobs = at_once(self.store.list_jobs(&jobs)).map(|p| p.items).unwrap_or_default();
        let mut model = self.model();
        let present: BTreeSet<ExecutionId> = rows.iter().map(|e| e.id).collect();
        for row in rows {
            match model.rows.get(&row.id) {
                Some(known) if known.execution == row && !known.removed => {}
                Some(known) => {
                    let text =
                        format!("I8 {} changed without a call: {:?} is {row:?}", row.id, known.execution);
                    model.violate(text);
                }
                None => model.violate(format!("I2 {} was made by no call: {row:?}", row.id)),
            }
        }
        let mut gone = Vec::new();
        for (id, row) in &mut model.rows {
            if !row.removed && !present.contains(id) {
                row.removed = true;
                if !row.execution.status.is_final() {
                    gone.push(format!("I8 {id} was removed while {}", row.execution.status));
                }
            }
        }
        for text in gone {
            model.violate(text);
        }
        if jobs.len() != model.jobs.len() {
            let text = format!("there are {} jobs, not {}", jobs.len(), model.jobs.len());
            model.violate(text);
        }
        for job in jobs {
            if model.jobs.get(&job.id) != Some(&job) {
                let text = format!("I17 job {} changed without a call: {job:?}", job.id);
                model.violate(text);
            }
        }
    }

    /// Takes over an execution as it is now, and holds the change against the edges that there are.
    pub(crate) fn touch(&self, id: &ExecutionId) {
        let new = self.row(id);
        let mut model = self.model();
        match new {
            Some(new) => {
                // A record that is gone makes room for another, when an edit has set the schedule back.
                let occurrence = (new.job_id.clone(), new.due_at);
                let before = model.occurrences.get(&occurrence).copied();
                if before.is_some_and(|before| self.row(&before).is_none()) {
                    model.occurrences.remove(&occurrence);
                }
                model.change(new);
            }
            None => {
                if let Some(row) = model.rows.get_mut(id) {
                    row.removed = true;
                }
            }
        }
    }

    /// Takes over a job as it is now.
    pub(crate) fn touch_job(&self, id: &JobId) {
        let job = self.job(id);
        let mut model = self.model();
        match job {
            Some(job) => model.jobs.insert(id.clone(), job),
            None => model.jobs.remove(id),
        };
    }
}

impl Model {
    /// Notes what must not have happened. More than a few say no more than the first.
    pub fn violate(&mut self, text: String) {
        if self.violations.len() < 8 {
            self.violations.push(text);
        }
    }

    /// Adds to the trace.
    pub fn trace(&mut self, text: &str) {
        for byte in text.bytes() {
            self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// How many executions of the job are open in the sense of the planner.
    pub fn live(&self, job: &JobId) -> Live {
        let mut live = Live::default();
        for row in self.open.get(job).into_iter().flatten().filter_map(|id| self.rows.get(id)) {
            let e = &row.execution;
            live.running += u32::from(e.status == Status::Running);
            let queued = e.status == Status::Pending && e.trigger == Trigger::Schedule && e.attempt == 1;
            live.queued += u32::from(queued);
        }
        live
    }

    /// Whether the epoch is alive.
    pub fn is_alive(&self, node: &NodeRef) -> bool {
        self.nodes.get(&node.id).is_some_and(|(epoch, _)| *epoch == node.epoch.0)
    }

    /// Whether the execution is running under this node and epoch.
    pub fn owns(&self, node: &NodeRef, id: &ExecutionId) -> bool {
        self.rows.get(id).is_some_and(|row| {
            let e = &row.execution;
            e.status == Status::Running && e.node_id.as_ref() == Some(&node.id) && e.epoch == node.epoch
        })
    }

    /// Whether what this node writes of the execution may take effect.
    pub fn may_write(&self, node: &NodeRef, id: &ExecutionId) -> bool {
        self.owns(node, id) && self.is_alive(node)
    }

    /// Replaces a row by what it is now.
    pub(crate) fn change(&mut self, new: Execution) {
        let (id, job, status) = (new.id, new.job_id.clone(), new.status);
        match self.rows.get_mut(&id) {
            None => {
                if let Some(text) = self.created(&new) {
                    self.violate(text);
                }
                self.rows.insert(id, Row { execution: new, removed: false, job: None });
            }
            Some(row) => {
                // Where no history is kept, a repeated trigger can't know that it was carried out.
                let fault = if row.removed { None } else { edge_fault(&row.execution, &new, Seen::Each) };
                row.execution = new;
                row.removed = false;
                if let Some(text) = fault {
                    self.violate(text);
                }
            }
        }
        let open = self.open.entry(job).or_default();
        if status.is_final() {
            open.remove(&id)
        } else {
            open.insert(id)
        };
    }

    /// Notes that an execution has ended and left no record.
    pub(crate) fn ended_without_record(&mut self, id: &ExecutionId, status: Status) {
        if let Some(row) = self.rows.get_mut(id) {
            (row.execution.status, row.removed) = (status, true);
            if let Some(open) = self.open.get_mut(&row.execution.job_id) {
                open.remove(id);
            }
        }
    }

    fn created(&mut self, new: &Execution) -> Option<String> {
        let root = new.trigger == Trigger::Schedule && new.attempt == 1 && new.nonce.is_empty();
        let occurrence = (new.job_id.clone(), new.due_at);
        if root && let Some(before) = self.occurrences.insert(occurrence, new.id) {
            let (job, due_at) = (&new.job_id, new.due_at);
            return Some(format!(
                "I1 the occurrence {job}@{due_at} has a second execution: {before}, {new:?}"
            ));
        }
        // What a stopping node hands back is neither a retry nor a crash.
        if new.attempt < 1 + new.retries + new.crashes && new.trigger != Trigger::Manual {
            return Some(format!("I16 attempt {} after {} and {}", new.attempt, new.retries, new.crashes));
        }
        None
    }
}

/// How closely somebody looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// At each state of it.
    Each,
    /// Now and then: states in between may be missed.
    Some,
}

/// Why an execution may not have gone from `old` to `new`.
pub fn edge_fault(old: &Execution, new: &Execution, seen: Seen) -> Option<String> {
    let allowed = match (old.status, new.status) {
        (Status::Pending, Status::Pending | Status::Running | Status::Cancelled) => true,
        (Status::Pending, _) => seen == Seen::Some,
        (Status::Running, Status::Pending) => false,
        (Status::Running, _) => (&old.node_id, old.epoch, old.claim) == (&new.node_id, new.epoch, new.claim),
        _ => old == new,
    };
    let key = |e: &Execution| (e.job_id.clone(), e.due_at, e.attempt, e.nonce.clone(), e.root_id, e.version);
    if allowed && key(old) == key(new) {
        return None;
    }
    Some(format!("I8 no edge from {old:?} to {new:?}"))
}

/// Which executions a batch of a claim has made or changed.
pub(crate) fn of_batch(batch: &ClaimBatch) -> Vec<ExecutionId> {
    let claimed = batch.claimed.iter().map(|c| c.execution.id);
    let recorded = batch.skipped.iter().chain(&batch.queued).map(|e| e.id);
    claimed.chain(recorded).chain(batch.cancel.iter().copied()).collect()
}

/// What a future answers that never waits.
///
/// # Panics
///
/// When it does wait.
pub fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => unreachable!("the store in memory answers at once"),
    }
}
