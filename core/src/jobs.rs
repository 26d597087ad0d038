//! The jobs of a store: create, edit, list, run. Needs no running scheduler.

use std::sync::Arc;

use serde_json::Value;

use crate::engine::events::Events;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::execution::{Execution, Status, Trigger};
use crate::id::{ExecutionId, IdSource, JobId};
use crate::job::{Definition, Due, EndReason, Job, JobDefinition, due_with_jitter, first_due};
use crate::registry::Registry;
use crate::schedule::{Calendar, Recurrence};
use crate::store::{
    ConflictKind, CreateJobs, CreateOutcome, JobQuery, NewExecution, Page, Reset, Store, TriggerOutcome,
    TriggerRequest, UpdateJob, UpdateOutcome,
};
use crate::time::Timestamp;

/// How often an edit is tried again when somebody else edits the same job.
const EDIT_ATTEMPTS: usize = 16;

/// The jobs of a store. Every change names who makes it; see [`Jobs::by`].
#[derive(Clone)]
pub struct Jobs {
    store: Arc<dyn Store>,
    /// What this process can run; `None` when it only keeps the books (a CLI without handlers).
    registry: Option<Arc<Registry>>,
    ids: Arc<IdSource>,
    events: Option<Events>,
    actor: Arc<str>,
}

/// A job to be made.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Made here when not given.
    pub id: Option<JobId>,
    /// What it is.
    pub definition: JobDefinition,
    /// Whether its schedule counts from the start.
    pub enabled: bool,
    /// Its first due time, where another than the schedule's is wanted: one in the past is due at once.
    pub first_due: Option<Timestamp>,
}

impl From<JobDefinition> for NewJob {
    fn from(definition: JobDefinition) -> Self {
        Self { id: None, definition, enabled: true, first_due: None }
    }
}

/// What a manual run may say.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// In place of the job's parameters.
    pub parameters: Option<Value>,
    /// Not before this; at once without it.
    pub at: Option<Timestamp>,
    /// The same key again gives the same execution.
    pub idempotency_key: Option<String>,
    /// Refuse when the job has a pending or running execution.
    pub unless_open: bool,
}

