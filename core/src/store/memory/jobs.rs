//! Jobs, their names and when they are due; calendars.

use std::collections::{BTreeMap, BTreeSet};

use super::State;
use super::ready::Ready;
use crate::id::{ExecutionId, JobId};
use crate::job::Job;
use crate::schedule::{Calendar, Calendars};
use crate::store::{Change, CreateJobs, CreateOutcome, UpdateJob, UpdateOutcome};
use crate::time::Timestamp;

/// All jobs and calendars.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    rows: BTreeMap<JobId, Job>,
    names: BTreeSet<(String, JobId)>,
    pub(super) due: Ready<JobId>,
    disabled: BTreeSet<JobId>,
    faulty: BTreeSet<JobId>,
    /// Those that say themselves how long their history is kept.
    pub(super) retaining: BTreeSet<JobId>,
    calendars: BTreeMap<String, Calendar>,
    prepared: Calendars,
}

impl Jobs {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn n_disabled(&self) -> usize {
        self.disabled.len()
    }

    pub(super) fn n_faulty(&self) -> usize {
        self.faulty.len()
    }

    pub(super) fn get(&self, id: &JobId) -> Option<&Job> {
        self.rows.get(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Job> {
        self.rows.values()
    }

    /// The first job of this name but for `except`.
    pub(super) fn named(&self, name: &str, except: &JobId) -> Option<&JobId> {
        self.with_name(name).find(|id| *id != except)
    }

    /// The jobs of this name.
    pub(super) fn with_name(&self, name: &str) -> impl Iterator<Item = &JobId> {
        let from = (name.to_owned(), JobId::from(""));
        self.names.range(from..).take_while(move |(n, _)| *n == name).map(|(_, id)| id)
    }

    pub(super) fn insert(&mut self, job: Job) {
        self.names.insert((job.definition.name.clone(), job.id.clone()));
        self.note(&job);
        self.rows.insert(job.id.clone(), job);
    }

    pub(super) fn remove(&mut self, id: &JobId) -> Option<Job> {
        let job = self.rows.remove(id)?;
        self.names.remove(&(job.definition.name.clone(), id.clone()));
        self.forget_due(&job);
        self.disabled.remove(id);
        self.faulty.remove(id);
        self.retaining.remove(id);
        Some(job)
    }

    /// Changes a job; its id stays.
    pub(super) fn change<R>(&mut self, id: &JobId, change: impl FnOnce(&mut Job) -> R) -> Option<R> {
        let mut job = self.rows.remove(id)?;
        self.forget_due(&job);
        let before = job.definition.clone();
        let answer = change(&mut job);
        if before.name != job.definition.name {
            self.names.remove(&(before.name.clone(), id.clone()));
            self.names.insert((job.definition.name.clone(), id.clone()));
        }
        self.note(&job);
        self.rows.insert(id.clone(), job);
        Some(answer)
    }

    fn forget_due(&mut self, job: &Job) {
        if let (true, Some(due)) = (job.is_scheduled(), job.due) {
            let definition = &job.definition;
            self.due.remove(&definition.handler, definition.priority, due.fire_at, job.id.clone());
        }
    }

    fn note(&mut self, job: &Job) {
        let definition = &job.definition;
        if let (true, Some(due)) = (job.is_scheduled(), job.due) {
            self.due.insert(&definition.handler, definition.priority, due.fire_at, job.id.clone());
        }
        let retains = definition.history.max_age.is_some() || definition.history.max_count.is_some();
        belongs(&mut self.disabled, &job.id, !job.enabled);
        belongs(&mut self.faulty, &job.id, job.fault.is_some());
        belongs(&mut self.retaining, &job.id, retains);
    }

    pub(super) fn put_calendar(&mut self, calendar: Calendar) {
        // One that can't be read is to the planner as if it were not there; it still comes back.
        self.prepared.remove(&calendar.name);
        let _ = self.prepared.insert(&calendar);
        self.calendars.insert(calendar.name.clone(), calendar);
    }

    pub(super) fn delete_calendar(&mut self, name: &str) -> bool {
        self.prepared.remove(name);
        self.calendars.remove(name).is_some()
    }

    pub(super) fn calendars(&self) -> Vec<Calendar> {
        self.calendars.values().cloned().collect()
    }

    /// The calendars, as a planner takes them.
    pub(super) fn prepared_calendars(&self) -> &Calendars {
        &self.prepared
    }
}

fn belongs(set: &mut BTreeSet<JobId>, id: &JobId, belongs: bool) {
    if belongs {
        set.insert(id.clone());
    } else {
        set.remove(id);
    }
}

impl State {
    pub(super) fn create_jobs(&mut self, request: CreateJobs, now: Timestamp) -> CreateOutcome {
        let named = |name: &str, id: &JobId| self.jobs.named(name, id).cloned();
        let conflicts = request.conflicts(|id| self.jobs.get(id), named);
        if !conflicts.is_empty() {
            return CreateOutcome::Refused(conflicts);
        }
        for job in request.jobs {
            if self.jobs.get(&job.id).is_some() {
                continue;
            }
            let change = Change { actor: &request.actor, action: "created", due_before: None };
            self.audit.record(&job, now, change, serde_json::Value::Null);
            self.jobs.insert(job);
            self.hint = true;
        }
        CreateOutcome::Created
    }

    pub(super) fn update_job(&mut self, request: &UpdateJob, now: Timestamp) -> UpdateOutcome {
        let Some(job) = self.jobs.get(&request.id) else { return UpdateOutcome::NotFound };
        if job.version != request.expected_version {
            return UpdateOutcome::Stale(Box::new(job.clone()));
        }
        if let Some(name) = request.name_to_check(job)
            && let Some(other) = self.jobs.named(name, &request.id)
        {
            return UpdateOutcome::NameTaken(other.clone());
        }
        let due_before = job.due_at();
        let UpdateJob { id, actor, action, .. } = request;
        let change = Change { actor, action, due_before };
        let edited = self.jobs.change(id, |job| {
            request.apply(job, now);
            job.clone()
        });
        let Some(job) = edited else { return UpdateOutcome::NotFound };
        self.audit.record(&job, now, change, serde_json::Value::Null);
        // What waits is run by whoever runs the job from now on.
        let waiting: Vec<ExecutionId> =
            self.executions.open(id).into_iter().flat_map(|open| open.pending.iter().copied()).collect();
        for execution in waiting {
            self.executions.change(&execution, |e| {
                e.handler.clone_from(&job.definition.handler);
                e.priority = job.definition.priority;
            });
        }
        self.hint = true;
        UpdateOutcome::Updated(Box::new(job))
    }

    pub(super) fn delete_job(&mut self, id: &JobId, actor: &str, now: Timestamp) -> bool {
        let Some(mut job) = self.jobs.remove(id) else { return false };
        let due_before = job.due.take().map(|due| due.due_at);
        let change = Change { actor, action: "deleted", due_before };
        self.audit.record(&job, now, change, serde_json::Value::Null);
        let pending: Vec<ExecutionId> =
            self.executions.open(id).into_iter().flat_map(|open| open.pending.iter().copied()).collect();
        for execution in pending {
            self.end_pending(&execution, &format!("its job was deleted by {actor}"), now);
        }
        self.hint = true;
        true
    }

    /// Ends a pending execution as cancelled.
    pub(super) fn end_pending(&mut self, id: &ExecutionId, why: &str, now: Timestamp) {
        self.executions.change(id, |e| e.cancel_pending(why, now));
    }

    /// Changes a job as the scheduler itself does, with a record: it makes a new version, so that whoever
    /// edits what they saw before is told.
    pub(super) fn change_by_scheduler(
        &mut self,
        id: &JobId,
        action: &str,
        detail: serde_json::Value,
        now: Timestamp,
        change: impl FnOnce(&mut Job),
    ) {
        let changed = self.jobs.change(id, |job| {
            change(job);
            job.version += 1;
            job.updated_at = now;
            job.clone()
        });
        if let Some(job) = changed {
            let due_before = job.due_at();
            self.audit.record(&job, now, Change { actor: "scheduler", action, due_before }, detail);
        }
    }
}
