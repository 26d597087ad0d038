//! Single executions: reading, manual triggers, cancelling, what a node owns, news of running ones.

use std::collections::{HashMap, HashSet};

use sqlx::Row as _;
use unified_scheduler_core::Error;
use unified_scheduler_core::execution::{Execution, JobResult, Status};
use unified_scheduler_core::id::{ExecutionId, JobId};
use unified_scheduler_core::store::{
    CancelOutcome, Claimed, NodeRef, Report, TriggerOutcome, TriggerRequest,
};
use uuid::Uuid;

use super::complete::NewLines;
use super::jobs;
use super::nodes::now;
use crate::error::Step;
use crate::insert::NewRows;
use crate::rows::{execution, execution_columns, execution_id, json, key, readable, text};
use crate::session::{Session, params};

pub(crate) async fn get(session: &mut Session, id: &ExecutionId) -> Step<Option<Execution>> {
    const SQL: &str = concat!("SELECT ", execution_columns!(), " FROM @executions e WHERE e.id = $1");
    let row = session.first(SQL, params![key(id)]).await?;
    row.map(|row| execution(&row, 0)).transpose()
}

/// Those of these executions that are there and can be read.
pub(crate) async fn read_many(session: &mut Session, ids: &[Uuid]) -> Step<HashMap<ExecutionId, Execution>> {
    const SQL: &str = concat!("SELECT ", execution_columns!(), " FROM @executions e WHERE e.id = ANY ($1)");
    let rows = session.all(SQL, params![ids]).await?;
    Ok(readable(&rows)?.into_iter().map(|execution| (execution.id, execution)).collect())
}

/// In a transaction.
pub(crate) async fn trigger(session: &mut Session, request: &TriggerRequest) -> Step<TriggerOutcome> {
    const BY_KEY: &str = concat!(
        "SELECT ",
        execution_columns!(),
        " FROM @executions e WHERE e.job_id = $1 AND e.idempotency_key = $2"
    );
    const SAME: &str = concat!(
        "SELECT ",
        execution_columns!(),
        " FROM @executions e WHERE e.job_id = $1 AND e.due_at = $2 AND e.attempt = $3 AND e.nonce = $4"
    );
    const OPEN: &str = "SELECT id FROM @executions
        WHERE job_id = $1 AND ended_at IS NULL ORDER BY status DESC, id LIMIT 1";
    let TriggerRequest { execution: new, idempotency_key, unless_open } = request;
    let job_id = new.job_id.as_str();
    // Whoever triggers, edits or claims the job meanwhile waits.
    let job = jobs::lock_one(session, &new.job_id).await?;
    if let Some(known) = get(session, &new.id).await? {
        if known.job_id != new.job_id {
            return Err(Error::conflict("another job has this execution id")
                .with("execution_id", new.id)
                .into());
        }
        return Ok(TriggerOutcome::Exists(Box::new(known)));
    }
    if let Some(caller_key) = idempotency_key
        && let Some(row) = session.first(BY_KEY, params![job_id, caller_key]).await?
    {
        return Ok(TriggerOutcome::Exists(Box::new(execution(&row, 0)?)));
    }
    let Some(job) = job else { return Ok(TriggerOutcome::NotFound) };
    if *unless_open && let Some(row) = session.first(OPEN, params![job_id]).await? {
        return Ok(TriggerOutcome::Busy(execution_id(&row, 0)?));
    }
    let made = new.clone().into_execution(&job, session.now().await?);
    let mut rows = NewRows::default();
    rows.push(&made, idempotency_key.as_deref())?;
    if rows.insert(session).await? > 0 {
        session.hint = true;
        return Ok(TriggerOutcome::Created(Box::new(made)));
    }
    // Another execution has the same due time, attempt and nonce.
    let same = params![job_id, made.due_at.as_millis(), i64::from(made.attempt), made.nonce.as_str()];
    let same = session.first(SAME, same).await?;
    match same {
        Some(row) => Ok(TriggerOutcome::Exists(Box::new(execution(&row, 0)?))),
        None => Err(Error::unavailable("the execution was removed while it was made").into()),
    }
}

