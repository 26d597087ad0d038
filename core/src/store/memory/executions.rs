//! Executions and the indexes over them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeBounds;

use super::ready::Ready;
use crate::execution::{Execution, LogLine, Status, Trigger};
use crate::id::{ExecutionId, JobId};
use crate::store::{Live, NodeRef};
use crate::time::Timestamp;

/// What is unique among executions: job, due time, attempt, nonce.
pub(super) type Occurrence = (JobId, Timestamp, u32, String);

/// One execution and what belongs to it.
#[derive(Debug)]
struct Row {
    execution: Execution,
    logs: Vec<LogLine>,
    idempotency_key: Option<String>,
    /// Whether its end has paused the job.
    paused: bool,
}

/// All executions.
#[derive(Debug, Default)]
pub(super) struct Executions {
    rows: BTreeMap<ExecutionId, Row>,
    pub(super) occurrences: BTreeMap<Occurrence, ExecutionId>,
    pub(super) of_job: BTreeMap<JobId, BTreeSet<ExecutionId>>,
    keys: BTreeMap<(JobId, String), ExecutionId>,
    pub(super) states: States,
}

/// The indexes that follow the state of an execution. Counts are the sizes of these sets, so that
/// there is no counter that could drift.
#[derive(Debug, Default)]
pub(super) struct States {
    pub(super) by_status: BTreeMap<Status, BTreeSet<ExecutionId>>,
    pub(super) waiting: Ready<ExecutionId>,
    open: BTreeMap<JobId, Open>,
    pub(super) owned: BTreeMap<NodeRef, BTreeSet<ExecutionId>>,
    pub(super) ended: BTreeSet<(Timestamp, ExecutionId)>,
    pub(super) ended_of_job: BTreeMap<JobId, BTreeSet<ExecutionId>>,
}

/// The open executions of one job.
#[derive(Debug, Default)]
pub(super) struct Open {
    pub(super) running: BTreeSet<ExecutionId>,
    pub(super) pending: BTreeSet<ExecutionId>,
    /// Of the pending, those that an overlap or misfire policy queued.
    queued: BTreeSet<ExecutionId>,
}

impl Executions {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn get(&self, id: &ExecutionId) -> Option<&Execution> {
        self.rows.get(id).map(|row| &row.execution)
    }

    /// Every execution within `bounds`, by id.
    pub(super) fn ids(
        &self,
        bounds: impl RangeBounds<ExecutionId>,
    ) -> impl DoubleEndedIterator<Item = &ExecutionId> {
        self.rows.range(bounds).map(|(id, _)| id)
    }

    pub(super) fn logs(&self, id: &ExecutionId) -> &[LogLine] {
        self.rows.get(id).map_or(&[], |row| &row.logs)
    }

    pub(super) fn has_paused(&self, id: &ExecutionId) -> bool {
        self.rows.get(id).is_some_and(|row| row.paused)
    }

    /// The execution that has this key of this job.
    pub(super) fn by_key(&self, job: &JobId, key: &str) -> Option<&Execution> {
        self.keys.get(&(job.clone(), key.to_owned())).and_then(|id| self.get(id))
    }

    /// The execution of this occurrence.
    pub(super) fn by_occurrence(&self, occurrence: &Occurrence) -> Option<&Execution> {
        self.occurrences.get(occurrence).and_then(|id| self.get(id))
    }

    /// Adds an execution; `false`, and nothing changes, when its id or its occurrence is there already.
    pub(super) fn insert(&mut self, execution: Execution, idempotency_key: Option<String>) -> bool {
        let occurrence = occurrence(&execution);
        if self.rows.contains_key(&execution.id) || self.occurrences.contains_key(&occurrence) {
            return false;
        }
        let id = execution.id;
        self.occurrences.insert(occurrence, id);
        self.of_job.entry(execution.job_id.clone()).or_default().insert(id);
        if let Some(key) = &idempotency_key {
            self.keys.insert((execution.job_id.clone(), key.clone()), id);
        }
        self.states.add(&execution);
        self.rows.insert(id, Row { execution, logs: Vec::new(), idempotency_key, paused: false });
        true
    }

    /// Changes an execution; its id, job and occurrence stay.
    pub(super) fn change(
        &mut self,
        id: &ExecutionId,
        change: impl FnOnce(&mut Execution),
    ) -> Option<&Execution> {
        let row = self.rows.get_mut(id)?;
        self.states.remove(&row.execution);
        change(&mut row.execution);
        self.states.add(&row.execution);
        Some(&row.execution)
    }

