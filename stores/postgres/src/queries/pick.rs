//! The first half of a claim: one statement that picks what could start and locks the jobs of it.
//!
//! Lanes, each a handler and a priority, are found by a skip scan over an index (PostgreSQL wiki, "Loose
//! indexscan"), so that the work grows with the lanes of this node and with what is due, not with what is
//! stored. Within its lane what is due comes first. From the lanes' heads come more candidates than are
//! wanted; of those the first that nobody else holds are locked, up to the limit.
//!
//! They are locked by the chunk: first as many as are wanted, then, in place of those that others held, a few at a
//! time. A lock on a row that has changed since the statement began makes PostgreSQL start its recheck of concurrent
//! updates (`EvalPlanQual`), which sets up every subplan of the statement: with a scan for each row some 100 µs each
//! time, so that a node that came late walked for half a second behind the others and got nothing. A chunk is one scan,
//! which sets it up once. Within a chunk rows come in the order of their place.
//!
//! The shape leaves the planner little to choose, since it often knows the tables only as they were before they
//! grew: laterals with a limit or a lock are run for one row after another, in order, and stop at the limit.
//! What is locked in such a lateral is locked as it is asked for; a sort above it would lock all. What was found once
//! is found again by its place (`ctid`), for which there is one way only. And `coalesce` hides from the planner that a
//! partial index, which it takes for nearly empty, would hold the row as well.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use sqlx::Row as _;
use sqlx::postgres::PgRow;
use unified_scheduler_core::Timestamp;
use unified_scheduler_core::id::{ExecutionId, JobId};
use unified_scheduler_core::store::{Live, NodeRef};
use uuid::Uuid;

use crate::error::Step;
use crate::rows::{JobState, count, execution_id, missing, size, state_columns, time_or_none};
use crate::session::{Pages, Session, bind, params};

