//! Taking pending executions: the first half of a claim.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rusqlite::params;
use unified_scheduler_core::Timestamp;
use unified_scheduler_core::execution::Execution;
use unified_scheduler_core::job::Job;
use unified_scheduler_core::store::{Claimed, NodeRef};

use super::jobs;
use crate::error::Step;
use crate::rows::{execution, execution_columns};
use crate::session::Session;

/// A pending execution that could start.
struct Candidate {
    run_at: i64,
    n: i64,
    job_id: String,
}

/// How many more executions of one job may start.
struct Room {
    left: i64,
    /// The job; `None` when it is gone, set aside, or can't be read.
    job: Option<Job>,
}

/// What was taken.
#[derive(Default)]
pub(crate) struct Taken {
    pub(crate) claimed: Vec<Claimed>,
    /// Jobs that were set aside, with the reason.
    pub(crate) set_aside: Vec<(unified_scheduler_core::id::JobId, String)>,
    /// Whether there was more that could start.
    pub(crate) more: bool,
    /// Whether something was passed over because its job runs as often as it may.
    pub(crate) blocked: bool,
}

/// Takes up to `limit` pending executions, lane by lane, by priority, then time. Those of a job that runs
/// as often as it may are passed over, and hide nobody.
pub(crate) fn take(
    session: &mut Session,
    node: &NodeRef,
    handlers: &[String],
    limit: usize,
    now: Timestamp,
) -> Step<Taken> {
    let mut taken = Taken::default();
    let mut rooms: HashMap<String, Room> = HashMap::new();
    for (priority, handlers) in lanes(session, handlers, PENDING_LANE)? {
        let left = limit - taken.claimed.len();
        let mut candidates = Vec::new();
        for handler in &handlers {
            let lane = (handler.as_str(), priority);
            candidates.extend(startable(session, &mut rooms, lane, left + 1, now, &mut taken)?);
        }
        candidates.sort_unstable_by_key(|c| (c.run_at, c.n));
        for candidate in candidates {
            let Some(room) = rooms.get_mut(&candidate.job_id) else { continue };
            let Some(job) = &room.job else { continue };
            if room.left <= 0 {
                continue;
            }
            if taken.claimed.len() == limit {
                taken.more = true;
                return Ok(taken);
            }
            if let Some(execution) = own(session, node, candidate.n, now)? {
                room.left -= 1;
                taken.claimed.push(Claimed { execution, job: job.clone() });
            }
        }
    }
    Ok(taken)
}

/// Up to `want` executions of a lane that could start now, first come first.
fn startable(
    session: &mut Session,
    rooms: &mut HashMap<String, Room>,
    lane: (&str, i64),
    want: usize,
    now: Timestamp,
    taken: &mut Taken,
) -> Step<Vec<Candidate>> {
    const PAGE: usize = 256;
    let mut found = Vec::new();
    let mut used: HashMap<String, i64> = HashMap::new();
    let mut after = (i64::MIN, i64::MIN);
    loop {
        let page = session.all(
            "SELECT n, job_id, run_at FROM @executions
             WHERE status = 'pending' AND handler = ?1 AND priority = ?2 AND run_at <= ?3
                 AND (run_at, n) > (?4, ?5)
             ORDER BY run_at, n LIMIT ?6",
            params![lane.0, lane.1, now.as_millis(), after.0, after.1, crate::rows::size(PAGE)],
            |row| Ok(Candidate { n: row.get(0)?, job_id: row.get(1)?, run_at: row.get(2)? }),
        )?;
        let last = page.len() < PAGE;
        for candidate in page {
            after = (candidate.run_at, candidate.n);
            if let Entry::Vacant(entry) = rooms.entry(candidate.job_id.clone()) {
                entry.insert(room(session, &candidate.job_id, now, taken)?);
            }
            let room = &rooms[&candidate.job_id];
            let used = used.entry(candidate.job_id.clone()).or_default();
            if room.job.is_some() && *used < room.left {
                *used += 1;
                found.push(candidate);
                if found.len() == want {
                    return Ok(found);
                }
            } else {
                taken.blocked |= room.job.is_some();
            }
        }
        if last {
            return Ok(found);
        }
    }
}

