//! The first half of a claim: one statement that picks what could start and locks the jobs of it.
//!
//! Lanes, each a handler and a priority, are found by a skip scan over an index (PostgreSQL wiki, "Loose
//! indexscan"), so that the work grows with the lanes of this node and with what is due, not with what is
//! stored. Within its lane what is due comes first. From the lanes' heads come more candidates than are
//! wanted; of those the first that nobody else holds are locked, up to the limit.
//!
//! The shape leaves the planner little to choose, since it often knows the tables only as they were before they
//! grew: laterals with a limit or a lock are run for one row after another, in order, and stop at the limit.
//! What is locked in such a lateral is locked as it is asked for; a sort above it would lock all. And `coalesce`
//! hides from the planner that a partial index, which it takes for nearly empty, would hold the row as well.

use sqlx::Row as _;
use sqlx::postgres::PgRow;
use unified_scheduler_core::Timestamp;
use unified_scheduler_core::id::ExecutionId;
use unified_scheduler_core::store::{Live, NodeRef};
use uuid::Uuid;

use crate::error::Step;
use crate::rows::{JobState, execution_id, missing, size, small, state_columns, time_or_none};
use crate::session::{Pages, Session, params};

/// $1 the clock of a test, $2 and $3 the node, $4 its handlers, $5 the limit, $6 how many pending executions to
/// look at, $7 how many due jobs.
///
/// What the rows say of a job is as it is once the lock is held. What they say of its executions is as it was
/// when the statement began: between the two another claim may have started some, so the write checks it again.
const PICK: &str = concat!(
    "WITH RECURSIVE clock AS MATERIALIZED (
        SELECT coalesce($1::bigint, floor(extract(epoch FROM statement_timestamp()) * 1000)::bigint) AS now
    ), node AS MATERIALIZED (
        SELECT FROM @nodes
        WHERE id = $2 AND epoch = $3 AND dead_at IS NULL AND lease_until > (SELECT now FROM clock)
    ), pending_lanes AS (
        SELECT h.handler, l.priority FROM node, unnest($4::text[]) h (handler), LATERAL (
            SELECT e.priority FROM @executions e WHERE e.status = 'pending' AND e.handler = h.handler
            ORDER BY e.priority DESC LIMIT 1) l
        UNION ALL
        SELECT p.handler, l.priority FROM pending_lanes p, LATERAL (
            SELECT e.priority FROM @executions e
            WHERE e.status = 'pending' AND e.handler = p.handler AND e.priority < p.priority
            ORDER BY e.priority DESC LIMIT 1) l
    ), waiting AS MATERIALIZED (
        SELECT c.*, row_number() OVER (PARTITION BY c.job_id ORDER BY c.priority DESC, c.run_at, c.id) AS place,
            (SELECT s.max_running - (
                SELECT count(*) FILTER (WHERE x.status = 'running') FROM @executions x
                WHERE x.job_id = s.id AND x.ended_at IS NULL)
            FROM @job_state s WHERE s.id = c.job_id AND s.fault IS NULL) AS free
        FROM (
            SELECT c.* FROM pending_lanes l, LATERAL (
                SELECT e.id, e.job_id, e.priority, e.run_at FROM @executions e
                WHERE e.status = 'pending' AND e.handler = l.handler AND e.priority = l.priority
                    AND e.run_at <= (SELECT now FROM clock)
                ORDER BY e.run_at, e.id LIMIT $6) c
            ORDER BY c.priority DESC, c.run_at, c.id LIMIT $6) c
    ), startable AS MATERIALIZED (
        SELECT * FROM waiting WHERE place <= free ORDER BY priority DESC, run_at, id
    ), started AS MATERIALIZED (
        SELECT e.id AS execution, e.was_queued, s.max_running, ",
    state_columns!(),
    " FROM startable t CROSS JOIN LATERAL (
            SELECT s.* FROM @job_state s WHERE s.id = t.job_id AND s.fault IS NULL
            FOR NO KEY UPDATE SKIP LOCKED) s
        CROSS JOIN LATERAL (
            SELECT e.id, e.made_by = 'schedule' AND e.attempt = 1 AS was_queued FROM @executions e
            WHERE e.id = t.id AND coalesce(e.status = 'pending' AND e.handler = ANY ($4), false)
            FOR NO KEY UPDATE SKIP LOCKED) e
        LIMIT $5
    ), job_lanes AS (
        SELECT h.handler, l.priority FROM node, unnest($4::text[]) h (handler), LATERAL (
            SELECT s.priority FROM @job_state s
            WHERE s.enabled AND s.fault IS NULL AND s.fire_at IS NOT NULL AND s.handler = h.handler
            ORDER BY s.priority DESC LIMIT 1) l
        UNION ALL
        SELECT p.handler, l.priority FROM job_lanes p, LATERAL (
            SELECT s.priority FROM @job_state s
            WHERE s.enabled AND s.fault IS NULL AND s.fire_at IS NOT NULL AND s.handler = p.handler
                AND s.priority < p.priority
            ORDER BY s.priority DESC LIMIT 1) l
    ), candidates AS MATERIALIZED (
        SELECT c.* FROM job_lanes l, LATERAL (
            SELECT s.id, s.priority, s.fire_at FROM @job_state s
            WHERE s.enabled AND s.fault IS NULL AND s.fire_at IS NOT NULL
                AND s.handler = l.handler AND s.priority = l.priority AND s.fire_at <= (SELECT now FROM clock)
            ORDER BY s.fire_at LIMIT $7) c
        ORDER BY c.priority DESC, c.fire_at, c.id LIMIT $7
    ), due AS MATERIALIZED (
        SELECT NULL::uuid AS execution, false AS was_queued, s.max_running, ",
    state_columns!(),
    " FROM candidates c CROSS JOIN LATERAL (
            SELECT s.* FROM @job_state s
            WHERE s.id = c.id AND coalesce(s.enabled AND s.fault IS NULL AND s.handler = ANY ($4)
                AND s.fire_at <= (SELECT now FROM clock), false)
            FOR NO KEY UPDATE SKIP LOCKED) s
        LIMIT $5 - (SELECT count(*) FROM started)
    ), picked AS (
        SELECT * FROM started UNION ALL SELECT * FROM due
    ), later AS (
        SELECT min(t) AS next_at FROM (
            SELECT (SELECT s.fire_at FROM @job_state s
                WHERE s.enabled AND s.fault IS NULL AND s.fire_at IS NOT NULL AND s.handler = l.handler
                    AND s.priority = l.priority AND s.fire_at > (SELECT now FROM clock)
                ORDER BY s.fire_at LIMIT 1) AS t FROM job_lanes l
            UNION ALL
            SELECT (SELECT e.run_at FROM @executions e
                WHERE e.status = 'pending' AND e.handler = l.handler AND e.priority = l.priority
                    AND e.run_at > (SELECT now FROM clock)
                ORDER BY e.run_at LIMIT 1) FROM pending_lanes l) t
    ), summary AS MATERIALIZED (
        SELECT (SELECT now FROM clock) AS now, EXISTS (SELECT FROM node) AS alive,
            (SELECT next_at FROM later) AS next_at, (SELECT count(*) FROM waiting) AS n_waiting,
            (SELECT count(*) FROM startable) AS n_startable, (SELECT count(*) FROM candidates) AS n_candidates,
            (SELECT count(*) FROM waiting WHERE place > free) AS n_blocked,
            (SELECT value FROM @meta WHERE key = 'calendars') AS calendars
    )
    SELECT m.*, l.running, l.queued, s.* FROM summary m LEFT JOIN picked s ON true LEFT JOIN LATERAL (
        SELECT count(*) FILTER (WHERE e.status = 'running') AS running,
            count(*) FILTER (WHERE e.status = 'pending' AND e.made_by = 'schedule' AND e.attempt = 1) AS queued
        FROM @executions e WHERE e.job_id = s.id AND e.ended_at IS NULL) l ON true"
);