/// $1 the clock of a test, $2 and $3 the node, $4 its handlers, $5 the limit, $6 how many pending executions to
/// look at, $7 how many due jobs; of a bounded one also $8 to $10 the lanes of jobs and $11 to $13 those of pending
/// executions: handler, priority, and the time before which nothing is.
///
/// A job is given only as the statement first saw it: one that has changed before it was locked is left to the next
/// claim. So what the rows say of its executions holds as well, since whoever makes one live writes to its job.
macro_rules! pick {
    ($pending_lanes:literal, $job_lanes:literal) => {
        concat!(
            "WITH RECURSIVE clock AS MATERIALIZED (
        SELECT coalesce($1::bigint, floor(extract(epoch FROM statement_timestamp()) * 1000)::bigint) AS now
    ), node AS MATERIALIZED (
        SELECT FROM @nodes
        WHERE id = $2 AND epoch = $3 AND dead_at IS NULL AND lease_until > (SELECT now FROM clock)
    ), pending_lanes (handler, priority, bound) AS (",
            $pending_lanes,
            "), pending_heads AS MATERIALIZED (
        SELECT l.*, (SELECT e.run_at FROM @executions e
            WHERE e.status = 'pending' AND e.handler = l.handler AND e.priority = l.priority
                AND e.run_at >= l.bound
            ORDER BY e.run_at LIMIT 1) AS head FROM pending_lanes l
    ), waiting AS MATERIALIZED (
        SELECT c.*, row_number() OVER (PARTITION BY c.job_id ORDER BY c.priority DESC, c.run_at, c.id) AS nth,
            s.place, s.free
        FROM (
            SELECT c.* FROM pending_heads l, LATERAL (
                SELECT e.ctid AS at, e.id, e.job_id, e.priority, e.run_at FROM @executions e
                WHERE e.status = 'pending' AND e.handler = l.handler AND e.priority = l.priority
                    AND e.run_at >= l.head AND e.run_at <= (SELECT now FROM clock)
                ORDER BY e.run_at, e.id LIMIT $6) c
            WHERE l.head <= (SELECT now FROM clock)
            ORDER BY c.priority DESC, c.run_at, c.id LIMIT $6) c
        LEFT JOIN LATERAL (
            SELECT s.ctid AS place, s.max_running - (
                SELECT count(*) FROM unnest(s.live) u (id), LATERAL (
                    SELECT FROM @executions x WHERE x.id = u.id AND x.job_id = s.id
                        AND coalesce(x.status = 'running', false)) x) AS free
            FROM @job_state s WHERE s.id = c.job_id AND s.fault IS NULL) s ON true
    ), startable AS MATERIALIZED (
        SELECT w.*, row_number() OVER (ORDER BY w.priority DESC, w.run_at, w.id) AS rank
        FROM waiting w WHERE w.nth <= w.free
    ), start_chunks AS MATERIALIZED (
        SELECT array_agg(place ORDER BY rank) AS places, array_agg(at ORDER BY rank) AS ats FROM startable
        GROUP BY greatest(0, (rank - $5 + 15) / 16) ORDER BY greatest(0, (rank - $5 + 15) / 16)
    ), started AS MATERIALIZED (
        SELECT e.id AS execution, e.at::text AS at, s.place::text AS place, s.max_running, s.live, ",
            state_columns!(),
            " FROM start_chunks c CROSS JOIN LATERAL (
            SELECT s.ctid AS place, s.* FROM @job_state s
            WHERE s.ctid = ANY (c.places) AND coalesce(s.fault IS NULL, false)
            FOR NO KEY UPDATE SKIP LOCKED) s
        CROSS JOIN LATERAL unnest(array_positions(c.places, s.place)) u (n)
        CROSS JOIN LATERAL (
            SELECT e.ctid AS at, e.id FROM @executions e
            WHERE e.ctid = c.ats[u.n]
                AND coalesce(e.ctid = c.ats[u.n] AND e.status = 'pending' AND e.handler = ANY ($4), false)
            FOR NO KEY UPDATE SKIP LOCKED) e
        LIMIT $5
    ), job_lanes (handler, priority, bound) AS (",
            $job_lanes,
            "), job_heads AS MATERIALIZED (
        SELECT l.*, (SELECT s.fire_at FROM @job_state s
            WHERE s.enabled AND s.fault IS NULL AND s.fire_at IS NOT NULL
                AND s.handler = l.handler AND s.priority = l.priority AND s.fire_at >= l.bound
            ORDER BY s.fire_at LIMIT 1) AS head FROM job_lanes l
    ), candidates AS MATERIALIZED (
        SELECT c.* FROM job_heads l, LATERAL (
            SELECT s.ctid AS place, s.id, s.priority, s.fire_at FROM @job_state s
            WHERE s.enabled AND s.fault IS NULL AND s.fire_at IS NOT NULL
                AND s.handler = l.handler AND s.priority = l.priority AND s.fire_at >= l.head
                AND s.fire_at <= (SELECT now FROM clock)
            ORDER BY s.fire_at LIMIT $7) c
        WHERE l.head <= (SELECT now FROM clock)
        ORDER BY c.priority DESC, c.fire_at, c.id LIMIT $7
    ), due_chunks AS MATERIALIZED (
        SELECT array_agg(place) AS places FROM (
            SELECT place, greatest(0, (rank - wanted + 15) / 16) AS chunk FROM (
                SELECT place, row_number() OVER (ORDER BY priority DESC, fire_at, id) AS rank,
                    (SELECT $5 - count(*) FROM started) AS wanted
                FROM candidates) c) c
        GROUP BY chunk ORDER BY chunk
    ), due AS MATERIALIZED (
        SELECT NULL::uuid AS execution, NULL AS at, s.place::text AS place, s.max_running, s.live, ",
            state_columns!(),
            " FROM due_chunks c CROSS JOIN LATERAL (
            SELECT s.ctid AS place, s.* FROM @job_state s
            WHERE s.ctid = ANY (c.places) AND coalesce(s.enabled AND s.fault IS NULL
                AND s.handler = ANY ($4) AND s.fire_at <= (SELECT now FROM clock), false)
            FOR NO KEY UPDATE SKIP LOCKED) s
        WHERE (s.place IN (SELECT place FROM candidates)) IS TRUE
        LIMIT $5 - (SELECT count(*) FROM started)
    ), picked AS MATERIALIZED (
        SELECT * FROM started UNION ALL SELECT * FROM due
    ), live AS MATERIALIZED (
        SELECT p.id AS job_id, e.id, e.status = 'running' AS running FROM (
            SELECT DISTINCT p.id, p.live FROM picked p WHERE p.live <> '{}') p, unnest(p.live) u (id), LATERAL (
            SELECT e.id, e.status FROM @executions e
            WHERE e.id = u.id AND e.job_id = p.id AND coalesce(e.status = 'running'
                OR e.status = 'pending' AND e.made_by = 'schedule' AND e.attempt = 1, false)) e
    ), later AS (
        SELECT min(t) AS next_at FROM (
            SELECT CASE WHEN l.head > (SELECT now FROM clock) THEN l.head WHEN l.head IS NOT NULL THEN (
                SELECT s.fire_at FROM @job_state s
                WHERE s.enabled AND s.fault IS NULL AND s.fire_at IS NOT NULL AND s.handler = l.handler
                    AND s.priority = l.priority AND s.fire_at > (SELECT now FROM clock)
                ORDER BY s.fire_at LIMIT 1) END AS t FROM job_heads l
            UNION ALL
            SELECT CASE WHEN l.head > (SELECT now FROM clock) THEN l.head WHEN l.head IS NOT NULL THEN (
                SELECT e.run_at FROM @executions e
                WHERE e.status = 'pending' AND e.handler = l.handler AND e.priority = l.priority
                    AND e.run_at > (SELECT now FROM clock)
                ORDER BY e.run_at LIMIT 1) END FROM pending_heads l) t
    ), summary AS MATERIALIZED (
        SELECT (SELECT now FROM clock) AS now, EXISTS (SELECT FROM node) AS alive,
            (SELECT next_at FROM later) AS next_at, (SELECT count(*) FROM waiting) AS n_waiting,
            (SELECT count(*) FROM startable) AS n_startable, (SELECT count(*) FROM candidates) AS n_candidates,
            (SELECT count(*) FROM waiting WHERE nth > free) AS n_blocked,
            (SELECT value FROM @meta WHERE key = 'calendars') AS calendars,
            ARRAY(SELECT job_id FROM live) AS live_jobs, ARRAY(SELECT id FROM live) AS live_ids,
            ARRAY(SELECT running FROM live) AS live_running,
            ARRAY(SELECT handler FROM job_heads) AS job_handlers,
            ARRAY(SELECT priority FROM job_heads) AS job_priorities,
            ARRAY(SELECT head FROM job_heads) AS job_bounds,
            ARRAY(SELECT handler FROM pending_heads) AS pending_handlers,
            ARRAY(SELECT priority FROM pending_heads) AS pending_priorities,
            ARRAY(SELECT head FROM pending_heads) AS pending_bounds,
            floor(extract(epoch FROM clock_timestamp() - statement_timestamp()) * 1000)::bigint AS took
    )
    SELECT m.*, NULL::uuid, NULL::text, NULL::text, NULL::bigint, NULL::uuid[], NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
        NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM summary m
    UNION ALL
    SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
        NULL, p.* FROM picked p"
        )
    };
}

