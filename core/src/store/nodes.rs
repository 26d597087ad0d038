//! Requests and answers about nodes, their leases and their end.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::execution::Execution;
use crate::id::{Epoch, ExecutionId, NodeId};
use crate::time::Timestamp;

/// A node in one of its epochs: who writes, and with which right.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeRef {
    /// Which node.
    pub id: NodeId,
    /// In which epoch.
    pub epoch: Epoch,
}

/// What a node tells of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeInfo {
    /// The machine's name.
    pub host: String,
    /// The process.
    pub pid: u32,
    /// The version of this software.
    pub version: String,
    /// The time zone data it computes with.
    pub tzdb: String,
    /// The handlers it has.
    pub handlers: Vec<String>,
    /// How many executions it runs at once, at most.
    pub concurrency: usize,
    /// How many it runs now.
    pub running: usize,
    /// How far its clock is ahead of the store's, in milliseconds.
    pub clock_skew_ms: i64,
    /// Whether it takes no new work because it is stopping.
    pub draining: bool,
}

/// A node that wants to enter.
#[derive(Debug, Clone)]
pub struct JoinRequest {
    /// Unique for each start of an engine.
    pub id: NodeId,
    /// How long its lease lasts without a heartbeat.
    pub ttl: Duration,
    /// What it tells of itself.
    pub info: NodeInfo,
}

/// A node that has entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joined {
    /// Larger than every epoch before.
    pub epoch: Epoch,
    /// The store's clock.
    pub now: Timestamp,
}

/// A node that renews its lease.
#[derive(Debug, Clone)]
pub struct HeartbeatRequest {
    /// Who.
    pub node: NodeRef,
    /// From the store's now on.
    pub ttl: Duration,
    /// What it tells of itself.
    pub info: NodeInfo,
}

/// What became of a heartbeat.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeartbeatOutcome {
    /// The lease is renewed.
    Renewed {
        /// The store's clock.
        now: Timestamp,
        /// Executions of this node that somebody asked to cancel.
        cancel: Vec<ExecutionId>,
        /// How many executions are recorded as running under this node and epoch: how a node notices
        /// that a claim of its own was committed and its reply lost.
        n_running: u64,
        /// Whether another node's lease has run out, or a dead epoch has left something running: whether
        /// there is something to reap.
        overdue: bool,
    },
    /// The epoch is dead: the node must cancel what it runs and join again.
    Refused,
}

/// A search for what dead nodes left.
#[derive(Debug, Clone, Copy)]
pub struct ReapRequest {
    /// How long past its end a lease is still respected.
    pub grace: Duration,
    /// The most executions to end in this call.
    pub limit: usize,
}

/// What a reaping found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reaped {
    /// Nodes that this call found dead.
    pub nodes: Vec<NodeRef>,
    /// Executions that this call ended, as they are now.
    pub ended: Vec<Execution>,
    /// Whether there may be more to end.
    pub more: bool,
}

/// A node, as seen by the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Which.
    pub id: NodeId,
    /// Its last epoch.
    pub epoch: Epoch,
    /// Whether that epoch is dead, or was ended by the node itself.
    pub dead: bool,
    /// When it entered with that epoch.
    pub joined_at: Timestamp,
    /// Its last heartbeat.
    pub seen_at: Timestamp,
    /// When its lease runs out, or ran out.
    pub lease_until: Timestamp,
    /// What it told of itself.
    #[serde(flatten)]
    pub info: NodeInfo,
}
