//! Single executions: reading, manual triggers, cancelling, what a node owns, news of running ones.

use rusqlite::params;
use unified_scheduler_core::execution::{Execution, JobResult, LogLine, Status};
use unified_scheduler_core::id::ExecutionId;
use unified_scheduler_core::store::{
    CancelOutcome, Claimed, NewExecution, NodeRef, Report, TriggerOutcome, TriggerRequest,
};
use unified_scheduler_core::{Error, Timestamp};

use super::{jobs, nodes};
use crate::error::Step;
use crate::rows::{at, execution, execution_columns, execution_id, insert_execution, int, json, key};
use crate::session::Session;

/// Ends pending executions as cancelled, at ?2, with ?3 as the reason in words.
macro_rules! end_pending {
    () => {
        "UPDATE @executions SET status = 'cancelled', ended_at = ?2, result = ?3"
    };
}
pub(crate) use end_pending;

pub(crate) fn get(session: &Session, id: &ExecutionId) -> Step<Option<Execution>> {
    const SQL: &str = concat!("SELECT ", execution_columns!(), " FROM @executions WHERE id = ?1");
    Ok(session.all(SQL, [key(id)], execution)?.into_iter().next())
}

/// The row number and the status of an execution.
fn standing(session: &Session, id: &ExecutionId) -> Step<Option<(i64, Status)>> {
    let found = session.all("SELECT n, status FROM @executions WHERE id = ?1", [key(id)], |row| {
        Ok((row.get(0)?, row.get::<_, String>(1)?.parse()?))
    })?;
    Ok(found.into_iter().next())
}

pub(crate) fn trigger(session: &mut Session, request: TriggerRequest) -> Step<TriggerOutcome> {
    const BY_KEY: &str = concat!(
        "SELECT ",
        execution_columns!(),
        " FROM @executions WHERE job_id = ?1 AND idempotency_key = ?2 AND idempotency_key IS NOT NULL"
    );
    const SAME: &str = concat!(
        "SELECT ",
        execution_columns!(),
        " FROM @executions WHERE job_id = ?1 AND due_at = ?2 AND attempt = ?3 AND nonce = ?4"
    );
    let TriggerRequest { execution: new, idempotency_key, unless_open } = request;
    if let Some(known) = get(session, &new.id)? {
        if known.job_id != new.job_id {
            return Err(Error::conflict("another job has this execution id")
                .with("execution_id", new.id)
                .into());
        }
        return Ok(TriggerOutcome::Exists(Box::new(known)));
    }
    if let Some(caller_key) = &idempotency_key {
        let known = session.all(BY_KEY, params![new.job_id.as_str(), caller_key], execution)?;
        if let Some(known) = known.into_iter().next() {
            return Ok(TriggerOutcome::Exists(Box::new(known)));
        }
    }
    let Some((_, job)) = jobs::read(session, &new.job_id)? else { return Ok(TriggerOutcome::NotFound) };
    if unless_open {
        let open = session.first(
            "SELECT id FROM @executions WHERE job_id = ?1 AND status IN ('pending', 'running') LIMIT 1",
            [new.job_id.as_str()],
            |row| execution_id(row, 0),
        )?;
        if let Some(open) = open {
            return Ok(TriggerOutcome::Busy(open));
        }
    }
    let made = new.into_execution(&job, session.now());
    if insert_execution(session, &made, idempotency_key.as_deref())? {
        session.hint = true;
        return Ok(TriggerOutcome::Created(Box::new(made)));
    }
    // Another execution has the same due time, attempt and nonce.
    let same = params![made.job_id.as_str(), made.due_at.as_millis(), made.attempt, made.nonce];
    let same = session.all(SAME, same, execution)?.into_iter().next();
    Ok(same.map_or(TriggerOutcome::NotFound, |known| TriggerOutcome::Exists(Box::new(known))))
}

