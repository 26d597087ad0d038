//! Creating, editing and deleting jobs and calendars. Each in a transaction.

use std::collections::HashMap;

use serde_json::Value;
use sqlx::Row as _;
use unified_scheduler_core::execution::Status;
use unified_scheduler_core::id::JobId;
use unified_scheduler_core::job::{EndReason, Job};
use unified_scheduler_core::schedule::Calendar;
use unified_scheduler_core::store::{
    AuditEntry, Change, CreateJobs, CreateOutcome, UpdateJob, UpdateOutcome,
};

use super::executions::cancel_pending;
use super::jobs;
use crate::error::Step;
use crate::rows::{at, int, key, text};
use crate::session::{Session, millis, params};

/// Holds off whoever else gives names out that are to be unique.
async fn lock_names(session: &mut Session) -> Step<()> {
    let name = format!("{} names", session.shared.schema);
    session.first("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))::text", params![name]).await?;
    Ok(())
}

pub(crate) async fn create(session: &mut Session, request: &CreateJobs) -> Step<CreateOutcome> {
    const HOLDERS: &str = "SELECT j.name, j.id FROM @jobs j WHERE j.name = ANY ($1) ORDER BY j.id";
    if request.unique_names {
        lock_names(session).await?;
    }
    let ids: Vec<&JobId> = request.jobs.iter().map(|job| &job.id).collect();
    let mut stored = jobs::read_all(session, &ids).await?;
    let mut holders: HashMap<String, Vec<JobId>> = HashMap::new();
    if request.unique_names {
        let names: Vec<String> =
            request.jobs.iter().map(|job| text(&job.definition.name).into_owned()).collect();
        for row in session.all(HOLDERS, params![names]).await? {
            holders.entry(row.try_get(0)?).or_default().push(JobId::from(row.try_get::<&str, _>(1)?));
        }
    }
    // Twice at most: the second time with what others created in between.
    for _ in 0..2 {
        let conflicts = request.conflicts(
            |id| stored.get(id),
            |name, id| holders.get(name)?.iter().find(|holder| *holder != id).cloned(),
        );
        if !conflicts.is_empty() {
            return Ok(CreateOutcome::Refused(conflicts));
        }
        let new = request.missing(|id| stored.contains_key(id));
        if insert(session, &new).await? == new.len() {
            let now = session.now().await?;
            let change = Change { actor: &request.actor, action: "created", due_before: None };
            let entries: Vec<AuditEntry> =
                new.iter().map(|job| AuditEntry::of(job, now, change, Value::Null)).collect();
            jobs::audit(session, &entries).await?;
            session.hint |= !new.is_empty();
            return Ok(CreateOutcome::Created);
        }
        session.start_again().await?;
        if request.unique_names {
            lock_names(session).await?;
        }
        stored = jobs::read_all(session, &ids).await?;
    }
    Err(unified_scheduler_core::Error::unavailable("others create the same jobs at the same time").into())
}

fn column<T>(jobs: &[&Job], value: impl Fn(&Job) -> T) -> Vec<T> {
    jobs.iter().map(|job| value(job)).collect()
}