/// Finds the lanes, and in each what has waited for longest.
const SWEEP: &str = pick!(
    "SELECT h.handler, l.priority, -9223372036854775808 FROM node, unnest($4::text[]) h (handler), LATERAL (
            SELECT e.priority FROM @executions e WHERE e.status = 'pending' AND e.handler = h.handler
            ORDER BY e.priority DESC LIMIT 1) l
        UNION ALL
        SELECT p.handler, l.priority, p.bound FROM pending_lanes p, LATERAL (
            SELECT e.priority FROM @executions e
            WHERE e.status = 'pending' AND e.handler = p.handler AND e.priority < p.priority
            ORDER BY e.priority DESC LIMIT 1) l",
    "SELECT h.handler, l.priority, -9223372036854775808 FROM node, unnest($4::text[]) h (handler), LATERAL (
            SELECT s.priority FROM @job_state s
            WHERE s.enabled AND s.fault IS NULL AND s.fire_at IS NOT NULL AND s.handler = h.handler
            ORDER BY s.priority DESC LIMIT 1) l
        UNION ALL
        SELECT p.handler, l.priority, p.bound FROM job_lanes p, LATERAL (
            SELECT s.priority FROM @job_state s
            WHERE s.enabled AND s.fault IS NULL AND s.fire_at IS NOT NULL AND s.handler = p.handler
                AND s.priority < p.priority
            ORDER BY s.priority DESC LIMIT 1) l"
);

/// Goes by what the last one found.
const BOUNDED: &str = pick!(
    "SELECT l.* FROM node, unnest($11::text[], $12::integer[], $13::bigint[]) l",
    "SELECT l.* FROM node, unnest($8::text[], $9::integer[], $10::bigint[]) l"
);

/// Where the columns of a picked job begin, after those of the summary.
const PICKED: usize = 18;

/// Where the columns of its state begin.
const STATE: usize = PICKED + 5;

