//! What can be asked of a scheduler or a store, as JSON: one variant each, executed by the facade.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use unified_scheduler::schedule::{Calendar, preview};
use unified_scheduler::store::{CancelOutcome, Store};
use unified_scheduler::verify::{VerifyOptions, verify};
use unified_scheduler::{
    Clock, Error, ErrorKind, Execution, Job, JobDefinition, JobId, Jobs, NewJob, Registry, Result,
    RunOptions, Schedule, Scheduler, SystemClock, Timestamp, doctor, document, explain, schedule, status,
};

use crate::done::exception;
use crate::query::{AuditWanted, ExecutionsWanted, JobsWanted, execution_id};

/// What questions are put to: a scheduler, or a store without one.
pub(crate) struct Hub {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) scheduler: Option<Scheduler>,
}

/// One question or order.
#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Op {
    CreateJob {
        job: Value,
        first_due: Option<Timestamp>,
        actor: Option<String>,
    },
    GetJob {
        id: String,
    },
    FindJob {
        id: String,
    },
    ListJobs {
        query: JobsWanted,
    },
    EditJob {
        id: String,
        changes: Map<String, Value>,
        actor: Option<String>,
    },
    EnableJob {
        id: String,
        missed: bool,
        actor: Option<String>,
    },
    DisableJob {
        id: String,
        actor: Option<String>,
    },
    SkipNext {
        id: String,
        n: u32,
        actor: Option<String>,
    },
    SkipDate {
        id: String,
        date: String,
        actor: Option<String>,
    },
    DeleteJob {
        id: String,
        actor: Option<String>,
    },
    CloneJob {
        id: String,
        name: String,
        actor: Option<String>,
    },
    RunJob {
        id: String,
        parameters: Option<Value>,
        at: Option<Timestamp>,
        idempotency_key: Option<String>,
        #[serde(default)]
        unless_open: bool,
        triggered_by: Option<String>,
        actor: Option<String>,
    },
    ExportJob {
        id: String,
    },
    Retry {
        id: String,
        actor: Option<String>,
    },
    Cancel {
        id: String,
        actor: Option<String>,
    },
    Execution {
        id: String,
    },
    Executions {
        query: ExecutionsWanted,
    },
    Logs {
        id: String,
        skip: u64,
        limit: usize,
    },
    DeleteExecutions {
        ids: Vec<String>,
    },
    NextRuns {
        id: String,
        n: usize,
    },
    Explain {
        id: String,
    },
    Verify {
        job_id: Option<String>,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    },
    Doctor,
    Status,
    Nodes,
    Audit {
        query: AuditWanted,
    },
    PutCalendar {
        calendar: Calendar,
    },
    DeleteCalendar {
        name: String,
    },
    Calendars,
    Templates,
    Now,
    Describe,
}

