//! Nodes: entering, leases, leaving.

use sqlx::Row as _;
use unified_scheduler_core::id::{Epoch, ExecutionId, NodeId};
use unified_scheduler_core::store::{
    HeartbeatOutcome, HeartbeatRequest, JoinRequest, Joined, Node, NodeInfo, NodeRef,
};
use uuid::Uuid;

use crate::error::Step;
use crate::rows::{count, missing, time, time_or_none};
use crate::session::{Session, millis, params};

/// How long a dead node is shown.
const SHOWN_MS: i64 = 86_400_000;

/// The time of a statement: that of a test, or the server's.
macro_rules! now {
    ($test:literal) => {
        concat!(
            "coalesce(",
            $test,
            "::bigint, floor(extract(epoch FROM statement_timestamp()) * 1000)::bigint)"
        )
    };
}
pub(crate) use now;

/// The dead epochs `d` that something runs under by the table: marked so, followed by a newer epoch, or
/// forgotten. Skips from one to the next along the index.
macro_rules! dead_owners {
    () => {
        "owners AS (
            (SELECT e.node_id, e.epoch FROM @executions e WHERE e.status = 'running'
            ORDER BY e.node_id, e.epoch LIMIT 1)
            UNION ALL
            SELECT x.node_id, x.epoch FROM owners o, LATERAL (
                SELECT e.node_id, e.epoch FROM @executions e
                WHERE e.status = 'running' AND (e.node_id, e.epoch) > (o.node_id, o.epoch)
                ORDER BY e.node_id, e.epoch LIMIT 1) x
        ), dead_owners AS (
            SELECT o.* FROM owners o WHERE NOT EXISTS (
                SELECT FROM @nodes n WHERE n.id = o.node_id AND n.epoch = o.epoch AND n.dead_at IS NULL)
        )"
    };
}
pub(crate) use dead_owners;

/// Whether the node has not been found dead.
pub(crate) async fn is_alive(session: &mut Session, node: &NodeRef) -> Step<bool> {
    const SQL: &str = "SELECT FROM @nodes WHERE id = $1 AND epoch = $2 AND dead_at IS NULL";
    Ok(session.first(SQL, params![node.id.as_str(), node.epoch.0]).await?.is_some())
}

pub(crate) async fn join(session: &mut Session, request: &JoinRequest) -> Step<Joined> {
    const SQL: &str = concat!(
        "WITH clock AS MATERIALIZED (SELECT ",
        now!("$1"),
        " AS now), next AS (
            UPDATE @meta SET value = value + 1 WHERE key = 'epoch' RETURNING value
        ), forgotten AS (
            DELETE FROM @nodes WHERE dead_at < (SELECT now FROM clock) - $5 AND id <> $2
        )
        INSERT INTO @nodes AS n (id, epoch, dead_at, joined_at, seen_at, lease_until, info)
        SELECT $2, next.value, NULL, clock.now, clock.now, clock.now + $3, $4 FROM next, clock
        ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch, dead_at = NULL,
            joined_at = excluded.joined_at, seen_at = excluded.seen_at,
            lease_until = excluded.lease_until, info = excluded.info
        RETURNING n.epoch, n.joined_at"
    );
    let info = serde_json::to_string(&request.info)?;
    let now = session.shared.fixed_now();
    let params = params![now, request.id.as_str(), millis(request.ttl), info, SHOWN_MS];
    let row = session.first(SQL, params).await?.ok_or_else(missing)?;
    Ok(Joined { epoch: Epoch(row.try_get(0)?), now: time(&row, 1)? })
}

pub(crate) async fn heartbeat(session: &mut Session, request: &HeartbeatRequest) -> Step<HeartbeatOutcome> {
    const SQL: &str = concat!(
        "WITH RECURSIVE clock AS MATERIALIZED (SELECT ",
        now!("$1"),
        " AS now), renewed AS (
            UPDATE @nodes n SET seen_at = clock.now, lease_until = clock.now + $4, info = $5 FROM clock
            WHERE n.id = $2 AND n.epoch = $3 AND n.dead_at IS NULL RETURNING clock.now
        ), ",
        dead_owners!(),
        " SELECT r.now, ARRAY(
                SELECT e.id FROM @executions e
                WHERE e.status = 'running' AND e.node_id = $2 AND e.epoch = $3 AND e.cancel_requested
                ORDER BY e.id),
            (SELECT count(*) FROM @executions e
                WHERE e.status = 'running' AND e.node_id = $2 AND e.epoch = $3),
            EXISTS (SELECT FROM @nodes n WHERE n.dead_at IS NULL AND n.lease_until <= r.now AND n.id <> $2)
                OR EXISTS (SELECT FROM dead_owners)
        FROM renewed r"
    );
    let node = &request.node;
    let info = serde_json::to_string(&request.info)?;
    let now = session.shared.fixed_now();
    let params = params![now, node.id.as_str(), node.epoch.0, millis(request.ttl), info];
    let Some(row) = session.first(SQL, params).await? else { return Ok(HeartbeatOutcome::Refused) };
    let cancel: Vec<Uuid> = row.try_get(1)?;
    Ok(HeartbeatOutcome::Renewed {
        now: time(&row, 0)?,
        cancel: cancel.into_iter().map(ExecutionId::from_uuid).collect(),
        n_running: count(row.try_get(2)?),
        overdue: row.try_get(3)?,
    })
}

pub(crate) async fn leave(session: &mut Session, node: &NodeRef) -> Step<()> {
    const SQL: &str = concat!(
        "UPDATE @nodes SET dead_at = ",
        now!("$1"),
        " WHERE id = $2 AND epoch = $3 AND dead_at IS NULL"
    );
    let now = session.shared.fixed_now();
    session.execute(SQL, params![now, node.id.as_str(), node.epoch.0]).await?;
    Ok(())
}

pub(crate) async fn list(session: &mut Session) -> Step<Vec<Node>> {
    const SQL: &str = concat!(
        "SELECT id, epoch, dead_at, joined_at, seen_at, lease_until, info FROM @nodes
         WHERE dead_at IS NULL OR dead_at >= ",
        now!("$1"),
        " - $2 ORDER BY id"
    );
    let now = session.shared.fixed_now();
    let rows = session.all(SQL, params![now, SHOWN_MS]).await?;
    let mut nodes = Vec::with_capacity(rows.len());
    for row in rows {
        nodes.push(Node {
            id: NodeId::from(row.try_get::<&str, _>(0)?),
            epoch: Epoch(row.try_get(1)?),
            dead: time_or_none(&row, 2)?.is_some(),
            joined_at: time(&row, 3)?,
            seen_at: time(&row, 4)?,
            lease_until: time(&row, 5)?,
            // A newer program may tell more, or otherwise.
            info: serde_json::from_str(row.try_get(6)?).unwrap_or_else(|_| NodeInfo::default()),
        });
    }
    Ok(nodes)
}
