//! What a scheduler tells as it happens. Nothing is told before its record is durable.

use serde::Serialize;

use crate::execution::Execution;
use crate::id::{Epoch, JobId, NodeId};
use crate::job::EndReason;
use crate::policy::Notifications;
use crate::time::Timestamp;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// This node has entered, with this epoch.
    NodeJoined {
        /// Which.
        node_id: NodeId,
        /// With which epoch.
        epoch: Epoch,
    },
    /// This node's epoch is dead: it was taken for dead, or its row is gone. It joins again.
    LeaseLost {
        /// Which.
        node_id: NodeId,
    },
    /// This node found another one dead.
    NodeDied {
        /// Which.
        node_id: NodeId,
    },
    /// A job was made or changed through this scheduler.
    JobChanged {
        /// Which.
        job_id: JobId,
        /// `created`, `updated`, `enabled`, …
        action: String,
    },
    /// A job will not fire again.
    JobEnded {
        /// Which.
        job_id: JobId,
        /// Why.
        reason: EndReason,
    },
    /// A job was set aside.
    JobSetAside {
        /// Which.
        job_id: JobId,
        /// Why.
        reason: String,
    },
    /// A job has disabled itself after too many failures.
    JobPaused {
        /// Which.
        job_id: JobId,
    },
    /// An execution has started on this node.
    ExecutionStarted {
        /// As claimed.
        execution: Box<Execution>,
    },
    /// An occurrence was skipped, or queued, by a policy.
    OccurrenceRecorded {
        /// Its record.
        execution: Box<Execution>,
    },
    /// An execution has ended, on this node, or found lost by it.
    ExecutionEnded {
        /// As recorded.
        execution: Box<Execution>,
        /// When it will be tried again.
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_at: Option<Timestamp>,
        /// Whom its job wanted to be told when it was claimed; absent where only its record was at hand.
        #[serde(skip_serializing_if = "Option::is_none")]
        notify: Option<Notifications>,
    },
    /// An execution of this node ended too late: it belonged to somebody else by then. Nothing was
    /// recorded.
    ExecutionRefused {
        /// As claimed.
        execution: Box<Execution>,
    },
    /// The store can't be reached.
    Degraded {
        /// What it says.
        reason: String,
    },
    /// The store can be reached again.
    Recovered,
    /// This scheduler has stopped.
    Stopped,
}
