//! Changing jobs that are there: edit, enable, skip, remove, copy; and what a change does to what is due.

use serde_json::Value;

use super::{Jobs, NewJob};
use crate::error::{Error, Result};
use crate::id::JobId;
use crate::job::{Definition, Due, EndReason, Job, JobDefinition, due_with_jitter, first_due};
use crate::schedule::Recurrence;
use crate::store::{Reset, UpdateJob};
use crate::time::Timestamp;

impl Jobs {
    /// Changes a job's definition. A recurrence that stays as it is keeps its due time; another one
    /// starts anew. A job that was set aside, or had ended, is taken up again.
    ///
    /// # Errors
    ///
    /// As [`Self::create`], and [`crate::ErrorKind::NotFound`]; [`crate::ErrorKind::Conflict`] when others keep
    /// editing the same job.
    pub async fn edit(&self, id: &JobId, change: impl Fn(&mut JobDefinition)) -> Result<Job> {
        self.change(id, "updated", |job, now| {
            let mut definition = job.definition.to_owned();
            change(&mut definition);
            self.check(&job.id, &mut definition)?;
            if definition == *job.definition && job.fault.is_none() {
                return Ok(None);
            }
            let mut edit = UpdateJob::new(job, &*self.actor, "updated");
            if definition.schedule != job.definition.schedule || job.fault.is_some() {
                let fresh = Definition::new(job.id.clone(), definition.clone());
                edit.due = Some(due_after_edit(job, &fresh, now));
                edit.reset.n_fired = definition.schedule.recurrence != job.definition.schedule.recurrence;
            }
            edit.reset.fault = true;
            edit.unique_name = definition.name != job.definition.name;
            edit.definition = Some(definition);
            Ok(Some(edit))
        })
        .await
    }

    /// Lets the schedule count again. What was missed while it did not is not run: the next occurrence is
    /// the next in the future.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::NotFound`]; the store's own.
    pub async fn enable(&self, id: &JobId) -> Result<Job> {
        self.resume(id, false).await
    }

    /// Lets the schedule count again, and treats what was due since it was disabled as missed: the misfire
    /// policy decides.
    ///
    /// # Errors
    ///
    /// As [`Self::enable`].
    pub async fn enable_with_missed(&self, id: &JobId) -> Result<Job> {
        self.resume(id, true).await
    }

    async fn resume(&self, id: &JobId, with_missed: bool) -> Result<Job> {
        self.change(id, "enabled", |job, now| {
            if job.enabled && job.fault.is_none() {
                return Ok(None);
            }
            let mut edit = UpdateJob::new(job, &*self.actor, "enabled");
            edit.enabled = Some(true);
            edit.reset = Reset { fault: true, failures: true, n_fired: false };
            if !with_missed && job.due.is_none_or(|due| due.due_at <= now) {
                edit.due = Some(future_due(job, now));
            }
            Ok(Some(edit))
        })
        .await
    }

    /// Keeps the schedule from counting. What runs goes on.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::NotFound`]; the store's own.
    pub async fn disable(&self, id: &JobId) -> Result<Job> {
        self.change(id, "disabled", |job, _| {
            let mut edit = UpdateJob::new(job, &*self.actor, "disabled");
            edit.enabled = Some(false);
            Ok(job.enabled.then_some(edit))
        })
        .await
    }

    /// Skips the next `n` occurrences, with a record each; 0 takes that back.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::NotFound`]; the store's own.
    pub async fn skip_next(&self, id: &JobId, n: u32) -> Result<Job> {
        self.change(id, "skip_next", |job, _| {
            let mut edit = UpdateJob::new(job, &*self.actor, "skip_next");
            edit.skip_next = Some(n);
            Ok((job.skip_next != n).then_some(edit))
        })
        .await
    }