/// Where the columns of a picked job begin.
const PICKED: usize = 8;

/// What was picked.
#[derive(Debug)]
pub(crate) struct Picked {
    pub(crate) now: Timestamp,
    /// Whether the node may claim at all.
    pub(crate) alive: bool,
    /// When something is due next, as it was.
    pub(crate) next_at: Option<Timestamp>,
    /// Pending executions to start, with their jobs.
    pub(crate) pending: Vec<(ExecutionId, PickedJob)>,
    /// Due jobs.
    pub(crate) due: Vec<PickedJob>,
    /// Whether there is more that was due and could start: beyond the limit, or held by others.
    pub(crate) left: bool,
    /// Whether a pending execution was passed over because its job runs as often as it may.
    pub(crate) blocked: bool,
    /// The version of the calendars.
    pub(crate) calendars: i64,
}

/// A job that is locked until the transaction ends.
#[derive(Debug)]
pub(crate) struct PickedJob {
    pub(crate) state: JobState,
    pub(crate) live: Live,
    pub(crate) max_running: i64,
    /// Whether the pending execution is one that a policy had queued.
    pub(crate) was_queued: bool,
}

pub(crate) async fn pick(
    session: &mut Session,
    node: &NodeRef,
    handlers: &[String],
    limit: usize,
) -> Step<Picked> {
    let limit = size(limit);
    let pages = *session.shared.pages.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let pending_page = pages.pending.saturating_add(limit.saturating_mul(2));
    let due_page = pages.spare.saturating_add(limit);
    let now = session.shared.fixed_now();
    let node_id = node.id.as_str();
    let params = params![now, node_id, node.epoch.0, handlers, limit, pending_page, due_page];
    let rows = session.all(PICK, params).await?;
    let first = rows.first().ok_or_else(missing)?;
    let number = |column: usize| first.try_get::<i64, _>(column);
    let (n_waiting, n_startable, n_candidates) = (number(3)?, number(4)?, number(5)?);
    let mut picked = Picked {
        now: Timestamp::from_millis(number(0)?),
        alive: first.try_get(1)?,
        next_at: time_or_none(first, 2)?,
        pending: Vec::new(),
        due: Vec::new(),
        left: false,
        blocked: number(6)? > 0,
        calendars: first.try_get::<Option<i64>, _>(7)?.unwrap_or_default(),
    };
    for row in &rows {
        if row.try_get::<Option<&str>, _>(PICKED + 5)?.is_none() {
            continue; // Nothing was picked.
        }
        let job = picked_job(row)?;
        if row.try_get::<Option<Uuid>, _>(PICKED + 2)?.is_some() {
            picked.pending.push((execution_id(row, PICKED + 2)?, job));
        } else {
            picked.due.push(job);
        }
    }
    let (n_pending, n_due) = (size(picked.pending.len()), size(picked.due.len()));
    picked.left = n_startable > n_pending || n_candidates > n_due || n_waiting == pending_page;
    let short = n_pending + n_due < limit;
    let mut pages = session.shared.pages.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    *pages = Pages {
        spare: next_page(pages.spare, short && n_candidates == due_page, 64),
        pending: next_page(pages.pending, short && n_waiting == pending_page, 256),
    };
    Ok(picked)
}

/// A page that was too short, because others held or the overlap policy kept what was on it, grows; any other
/// falls back.
fn next_page(page: i64, too_short: bool, least: i64) -> i64 {
    if too_short { page.saturating_mul(4).min(1 << 17) } else { (page / 2).max(least) }
}

fn picked_job(row: &PgRow) -> Step<PickedJob> {
    Ok(PickedJob {
        live: Live { running: small(row.try_get(PICKED)?), queued: small(row.try_get(PICKED + 1)?) },
        was_queued: row.try_get(PICKED + 3)?,
        max_running: row.try_get(PICKED + 4)?,
        state: JobState::read(row, PICKED + 5)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_grows_while_it_is_too_short_and_falls_back() {
        assert_eq!(next_page(64, true, 64), 256);
        assert_eq!(next_page(256, false, 64), 128);
        assert_eq!(next_page(64, false, 64), 64);
        assert_eq!(next_page(1 << 17, true, 64), 1 << 17);
    }
}
