//! Rows of another store.

use std::collections::HashSet;

use sqlx::Row as _;
use unified_scheduler_core::Error;
use unified_scheduler_core::id::JobId;
use unified_scheduler_core::job::Job;
use unified_scheduler_core::store::{AuditEntry, Import, Imported};

use super::complete::NewLines;
use super::{edit, jobs};
use crate::error::Step;
use crate::insert::NewRows;
use crate::rows::at;
use crate::session::{Session, params};

/// All of it, in one transaction.
pub(crate) async fn import(session: &mut Session, import: &Import) -> Step<Imported> {
    let imported = Imported {
        jobs: add_jobs(session, &import.jobs).await?,
        executions: add_executions(session, import).await?,
        audit: add_audit(session, &import.audit).await?,
    };
    session.hint |= imported != Imported::default();
    Ok(imported)
}

async fn add_jobs(session: &mut Session, wanted: &[Job]) -> Step<u64> {
    let ids: Vec<&JobId> = wanted.iter().map(|job| &job.id).collect();
    let stored = jobs::read_all(session, &ids).await?;
    let mut seen = HashSet::new();
    let new: Vec<&Job> =
        wanted.iter().filter(|job| !stored.contains_key(&job.id) && seen.insert(&job.id)).collect();
    if edit::insert(session, &new).await? < new.len() {
        return Err(Error::unavailable("others create the same jobs at the same time").into());
    }
    Ok(new.len() as u64)
}

async fn add_executions(session: &mut Session, import: &Import) -> Step<u64> {
    let mut rows = NewRows::default();
    for (execution, _) in &import.executions {
        rows.push(execution, None)?;
    }
    let new: HashSet<_> = rows.insert_new(session).await?.into_iter().collect();
    let mut lines = NewLines::default();
    for (execution, logs) in import.executions.iter().filter(|(e, _)| new.contains(&e.id)) {
        lines.push(&execution.id, 0, logs);
    }
    lines.insert(session).await?;
    Ok(new.len() as u64)
}

async fn add_audit(session: &mut Session, entries: &[AuditEntry]) -> Step<u64> {
    const KNOWN: &str = "SELECT w.n FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[], $5::bigint[],
            $6::text[], $7::bigint[]) AS w (n, job_id, at, action, version, actor, due_after)
        WHERE EXISTS (SELECT FROM @audit a WHERE a.job_id = w.job_id AND a.at = w.at AND a.action = w.action
            AND a.version = w.version AND a.actor = w.actor AND a.due_after IS NOT DISTINCT FROM w.due_after)";
    if entries.is_empty() {
        return Ok(0);
    }
    let column = |value: fn(&AuditEntry) -> &str| -> Vec<String> {
        entries.iter().map(|entry| value(entry).to_owned()).collect()
    };
    let params = params![
        (0i64..).take(entries.len()).collect::<Vec<i64>>(),
        column(|e| e.job_id.as_str()),
        entries.iter().map(|e| e.at.as_millis()).collect::<Vec<i64>>(),
        column(|e| &e.action),
        entries.iter().map(|e| e.version).collect::<Vec<i64>>(),
        column(|e| &e.actor),
        entries.iter().map(|e| at(e.due_after)).collect::<Vec<Option<i64>>>(),
    ];
    let mut known = HashSet::new();
    for row in session.all(KNOWN, params).await? {
        known.insert(row.try_get::<i64, _>(0)?);
    }
    let new: Vec<AuditEntry> =
        (0i64..).zip(entries).filter(|(n, _)| !known.contains(n)).map(|(_, entry)| entry.clone()).collect();
    jobs::audit(session, &new).await?;
    Ok(new.len() as u64)
}
