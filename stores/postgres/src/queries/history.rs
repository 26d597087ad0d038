//! What was: logs, audit, deleting, retention, counts.

use std::collections::{BTreeMap, HashSet};

use sqlx::Row as _;
use sqlx::postgres::PgRow;
use unified_scheduler_core::execution::{Level, LogLine, Status};
use unified_scheduler_core::id::{ExecutionId, JobId};
use unified_scheduler_core::store::{AuditEntry, AuditQuery, Counts, PruneRequest};
use unified_scheduler_core::{Error, Timestamp};
use uuid::Uuid;

use crate::error::Step;
use crate::rows::{count, int, key, missing, size, time, time_or_none};
use crate::session::{Session, millis, params};

pub(crate) async fn logs(
    session: &mut Session,
    id: &ExecutionId,
    skip: u64,
    limit: usize,
) -> Step<Vec<LogLine>> {
    const SQL: &str = "SELECT at, level, message, fields FROM @logs WHERE execution = $1
        ORDER BY seq LIMIT $2 OFFSET $3";
    let rows = session.all(SQL, params![key(id), size(limit), int(skip)]).await?;
    rows.iter().map(log_line).collect()
}

fn log_line(row: &PgRow) -> Step<LogLine> {
    let fields: Option<&str> = row.try_get(3)?;
    Ok(LogLine {
        timestamp: time(row, 0)?,
        level: match row.try_get(1)? {
            "debug" => Level::Debug,
            "info" => Level::Info,
            "warning" => Level::Warning,
            "error" => Level::Error,
            other => return Err(Error::corrupt(format!("no log level `{other}`")).into()),
        },
        message: row.try_get(2)?,
        fields: fields.map(serde_json::from_str).transpose()?.unwrap_or_default(),
    })
}

pub(crate) async fn audit(session: &mut Session, query: &AuditQuery) -> Step<Vec<AuditEntry>> {
    const ALL: &str = "SELECT at, job_id, job_name, action, actor, version, due_before, due_after, detail
        FROM @audit WHERE at >= $1 AND $4::text IS NULL ORDER BY n DESC LIMIT $2 OFFSET $3";
    const OF_JOB: &str = "SELECT at, job_id, job_name, action, actor, version, due_before, due_after, detail
        FROM @audit WHERE job_id = $4 AND at >= $1 ORDER BY n DESC LIMIT $2 OFFSET $3";
    let job_id = query.job_id.as_ref().map(JobId::as_str);
    let since = query.since.unwrap_or(Timestamp::MIN).as_millis();
    let sql = if job_id.is_some() { OF_JOB } else { ALL };
    let rows = session.all(sql, params![since, size(query.limit), int(query.offset), job_id]).await?;
    rows.iter().map(audit_entry).collect()
}

fn audit_entry(row: &PgRow) -> Step<AuditEntry> {
    let detail: Option<&str> = row.try_get(8)?;
    Ok(AuditEntry {
        at: time(row, 0)?,
        job_id: JobId::from(row.try_get::<&str, _>(1)?),
        job_name: row.try_get(2)?,
        action: row.try_get(3)?,
        actor: row.try_get(4)?,
        version: row.try_get(5)?,
        due_before: time_or_none(row, 6)?,
        due_after: time_or_none(row, 7)?,
        detail: detail.map(serde_json::from_str).transpose()?.unwrap_or_default(),
    })
}

/// Removes those that have ended, with their logs.
pub(crate) async fn remove_ended(session: &mut Session, ids: &[Uuid]) -> Step<u64> {
    const SQL: &str = "WITH gone AS (
            DELETE FROM @executions WHERE id = ANY ($1) AND status NOT IN ('pending', 'running') RETURNING id
        ), logs AS (
            DELETE FROM @logs WHERE execution = ANY (ARRAY(SELECT id FROM gone))
        ) SELECT count(*) FROM gone";
    let row = session.first(SQL, params![ids]).await?.ok_or_else(missing)?;
    Ok(count(row.try_get(0)?))
}

/// What the retention no longer keeps, at most `limit`: by the jobs' own histories, then by age.
pub(crate) async fn outdated(session: &mut Session, request: PruneRequest) -> Step<Vec<Uuid>> {
    const OLD: &str = "SELECT e.id FROM @executions e WHERE e.ended_at IS NOT NULL AND e.ended_at < $1
            AND NOT EXISTS (SELECT FROM @jobs j WHERE j.id = e.job_id AND j.max_age IS NOT NULL)
        ORDER BY e.ended_at LIMIT $2";
    let now = session.now().await?.as_millis();
    let mut found = own_history(session, now, request.limit).await?;
    if let Some(max_age) = request.max_age.filter(|_| found.len() < request.limit) {
        // Some of them may be found already: so up to the whole limit.
        let rows = session.all(OLD, params![now - millis(max_age), size(request.limit)]).await?;
        let mut seen: HashSet<Uuid> = found.iter().copied().collect();
        for row in rows {
            let id = row.try_get(0)?;
            if seen.insert(id) {
                found.push(id);
            }
        }
    }
    found.truncate(request.limit);
    Ok(found)
}