impl Op {
    /// Reads a question.
    pub(crate) fn read(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|e| Error::invalid(format!("can't be read: {e}")))
    }

    /// Executes it.
    pub(crate) async fn answer(self, hub: &Hub) -> Result<Value> {
        match self {
            Self::CreateJob { job, first_due, actor } => {
                shown(hub.jobs(actor).create(new_job(&job, first_due)?).await)
            }
            Self::GetJob { id } => {
                Ok(hub.store.get_job(&id.into()).await?.as_ref().map(document::write).unwrap_or_default())
            }
            Self::FindJob { id } => shown(hub.jobs(None).find(&id).await),
            Self::ListJobs { query } => {
                let page = hub.jobs(None).list(&query.into()).await?;
                let items: Vec<Value> = page.items.iter().map(document::write).collect();
                Ok(json!({"items": items, "total": page.total}))
            }
            Self::EditJob { id, changes, actor } => edit(&hub.jobs(actor), &id.into(), &changes).await,
            Self::EnableJob { id, missed: false, actor } => shown(hub.jobs(actor).enable(&id.into()).await),
            Self::EnableJob { id, missed: true, actor } => {
                shown(hub.jobs(actor).enable_with_missed(&id.into()).await)
            }
            Self::DisableJob { id, actor } => shown(hub.jobs(actor).disable(&id.into()).await),
            Self::SkipNext { id, n, actor } => shown(hub.jobs(actor).skip_next(&id.into(), n).await),
            Self::SkipDate { id, date, actor } => shown(hub.jobs(actor).skip_date(&id.into(), &date).await),
            Self::DeleteJob { id, actor } => hub.jobs(actor).delete(&id.into()).await.map(Value::from),
            Self::CloneJob { id, name, actor } => shown(hub.jobs(actor).clone_as(&id.into(), &name).await),
            Self::RunJob { id, parameters, at, idempotency_key, unless_open, triggered_by, actor } => {
                let options = RunOptions { parameters, at, idempotency_key, unless_open, triggered_by };
                as_json(hub.jobs(actor).run(&id.into(), options).await?)
            }
            Self::ExportJob { id } => Ok(document::export(&hub.jobs(None).get(&id.into()).await?)),
            Self::Retry { id, actor } => as_json(hub.jobs(actor).retry(&execution_id(&id)?).await?),
            Self::Cancel { id, actor } => hub.cancel(&id, actor.as_deref().unwrap_or("api")).await,
            other => other.tell(hub).await,
        }
    }

    /// Executes what only looks, and what is about more than one job.
    async fn tell(self, hub: &Hub) -> Result<Value> {
        let store = &*hub.store;
        match self {
            Self::Execution { id } => match id.parse() {
                Ok(id) => Ok(store.get_execution(&id).await?.as_ref().map(with_key).unwrap_or_default()),
                Err(_) => Ok(Value::Null),
            },
            Self::Executions { query } => {
                let page = store.list_executions(&query.into_query()?).await?;
                let items: Vec<Value> = page.items.iter().map(with_key).collect();
                Ok(json!({"items": items, "total": page.total}))
            }
            Self::Logs { id, skip, limit } => {
                as_json(store.list_logs(&execution_id(&id)?, skip, limit).await?)
            }
            Self::DeleteExecutions { ids } => {
                let ids = ids.iter().filter_map(|id| id.parse().ok()).collect::<Vec<_>>();
                as_json(store.delete_executions(&ids).await?)
            }
            Self::NextRuns { id, n } => {
                let job = hub.jobs(None).get(&id.into()).await?;
                let calendars = explain::calendars(store).await?;
                as_json(explain::upcoming(&job, store.now().await?, n.min(10_000), &calendars))
            }
            Self::Explain { id } => {
                let job = hub.jobs(None).get(&id.into()).await?;
                as_json(explain::explain(store, &job).await?)
            }
            Self::Verify { job_id, since, until } => {
                let options = VerifyOptions { job_id: job_id.map(JobId::from), since, until };
                as_json(verify(store, &options, |_| {}).await?)
            }
            Self::Doctor => as_json(doctor::examine(store, &SystemClock::new()).await),
            Self::Status => match &hub.scheduler {
                Some(scheduler) => as_json(scheduler.status().await),
                None => as_json(status::of_store(store).await?),
            },
            Self::Nodes => as_json(store.list_nodes().await?),
            Self::Audit { query } => as_json(store.list_audit(&query.into()).await?),
            Self::PutCalendar { calendar } => hub.jobs(None).put_calendar(&calendar).await.map(Value::from),
            Self::DeleteCalendar { name } => as_json(store.delete_calendar(&name).await?),
            Self::Calendars => as_json(store.list_calendars().await?),
            Self::Templates => as_json(hub.registry.templates()),
            Self::Now => as_json(store.now().await?),
            Self::Describe => as_json(store.describe()),
            _ => Err(Error::internal("an operation is executed nowhere")),
        }
    }
}

impl Hub {
    fn jobs(&self, actor: Option<String>) -> Jobs {
        let jobs = match &self.scheduler {
            Some(scheduler) => scheduler.jobs(),
            None => Jobs::of(Arc::clone(&self.store), Some(Arc::clone(&self.registry))),
        };
        match actor {
            Some(actor) => jobs.by(&actor),
            None => jobs,
        }
    }

    async fn cancel(&self, id: &str, actor: &str) -> Result<Value> {
        let id = execution_id(id)?;
        let outcome = match &self.scheduler {
            Some(scheduler) => scheduler.cancel(&id, actor).await?,
            None => self.store.cancel(&id, actor).await?,
        };
        Ok(match outcome {
            CancelOutcome::Cancelled => json!("cancelled"),
            CancelOutcome::Requested => json!("requested"),
            CancelOutcome::Ended(status) => json!(status.as_str()),
            CancelOutcome::NotFound => return Err(Error::not_found("execution", id)),
        })
    }
}

/// A document of a job that is to be made.
fn new_job(job: &Value, first_due: Option<Timestamp>) -> Result<NewJob> {
    let read = read(job)?;
    Ok(NewJob { id: read.id, definition: read.definition, enabled: read.enabled, first_due })
}

