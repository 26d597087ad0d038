//! Single jobs: reading them, setting them aside, and the audit record.

use std::sync::Arc;

use rusqlite::params;
use serde_json::Value;
use unified_scheduler_core::Timestamp;
use unified_scheduler_core::id::JobId;
use unified_scheduler_core::job::Job;
use unified_scheduler_core::schedule::Calendars;
use unified_scheduler_core::store::AuditEntry;

use crate::cache::KnownJob;
use crate::error::Step;
use crate::rows::{JobState, N_STATE_COLUMNS, at, job_columns, known_job, state_columns};
use crate::session::Session;

/// A job as it is in the file, and its row number.
pub(crate) fn read(session: &Session, id: &JobId) -> Step<Option<(i64, Job)>> {
    const SQL: &str = concat!(
        "SELECT ",
        state_columns!(),
        ", ",
        job_columns!(),
        " FROM @jobs j JOIN @job_state s USING (n) WHERE j.id = ?1"
    );
    let found = session.all(SQL, [id.as_str()], |row| {
        let state = JobState::read(row)?;
        let known = known_job(row, N_STATE_COLUMNS, &state.handler)?;
        Ok((state.n, state.into_job(&known)))
    })?;
    Ok(found.into_iter().next())
}

/// The row number of a job.
pub(crate) fn number(session: &Session, id: &JobId) -> Step<Option<i64>> {
    session.first("SELECT n FROM @jobs WHERE id = ?1", [id.as_str()], |row| row.get(0))
}

/// The state of job `n`, for the writer.
pub(crate) fn state(session: &Session, n: i64) -> Step<Option<JobState>> {
    const SQL: &str = concat!("SELECT ", state_columns!(), " FROM @job_state s WHERE s.n = ?1");
    Ok(session.all(SQL, [n], JobState::read)?.into_iter().next())
}

/// What the table of jobs says of the job with this state: parsed once for each version.
pub(crate) fn known(session: &mut Session, state: &JobState) -> Step<Option<Arc<KnownJob>>> {
    const SQL: &str = concat!("SELECT ", job_columns!(), " FROM @jobs j WHERE j.n = ?1");
    if let Some(known) = session.jobs.get(state.n, state.version) {
        return Ok(Some(known));
    }
    let found = session.all(SQL, [state.n], |row| known_job(row, 0, &state.handler))?;
    let Some(known) = found.into_iter().next().map(Arc::new) else { return Ok(None) };
    session.jobs.put(state.n, state.version, &known);
    Ok(Some(known))
}

/// Sets a job aside, if it is not for this reason already, and records that. Like every change that the
/// scheduler makes by itself it makes a new version, so that whoever edits what they saw before is told.
pub(crate) fn set_aside(session: &Session, n: i64, reason: &str, now: Timestamp) -> Step<bool> {
    let changed = session.execute(
        "UPDATE @job_state SET fault = ?2, version = version + 1, updated_at = ?3
         WHERE n = ?1 AND fault IS NOT ?2",
        params![n, reason, now.as_millis()],
    )?;
    if changed == 0 {
        return Ok(false);
    }
    note(session, n, "set_aside", &serde_json::json!({ "reason": reason }), now)?;
    Ok(true)
}

/// Records what the scheduler itself did to job `n`, which does not fire any more.
pub(crate) fn note(session: &Session, n: i64, action: &str, detail: &Value, now: Timestamp) -> Step<()> {
    session.execute(
        "INSERT INTO @audit (at, job_id, job_name, action, actor, version, due_before, detail)
         SELECT ?2, j.id, j.name, ?3, 'scheduler', s.version, s.due_at, ?4
         FROM @jobs j JOIN @job_state s USING (n) WHERE j.n = ?1",
        params![n, now.as_millis(), action, detail.to_string()],
    )?;
    Ok(())
}

/// Records what somebody did to a job.
pub(crate) fn audit(session: &Session, entry: &AuditEntry) -> Step<()> {
    let detail = (entry.detail != Value::Null).then(|| entry.detail.to_string());
    session.execute(
        "INSERT INTO @audit (at, job_id, job_name, action, actor, version, due_before, due_after, detail)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            entry.at.as_millis(),
            entry.job_id.as_str(),
            entry.job_name,
            entry.action,
            entry.actor,
            entry.version,
            at(entry.due_before),
            at(entry.due_after),
            detail
        ],
    )?;
    Ok(())
}

/// Every calendar, compiled; read again only when one has changed.
pub(crate) fn calendars(session: &mut Session) -> Step<Arc<Calendars>> {
    let sql = "SELECT value FROM @meta WHERE key = 'calendars'";
    let counter: i64 = session.first(sql, [], |row| row.get(0))?.unwrap_or_default();
    if let Some((known, calendars)) = &session.calendars
        && *known == counter
    {
        return Ok(Arc::clone(calendars));
    }
    let mut calendars = Calendars::new();
    for calendar in super::edit::list_calendars(session)? {
        // One that can't be read is to the planner as if it were not there; it still comes back.
        let _ = calendars.insert(&calendar);
    }
    let calendars = Arc::new(calendars);
    session.calendars = Some((counter, Arc::clone(&calendars)));
    Ok(calendars)
}
