//! What was: logs, audit, deleting, retention, counts.

use std::collections::BTreeMap;

use rusqlite::params;
use unified_scheduler_core::execution::{Level, LogLine, Status};
use unified_scheduler_core::id::{ExecutionId, JobId};
use unified_scheduler_core::store::{AuditEntry, AuditQuery, Counts, PruneRequest};
use unified_scheduler_core::{Error, Timestamp};

use crate::error::Step;
use crate::rows::{count, int, key, millis, size, time, time_or_none};
use crate::session::Session;

pub(crate) fn logs(session: &Session, id: &ExecutionId, skip: u64, limit: usize) -> Step<Vec<LogLine>> {
    session.all(
        "SELECT at, level, message, fields FROM @logs
         WHERE execution = (SELECT n FROM @executions WHERE id = ?1) ORDER BY seq LIMIT ?2 OFFSET ?3",
        params![key(id), size(limit), int(skip)],
        |row| {
            let level: String = row.get(1)?;
            let fields: Option<String> = row.get(3)?;
            Ok(LogLine {
                timestamp: time(row, 0)?,
                level: match level.as_str() {
                    "debug" => Level::Debug,
                    "info" => Level::Info,
                    "warning" => Level::Warning,
                    "error" => Level::Error,
                    other => return Err(Error::corrupt(format!("no log level `{other}`")).into()),
                },
                message: row.get(2)?,
                fields: fields.map(|text| serde_json::from_str(&text)).transpose()?.unwrap_or_default(),
            })
        },
    )
}

pub(crate) fn audit(session: &Session, query: &AuditQuery) -> Step<Vec<AuditEntry>> {
    const ALL: &str = "SELECT at, job_id, job_name, action, actor, version, due_before, due_after, detail
        FROM @audit WHERE at >= ?1 AND ?4 IS NULL ORDER BY n DESC LIMIT ?2 OFFSET ?3";
    const OF_JOB: &str = "SELECT at, job_id, job_name, action, actor, version, due_before, due_after, detail
        FROM @audit WHERE job_id = ?4 AND at >= ?1 ORDER BY n DESC LIMIT ?2 OFFSET ?3";
    let job_id = query.job_id.as_ref().map(JobId::as_str);
    let since = query.since.unwrap_or(Timestamp::MIN).as_millis();
    session.all(
        if job_id.is_some() { OF_JOB } else { ALL },
        params![since, size(query.limit), int(query.offset), job_id],
        |row| {
            let detail: Option<String> = row.get(8)?;
            Ok(AuditEntry {
                at: time(row, 0)?,
                job_id: JobId::from(row.get::<_, String>(1)?),
                job_name: row.get(2)?,
                action: row.get(3)?,
                actor: row.get(4)?,
                version: row.get(5)?,
                due_before: time_or_none(row, 6)?,
                due_after: time_or_none(row, 7)?,
                detail: detail.map(|text| serde_json::from_str(&text)).transpose()?.unwrap_or_default(),
            })
        },
    )
}

pub(crate) fn delete(session: &Session, ids: &[ExecutionId]) -> Step<u64> {
    let mut gone = 0;
    for id in ids {
        let sql = "SELECT n FROM @executions WHERE id = ?1 AND ended_at IS NOT NULL";
        if let Some(n) = session.first(sql, [key(id)], |row| row.get(0))? {
            gone += remove(session, n)?;
        }
    }
    Ok(gone)
}

/// Removes an execution that has ended, with its logs.
fn remove(session: &Session, n: i64) -> Step<u64> {
    let gone = session
        .execute("DELETE FROM @executions WHERE n = ?1 AND status NOT IN ('pending', 'running')", [n])?;
    if gone > 0 {
        session.execute("DELETE FROM @logs WHERE execution = ?1", [n])?;
    }
    Ok(u64::from(gone > 0))
}

/// What the retention no longer keeps, at most `limit`: by the jobs' own histories, then by age.
pub(crate) fn outdated(session: &Session, request: PruneRequest) -> Step<Vec<i64>> {
    let now = session.now().as_millis();
    let mut found = own_history(session, now, request.limit)?;
    if let Some(max_age) = request.max_age.filter(|_| found.len() < request.limit) {
        let old = session.all(
            "SELECT e.n FROM @executions e WHERE e.ended_at IS NOT NULL AND e.ended_at < ?1
                 AND NOT EXISTS (SELECT 1 FROM @jobs j WHERE j.id = e.job_id AND j.max_age IS NOT NULL)
             ORDER BY e.ended_at LIMIT ?2",
            // Some of them may be found already: so up to the whole limit.
            params![now - millis(max_age), size(request.limit)],
            |row| Ok(row.get::<_, i64>(0)?),
        )?;
        found.extend(old);
        found.sort_unstable();
        found.dedup();
        found.truncate(request.limit);
    }
    Ok(found)
}

