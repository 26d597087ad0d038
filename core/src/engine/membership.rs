//! Membership: enters the node, renews its lease, passes on cancellations, and reaps dead nodes.
//!
//! States: *outside* (asks to join, with growing waits) → *member* (renews well within the lease) →
//! *refused* (the epoch is dead: everything this node runs belongs to others; it is cancelled without a
//! record, and the node joins again with a new epoch).
//!
//! The store's clock decides whose lease has run out. A node reaps only after one full lease of unbroken
//! contact of its own: after an outage of the store every lease looks old, and nobody is dead.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Engine;
use super::owned::StopReason;
use crate::event::Event;
use crate::id::NodeId;
use crate::store::{HeartbeatOutcome, HeartbeatRequest, JoinRequest, NodeRef, ReapRequest};
use crate::time::Timestamp;

/// How many executions one call reaps, at most.
const REAP_BATCH: usize = 500;

/// How long after a heartbeat the next is sent: late enough that an idle node asks little, and early
/// enough that two more can be tried, should it get no answer.
fn renew_after(lease: Duration) -> Duration {
    lease.mul_f64(0.4)
}

/// One node's membership.
pub(crate) struct Membership {
    engine: Arc<Engine>,
    id: NodeId,
    /// Since when, by the steady clock, every call has been answered.
    contact_since: Option<Duration>,
    failures: u32,
    /// When the last heartbeat that was answered was sent, and the store's clock in its answer.
    last_beat: Option<(Duration, Timestamp)>,
    /// Whether the last heartbeat counted more running here than this node knew of, which the next is to confirm.
    in_doubt: bool,
}

/// What one heartbeat said.
enum Beat {
    Renewed { overdue: bool },
    Refused,
    NoAnswer,
}