/// What jobs that say themselves how long their history is kept no longer keep.
async fn own_history(session: &mut Session, now: i64, limit: usize) -> Step<Vec<Uuid>> {
    // Jobs by page; of each at most what is still wanted.
    const SQL: &str = "SELECT j.id, d.id FROM (
            SELECT id, max_age, max_count FROM @jobs
            WHERE (max_age IS NOT NULL OR max_count IS NOT NULL) AND id > $1 ORDER BY id LIMIT 100) j
        LEFT JOIN LATERAL (
            (SELECT e.id FROM @executions e WHERE j.max_count IS NOT NULL AND e.job_id = j.id
                AND e.status NOT IN ('pending', 'running')
            ORDER BY e.id DESC LIMIT $3 OFFSET j.max_count)
            UNION
            (SELECT e.id FROM @executions e WHERE j.max_age IS NOT NULL AND e.job_id = j.id
                AND e.status NOT IN ('pending', 'running') AND e.ended_at < $2 - j.max_age
            ORDER BY e.id LIMIT $3)) d ON true";
    let mut found = Vec::new();
    let mut after = String::new();
    while found.len() < limit {
        let rows = session.all(SQL, params![after.as_str(), now, size(limit - found.len())]).await?;
        let Some(last) = rows.iter().map(|row| row.try_get::<&str, _>(0)).max_by(|a, b| match (a, b) {
            (Ok(a), Ok(b)) => a.cmp(b),
            _ => std::cmp::Ordering::Equal,
        }) else {
            break;
        };
        let last = last?.to_owned();
        for row in &rows {
            found.extend(row.try_get::<Option<Uuid>, _>(1)?);
        }
        after = last;
    }
    found.truncate(limit);
    Ok(found)
}

pub(crate) async fn counts(session: &mut Session) -> Step<Counts> {
    const JOBS: &str = "SELECT (SELECT count(*) FROM @jobs),
        (SELECT count(*) FROM @job_state WHERE NOT enabled),
        (SELECT count(*) FROM @job_state WHERE fault IS NOT NULL),
        (SELECT count(*) FROM @executions)";
    const OPEN: &str = "SELECT status, count(*) FROM @executions WHERE ended_at IS NULL
        GROUP BY status";
    const UNUSUAL: &str = "SELECT status, count(*) FROM @executions
        WHERE status NOT IN ('pending', 'running', 'success') GROUP BY status";
    let row = session.first(JOBS, params![]).await?.ok_or_else(missing)?;
    let number = |column: usize| -> Step<u64> { Ok(count(row.try_get(column)?)) };
    let (jobs, disabled, faulty, all) = (number(0)?, number(1)?, number(2)?, number(3)?);
    let mut executions: BTreeMap<Status, u64> = BTreeMap::new();
    let mut others = 0;
    for sql in [OPEN, UNUSUAL] {
        for row in session.all(sql, params![]).await? {
            let n = count(row.try_get(1)?);
            others += n;
            // A status of a newer program counts among all, and nowhere else.
            if let Ok(status) = row.try_get::<&str, _>(0)?.parse() {
                executions.insert(status, n);
            }
        }
    }
    // The rest has gone well; so no index over every success is needed.
    let successes = all.saturating_sub(others);
    if successes > 0 {
        executions.insert(Status::Success, successes);
    }
    let enabled = jobs.saturating_sub(disabled);
    Ok(Counts { jobs, enabled, faulty, executions, oldest_due: oldest_due(session).await? })
}

/// What has been due and unclaimed for longest: the first of each lane, lane after lane.
async fn oldest_due(session: &mut Session) -> Step<Option<Timestamp>> {
    const SQL: &str = "WITH RECURSIVE jobs AS (
            (SELECT handler, priority, fire_at FROM @job_state
            WHERE enabled AND fault IS NULL AND fire_at IS NOT NULL
            ORDER BY handler, priority, fire_at LIMIT 1)
            UNION ALL
            SELECT n.* FROM jobs l, LATERAL (
                SELECT s.handler, s.priority, s.fire_at FROM @job_state s
                WHERE s.enabled AND s.fault IS NULL AND s.fire_at IS NOT NULL
                    AND (s.handler, s.priority) > (l.handler, l.priority)
                ORDER BY s.handler, s.priority, s.fire_at LIMIT 1) n
        ), pending AS (
            (SELECT handler, priority, run_at FROM @executions WHERE status = 'pending'
            ORDER BY handler, priority, run_at LIMIT 1)
            UNION ALL
            SELECT n.* FROM pending l, LATERAL (
                SELECT e.handler, e.priority, e.run_at FROM @executions e
                WHERE e.status = 'pending' AND (e.handler, e.priority) > (l.handler, l.priority)
                ORDER BY e.handler, e.priority, e.run_at LIMIT 1) n
        )
        SELECT min(t) FROM (SELECT fire_at AS t FROM jobs UNION ALL SELECT run_at FROM pending) x
        WHERE t <= $1";
    let now = session.now().await?;
    let row = session.first(SQL, params![now.as_millis()]).await?.ok_or_else(missing)?;
    time_or_none(&row, 0)
}