fn room(session: &mut Session, job_id: &str, now: Timestamp, taken: &mut Taken) -> Step<Room> {
    let gone = Room { left: 0, job: None };
    let Some(n) = jobs::number(session, &job_id.into())? else { return Ok(gone) };
    let Some(state) = jobs::state(session, n)? else { return Ok(gone) };
    let Some(known) = jobs::known(session, &state)? else { return Ok(gone) };
    if let Some(why) = &known.unreadable {
        if jobs::set_aside(session, n, why, now)? {
            taken.set_aside.push((known.id.clone(), why.clone()));
        }
        return Ok(gone);
    }
    let job = state.into_job(&known);
    if job.fault.is_some() {
        return Ok(gone);
    }
    Ok(Room { left: free_slots(session, &job)?, job: Some(job) })
}

/// How many more executions of the job may start.
pub(crate) fn free_slots(session: &Session, job: &Job) -> Step<i64> {
    let running: Option<i64> = session.first(
        "SELECT count(*) FROM @executions
         WHERE job_id = ?1 AND status = 'running' AND status IN ('pending', 'running')",
        [job.id.as_str()],
        |row| row.get(0),
    )?;
    Ok(i64::from(job.definition.overlap.max_running()) - running.unwrap_or_default())
}

/// Makes a pending execution running, owned by this node.
fn own(session: &Session, node: &NodeRef, n: i64, now: Timestamp) -> Step<Option<Execution>> {
    const SQL: &str =
        concat!("SELECT ", execution_columns!(), " FROM @executions WHERE n = ?1 AND status = 'pending'");
    // What can't be read is nobody's: it stays for a node that can.
    let Some(mut execution) = session.readable(SQL, [n], execution)?.into_iter().next() else {
        return Ok(None);
    };
    execution.own(node, now);
    session.execute(
        "UPDATE @executions SET status = 'running', started_at = ?2, node_id = ?3, epoch = ?4, claim = ?5
         WHERE n = ?1",
        params![n, now.as_millis(), node.id.as_str(), node.epoch.0, execution.claim],
    )?;
    Ok(Some(execution))
}

/// The next lower priority of a handler's pending executions.
const PENDING_LANE: &str = "SELECT priority FROM @executions
    WHERE status = 'pending' AND handler = ?1 AND priority < ?2 ORDER BY priority DESC LIMIT 1";

/// The lanes of these handlers: for each priority, from the largest, the handlers that have it. `next`
/// answers a handler's next lower priority (a skip scan, which SQLite does not do by itself).
pub(crate) fn lanes(
    session: &Session,
    handlers: &[String],
    next: &'static str,
) -> Step<Vec<(i64, Vec<String>)>> {
    let mut lanes: std::collections::BTreeMap<i64, Vec<String>> = std::collections::BTreeMap::new();
    for handler in handlers {
        let mut below = i64::MAX;
        while let Some(priority) = session.first(next, params![handler, below], |row| row.get(0))? {
            lanes.entry(priority).or_default().push(handler.clone());
            below = priority;
        }
    }
    Ok(lanes.into_iter().rev().collect())
}

/// When the next pending execution of these handlers may start, after `now`.
pub(crate) fn next_at(session: &Session, handlers: &[String], now: Timestamp) -> Step<Option<Timestamp>> {
    let mut earliest: Option<i64> = None;
    for (priority, handlers) in lanes(session, handlers, PENDING_LANE)? {
        for handler in handlers {
            let next: Option<i64> = session.first(
                "SELECT run_at FROM @executions
                 WHERE status = 'pending' AND handler = ?1 AND priority = ?2 AND run_at > ?3
                 ORDER BY run_at LIMIT 1",
                params![handler, priority, now.as_millis()],
                |row| row.get(0),
            )?;
            earliest = earliest.into_iter().chain(next).min();
        }
    }
    Ok(earliest.map(Timestamp::from_millis))
}