impl Jobs {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        registry: Arc<Registry>,
        ids: Arc<IdSource>,
        events: Events,
    ) -> Self {
        Self { store, registry: Some(registry), ids, events: Some(events), actor: "api".into() }
    }

    /// The jobs of a store, without a scheduler. With a registry, parameters are checked against the
    /// templates in it; without one, template types and parameters are stored unchecked.
    pub fn of(store: Arc<dyn Store>, registry: Option<Arc<Registry>>) -> Self {
        Self { store, registry, ids: Arc::new(IdSource::new()), events: None, actor: "api".into() }
    }

    /// The same jobs, every change recorded as made by `actor`.
    #[must_use]
    pub fn by(mut self, actor: &str) -> Self {
        self.actor = actor.into();
        self
    }

    /// Makes a job.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] with everything that is wrong with it, a name in use among it; the store's
    /// own.
    pub async fn create(&self, job: impl Into<NewJob>) -> Result<Job> {
        let mut made = self.create_all(vec![job.into()]).await?;
        made.pop().ok_or_else(|| Error::internal("a job was stored and is not there"))
    }

    /// Makes all of the jobs, or none.
    ///
    /// # Errors
    ///
    /// As [`Self::create`]; the fields of the faults begin with the place of the job, as in
    /// `[3].schedule.expression`, when there is more than one.
    pub async fn create_all(&self, jobs: Vec<NewJob>) -> Result<Vec<Job>> {
        let now = self.store.now().await?;
        let many = jobs.len() > 1;
        let (mut ready, mut faults) = (Vec::with_capacity(jobs.len()), Vec::new());
        for (i, new) in jobs.into_iter().enumerate() {
            match self.prepare(new, now) {
                Ok(job) => ready.push(job),
                Err(error) => faults.extend(
                    error.faults().iter().cloned().map(|f| if many { f.under(&format!("[{i}]")) } else { f }),
                ),
            }
        }
        if !faults.is_empty() {
            return Err(Error::faults_of("not a job that can run; nothing was stored", faults));
        }
        let request = CreateJobs { jobs: ready.clone(), unique_names: true, actor: self.actor.to_string() };
        match self.store.create_jobs(request).await? {
            CreateOutcome::Created => {
                for job in &ready {
                    self.tell(&job.id, "created");
                }
                Ok(ready)
            }
            CreateOutcome::Refused(conflicts) => {
                let faults = conflicts
                    .into_iter()
                    .map(|c| {
                        let job = &ready[c.index];
                        let (field, text) = match c.conflict {
                            ConflictKind::Id => ("id", format!("`{}` is another job's", job.id)),
                            ConflictKind::Name(other) => {
                                ("name", format!("`{}` is the name of job {other}", job.definition.name))
                            }
                        };
                        let fault = crate::Fault::new(field, text).help("choose another, or edit that job");
                        if many { fault.under(&format!("[{}]", c.index)) } else { fault }
                    })
                    .collect();
                Err(Error::faults_of("already there; nothing was stored", faults))
            }
        }
    }

    /// One job.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`]; the store's own.
    pub async fn get(&self, id: &JobId) -> Result<Job> {
        self.store.get_job(id).await?.ok_or_else(|| Error::not_found("job", id))
    }

    /// The job with this id, else the one with this name.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Conflict`] when several have the name; the store's own.
    pub async fn find(&self, id_or_name: &str) -> Result<Job> {
        if let Some(job) = self.store.get_job(&JobId::from(id_or_name)).await? {
            return Ok(job);
        }
        let query = JobQuery { name: Some(id_or_name.to_owned()), limit: 2, ..JobQuery::default() };
        let mut found = self.store.list_jobs(&query).await?.items;
        match found.len() {
            2.. => {
                Err(Error::conflict(format!("several jobs are called `{id_or_name}`; say which by its id")))
            }
            1 => found.pop().ok_or_else(|| Error::not_found("job", id_or_name)),
            _ => Err(Error::not_found("job", id_or_name)),
        }
    }

    /// A page of jobs.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn list(&self, query: &JobQuery) -> Result<Page<Job>> {
        self.store.list_jobs(query).await
    }

    /// Changes a job's definition. A recurrence that stays as it is keeps its due time; another one
    /// starts anew. A job that was set aside, or had ended, is taken up again.
    ///
    /// # Errors
    ///
    /// As [`Self::create`], and [`ErrorKind::NotFound`]; [`ErrorKind::Conflict`] when others keep
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
    /// [`ErrorKind::NotFound`]; the store's own.
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
    /// [`ErrorKind::NotFound`]; the store's own.
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
    /// [`ErrorKind::NotFound`]; the store's own.
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
    /// [`ErrorKind::Invalid`] for what is no date; as [`Self::edit`].
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
    /// [`ErrorKind::NotFound`]; the store's own.
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
    /// As [`Self::create`], and [`ErrorKind::NotFound`].
    pub async fn clone_as(&self, id: &JobId, name: &str) -> Result<Job> {
        let mut definition = self.get(id).await?.definition.to_owned();
        name.clone_into(&mut definition.name);
        definition.origin = crate::job::Origin::Dynamic;
        self.create(NewJob { enabled: false, ..NewJob::from(definition) }).await
    }

    /// Makes an execution now, whether or not the job is enabled, without moving its schedule. It starts
    /// as soon as a node has a free slot and the job's overlap policy lets it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Conflict`] with `unless_open`, when it is open already;
    /// [`ErrorKind::Invalid`] for parameters that the template refuses.
    pub async fn run(&self, id: &JobId, mut options: RunOptions) -> Result<Execution> {
        if let Some(parameters) = &mut options.parameters {
            let job = self.get(id).await?;
            let Value::Object(map) = parameters else {
                return Err(Error::invalid("parameters must be an object"));
            };
            if let Some(registry) = &self.registry {
                registry
                    .check(&job.definition.handler, map)
                    .map_err(|faults| Error::faults_of("the parameters can't be used", faults))?;
            }
        }
        let now = self.store.now().await?;
        let execution_id = self.ids.execution(now);
        let execution = NewExecution {
            id: execution_id,
            job_id: id.clone(),
            trigger: Trigger::Manual,
            triggered_by: format!("manual:{}", self.actor),
            due_at: now,
            covers_until: None,
            n_occurrences: 1,
            run_at: options.at.unwrap_or(now),
            attempt: 1,
            retries: 0,
            crashes: 0,
            root_id: execution_id,
            nonce: execution_id.to_string(),
            parameters: options.parameters,
        };
        self.trigger(execution, options.idempotency_key, options.unless_open).await
    }

    /// Runs an execution that has ended once more, as the next attempt at the same occurrence.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] for the execution or its job; [`ErrorKind::Conflict`] when it has not
    /// ended, or the attempt after it exists already.
    pub async fn retry(&self, id: &ExecutionId) -> Result<Execution> {
        let execution =
            self.store.get_execution(id).await?.ok_or_else(|| Error::not_found("execution", id))?;
        if !execution.status.is_final() {
            return Err(Error::conflict(format!(
                "execution {id} is {}; only an ended one can be retried",
                execution.status
            )));
        }
        let now = self.store.now().await?;
        let new_id = self.ids.execution(now);
        let again = NewExecution {
            id: new_id,
            job_id: execution.job_id.clone(),
            // A skipped occurrence that is run after all is a manual run of its own.
            trigger: Trigger::Manual,
            triggered_by: format!("manual:{}", self.actor),
            due_at: execution.due_at,
            covers_until: execution.covers_until,
            n_occurrences: execution.n_occurrences,
            run_at: now,
            attempt: if execution.status == Status::Skipped { 1 } else { execution.attempt + 1 },
            retries: 0,
            crashes: 0,
            root_id: execution.root_id,
            nonce: format!("retry:{id}"),
            parameters: execution.parameters,
        };
        let retried = self.trigger(again, Some(format!("retry:{id}")), false).await?;
        if retried.id == new_id {
            return Ok(retried);
        }
        Err(Error::conflict("it was retried before").with("execution_id", retried.id))
    }

    async fn trigger(
        &self,
        execution: NewExecution,
        idempotency_key: Option<String>,
        unless_open: bool,
    ) -> Result<Execution> {
        let id = execution.job_id.clone();
        match self.store.trigger(TriggerRequest { execution, idempotency_key, unless_open }).await? {
            TriggerOutcome::Created(execution) | TriggerOutcome::Exists(execution) => Ok(*execution),
            TriggerOutcome::Busy(open) => {
                Err(Error::conflict("the job is already running or waiting to run")
                    .with("execution_id", open))
            }
            TriggerOutcome::NotFound => Err(Error::not_found("job", id)),
        }
    }

    /// Stores the static job as it is defined in code; changes nothing when it is stored like that.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] with everything that is wrong with it; the store's own.
    pub async fn register(&self, definition: JobDefinition) -> Result<Job> {
        let id = JobId::of_static(&definition.name);
        loop {
            if self.store.get_job(&id).await?.is_some() {
                match self.clone().by("code").edit(&id, |stored| *stored = definition.clone()).await {
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    answer => return answer,
                }
            }
            let new = NewJob { id: Some(id.clone()), ..NewJob::from(definition.clone()) };
            let now = self.store.now().await?;
            let job = self.prepare(new, now)?;
            let request =
                CreateJobs { jobs: vec![job.clone()], unique_names: false, actor: "code".to_owned() };
            match self.store.create_jobs(request).await? {
                CreateOutcome::Created => return Ok(job),
                // Another node was faster.
                CreateOutcome::Refused(_) => {}
            }
        }
    }

    /// Stores a shared exclusion calendar.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] with everything that is wrong with it; the store's own.
    pub async fn put_calendar(&self, calendar: &Calendar) -> Result<()> {
        let faults = calendar.faults();
        if !faults.is_empty() {
            return Err(Error::faults_of(format!("the calendar `{}` can't be used", calendar.name), faults));
        }
        self.store.put_calendar(calendar).await
    }

    /// The job as it would be stored at `now`.
    fn prepare(&self, new: NewJob, now: Timestamp) -> Result<Job> {
        let id = new.id.unwrap_or_else(|| self.ids.job(now));
        let mut definition = new.definition;
        self.check(&id, &mut definition)?;
        let mut job = Job::new(id, definition, now);
        job.enabled = new.enabled;
        job.created_by = Some(self.actor.to_string());
        if let (Some(due_at), Ok(schedule)) = (new.first_due, job.definition.compiled()) {
            job.due = Some(due_with_jitter(schedule, due_at));
            job.ended = None;
        }
        Ok(job)
    }

    /// Everything that is wrong with a definition, its parameters included.
    fn check(&self, id: &JobId, definition: &mut JobDefinition) -> Result<()> {
        let mut faults = Vec::new();
        let dynamic = definition.origin == crate::job::Origin::Dynamic;
        if let Some(registry) = self.registry.as_ref().filter(|_| dynamic)
            && let Err(found) = registry.check(&definition.handler, &mut definition.parameters)
        {
            faults = found;
        }
        faults.extend(Definition::new(id.clone(), definition.clone()).faults());
        if faults.is_empty() {
            return Ok(());
        }
        Err(Error::faults_of(format!("the job `{}` can't be accepted", definition.name), faults))
    }

    /// Reads, decides and writes, again when somebody else was faster.
    async fn change(
        &self,
        id: &JobId,
        action: &str,
        edit: impl Fn(&Job, Timestamp) -> Result<Option<UpdateJob>>,
    ) -> Result<Job> {
        let mut job = self.get(id).await?;
        for _ in 0..EDIT_ATTEMPTS {
            let now = self.store.now().await?;
            let Some(request) = edit(&job, now)? else { return Ok(job) };
            match self.store.update_job(request).await? {
                UpdateOutcome::Updated(job) => {
                    self.tell(id, action);
                    return Ok(*job);
                }
                UpdateOutcome::Stale(current) => job = *current,
                UpdateOutcome::NameTaken(other) => {
                    let fault = crate::Fault::new("name", format!("is the name of job {other}"));
                    return Err(Error::faults_of("the job can't be renamed", vec![fault]));
                }
                UpdateOutcome::NotFound => return Err(Error::not_found("job", id)),
            }
        }
        Err(Error::conflict("others keep editing the job").with("job_id", id))
    }

    fn tell(&self, id: &JobId, action: &str) {
        if let Some(events) = &self.events {
            events.tell(|| Event::JobChanged { job_id: id.clone(), action: action.to_owned() });
        }
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

#[cfg(test)]
mod tests;