fn read(job: &Value) -> Result<document::Document> {
    document::read(job).map_err(|faults| Error::faults_of("the job can't be read", faults))
}

/// The definition in a document of a static job.
pub(crate) fn definition(text: &str) -> Result<JobDefinition> {
    let job: Value =
        serde_json::from_str(text).map_err(|e| Error::invalid(format!("the job can't be read: {e}")))?;
    Ok(read(&job)?.definition)
}

/// Puts the fields in `changes` in place of the stored ones.
async fn edit(jobs: &Jobs, id: &JobId, changes: &Map<String, Value>) -> Result<Value> {
    let fault = Mutex::new(None);
    let change = |stored: &mut JobDefinition| match merged(stored, changes) {
        Ok(definition) => *stored = definition,
        Err(error) => *fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(error),
    };
    let answer = jobs.edit(id, change).await;
    match fault.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => shown(answer),
    }
}

fn merged(stored: &JobDefinition, changes: &Map<String, Value>) -> Result<JobDefinition> {
    let Value::Object(mut map) = as_json(stored)? else { return Err(Error::internal("a job is no object")) };
    map.extend(changes.clone());
    Ok(read(&Value::Object(map))?.definition)
}

fn shown(job: Result<Job>) -> Result<Value> {
    Ok(document::write(&job?))
}

fn with_key(execution: &Execution) -> Value {
    let key = execution.idempotency_key();
    let mut value = as_json(execution).unwrap_or_default();
    value["idempotency_key"] = Value::String(key);
    value
}

fn as_json(value: impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|e| Error::new(ErrorKind::Internal, "no JSON").caused_by(e))
}

fn parse(py: Python<'_>, text: &str) -> PyResult<Schedule> {
    let value: Value = serde_json::from_str(text)
        .map_err(|e| exception(py, &Error::invalid(format!("the schedule can't be read: {e}"))))?;
    Schedule::from_document(&value)
        .map_err(|faults| exception(py, &Error::faults_of("the schedule can't be read", faults)))
}

/// Checks a schedule, given as JSON, and tells it in words.
#[pyfunction]
pub(crate) fn check_schedule(py: Python<'_>, schedule: &str) -> PyResult<String> {
    let compiled = parse(py, schedule)?
        .compile("check")
        .map_err(|faults| exception(py, &Error::faults_of("the schedule can't be used", faults)))?;
    Ok(compiled.describe())
}

/// The next `n` due times of a schedule from an instant on (now without one), as JSON.
#[pyfunction]
#[pyo3(signature = (schedule, n, since = None))]
pub(crate) fn preview_schedule(
    py: Python<'_>,
    schedule: &str,
    n: usize,
    since: Option<&str>,
) -> PyResult<String> {
    let compiled = parse(py, schedule)?
        .compile("preview")
        .map_err(|faults| exception(py, &Error::faults_of("the schedule can't be used", faults)))?;
    let since = match since {
        None => SystemClock::new().now(),
        Some(text) => text.parse().map_err(|error: Error| exception(py, &error))?,
    };
    let next = preview(&compiled, since, n.min(10_000), &schedule::Calendars::new());
    serde_json::to_string(&next).map_err(|e| exception(py, &Error::internal(e.to_string())))
}

/// The names of all time zones.
#[pyfunction]
pub(crate) fn timezone_names() -> Vec<String> {
    schedule::timezone_names()
}

/// Reads a document of a job, in whatever form older programs left it, and gives it in ours, with
/// `enabled`, `next_run_at` and `warnings`; all as JSON.
#[pyfunction]
pub(crate) fn read_document(py: Python<'_>, document: &str) -> PyResult<String> {
    let value: Value = serde_json::from_str(document)
        .map_err(|e| exception(py, &Error::invalid(format!("the document can't be read: {e}"))))?;
    let read = read(&value).map_err(|error| exception(py, &error))?;
    let answer = json!({
        "id": read.id,
        "definition": as_json(&read.definition).map_err(|error| exception(py, &error))?,
        "enabled": read.enabled,
        "created_by": read.created_by,
        "created_at": read.created_at,
        "updated_at": read.updated_at,
        "version": read.version,
        "last_run_at": read.last_run_at,
        "last_status": read.last_status,
        "next_run_at": read.next_run_at,
        "next_run_hint": read.next_run_hint,
        "warnings": read.warnings,
    });
    Ok(answer.to_string())
}
