//! The jobs of a store: create, find, edit, run. Needs no running scheduler.

mod change;
mod run;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde_json::Value;

use crate::engine::events::Events;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::id::{IdSource, JobId};
use crate::job::{Definition, Job, JobDefinition, due_with_jitter};
use crate::registry::Registry;
use crate::schedule::Calendar;
use crate::store::{
    ConflictKind, CreateJobs, CreateOutcome, JobQuery, Page, Store, UpdateJob, UpdateOutcome,
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