    /// Adds lines, of which the first is number `first`; those that are there already are passed over.
    pub(super) fn append_logs(
        &mut self,
        id: &ExecutionId,
        first: u64,
        lines: impl IntoIterator<Item = LogLine>,
    ) {
        if let Some(row) = self.rows.get_mut(id) {
            let known = (row.logs.len() as u64).saturating_sub(first);
            row.logs.extend(lines.into_iter().skip(usize::try_from(known).unwrap_or(usize::MAX)));
        }
    }

    pub(super) fn mark_paused(&mut self, id: &ExecutionId) {
        if let Some(row) = self.rows.get_mut(id) {
            row.paused = true;
        }
    }

    pub(super) fn remove(&mut self, id: &ExecutionId) -> bool {
        let Some(row) = self.rows.remove(id) else { return false };
        let execution = row.execution;
        self.states.remove(&execution);
        self.occurrences.remove(&occurrence(&execution));
        take(&mut self.of_job, &execution.job_id, id);
        if let Some(key) = row.idempotency_key {
            self.keys.remove(&(execution.job_id, key));
        }
        true
    }

    /// The open executions of a job.
    pub(super) fn open(&self, job: &JobId) -> Option<&Open> {
        self.states.open.get(job)
    }

    pub(super) fn live(&self, job: &JobId) -> Live {
        let count = |set: &BTreeSet<ExecutionId>| u32::try_from(set.len()).unwrap_or(u32::MAX);
        self.open(job).map_or_else(Live::default, |open| Live {
            running: count(&open.running),
            queued: count(&open.queued),
        })
    }

    /// What is recorded as running under this node and epoch.
    pub(super) fn owned_by(&self, node: &NodeRef) -> impl Iterator<Item = &Execution> {
        self.states.owned.get(node).into_iter().flatten().filter_map(|id| self.get(id))
    }
}

impl States {
    fn add(&mut self, e: &Execution) {
        self.by_status.entry(e.status).or_default().insert(e.id);
        match e.status {
            Status::Pending => {
                self.waiting.insert(&e.handler, e.priority, e.run_at, e.id);
                let open = self.open.entry(e.job_id.clone()).or_default();
                open.pending.insert(e.id);
                if is_queued(e) {
                    open.queued.insert(e.id);
                }
            }
            Status::Running => {
                self.open.entry(e.job_id.clone()).or_default().running.insert(e.id);
                if let Some(owner) = owner(e) {
                    self.owned.entry(owner).or_default().insert(e.id);
                }
            }
            _ => {
                self.ended.insert((ended_at(e), e.id));
                self.ended_of_job.entry(e.job_id.clone()).or_default().insert(e.id);
            }
        }
    }

    fn remove(&mut self, e: &Execution) {
        take(&mut self.by_status, &e.status, &e.id);
        match e.status {
            Status::Pending => {
                self.waiting.remove(&e.handler, e.priority, e.run_at, e.id);
                self.close(e);
            }
            Status::Running => {
                self.close(e);
                if let Some(owner) = owner(e) {
                    take(&mut self.owned, &owner, &e.id);
                }
            }
            _ => {
                self.ended.remove(&(ended_at(e), e.id));
                take(&mut self.ended_of_job, &e.job_id, &e.id);
            }
        }
    }

    fn close(&mut self, e: &Execution) {
        let Some(open) = self.open.get_mut(&e.job_id) else { return };
        open.running.remove(&e.id);
        open.pending.remove(&e.id);
        open.queued.remove(&e.id);
        if open.running.is_empty() && open.pending.is_empty() {
            self.open.remove(&e.job_id);
        }
    }
}

/// Takes `id` out of the set at `key`, and the set out when nothing is left in it.
fn take<K: Ord>(sets: &mut BTreeMap<K, BTreeSet<ExecutionId>>, key: &K, id: &ExecutionId) {
    if let Some(set) = sets.get_mut(key) {
        set.remove(id);
        if set.is_empty() {
            sets.remove(key);
        }
    }
}

pub(super) fn occurrence(e: &Execution) -> Occurrence {
    (e.job_id.clone(), e.due_at, e.attempt, e.nonce.clone())
}

fn owner(e: &Execution) -> Option<NodeRef> {
    e.node_id.clone().map(|id| NodeRef { id, epoch: e.epoch })
}

fn ended_at(e: &Execution) -> Timestamp {
    e.ended_at.unwrap_or(e.created_at)
}

fn is_queued(e: &Execution) -> bool {
    e.trigger == Trigger::Schedule && e.attempt == 1
}
