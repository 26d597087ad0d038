//! Requests and answers about executions that were.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::execution::{Status, Trigger};
use crate::id::{ExecutionId, JobId, NodeId};
use crate::time::Timestamp;

/// By what executions are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExecutionSort {
    /// The newest first, by when they were made.
    #[default]
    Newest,
    /// The oldest first, by when they were made.
    Oldest,
    /// By due time, then attempt; only within one job.
    DueAt,
}

/// Which executions, in which order. Times are half open: `since <= t < until`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutionQuery {
    /// Of this job.
    pub job_id: Option<JobId>,
    /// In one of these states; empty is all.
    pub statuses: Vec<Status>,
    /// Made by this.
    pub trigger: Option<Trigger>,
    /// Run by this node.
    pub node_id: Option<NodeId>,
    /// All attempts that go back to this one.
    pub root_id: Option<ExecutionId>,
    /// Made since (for [`ExecutionSort::DueAt`]: due since).
    pub since: Option<Timestamp>,
    /// Made before (for [`ExecutionSort::DueAt`]: due before).
    pub until: Option<Timestamp>,
    /// By what they are sorted.
    pub sort: ExecutionSort,
    /// Only those after this one in the order asked for: how a long list is walked, with `offset` 0.
    pub after: Option<ExecutionId>,
    /// How many to pass over.
    pub offset: u64,
    /// How many to give, at most.
    pub limit: usize,
    /// Whether to count them all.
    pub count: bool,
}

impl Default for ExecutionQuery {
    fn default() -> Self {
        Self {
            job_id: None,
            statuses: Vec::new(),
            trigger: None,
            node_id: None,
            root_id: None,
            since: None,
            until: None,
            sort: ExecutionSort::Newest,
            after: None,
            offset: 0,
            limit: 50,
            count: false,
        }
    }
}

/// What the history no longer keeps. A job's own [`crate::policy::History`] goes before.
#[derive(Debug, Clone, Copy)]
pub struct PruneRequest {
    /// Executions that ended longer ago than this go, by the store's clock; `None` keeps them.
    pub max_age: Option<Duration>,
    /// The most to remove in this call.
    pub limit: usize,
}

/// How much there is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Jobs.
    pub jobs: u64,
    /// Jobs that are enabled.
    pub enabled: u64,
    /// Jobs that are set aside.
    pub faulty: u64,
    /// Executions by status.
    pub executions: BTreeMap<Status, u64>,
    /// The fire time of the enabled job, or `run_at` of the pending execution, that has been due and
    /// unclaimed for longest.
    pub oldest_due: Option<Timestamp>,
}
