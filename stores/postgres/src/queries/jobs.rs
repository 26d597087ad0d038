//! Single jobs: reading them, setting them aside, the audit record; calendars.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use serde_json::Value;
use sqlx::Row as _;
use unified_scheduler_core::Timestamp;
use unified_scheduler_core::id::JobId;
use unified_scheduler_core::job::Job;
use unified_scheduler_core::schedule::{Calendar, Calendars};
use unified_scheduler_core::store::{AuditEntry, Change};

use crate::cache::KnownJob;
use crate::error::Step;
use crate::rows::{JobState, at, job, job_columns, known_job, state_columns, text};
use crate::session::{Session, params};

/// A job as it is in the database.
pub(crate) async fn read(session: &mut Session, id: &JobId) -> Step<Option<Job>> {
    const SQL: &str = concat!(
        "SELECT ",
        state_columns!(),
        ", ",
        job_columns!(),
        " FROM @jobs j JOIN @job_state s USING (id) WHERE j.id = $1"
    );
    session.first(SQL, params![id.as_str()]).await?.as_ref().map(job).transpose()
}

/// The jobs with these ids, as they are in the database.
pub(crate) async fn read_all(session: &mut Session, ids: &[&JobId]) -> Step<HashMap<JobId, Job>> {
    const SQL: &str = concat!(
        "SELECT ",
        state_columns!(),
        ", ",
        job_columns!(),
        " FROM unnest($1::text[]) AS u (id) JOIN @job_state s USING (id) JOIN @jobs j USING (id)"
    );
    by_id(session, SQL, ids).await
}

/// The same, locked against claims, completions and edits until the transaction ends; in the order of their ids,
/// in which everybody locks who waits.
pub(crate) async fn lock(session: &mut Session, ids: &[&JobId]) -> Step<HashMap<JobId, Job>> {
    const SQL: &str = concat!(
        "SELECT ",
        state_columns!(),
        ", ",
        job_columns!(),
        " FROM @job_state s JOIN @jobs j USING (id) WHERE s.id = ANY ($1) ORDER BY s.id \
         FOR NO KEY UPDATE OF s"
    );
    by_id(session, SQL, ids).await
}

async fn by_id(session: &mut Session, sql: &'static str, ids: &[&JobId]) -> Step<HashMap<JobId, Job>> {
    let mut ids: Vec<&str> = ids.iter().map(|id| id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    let rows = session.all(sql, params![ids]).await?;
    rows.iter().map(|row| job(row).map(|job| (job.id.clone(), job))).collect()
}

/// One job, locked until the transaction ends.
pub(crate) async fn lock_one(session: &mut Session, id: &JobId) -> Step<Option<Job>> {
    Ok(lock(session, &[id]).await?.remove(id))
}

/// What the table of jobs says of the jobs with these states: parsed once for each version.
pub(crate) async fn known(
    session: &mut Session,
    states: impl Iterator<Item = &JobState>,
) -> Step<HashMap<i64, Arc<KnownJob>>> {
    const SQL: &str =
        concat!("SELECT ", job_columns!(), " FROM unnest($1::text[]) AS u (id) JOIN @jobs j USING (id)");
    let shared = Arc::clone(&session.shared);
    let mut found = HashMap::new();
    let mut unknown: HashMap<&str, &JobState> = HashMap::new();
    {
        let cache = shared.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        for state in states {
            match cache.get(state.n, state.version) {
                Some(job) => drop(found.insert(state.n, job)),
                None => drop(unknown.insert(state.id.as_str(), state)),
            }
        }
    }
    if unknown.is_empty() {
        return Ok(found);
    }
    let ids: Vec<&str> = unknown.keys().copied().collect();
    let rows = session.all(SQL, params![ids]).await?;
    let mut cache = shared.jobs.lock().unwrap_or_else(PoisonError::into_inner);
    for row in rows {
        let Some(state) = unknown.get(row.try_get::<&str, _>(0)?) else { continue };
        let job = Arc::new(known_job(&row, 0, &state.handler)?);
        cache.put(state.n, state.version, &job);
        found.insert(state.n, job);
    }
    Ok(found)
}

/// Sets jobs aside, each that is not for this reason already, and records that. Like every change that the
/// scheduler makes by itself it makes a new version, so that whoever edits what they saw before is told.
pub(crate) async fn set_aside(
    session: &mut Session,
    reasons: &[(JobId, String)],
    now: Timestamp,
) -> Step<Vec<(JobId, String)>> {
    const SQL: &str = concat!(
        "WITH changed AS (
            UPDATE @job_state s SET fault = r.reason, version = s.version + 1, updated_at = $3
            FROM unnest($1::text[], $2::text[]) AS r (id, reason)
            WHERE s.id = r.id AND s.fault IS DISTINCT FROM r.reason RETURNING s.*)
        SELECT ",
        state_columns!(),
        ", ",
        job_columns!(),
        " FROM changed s JOIN @jobs j USING (id)"
    );
    if reasons.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<&str> = reasons.iter().map(|(id, _)| id.as_str()).collect();
    let texts: Vec<String> = reasons.iter().map(|(_, reason)| text(reason).into_owned()).collect();
    let rows = session.all(SQL, params![ids, texts, now.as_millis()]).await?;
    let mut changed = Vec::with_capacity(rows.len());
    let mut entries = Vec::with_capacity(rows.len());
    for row in &rows {
        let job = job(row)?;
        let reason = job.fault.clone().unwrap_or_default();
        entries.push(by_scheduler(&job, "set_aside", serde_json::json!({ "reason": reason }), now));
        changed.push((job.id, reason));
    }
    audit(session, &entries).await?;
    Ok(changed)
}