fn own_history(session: &Session, now: i64, limit: usize) -> Step<Vec<i64>> {
    let mut found = Vec::new();
    let mut after = 0;
    while found.len() < limit {
        let next = session.first(
            "SELECT n, id, max_age, max_count FROM @jobs
             WHERE (max_age IS NOT NULL OR max_count IS NOT NULL) AND n > ?1 ORDER BY n LIMIT 1",
            [after],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )?;
        let Some((n, id, max_age, max_count)): Option<(i64, String, Option<i64>, Option<i64>)> = next else {
            break;
        };
        after = n;
        let left = size(limit - found.len());
        let mut of_job = Vec::new();
        if let Some(max_count) = max_count {
            of_job = session.all(
                "SELECT n FROM @executions WHERE job_id = ?1 AND ended_at IS NOT NULL
                 ORDER BY id DESC LIMIT ?2 OFFSET ?3",
                params![id, left, max_count],
                |row| Ok(row.get::<_, i64>(0)?),
            )?;
        }
        if let Some(max_age) = max_age {
            let old = session.all(
                "SELECT n FROM @executions INDEXED BY @executions_job WHERE job_id = ?1
                     AND ended_at IS NOT NULL AND ended_at < ?2 ORDER BY id LIMIT ?3",
                params![id, now - max_age, left],
                |row| Ok(row.get::<_, i64>(0)?),
            )?;
            of_job.extend(old);
        }
        of_job.sort_unstable();
        of_job.dedup();
        found.extend(of_job);
    }
    found.truncate(limit);
    Ok(found)
}

/// Removes those that have ended.
pub(crate) fn remove_all(session: &Session, numbers: &[i64]) -> Step<u64> {
    numbers.iter().try_fold(0, |gone, n| Ok(gone + remove(session, *n)?))
}

pub(crate) fn counts(session: &Session) -> Step<Counts> {
    let number = |sql: &'static str| -> Step<u64> {
        Ok(count(session.first(sql, [], |row| row.get(0))?.unwrap_or_default()))
    };
    let jobs = number("SELECT count(*) FROM @job_state")?;
    let disabled = number("SELECT count(*) FROM @job_state WHERE enabled = 0")?;
    let mut executions: BTreeMap<Status, u64> = BTreeMap::new();
    let mut others = 0;
    let parts = [
        "SELECT status, count(*) FROM @executions WHERE status IN ('pending', 'running') GROUP BY status",
        "SELECT status, count(*) FROM @executions
         WHERE status NOT IN ('pending', 'running', 'success') GROUP BY status",
    ];
    for sql in parts {
        for (status, n) in session.all(sql, [], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))? {
            others += count(n);
            executions.insert(status.parse()?, count(n));
        }
    }
    // The rest has gone well; so no index over every success is needed.
    let successes = number("SELECT count(*) FROM @executions")?.saturating_sub(others);
    if successes > 0 {
        executions.insert(Status::Success, successes);
    }
    Ok(Counts {
        jobs,
        enabled: jobs.saturating_sub(disabled),
        faulty: number("SELECT count(*) FROM @job_state WHERE fault IS NOT NULL")?,
        executions,
        oldest_due: oldest_due(session)?,
    })
}

/// What has been due and unclaimed for longest: the first of each lane, lane after lane.
fn oldest_due(session: &Session) -> Step<Option<Timestamp>> {
    const JOBS: &str = "SELECT handler, priority, fire_at FROM @job_state
        WHERE enabled = 1 AND fault IS NULL AND fire_at IS NOT NULL AND (handler, priority) > (?1, ?2)
        ORDER BY handler, priority, fire_at LIMIT 1";
    const PENDING: &str = "SELECT handler, priority, run_at FROM @executions
        WHERE status = 'pending' AND (handler, priority) > (?1, ?2)
        ORDER BY handler, priority, run_at LIMIT 1";
    let now = session.now();
    let mut oldest: Option<Timestamp> = None;
    for lanes in [JOBS, PENDING] {
        let mut last = (String::new(), i64::MIN);
        while let Some((handler, priority, first)) = session
            .first(lanes, params![last.0, last.1], |row| Ok((row.get(0)?, row.get(1)?, time(row, 2)?)))?
        {
            last = (handler, priority);
            if first <= now {
                oldest = oldest.into_iter().chain([first]).min();
            }
        }
    }
    Ok(oldest)
}