/// Inserts jobs; answers how many were new.
pub(crate) async fn insert(session: &mut Session, jobs: &[&Job]) -> Step<usize> {
    const JOBS: &str = "INSERT INTO @jobs AS j (id, name, description, origin, tags, definition, max_age,
            max_count, created_at, created_by)
        SELECT d.id, d.name, d.description, d.origin, ARRAY(SELECT json_array_elements_text(d.tags::json)),
            d.definition, d.max_age, d.max_count, d.created_at, d.created_by
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[],
            $8::bigint[], $9::bigint[], $10::text[])
            AS d (id, name, description, origin, tags, definition, max_age, max_count, created_at, created_by)
        ON CONFLICT DO NOTHING RETURNING j.id";
    const STATES: &str = "INSERT INTO @job_state (id, n, version, enabled, handler, priority, max_running,
            due_at, fire_at, ended, fault, skip_next, n_fired, failures, updated_at, last_run_at, last_status,
            last_execution, live)
        SELECT d.id, j.n, d.version, d.enabled, d.handler, d.priority, d.max_running, d.due_at, d.fire_at,
            d.ended, d.fault, d.skip_next, d.n_fired, d.failures, d.updated_at, d.last_run_at, d.last_status,
            d.last_execution, ARRAY(SELECT e.id FROM @executions e
                WHERE e.job_id = d.id AND e.ended_at IS NULL AND coalesce(e.status = 'running'
                    OR e.made_by = 'schedule' AND e.attempt = 1, false))
        FROM unnest($1::text[], $2::bigint[], $3::boolean[], $4::text[], $5::integer[], $6::bigint[],
            $7::bigint[], $8::bigint[], $9::text[], $10::text[], $11::bigint[], $12::bigint[], $13::bigint[],
            $14::bigint[], $15::bigint[], $16::text[], $17::uuid[])
            AS d (id, version, enabled, handler, priority, max_running, due_at, fire_at, ended, fault,
                skip_next, n_fired, failures, updated_at, last_run_at, last_status, last_execution)
        JOIN @jobs j USING (id)";
    if jobs.is_empty() {
        return Ok(0);
    }
    let mut jobs = jobs.to_vec();
    jobs.sort_by(|a, b| a.id.cmp(&b.id));
    let documents: Result<Vec<String>, _> =
        jobs.iter().map(|job| serde_json::to_string(&*job.definition)).collect();
    let params = params![
        column(&jobs, |job| job.id.as_str().to_owned()),
        column(&jobs, |job| text(&job.definition.name).into_owned()),
        column(&jobs, |job| text(&job.definition.description).into_owned()),
        column(&jobs, |job| job.definition.origin.as_str()),
        column(&jobs, |job| tags(&job.definition.tags)),
        documents?,
        column(&jobs, |job| job.definition.history.max_age.map(millis)),
        column(&jobs, |job| job.definition.history.max_count.map(i64::from)),
        column(&jobs, |job| job.created_at.as_millis()),
        column(&jobs, |job| job.created_by.clone()),
    ];
    let new = session.all(JOBS, params).await?.len();
    if new < jobs.len() {
        return Ok(new);
    }
    session.execute(STATES, state_params(&jobs)?).await?;
    Ok(new)
}

/// Tags as a JSON array: the driver knows no array of arrays.
fn tags(tags: &[String]) -> String {
    let tags: Vec<_> = tags.iter().map(|tag| text(tag)).collect();
    serde_json::json!(tags).to_string()
}

fn state_params(jobs: &[&Job]) -> Step<sqlx::postgres::PgArguments> {
    Ok(params![
        column(jobs, |job| job.id.as_str().to_owned()),
        column(jobs, |job| job.version),
        column(jobs, |job| job.enabled),
        column(jobs, |job| job.definition.handler.clone()),
        column(jobs, |job| job.definition.priority),
        column(jobs, |job| i64::from(job.definition.overlap.max_running())),
        column(jobs, |job| job.due.map(|due| due.due_at.as_millis())),
        column(jobs, |job| job.due.map(|due| due.fire_at.as_millis())),
        column(jobs, |job| job.ended.map(EndReason::as_str)),
        column(jobs, |job| job.fault.as_deref().map(|fault| text(fault).into_owned())),
        column(jobs, |job| i64::from(job.skip_next)),
        column(jobs, |job| int(job.n_fired)),
        column(jobs, |job| i64::from(job.failures_in_row)),
        column(jobs, |job| job.updated_at.as_millis()),
        column(jobs, |job| at(job.last_run_at)),
        column(jobs, |job| job.last_status.map(Status::as_str)),
        column(jobs, |job| job.last_execution_id.as_ref().map(key)),
    ])
}

