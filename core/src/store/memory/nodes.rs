//! Nodes, their leases, and what the dead leave behind.

use std::collections::BTreeMap;
use std::time::Duration;

use super::State;
use crate::id::{Epoch, ExecutionId, NodeId};
use crate::store::{
    HeartbeatOutcome, HeartbeatRequest, JoinRequest, Joined, Node, NodeRef, Planner, ReapRequest, Reaped,
};
use crate::time::Timestamp;

/// How long a dead node is still shown.
const SHOWN_AFTER_DEATH: Duration = Duration::from_hours(24);

/// All nodes, each in its last epoch; every other epoch is dead.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    rows: BTreeMap<NodeId, Row>,
    last_epoch: i64,
}

#[derive(Debug)]
struct Row {
    node: Node,
    died_at: Option<Timestamp>,
}

impl Row {
    fn die(&mut self, now: Timestamp) {
        self.node.dead = true;
        self.died_at = Some(now);
    }
}

impl Nodes {
    pub(super) fn join(&mut self, request: JoinRequest, now: Timestamp) -> Joined {
        self.last_epoch += 1;
        let epoch = Epoch(self.last_epoch);
        let node = Node {
            id: request.id.clone(),
            epoch,
            dead: false,
            joined_at: now,
            seen_at: now,
            lease_until: now.saturating_add(request.ttl),
            info: request.info,
        };
        self.rows.insert(request.id, Row { node, died_at: None });
        Joined { epoch, now }
    }

    pub(super) fn leave(&mut self, node: &NodeRef, now: Timestamp) {
        if let Some(row) = self.alive_mut(node) {
            row.die(now);
        }
    }

    pub(super) fn is_alive(&self, node: &NodeRef) -> bool {
        self.rows.get(&node.id).is_some_and(|row| row.node.epoch == node.epoch && !row.node.dead)
    }

    pub(super) fn may_claim(&self, node: &NodeRef, now: Timestamp) -> bool {
        self.is_alive(node) && self.rows.get(&node.id).is_some_and(|row| now < row.node.lease_until)
    }

    /// Whether some lease has run out and nobody has marked its node dead.
    fn any_overdue(&self, now: Timestamp) -> bool {
        self.rows.values().any(|row| !row.node.dead && now >= row.node.lease_until)
    }

    fn alive_mut(&mut self, node: &NodeRef) -> Option<&mut Row> {
        self.rows.get_mut(&node.id).filter(|row| row.node.epoch == node.epoch && !row.node.dead)
    }

    /// Marks those dead whose lease ran out more than `grace` ago, and forgets those long dead.
    fn bury(&mut self, grace: Duration, now: Timestamp) -> Vec<NodeRef> {
        let mut found = Vec::new();
        for row in self.rows.values_mut() {
            if !row.node.dead && now > row.node.lease_until.saturating_add(grace) {
                row.die(now);
                found.push(NodeRef { id: row.node.id.clone(), epoch: row.node.epoch });
            }
        }
        self.rows.retain(|_, row| is_shown(row, now));
        found
    }

    pub(super) fn list(&self, now: Timestamp) -> Vec<Node> {
        self.rows.values().filter(|row| is_shown(row, now)).map(|row| row.node.clone()).collect()
    }
}

fn is_shown(row: &Row, now: Timestamp) -> bool {
    row.died_at.is_none_or(|died_at| now.since(died_at) <= SHOWN_AFTER_DEATH)
}

impl State {
    pub(super) fn heartbeat(&mut self, request: HeartbeatRequest, now: Timestamp) -> HeartbeatOutcome {
        let HeartbeatRequest { node, ttl, info } = request;
        let Some(row) = self.nodes.alive_mut(&node) else { return HeartbeatOutcome::Refused };
        row.node.seen_at = now;
        row.node.lease_until = now.saturating_add(ttl);
        row.node.info = info;
        let cancel = self.executions.owned_by(&node).filter(|e| e.cancel_requested).map(|e| e.id).collect();
        let n_running = self.executions.owned_by(&node).count() as u64;
        let overdue = self.nodes.any_overdue(now) || self.left_by_the_dead().next().is_some();
        HeartbeatOutcome::Renewed { now, cancel, n_running, overdue }
    }

    pub(super) fn reap(&mut self, request: ReapRequest, planner: &dyn Planner, now: Timestamp) -> Reaped {
        let mut reaped = Reaped { nodes: self.nodes.bury(request.grace, now), ..Reaped::default() };
        let mut left: Vec<ExecutionId> =
            self.left_by_the_dead().take(request.limit.saturating_add(1)).collect();
        reaped.more = left.len() > request.limit;
        left.truncate(request.limit);
        for id in left {
            let Some(execution) = self.executions.get(&id) else { continue };
            let completion = planner.lost(self.jobs.get(&execution.job_id), execution, now);
            reaped.ended.extend(self.apply(completion, now).map(|(ended, _)| ended));
        }
        reaped
    }

    fn left_by_the_dead(&self) -> impl Iterator<Item = ExecutionId> {
        let owners = self.executions.states.owned.iter();
        owners.filter(|(node, _)| !self.nodes.is_alive(node)).flat_map(|(_, owned)| owned.iter().copied())
    }
}