/// Inserts the retry or chained execution that an end makes. Without the job, or for a disabled one where
/// it must be enabled, there is none.
pub(crate) fn insert_follower(
    session: &Session,
    new: &NewExecution,
    must_be_enabled: bool,
    now: Timestamp,
) -> Step<bool> {
    let made = session.execute(
        "INSERT INTO @executions (id, job_id, job_name, handler, status, made_by, triggered_by, due_at,
             covers_until, n_occurrences, version, attempt, retries, crashes, root_id, nonce, parameters,
             priority, created_at, run_at, epoch, claim, cancel_requested)
         SELECT ?1, j.id, j.name, s.handler, 'pending', ?3, ?4, ?5, ?6, ?7, s.version, ?8, ?9, ?10, ?11,
             ?12, ?13, s.priority, ?14, ?15, 0, 0, 0
         FROM @jobs j JOIN @job_state s USING (n) WHERE j.id = ?2 AND (s.enabled = 1 OR ?16)
         ON CONFLICT DO NOTHING",
        params![
            key(&new.id),
            new.job_id.as_str(),
            new.trigger.as_str(),
            new.triggered_by,
            new.due_at.as_millis(),
            at(new.covers_until),
            int(new.n_occurrences),
            new.attempt,
            new.retries,
            new.crashes,
            (new.root_id != new.id).then(|| key(&new.root_id)),
            new.nonce,
            json(new.parameters.as_ref())?,
            now.as_millis(),
            new.run_at.as_millis(),
            !must_be_enabled
        ],
    )?;
    Ok(made > 0)
}

pub(crate) fn cancel(session: &mut Session, id: &ExecutionId, actor: &str) -> Step<CancelOutcome> {
    match standing(session, id)? {
        None => Ok(CancelOutcome::NotFound),
        Some((n, Status::Pending)) => {
            session.execute(
                concat!(end_pending!(), " WHERE n = ?1 AND status = 'pending'"),
                params![n, session.now().as_millis(), cancelled(format!("cancelled by {actor}"))?],
            )?;
            session.hint = true;
            Ok(CancelOutcome::Cancelled)
        }
        Some((n, Status::Running)) => {
            session.execute("UPDATE @executions SET cancel_requested = 1 WHERE n = ?1", [n])?;
            session.hint = true;
            Ok(CancelOutcome::Requested)
        }
        Some((_, ended)) => Ok(CancelOutcome::Ended(ended)),
    }
}

/// The result of an execution that somebody cancelled before it started.
pub(crate) fn cancelled(message: String) -> Step<String> {
    Ok(serde_json::to_string(&JobResult { message, ..JobResult::default() })?)
}

/// What a node owns by the file, with the jobs; a dead one nothing. One whose job is gone comes with a
/// stand-in, so that its owner can end it.
pub(crate) fn owned(session: &Session, node: &NodeRef) -> Step<Vec<Claimed>> {
    const SQL: &str = concat!(
        "SELECT ",
        execution_columns!(),
        " FROM @executions WHERE status = 'running' AND node_id = ?1 AND epoch = ?2 ORDER BY id"
    );
    if nodes::lease(session, node)?.is_none() {
        return Ok(Vec::new());
    }
    let executions = session.readable(SQL, params![node.id.as_str(), node.epoch.0], execution)?;
    let mut owned = Vec::with_capacity(executions.len());
    for execution in executions {
        owned.push(match jobs::read(session, &execution.job_id)? {
            Some((_, job)) => Claimed { execution, job },
            None => Claimed::of_deleted_job(execution),
        });
    }
    Ok(owned)
}

pub(crate) fn report(session: &Session, node: &NodeRef, reports: &[Report]) -> Step<usize> {
    if nodes::lease(session, node)?.is_none() {
        return Ok(0);
    }
    let mut applied = 0;
    for report in reports {
        let owned = session.first(
            "UPDATE @executions SET progress = coalesce(?5, progress)
             WHERE id = ?1 AND status = 'running' AND node_id = ?2 AND epoch = ?3 AND claim = ?4
             RETURNING n",
            params![
                key(&report.execution_id),
                node.id.as_str(),
                node.epoch.0,
                report.claim,
                json(report.progress.as_ref())?
            ],
            |row| row.get(0),
        )?;
        if let Some(n) = owned {
            append_logs(session, n, report.first_line, &report.logs)?;
            applied += 1;
        }
    }
    Ok(applied)
}

/// Adds log lines to those of execution `n`.
pub(crate) fn append_logs(session: &Session, n: i64, first_line: u64, lines: &[LogLine]) -> Step<()> {
    for (seq, line) in (int(first_line)..).zip(lines) {
        let fields = (!line.fields.is_null()).then(|| line.fields.to_string());
        session.execute(
            "INSERT INTO @logs (execution, seq, at, level, message, fields) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO NOTHING",
            params![n, seq, line.timestamp.as_millis(), line.level.as_str(), line.message, fields],
        )?;
    }
    Ok(())
}