impl Membership {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        let id = engine.ids.node(&engine.options.node_name);
        Self { engine, id, contact_since: None, failures: 0, last_beat: None, in_doubt: false }
    }

    /// Keeps the node a member until the engine ends.
    pub(crate) async fn run(mut self) {
        while let Some(node) = self.join().await {
            self.engine.node.send_replace(Some(node.clone()));
            self.engine.events.tell(|| Event::NodeJoined { node_id: node.id.clone(), epoch: node.epoch });
            self.stay(&node).await;
            self.engine.node.send_replace(None);
            // A node that leaves is refused from then on, and must not come back.
            if self.engine.ended.is_cancelled() || self.engine.leaving.is_cancelled() {
                return;
            }
            tracing::warn!(node = %node.id, epoch = %node.epoch, "the lease is lost; joining again");
            self.engine.events.tell(|| Event::LeaseLost { node_id: node.id.clone() });
            for running in self.engine.owned.all() {
                if running.node == node {
                    running.stop(StopReason::LeaseLost);
                }
            }
        }
    }

    /// Asks until the store lets the node in; `None` when the engine ends before.
    async fn join(&mut self) -> Option<NodeRef> {
        loop {
            let request =
                JoinRequest { id: self.id.clone(), ttl: self.engine.options.lease, info: self.engine.info() };
            let asked = self.engine.clock.steady();
            let answer = tokio::select! {
                biased;
                () = self.engine.ended.cancelled() => return None,
                () = self.engine.leaving.cancelled() => return None,
                answer = self.engine.call("join", self.engine.store.join(request)) => answer,
            };
            match answer {
                Ok(joined) => {
                    self.engine.learn_clock(joined.now, asked);
                    self.contact_since = Some(asked);
                    self.failures = 0;
                    return Some(NodeRef { id: self.id.clone(), epoch: joined.epoch });
                }
                Err(error) => {
                    if !error.is_retryable() {
                        tracing::error!(%error, "the node can't join");
                    }
                    self.failures = self.failures.saturating_add(1);
                    if !self.engine.sleep(self.engine.backoff(self.failures)).await {
                        return None;
                    }
                }
            }
        }
    }

    /// Renews until refused, or until the engine ends.
    async fn stay(&mut self, node: &NodeRef) {
        let lease = self.engine.options.lease;
        let mut wait = renew_after(lease);
        loop {
            tokio::select! {
                biased;
                () = self.engine.ended.cancelled() => return,
                () = self.engine.renew.notified() => {}
                () = self.engine.clock.sleep(wait) => {}
            }
            wait = match self.beat(node).await {
                Beat::Refused => return,
                Beat::NoAnswer => self.engine.backoff(self.failures).min(lease / 4),
                Beat::Renewed { overdue } => {
                    let steady = self.engine.clock.steady();
                    let contact = self.contact_since.map_or(Duration::ZERO, |t| steady.saturating_sub(t));
                    self.engine.renewed.notify_one();
                    // One batch between two heartbeats: a long reaping must not cost the reaper's own lease.
                    let more = overdue && contact >= lease && self.reap().await;
                    if more {
                        Duration::ZERO
                    } else if self.in_doubt {
                        lease / 10
                    } else {
                        renew_after(lease)
                    }
                }
            };
        }
    }

    async fn beat(&mut self, node: &NodeRef) -> Beat {
        let engine = &self.engine;
        let request = HeartbeatRequest { node: node.clone(), ttl: engine.options.lease, info: engine.info() };
        let asked = engine.clock.steady();
        // An answer that never comes must leave time to ask again before the lease is over.
        let deadline = engine.options.call_timeout.min(engine.options.lease / 4);
        let owned = engine.owned.len();
        match engine.call_within(deadline, "heartbeat", engine.store.heartbeat(request)).await {
            Ok(HeartbeatOutcome::Renewed { now, cancel, n_running, overdue }) => {
                if self.stood_still(asked, now) {
                    self.contact_since = None;
                }
                self.last_beat = Some((asked, now));
                engine.learn_clock(now, asked);
                self.contact_since.get_or_insert(asked);
                self.failures = 0;
                for id in cancel {
                    if let Some(running) = engine.owned.get(&id) {
                        running.stop(StopReason::Cancelled);
                    }
                }
                // What is claimed just now is recorded before this node knows of it. Only what is still
                // unknown a little later is worth asking for.
                let more = n_running > owned.max(engine.owned.len());
                if more && self.in_doubt {
                    engine.reconcile.store(true, Ordering::Relaxed);
                    engine.wake.notify_one();
                }
                self.in_doubt = more && !self.in_doubt;
                Beat::Renewed { overdue }
            }
            Ok(HeartbeatOutcome::Refused) => Beat::Refused,
            Err(error) => {
                if !error.is_retryable() {
                    tracing::error!(%error, "the lease can't be renewed");
                }
                self.contact_since = None;
                self.failures = self.failures.saturating_add(1);
                Beat::NoAnswer
            }
        }
    }

    /// Whether this node, or the store's clock, has jumped since the last heartbeat: a machine that was
    /// suspended, a clock that was set. Others may have stood still as well, and are only waking up.
    fn stood_still(&self, asked: Duration, now: Timestamp) -> bool {
        let Some((last_asked, last_now)) = self.last_beat else { return false };
        let lease = self.engine.options.lease;
        let here = asked.saturating_sub(last_asked);
        here > lease || now.since(last_now) > here.saturating_add(lease / 3) || now < last_now
    }

    /// Ends a batch of what dead nodes left; answers whether there may be more.
    async fn reap(&self) -> bool {
        let engine = &self.engine;
        let request = ReapRequest { grace: Duration::ZERO, limit: REAP_BATCH };
        let reaped = engine.call("reap", engine.store.reap(request, &engine.planner)).await;
        reaped.is_ok_and(|reaped| {
            if !reaped.ended.is_empty() {
                // What the dead left may have its next attempt, or let others run.
                engine.wake.notify_one();
            }
            for node in reaped.nodes {
                tracing::warn!(node = %node.id, epoch = %node.epoch, "found dead");
                engine.events.tell(|| Event::NodeDied { node_id: node.id });
            }
            for execution in reaped.ended {
                tracing::warn!(execution_id = %execution.id, job_id = %execution.job_id, "lost with its node");
                engine
                    .events
                    .tell(|| Event::ExecutionEnded { execution: Box::new(execution), retry_at: None, notify: None });
            }
            reaped.more
        })
    }
}