/// For how long bounds hold, as a multiple of what it took to find them, and at most.
const HOLD: (u32, Duration) = (20, Duration::from_secs(1));

/// How far a page grows.
const LONGEST: i64 = 1 << 17;

/// What a sweep may take without being spared the next time.
const CHEAP: Duration = Duration::from_millis(5);

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
    /// What else was due and could start.
    pub(crate) left: Left,
    /// Whether a pending execution was passed over because its job runs as often as it may.
    pub(crate) blocked: bool,
    /// The version of the calendars.
    pub(crate) calendars: i64,
    /// What is live of the jobs that were picked.
    pub(crate) live: HashMap<JobId, LiveIds>,
}

/// What was due and could start, and was not picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// Nothing.
    Nothing,
    /// Some: beyond the limit, or held by others.
    Some,
    /// Perhaps some that nobody holds: the page ended before the limit was reached.
    Unseen,
}

/// What of one job is live.
#[derive(Debug, Default, Clone)]
pub(crate) struct LiveIds {
    pub(crate) running: Vec<Uuid>,
    pub(crate) queued: Vec<Uuid>,
}

impl LiveIds {
    /// How many there are.
    pub(crate) fn count(&self) -> Live {
        let small = |ids: &[Uuid]| u32::try_from(ids.len()).unwrap_or(u32::MAX);
        Live { running: small(&self.running), queued: small(&self.queued) }
    }

    /// All of them, as the text of an array.
    pub(crate) fn array(&self) -> String {
        let ids: Vec<String> = self.running.iter().chain(&self.queued).map(Uuid::to_string).collect();
        format!("{{{}}}", ids.join(","))
    }
}

/// A job that is locked until the transaction ends.
#[derive(Debug)]
pub(crate) struct PickedJob {
    /// Where its state is, and the pending execution.
    pub(crate) place: String,
    pub(crate) execution_place: Option<String>,
    pub(crate) state: JobState,
    pub(crate) max_running: i64,
}

/// The lanes that a claim has found, for the next ones to go by.
///
/// Rows that have moved on leave entries behind in the indexes, at the very place where the next claim begins to look.
/// As a rule whoever meets them first removes them; while some old transaction could still see the rows nobody can. Then
/// each claim would walk over all that was ever claimed since. So where that has begun to take time, claims look from
/// the place on where the last one found something, and only now and then from the beginning: anything may have become
/// due before that place.
#[derive(Debug)]
pub(crate) struct Lanes {
    handlers: Vec<String>,
    jobs: Bounds,
    pending: Bounds,
    /// When to look from the beginning again.
    until: Instant,
    /// What the hints' counter was before they were found.
    hints: u64,
}

#[derive(Debug, Clone)]
struct Bounds {
    handlers: Vec<String>,
    priorities: Vec<i32>,
    from: Vec<i64>,
}

impl Bounds {
    /// From a row whose columns from `from` on are the lanes with the first thing found in each, if there was any.
    fn read(row: &PgRow, from: usize, now: i64) -> Step<Self> {
        let heads: Vec<Option<i64>> = row.try_get(from + 2)?;
        Ok(Self {
            handlers: row.try_get(from)?,
            priorities: row.try_get(from + 1)?,
            from: heads.into_iter().map(|head| head.map_or(now, |head| head.min(now))).collect(),
        })
    }
}