/// The record of what the scheduler itself did to a job, which is as it was left.
pub(crate) fn by_scheduler(job: &Job, action: &str, detail: Value, now: Timestamp) -> AuditEntry {
    AuditEntry::of(job, now, Change { actor: "scheduler", action, due_before: job.due_at() }, detail)
}

/// Records what was done to jobs.
pub(crate) async fn audit(session: &mut Session, entries: &[AuditEntry]) -> Step<()> {
    const SQL: &str =
        "INSERT INTO @audit (at, job_id, job_name, action, actor, version, due_before, due_after,
            detail)
        SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[],
            $7::bigint[], $8::bigint[], $9::text[])";
    if entries.is_empty() {
        return Ok(());
    }
    let column = |value: fn(&AuditEntry) -> &str| -> Vec<String> {
        entries.iter().map(|entry| text(value(entry)).into_owned()).collect()
    };
    let detail = |entry: &AuditEntry| (entry.detail != Value::Null).then(|| entry.detail.to_string());
    let params = params![
        entries.iter().map(|e| e.at.as_millis()).collect::<Vec<i64>>(),
        column(|e| e.job_id.as_str()),
        column(|e| &e.job_name),
        column(|e| &e.action),
        column(|e| &e.actor),
        entries.iter().map(|e| e.version).collect::<Vec<i64>>(),
        entries.iter().map(|e| at(e.due_before)).collect::<Vec<Option<i64>>>(),
        entries.iter().map(|e| at(e.due_after)).collect::<Vec<Option<i64>>>(),
        entries.iter().map(detail).collect::<Vec<Option<String>>>(),
    ];
    session.execute(SQL, params).await?;
    Ok(())
}

/// Every calendar, compiled; read again only when one has changed since `version`.
pub(crate) async fn calendars(session: &mut Session, version: i64) -> Step<Arc<Calendars>> {
    let shared = Arc::clone(&session.shared);
    let known = shared.calendars.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some((_, calendars)) = known.filter(|(known, _)| *known == version) {
        return Ok(calendars);
    }
    let mut calendars = Calendars::new();
    for calendar in list_calendars(session).await? {
        // One that can't be read is to the planner as if it were not there; it still comes back.
        let _ = calendars.insert(&calendar);
    }
    let calendars = Arc::new(calendars);
    let known = Some((version, Arc::clone(&calendars)));
    *shared.calendars.lock().unwrap_or_else(PoisonError::into_inner) = known;
    Ok(calendars)
}

pub(crate) async fn list_calendars(session: &mut Session) -> Step<Vec<Calendar>> {
    let rows = session.all("SELECT name, definition FROM @calendars ORDER BY name", params![]).await?;
    let mut calendars = Vec::with_capacity(rows.len());
    for row in rows {
        match serde_json::from_str(row.try_get(1)?) {
            Ok(calendar) => calendars.push(calendar),
            Err(error) => {
                let name: &str = row.try_get(0)?;
                tracing::error!(calendar = name, %error, "a calendar can't be read, and is passed over");
            }
        }
    }
    Ok(calendars)
}