pub(crate) async fn update(session: &mut Session, request: &UpdateJob) -> Step<UpdateOutcome> {
    const HOLDER: &str = "SELECT id FROM @jobs WHERE name = $1 AND id <> $2 ORDER BY id LIMIT 1";
    const STATE: &str = "UPDATE @job_state SET version = $2, enabled = $3, handler = $4, priority = $5,
            max_running = $6, due_at = $7, fire_at = $8, ended = $9, fault = CASE WHEN $10 THEN NULL ELSE fault END,
            skip_next = $11, n_fired = $12, failures = $13, updated_at = $14
        WHERE id = $1";
    const FOLLOW: &str = "UPDATE @executions SET handler = $2, priority = $3
        WHERE job_id = $1 AND ended_at IS NULL AND coalesce(status = 'pending', false)";
    if request.unique_name && request.definition.is_some() {
        lock_names(session).await?;
    }
    let Some(mut job) = jobs::lock_one(session, &request.id).await? else {
        return Ok(UpdateOutcome::NotFound);
    };
    if job.version != request.expected_version {
        return Ok(UpdateOutcome::Stale(Box::new(job)));
    }
    if let Some(name) = request.name_to_check(&job)
        && let Some(row) = session.first(HOLDER, params![text(name), job.id.as_str()]).await?
    {
        return Ok(UpdateOutcome::NameTaken(JobId::from(row.try_get::<&str, _>(0)?)));
    }
    let now = session.now().await?;
    let due_before = job.due_at();
    let lane = (job.definition.handler.clone(), job.definition.priority);
    request.apply(&mut job, now);
    if request.definition.is_some() {
        write_definition(session, &job).await?;
        if lane != (job.definition.handler.clone(), job.definition.priority) {
            // What waits is run by whoever runs the job from now on.
            let params = params![job.id.as_str(), job.definition.handler.as_str(), job.definition.priority];
            session.execute(FOLLOW, params).await?;
        }
    }
    let params = params![
        job.id.as_str(),
        job.version,
        job.enabled,
        job.definition.handler.as_str(),
        job.definition.priority,
        i64::from(job.definition.overlap.max_running()),
        job.due.map(|due| due.due_at.as_millis()),
        job.due.map(|due| due.fire_at.as_millis()),
        job.ended.map(EndReason::as_str),
        request.reset.fault,
        i64::from(job.skip_next),
        int(job.n_fired),
        i64::from(job.failures_in_row),
        job.updated_at.as_millis(),
    ];
    session.execute(STATE, params).await?;
    let change = Change { actor: &request.actor, action: &request.action, due_before };
    jobs::audit(session, &[AuditEntry::of(&job, now, change, Value::Null)]).await?;
    session.hint = true;
    Ok(UpdateOutcome::Updated(Box::new(job)))
}

/// Writes a definition, and the columns that repeat parts of it.
async fn write_definition(session: &mut Session, job: &Job) -> Step<()> {
    const SQL: &str = "UPDATE @jobs SET name = $2, description = $3, origin = $4, tags = $5, definition = $6,
            max_age = $7, max_count = $8
        WHERE id = $1";
    let definition = &*job.definition;
    let params = params![
        job.id.as_str(),
        text(&definition.name),
        text(&definition.description),
        definition.origin.as_str(),
        definition.tags.iter().map(|tag| text(tag).into_owned()).collect::<Vec<String>>(),
        serde_json::to_string(definition)?,
        definition.history.max_age.map(millis),
        definition.history.max_count.map(i64::from),
    ];
    session.execute(SQL, params).await?;
    Ok(())
}

pub(crate) async fn delete(session: &mut Session, id: &JobId, actor: &str) -> Step<bool> {
    let Some(mut job) = jobs::lock_one(session, id).await? else { return Ok(false) };
    cancel_pending(session, id, &format!("its job was deleted by {actor}")).await?;
    session.execute("DELETE FROM @job_state WHERE id = $1", params![id.as_str()]).await?;
    session.execute("DELETE FROM @jobs WHERE id = $1", params![id.as_str()]).await?;
    let due_before = job.due.take().map(|due| due.due_at);
    let now = session.now().await?;
    let change = Change { actor, action: "deleted", due_before };
    jobs::audit(session, &[AuditEntry::of(&job, now, change, Value::Null)]).await?;
    session.hint = true;
    Ok(true)
}

pub(crate) async fn put_calendar(session: &mut Session, calendar: &Calendar) -> Step<()> {
    const SQL: &str = "INSERT INTO @calendars (name, definition) VALUES ($1, $2)
        ON CONFLICT (name) DO UPDATE SET definition = excluded.definition";
    session.execute(SQL, params![calendar.name.as_str(), serde_json::to_string(calendar)?]).await?;
    calendars_changed(session).await
}

pub(crate) async fn delete_calendar(session: &mut Session, name: &str) -> Step<bool> {
    let gone = session.execute("DELETE FROM @calendars WHERE name = $1", params![name]).await? > 0;
    if gone {
        calendars_changed(session).await?;
    }
    Ok(gone)
}

async fn calendars_changed(session: &mut Session) -> Step<()> {
    session.execute("UPDATE @meta SET value = value + 1 WHERE key = 'calendars'", params![]).await?;
    session.hint = true;
    Ok(())
}
