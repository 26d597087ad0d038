//! Creating, editing and deleting jobs and calendars.

use std::collections::HashMap;

use rusqlite::params;
use serde_json::Value;
use unified_scheduler_core::Error;
use unified_scheduler_core::execution::Status;
use unified_scheduler_core::id::JobId;
use unified_scheduler_core::job::{EndReason, Job, JobDefinition};
use unified_scheduler_core::schedule::Calendar;
use unified_scheduler_core::store::{
    AuditEntry, Change, CreateJobs, CreateOutcome, UpdateJob, UpdateOutcome,
};

use super::executions::{cancelled, end_pending};
use super::jobs;
use crate::error::Step;
use crate::rows::{at, int, key, millis};
use crate::session::Session;

pub(crate) fn create(session: &mut Session, request: &CreateJobs) -> Step<CreateOutcome> {
    let mut stored: HashMap<&JobId, Job> = HashMap::new();
    let mut names: HashMap<&str, Vec<JobId>> = HashMap::new();
    for job in &request.jobs {
        if let Some((_, known)) = jobs::read(session, &job.id)? {
            stored.insert(&job.id, known);
        }
        let name = job.definition.name.as_str();
        if request.unique_names && !names.contains_key(name) {
            names.insert(name, with_name(session, name)?);
        }
    }
    let holder = |name: &str, id: &JobId| names.get(name)?.iter().find(|other| *other != id).cloned();
    let conflicts = request.conflicts(|id| stored.get(id), holder);
    if !conflicts.is_empty() {
        return Ok(CreateOutcome::Refused(conflicts));
    }
    for job in request.missing(|id| stored.contains_key(id)) {
        insert(session, job)?;
        let change = Change { actor: &request.actor, action: "created", due_before: None };
        jobs::audit(session, &AuditEntry::of(job, session.now(), change, Value::Null))?;
        session.hint = true;
    }
    Ok(CreateOutcome::Created)
}

/// The first two jobs with this name: enough to tell whether another than a given one has it.
fn with_name(session: &Session, name: &str) -> Step<Vec<JobId>> {
    session.all("SELECT id FROM @jobs WHERE name = ?1 ORDER BY id LIMIT 2", [name], |row| {
        Ok(JobId::from(row.get::<_, String>(0)?))
    })
}

pub(crate) fn insert(session: &Session, job: &Job) -> Step<()> {
    let inserted = session.first(
        "INSERT INTO @jobs (id, name, description, origin, tags, definition, max_running, max_age, max_count,
             created_at, created_by)
         VALUES (?1, '', '', '', NULL, '', 1, NULL, NULL, ?2, ?3)
         ON CONFLICT DO NOTHING RETURNING n",
        params![job.id.as_str(), job.created_at.as_millis(), job.created_by],
        |row| row.get::<_, i64>(0),
    )?;
    let Some(n) = inserted else {
        return Err(Error::conflict("the same job id is twice in one request").with("job", &job.id).into());
    };
    write_definition(session, n, &job.definition)?;
    session.execute(
        "INSERT INTO @job_state (n, version, enabled, handler, priority, due_at, fire_at, ended, fault,
             skip_next, n_fired, failures, updated_at, last_run_at, last_status, last_execution)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
        params![
            n,
            job.version,
            job.enabled,
            job.definition.handler,
            job.definition.priority,
            job.due.map(|due| due.due_at.as_millis()),
            job.due.map(|due| due.fire_at.as_millis()),
            job.ended.map(EndReason::as_str),
            job.fault,
            job.skip_next,
            int(job.n_fired),
            job.failures_in_row,
            job.updated_at.as_millis(),
            at(job.last_run_at),
            job.last_status.map(Status::as_str),
            job.last_execution_id.as_ref().map(key)
        ],
    )?;
    Ok(())
}

/// Writes a definition, and the columns that repeat parts of it.
fn write_definition(session: &Session, n: i64, definition: &JobDefinition) -> Step<()> {
    let tags = (!definition.tags.is_empty()).then(|| serde_json::to_string(&definition.tags)).transpose()?;
    session.execute(
        "UPDATE @jobs SET name = ?2, description = ?3, origin = ?4, tags = ?5, definition = ?6,
             max_running = ?7, max_age = ?8, max_count = ?9 WHERE n = ?1",
        params![
            n,
            definition.name,
            definition.description,
            definition.origin.as_str(),
            tags,
            serde_json::to_string(definition)?,
            definition.overlap.max_running(),
            definition.history.max_age.map(millis),
            definition.history.max_count
        ],
    )?;
    Ok(())
}

