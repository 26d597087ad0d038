//! What the verbs of every store decide alike: pure steps on values, for a store to read, apply and write.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    AuditEntry, Completion, ConflictKind, CreateConflict, CreateJobs, JobQuery, JobSort, NextDue, NodeRef,
    UpdateJob,
};
use crate::error::{Error, Result};
use crate::execution::{Execution, JobResult, Status};
use crate::id::JobId;
use crate::job::{Definition, Due, EndReason, Job, JobDefinition};
use crate::schedule::Schedule;
use crate::time::Timestamp;

impl CreateJobs {
    /// What stands in the way of the request: `stored` is the job that has an id, `holder` another job
    /// than this one that has a name. A job that is stored already, with the same definition, is none: it
    /// is the repeat of a call whose reply was lost, and not to be written again.
    pub fn conflicts<'s>(
        &'s self,
        stored: impl Fn(&JobId) -> Option<&'s Job>,
        holder: impl Fn(&str, &JobId) -> Option<JobId>,
    ) -> Vec<CreateConflict> {
        let mut ids: BTreeMap<&JobId, &Job> = BTreeMap::new();
        let mut names: BTreeMap<&str, &JobId> = BTreeMap::new();
        let mut conflicts = Vec::new();
        for (index, job) in self.jobs.iter().enumerate() {
            let twin = stored(&job.id).or_else(|| ids.get(&job.id).copied());
            let name = job.definition.name.as_str();
            if twin.is_some_and(|twin| twin.definition != job.definition) {
                conflicts.push(CreateConflict { index, conflict: ConflictKind::Id });
            } else if twin.is_none() && self.unique_names {
                let taken = holder(name, &job.id).or_else(|| names.get(name).map(|id| (*id).clone()));
                let conflict = taken.map(ConflictKind::Name);
                conflicts.extend(conflict.map(|conflict| CreateConflict { index, conflict }));
            }
            ids.entry(&job.id).or_insert(job);
            names.entry(name).or_insert(&job.id);
        }
        conflicts
    }

    /// The jobs that are still to be written, each once.
    pub fn missing(&self, is_stored: impl Fn(&JobId) -> bool) -> Vec<&Job> {
        let mut seen = BTreeSet::new();
        self.jobs.iter().filter(|job| !is_stored(&job.id) && seen.insert(&job.id)).collect()
    }
}

impl JobQuery {
    /// # Errors
    ///
    /// [`crate::ErrorKind::Invalid`] when it names where to begin in an order that can't tell.
    pub fn check(&self) -> Result<()> {
        if self.after.is_some() && (self.sort != JobSort::Id || self.descending) {
            return Err(Error::invalid("only jobs in ascending order of their ids can be listed after one"));
        }
        Ok(())
    }
}

impl UpdateJob {
    /// The new name, where the edit gives one that nobody else may have.
    pub fn name_to_check(&self, job: &Job) -> Option<&str> {
        let definition = self.definition.as_ref().filter(|_| self.unique_name)?;
        (definition.name != job.definition.name).then_some(definition.name.as_str())
    }

    /// Applies the edit to the job that it was made from.
    pub fn apply(&self, job: &mut Job, now: Timestamp) {
        if let Some(definition) = &self.definition {
            job.definition = Definition::new(job.id.clone(), definition.clone());
        }
        if let Some((due, ended)) = self.due {
            (job.due, job.ended) = (due, ended);
        }
        job.enabled = self.enabled.unwrap_or(job.enabled);
        job.skip_next = self.skip_next.unwrap_or(job.skip_next);
        if self.reset.fault {
            job.fault = None;
        }
        if self.reset.failures {
            job.failures_in_row = 0;
        }
        if self.reset.n_fired {
            job.n_fired = 0;
        }
        job.version += 1;
        job.updated_at = now;
    }
}

/// What is done to a job, but for what the job itself tells afterwards.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// Who does it.
    pub actor: &'a str,
    /// What it is; see [`AuditEntry::action`].
    pub action: &'a str,
    /// The stored next occurrence before.
    pub due_before: Option<Timestamp>,
}

impl AuditEntry {
    /// The record of a change of `job`, which is as it was left.
    pub fn of(job: &Job, at: Timestamp, change: Change<'_>, detail: Value) -> Self {
        Self {
            at,
            job_id: job.id.clone(),
            job_name: job.definition.name.clone(),
            action: change.action.to_owned(),
            actor: change.actor.to_owned(),
            version: job.version,
            due_before: change.due_before,
            due_after: job.due.filter(|_| job.is_scheduled()).map(|due| due.due_at),
            detail,
        }
    }
}

impl Job {
    /// The due time before an edit, as an audit entry tells it.
    pub fn due_at(&self) -> Option<Timestamp> {
        self.due.map(|due| due.due_at)
    }

    /// A job whose stored definition can't be read, for this reason: one that does nothing stands for it,
    /// so that it stops nobody.
    pub fn unreadable(id: JobId, name: &str, handler: &str, why: &str, now: Timestamp) -> Self {
        let mut job = Self::new(id, JobDefinition::new(name, handler, Schedule::manual()), now);
        job.fault = Some(format!("the stored definition can't be read: {why}"));
        job
    }
}

impl NextDue {
    /// The next occurrence, or why there is none. Of a job that is set aside both stay as they are, so
    /// that is for the caller to handle first.
    pub fn parts(&self) -> (Option<Due>, Option<EndReason>) {
        match self {
            Self::At(due) => (Some(*due), None),
            Self::Ended(reason) => (None, Some(*reason)),
            Self::AfterCompletion | Self::SetAside(_) => (None, None),
        }
    }
}

impl Completion {
    /// # Errors
    ///
    /// [`crate::ErrorKind::Invalid`] when one of them has a status that is no end.
    pub fn check(completions: &[Self]) -> Result<()> {
        match completions.iter().find(|completion| !completion.status.is_final()) {
            None => Ok(()),
            Some(open) => Err(Error::invalid(format!("`{}` is no end of an execution", open.status))
                .with("execution_id", open.execution_id)),
        }
    }

    /// Whether `node` owns the running execution that this ends.
    pub fn owns(&self, execution: &Execution, node: &NodeRef) -> bool {
        execution.status == Status::Running && execution.is_owned_by(node) && execution.claim == self.claim
    }

    /// Whether this completion is what ended the execution.
    pub fn is_repeat(&self, execution: &Execution, node: &NodeRef) -> bool {
        execution.is_owned_by(node)
            && execution.claim == self.claim
            && execution.status == self.status
            && execution.ended_at == Some(self.ended_at)
    }

    /// Ends the execution.
    pub fn apply_to(&self, execution: &mut Execution) {
        execution.status = self.status;
        execution.reason.clone_from(&self.reason);
        execution.started_at = Some(self.started_at);
        execution.ended_at = Some(self.ended_at);
        execution.duration = self.duration;
        execution.result.clone_from(&self.result);
        execution.error.clone_from(&self.error);
    }
}

impl Execution {
    /// Whether `node`, in this epoch, has started it.
    pub fn is_owned_by(&self, node: &NodeRef) -> bool {
        self.node_id.as_ref() == Some(&node.id) && self.epoch == node.epoch
    }

    /// Ends a pending execution as cancelled, for this reason in words.
    pub fn cancel_pending(&mut self, why: impl Into<String>, now: Timestamp) {
        self.status = Status::Cancelled;
        self.ended_at = Some(now);
        self.result = Some(JobResult { message: why.into(), ..JobResult::default() });
    }
}