    /// Skips every occurrence on a date (`2026-12-24`) or range of dates (`2026-12-24/2026-12-31`) in the
    /// schedule's zone, with a record each.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::Invalid`] for what is no date; as [`Self::edit`].
    pub async fn skip_date(&self, id: &JobId, date: &str) -> Result<Job> {
        let range = serde_json::from_value(Value::String(date.to_owned())).map_err(|e| {
            Error::faults_of("not a date to skip", vec![crate::Fault::new("date", e.to_string())])
        })?;
        // Exclusions don't move due times, so that the grid and the due time stay.
        self.change(id, "skip_date", |job, _| {
            let mut definition = job.definition.to_owned();
            if definition.schedule.exclude.dates.contains(&range) {
                return Ok(None);
            }
            definition.schedule.exclude.dates.push(range);
            let mut edit = UpdateJob::new(job, &*self.actor, "skip_date");
            edit.definition = Some(definition);
            Ok(Some(edit))
        })
        .await
    }

    /// Removes a job. Its pending executions are cancelled; running ones go on; its history stays.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::NotFound`]; the store's own.
    pub async fn delete(&self, id: &JobId) -> Result<()> {
        if self.store.delete_job(id, &self.actor).await? {
            self.tell(id, "deleted");
            return Ok(());
        }
        Err(Error::not_found("job", id))
    }

    /// A disabled copy under another name.
    ///
    /// # Errors
    ///
    /// As [`Self::create`], and [`crate::ErrorKind::NotFound`].
    pub async fn clone_as(&self, id: &JobId, name: &str) -> Result<Job> {
        let mut definition = self.get(id).await?.definition.to_owned();
        name.clone_into(&mut definition.name);
        definition.origin = crate::job::Origin::Dynamic;
        self.create(NewJob { enabled: false, ..NewJob::from(definition) }).await
    }
}

/// The next occurrence of a job that is edited at `now`. Where only bounds, jitter, limit or exclusions
/// change, the grid stays, and so does what is due already. Otherwise the schedule starts anew; an
/// interval with its first period still to come.
fn due_after_edit(job: &Job, fresh: &Definition, now: Timestamp) -> (Option<Due>, Option<EndReason>) {
    let (old, new) = (&job.definition.schedule, &fresh.schedule);
    let Ok(schedule) = fresh.compiled() else { return (None, None) };
    let same_grid = old.recurrence == new.recurrence && old.start == new.start;
    let stays = |due: &Due| same_grid && new.end.is_none_or(|end| due.due_at <= end);
    if let Some(due) = job.due.filter(stays) {
        return (Some(due_with_jitter(schedule, due.due_at)), None);
    }
    match new.recurrence {
        Recurrence::Interval { anchor: None, .. } if new.start.is_none_or(|start| start <= now) => {
            let next = schedule.next_after(now, now).map(|due_at| due_with_jitter(schedule, due_at));
            (next, next.is_none().then_some(EndReason::Exhausted))
        }
        _ => due_from(fresh, now),
    }
}

/// The next occurrence of a definition that starts anew at `now`.
fn due_from(definition: &Definition, now: Timestamp) -> (Option<Due>, Option<EndReason>) {
    let due = first_due(definition, now);
    let ends = due.is_none() && definition.compiled().is_ok_and(|s| !s.is_manual());
    (due, ends.then_some(EndReason::Exhausted))
}

/// The next occurrence in the future, on the grid that the job has.
fn future_due(job: &Job, now: Timestamp) -> (Option<Due>, Option<EndReason>) {
    let Ok(schedule) = job.definition.compiled() else { return (None, None) };
    let anchor = job.due.map_or(job.created_at, |due| due.due_at);
    // A time that has passed while a one-shot job was disabled is still the one it is for.
    let next =
        if schedule.is_one_shot() { job.due.map(|d| d.due_at) } else { schedule.next_after(now, anchor) };
    match next {
        Some(due_at) => (Some(due_with_jitter(schedule, due_at)), None),
        None => (None, (!schedule.is_manual()).then_some(job.ended.unwrap_or(EndReason::Exhausted))),
    }
}