pub(crate) fn update(session: &mut Session, request: &UpdateJob) -> Step<UpdateOutcome> {
    let Some((n, mut job)) = jobs::read(session, &request.id)? else { return Ok(UpdateOutcome::NotFound) };
    if job.version != request.expected_version {
        return Ok(UpdateOutcome::Stale(Box::new(job)));
    }
    if let Some(name) = request.name_to_check(&job)
        && let Some(other) = with_name(session, name)?.into_iter().find(|id| *id != job.id)
    {
        return Ok(UpdateOutcome::NameTaken(other));
    }
    let due_before = job.due_at();
    let before = job.definition.clone();
    // A job that can't be read shows that as its fault; it is no fault of the state's.
    job.fault = jobs::state(session, n)?.and_then(|state| state.fault);
    request.apply(&mut job, session.now());
    if let Some(definition) = &request.definition {
        write_definition(session, n, definition)?;
        if (&definition.handler, definition.priority) != (&before.handler, before.priority) {
            // What waits is run by whoever runs the job from now on.
            session.execute(
                "UPDATE @executions SET handler = ?2, priority = ?3
                 WHERE job_id = ?1 AND status = 'pending' AND status IN ('pending', 'running')",
                params![job.id.as_str(), definition.handler, definition.priority],
            )?;
        }
    }
    session.execute(
        "UPDATE @job_state SET version = ?2, enabled = ?3, handler = ?4, priority = ?5, due_at = ?6,
             fire_at = ?7, ended = ?8, fault = ?9, skip_next = ?10, n_fired = ?11, failures = ?12,
             updated_at = ?13 WHERE n = ?1",
        params![
            n,
            job.version,
            job.enabled,
            job.definition.handler,
            job.definition.priority,
            job.due.map(|due| due.due_at.as_millis()),
            job.due.map(|due| due.fire_at.as_millis()),
            job.ended.map(EndReason::as_str),
            job.fault,
            job.skip_next,
            int(job.n_fired),
            job.failures_in_row,
            job.updated_at.as_millis()
        ],
    )?;
    let change = Change { actor: &request.actor, action: &request.action, due_before };
    jobs::audit(session, &AuditEntry::of(&job, session.now(), change, Value::Null))?;
    session.hint = true;
    Ok(UpdateOutcome::Updated(Box::new(job)))
}

pub(crate) fn delete(session: &mut Session, id: &JobId, actor: &str) -> Step<bool> {
    let Some((n, mut job)) = jobs::read(session, id)? else { return Ok(false) };
    session.execute(
        concat!(
            end_pending!(),
            " WHERE job_id = ?1 AND status = 'pending' AND status IN ('pending', 'running')"
        ),
        params![
            id.as_str(),
            session.now().as_millis(),
            cancelled(format!("its job was deleted by {actor}"))?
        ],
    )?;
    session.execute("DELETE FROM @job_state WHERE n = ?1", [n])?;
    session.execute("DELETE FROM @jobs WHERE n = ?1", [n])?;
    let change = Change { actor, action: "deleted", due_before: job.due.take().map(|due| due.due_at) };
    jobs::audit(session, &AuditEntry::of(&job, session.now(), change, Value::Null))?;
    session.hint = true;
    Ok(true)
}

pub(crate) fn put_calendar(session: &mut Session, calendar: &Calendar) -> Step<()> {
    session.execute(
        "INSERT INTO @calendars (name, definition) VALUES (?1, ?2)
         ON CONFLICT (name) DO UPDATE SET definition = excluded.definition",
        params![calendar.name, serde_json::to_string(calendar)?],
    )?;
    calendars_changed(session)
}

pub(crate) fn delete_calendar(session: &mut Session, name: &str) -> Step<bool> {
    let gone = session.execute("DELETE FROM @calendars WHERE name = ?1", [name])? > 0;
    if gone {
        calendars_changed(session)?;
    }
    Ok(gone)
}

fn calendars_changed(session: &mut Session) -> Step<()> {
    session.execute("UPDATE @meta SET value = value + 1 WHERE key = 'calendars'", [])?;
    session.hint = true;
    Ok(())
}

pub(crate) fn list_calendars(session: &Session) -> Step<Vec<Calendar>> {
    session.all("SELECT definition FROM @calendars ORDER BY name", [], |row| {
        Ok(serde_json::from_str(&row.get::<_, String>(0)?)?)
    })
}
