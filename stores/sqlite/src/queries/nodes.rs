//! Nodes: entering, leases, leaving.

use rusqlite::params;
use unified_scheduler_core::Timestamp;
use unified_scheduler_core::id::{Epoch, NodeId};
use unified_scheduler_core::store::{
    HeartbeatOutcome, HeartbeatRequest, JoinRequest, Joined, Node, NodeInfo, NodeRef,
};

use crate::error::Step;
use crate::rows::{execution_id, time, time_or_none};
use crate::session::Session;

/// How long a dead node is shown.
pub(crate) const SHOWN_MS: i64 = 86_400_000;

/// Until when the node's lease runs, if it has not been found dead.
pub(crate) fn lease(session: &Session, node: &NodeRef) -> Step<Option<Timestamp>> {
    session.first(
        "SELECT lease_until FROM @nodes WHERE id = ?1 AND epoch = ?2 AND dead_at IS NULL",
        params![node.id.as_str(), node.epoch.0],
        |row| time(row, 0),
    )
}

pub(crate) fn join(session: &Session, request: &JoinRequest) -> Step<Joined> {
    let now = session.now();
    let sql = "UPDATE @meta SET value = value + 1 WHERE key = 'epoch' RETURNING value";
    let epoch: i64 = session.first(sql, [], |row| row.get(0))?.unwrap_or(1);
    session.execute(
        "INSERT INTO @nodes (id, epoch, dead_at, joined_at, seen_at, lease_until, info)
         VALUES (?1, ?2, NULL, ?3, ?3, ?4, ?5)
         ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch, dead_at = NULL,
             joined_at = excluded.joined_at, seen_at = excluded.seen_at,
             lease_until = excluded.lease_until, info = excluded.info",
        params![
            request.id.as_str(),
            epoch,
            now.as_millis(),
            now.saturating_add(request.ttl).as_millis(),
            serde_json::to_string(&request.info)?
        ],
    )?;
    session.execute("DELETE FROM @nodes WHERE dead_at < ?1", [now.as_millis() - SHOWN_MS])?;
    Ok(Joined { epoch: Epoch(epoch), now })
}

pub(crate) fn heartbeat(session: &Session, request: &HeartbeatRequest) -> Step<HeartbeatOutcome> {
    let now = session.now();
    let node = &request.node;
    let renewed = session.execute(
        "UPDATE @nodes SET seen_at = ?3, lease_until = ?4, info = ?5
         WHERE id = ?1 AND epoch = ?2 AND dead_at IS NULL",
        params![
            node.id.as_str(),
            node.epoch.0,
            now.as_millis(),
            now.saturating_add(request.ttl).as_millis(),
            serde_json::to_string(&request.info)?
        ],
    )?;
    if renewed == 0 {
        return Ok(HeartbeatOutcome::Refused);
    }
    let running = session.all(
        "SELECT id, cancel_requested FROM @executions
         WHERE status = 'running' AND node_id = ?1 AND epoch = ?2 ORDER BY id",
        params![node.id.as_str(), node.epoch.0],
        |row| Ok((execution_id(row, 0)?, row.get::<_, bool>(1)?)),
    )?;
    let n_running = running.len() as u64;
    let cancel = running.into_iter().filter_map(|(id, called_off)| called_off.then_some(id)).collect();
    let overdue = is_overdue(session, now)?;
    Ok(HeartbeatOutcome::Renewed { now, cancel, n_running, overdue })
}

/// Whether there is something to reap.
fn is_overdue(session: &Session, now: Timestamp) -> Step<bool> {
    let late = session.first(
        "SELECT 1 FROM @nodes WHERE dead_at IS NULL AND lease_until <= ?1 LIMIT 1",
        [now.as_millis()],
        |_| Ok(()),
    )?;
    Ok(late.is_some() || !super::reap::dead_owners(session)?.is_empty())
}

pub(crate) fn leave(session: &Session, node: &NodeRef) -> Step<()> {
    session.execute(
        "UPDATE @nodes SET dead_at = ?3 WHERE id = ?1 AND epoch = ?2 AND dead_at IS NULL",
        params![node.id.as_str(), node.epoch.0, session.now().as_millis()],
    )?;
    Ok(())
}

pub(crate) fn list(session: &Session) -> Step<Vec<Node>> {
    session.all(
        "SELECT id, epoch, dead_at, joined_at, seen_at, lease_until, info FROM @nodes
         WHERE dead_at IS NULL OR dead_at >= ?1 ORDER BY id",
        [session.now().as_millis() - SHOWN_MS],
        |row| {
            let info: String = row.get(6)?;
            Ok(Node {
                id: NodeId::from(row.get::<_, String>(0)?.as_str()),
                epoch: Epoch(row.get(1)?),
                dead: time_or_none(row, 2)?.is_some(),
                joined_at: time(row, 3)?,
                seen_at: time(row, 4)?,
                lease_until: time(row, 5)?,
                // A newer program may tell more, or otherwise.
                info: serde_json::from_str(&info).unwrap_or_else(|_| NodeInfo::default()),
            })
        },
    )
}