/// In a transaction.
pub(crate) async fn cancel(session: &mut Session, id: &ExecutionId, actor: &str) -> Step<CancelOutcome> {
    const STATUS: &str = "SELECT status FROM @executions WHERE id = $1 FOR NO KEY UPDATE";
    const PENDING: &str = concat!(
        "UPDATE @executions SET status = 'cancelled', result = $3, ended_at = ",
        now!("$2"),
        " WHERE id = $1"
    );
    const RUNNING: &str = "UPDATE @executions SET cancel_requested = true WHERE id = $1";
    let Some(row) = session.first(STATUS, params![key(id)]).await? else {
        return Ok(CancelOutcome::NotFound);
    };
    let status: &str = row.try_get(0)?;
    match status.parse().map_err(|error: Error| Error::corrupt(error.message()))? {
        Status::Pending => {
            let now = session.shared.fixed_now();
            let why = cancelled(&format!("cancelled by {actor}"))?;
            session.execute(PENDING, params![key(id), now, why]).await?;
            session.hint = true;
            Ok(CancelOutcome::Cancelled)
        }
        Status::Running => {
            session.execute(RUNNING, params![key(id)]).await?;
            session.hint = true;
            Ok(CancelOutcome::Requested)
        }
        ended => Ok(CancelOutcome::Ended(ended)),
    }
}

/// The result of an execution that somebody cancelled before it started.
pub(crate) fn cancelled(message: &str) -> Step<String> {
    let result = JobResult { message: text(message).into_owned(), ..JobResult::default() };
    Ok(json(Some(&result))?.unwrap_or_default())
}

/// Ends what of a job is pending.
pub(crate) async fn cancel_pending(session: &mut Session, job: &JobId, why: &str) -> Step<()> {
    const SQL: &str = concat!(
        "UPDATE @executions SET status = 'cancelled', result = $3, ended_at = ",
        now!("$2"),
        " WHERE job_id = $1 AND ended_at IS NULL AND coalesce(status = 'pending', false)"
    );
    let now = session.shared.fixed_now();
    session.execute(SQL, params![job.as_str(), now, cancelled(why)?]).await?;
    Ok(())
}

/// What a node owns by the table, with the jobs; a dead one nothing. One whose job is gone comes with a
/// stand-in, so that its owner can end it.
pub(crate) async fn owned(session: &mut Session, node: &NodeRef) -> Step<Vec<Claimed>> {
    const SQL: &str = concat!(
        "SELECT ",
        execution_columns!(),
        " FROM @executions e WHERE e.status = 'running' AND e.node_id = $1 AND e.epoch = $2
            AND EXISTS (SELECT FROM @nodes n WHERE n.id = $1 AND n.epoch = $2 AND n.dead_at IS NULL)
        ORDER BY e.id"
    );
    let rows = session.all(SQL, params![node.id.as_str(), node.epoch.0]).await?;
    let executions = readable(&rows)?;
    let ids: Vec<&JobId> = executions.iter().map(|execution| &execution.job_id).collect();
    let jobs = jobs::read_all(session, &ids).await?;
    let claimed = |execution: Execution| match jobs.get(&execution.job_id) {
        Some(job) => Claimed { execution, job: job.clone() },
        None => Claimed::of_deleted_job(execution),
    };
    Ok(executions.into_iter().map(claimed).collect())
}

/// In a transaction.
pub(crate) async fn report(session: &mut Session, node: &NodeRef, reports: &[Report]) -> Step<usize> {
    // One execution may have several reports: the last progress counts.
    const SQL: &str = "WITH owned AS MATERIALIZED (
            SELECT e.id FROM unnest($1::uuid[], $2::bigint[]) AS r (id, claim) JOIN @executions e ON e.id = r.id
            WHERE e.status = 'running' AND e.node_id = $4 AND e.epoch = $5 AND e.claim = r.claim
                AND EXISTS (SELECT FROM @nodes n WHERE n.id = $4 AND n.epoch = $5 AND n.dead_at IS NULL)
            FOR NO KEY UPDATE OF e
        ), told AS (
            UPDATE @executions e SET progress = p.progress FROM (
                SELECT DISTINCT ON (r.id) r.id, r.progress
                FROM unnest($1::uuid[], $3::text[]) WITH ORDINALITY AS r (id, progress, place)
                WHERE r.progress IS NOT NULL AND (r.id IN (SELECT id FROM owned)) IS TRUE
                ORDER BY r.id, r.place DESC) p
            WHERE e.id = p.id
        ) SELECT DISTINCT id FROM owned";
    let progress: Step<Vec<_>> = reports.iter().map(|report| json(report.progress.as_ref())).collect();
    let params = params![
        reports.iter().map(|report| key(&report.execution_id)).collect::<Vec<_>>(),
        reports.iter().map(|report| i64::from(report.claim)).collect::<Vec<_>>(),
        progress?,
        node.id.as_str(),
        node.epoch.0,
    ];
    let rows = session.all(SQL, params).await?;
    let owned: HashSet<Uuid> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let mut lines = NewLines::default();
    let mut applied = 0;
    for report in reports.iter().filter(|report| owned.contains(&key(&report.execution_id))) {
        lines.push(&report.execution_id, report.first_line, &report.logs);
        applied += 1;
    }
    lines.insert(session).await?;
    Ok(applied)
}