pub(crate) async fn pick(
    session: &mut Session,
    node: &NodeRef,
    handlers: &[String],
    limit: usize,
) -> Step<Picked> {
    let shared = Arc::clone(&session.shared);
    let limit = size(limit);
    let pages = *shared.pages.lock().unwrap_or_else(PoisonError::into_inner);
    let pending_page = pages.pending.saturating_add(limit.saturating_mul(2));
    let due_page = pages.spare.saturating_add(limit);
    let hints = shared.hints.count();
    let lanes = shared.lanes.lock().unwrap_or_else(PoisonError::into_inner).take();
    let lanes = lanes.filter(|l| l.hints == hints && l.handlers == handlers && Instant::now() < l.until);
    let mut params =
        params![shared.fixed_now(), node.id.as_str(), node.epoch.0, handlers, limit, pending_page, due_page];
    let rows = match &lanes {
        None => session.all(SWEEP, params).await?,
        Some(Lanes { jobs, pending, .. }) => {
            for lanes in [jobs, pending] {
                bind(&mut params, lanes.handlers.as_slice())?;
                bind(&mut params, lanes.priorities.as_slice())?;
                bind(&mut params, lanes.from.as_slice())?;
            }
            session.all(BOUNDED, params).await?
        }
    };
    let (first, rows) = rows.split_first().ok_or_else(missing)?;
    let number = |column: usize| first.try_get::<i64, _>(column);
    let (now, n_waiting, n_startable, n_candidates) = (number(0)?, number(3)?, number(4)?, number(5)?);
    let mut picked = Picked {
        now: Timestamp::from_millis(now),
        alive: first.try_get(1)?,
        next_at: time_or_none(first, 2)?,
        pending: Vec::new(),
        due: Vec::new(),
        left: Left::Nothing,
        blocked: number(6)? > 0,
        calendars: first.try_get::<Option<i64>, _>(7)?.unwrap_or_default(),
        live: live(first)?,
    };
    for row in rows {
        let job = picked_job(row)?;
        if row.try_get::<Option<Uuid>, _>(PICKED)?.is_some() {
            picked.pending.push((execution_id(row, PICKED)?, job));
        } else {
            picked.due.push(job);
        }
    }
    let (n_pending, n_due) = (size(picked.pending.len()), size(picked.due.len()));
    let short = n_pending + n_due < limit;
    let can_grow = |page: i64, found: i64, of: i64| found == of && page < LONGEST;
    let is_cut =
        can_grow(pages.spare, n_candidates, due_page) || can_grow(pages.pending, n_waiting, pending_page);
    picked.left = if short && is_cut {
        Left::Unseen
    } else if n_startable > n_pending || n_candidates > n_due || n_waiting == pending_page {
        Left::Some
    } else {
        Left::Nothing
    };
    *shared.pages.lock().unwrap_or_else(PoisonError::into_inner) = Pages {
        spare: next_page(pages.spare, short && n_candidates == due_page, 64),
        pending: next_page(pages.pending, short && n_waiting == pending_page, 256),
    };
    let took = Duration::from_millis(count(number(17)?));
    let is_bounded = lanes.is_some();
    let until = match &lanes {
        Some(lanes) => Some(lanes.until),
        None => (took > CHEAP).then(|| Instant::now() + (took * HOLD.0).min(HOLD.1)),
    };
    if let Some(until) = until {
        let (jobs, pending) = (Bounds::read(first, 11, now)?, Bounds::read(first, 14, now)?);
        let lanes = Lanes { handlers: handlers.to_vec(), jobs, pending, until, hints };
        *shared.lanes.lock().unwrap_or_else(PoisonError::into_inner) = Some(lanes);
        if is_bounded {
            // What became due before the bounds is found as soon as they have ended.
            let again = picked.now.saturating_add(until.saturating_duration_since(Instant::now()));
            picked.next_at = picked.next_at.into_iter().chain([again]).min();
        }
    }
    Ok(picked)
}

/// What is live of the jobs that were picked, from the summary.
fn live(summary: &PgRow) -> Step<HashMap<JobId, LiveIds>> {
    let jobs: Vec<String> = summary.try_get(8)?;
    let ids: Vec<Uuid> = summary.try_get(9)?;
    let running: Vec<bool> = summary.try_get(10)?;
    let mut live: HashMap<JobId, LiveIds> = HashMap::new();
    for ((job, id), is_running) in jobs.into_iter().zip(ids).zip(running) {
        let of_job = live.entry(JobId::from(job)).or_default();
        if is_running { of_job.running.push(id) } else { of_job.queued.push(id) }
    }
    Ok(live)
}

/// A page that was too short, because others held or the overlap policy kept what was on it, grows; any other
/// falls back, slowly: whoever held it is most likely still there, and looking in vain costs more than a long page.
fn next_page(page: i64, too_short: bool, least: i64) -> i64 {
    if too_short { page.saturating_mul(4).min(LONGEST) } else { (page - page / 8).max(least) }
}

fn picked_job(row: &PgRow) -> Step<PickedJob> {
    Ok(PickedJob {
        execution_place: row.try_get(PICKED + 1)?,
        place: row.try_get(PICKED + 2)?,
        max_running: row.try_get(PICKED + 3)?,
        state: JobState::read(row, STATE)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_grows_while_it_is_too_short_and_falls_back() {
        assert_eq!(next_page(64, true, 64), 256);
        assert_eq!(next_page(256, false, 64), 224);
        assert_eq!(next_page(64, false, 64), 64);
        assert_eq!(next_page(LONGEST, true, 64), LONGEST);
    }
}
