//! Jobs and nodes to measure with.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use unified_scheduler_core::plan::EnginePlanner;
use unified_scheduler_core::settle::{Ending, settle};
use unified_scheduler_core::store::{
    ClaimOutcome, ClaimRequest, Claimed, CompleteRequest, CreateJobs, CreateOutcome, JoinRequest, NodeInfo,
    NodeRef, Store,
};
use unified_scheduler_core::{
    IdSource, Job, JobDefinition, JobId, NodeId, Result, Schedule, Status, Timestamp,
};

/// An instant in milliseconds.
pub fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// The handler that the jobs name, where it does not matter.
pub const HANDLER: &str = "bench";

/// `n` jobs with this period, the first due at `first`, each `spread` after the one before.
pub fn jobs(n: usize, every: Duration, first: Timestamp, spread: Duration) -> Vec<Job> {
    jobs_of(HANDLER, n, every, first, spread)
}

/// The same, of another handler.
pub fn jobs_of(handler: &str, n: usize, every: Duration, first: Timestamp, spread: Duration) -> Vec<Job> {
    (0..n)
        .map(|i| {
            let step = spread.saturating_mul(u32::try_from(i).unwrap_or(u32::MAX));
            let anchor = first.saturating_add(step);
            let schedule = Schedule::every(every).anchored_at(anchor);
            let definition = JobDefinition::new(format!("{handler}-{i}"), handler, schedule);
            Job::new(JobId::from(format!("{handler}-{i}")), definition, anchor)
        })
        .collect()
}

/// Stores jobs, some thousand at a time.
///
/// # Errors
///
/// The store's own.
pub async fn store_all(store: &dyn Store, jobs: &[Job]) -> Result<()> {
    for chunk in jobs.chunks(5000) {
        let request = CreateJobs { jobs: chunk.to_vec(), unique_names: false, actor: "bench".to_owned() };
        if let CreateOutcome::Refused(conflicts) = store.create_jobs(request).await? {
            return Err(unified_scheduler_core::Error::conflict(format!("{conflicts:?}")));
        }
    }
    Ok(())
}

/// Stores `n` jobs that are not due for a year.
///
/// # Errors
///
/// The store's own.
pub async fn store_far(store: &dyn Store, n: usize) -> Result<()> {
    let far = store.now().await?.saturating_add(Duration::from_secs(365 * 86_400));
    let mut left = n;
    while left > 0 {
        let some = left.min(20_000);
        left -= some;
        let mut jobs = jobs(some, Duration::from_secs(86_400), far, Duration::from_millis(11));
        for job in &mut jobs {
            // Each chunk counts from nothing.
            job.id = format!("{}-{left}", job.id).into();
        }
        store_all(store, &jobs).await?;
    }
    Ok(())
}

/// A node without an engine: it claims and completes at once.
pub struct BareNode {
    store: Arc<dyn Store>,
    node: NodeRef,
    handlers: BTreeSet<String>,
    ids: Arc<IdSource>,
    planner: EnginePlanner,
}

impl BareNode {
    /// Enters a node whose lease does not end during a bench.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn join(store: Arc<dyn Store>) -> Result<Self> {
        Self::with_handler(store, HANDLER).await
    }

    /// The same, of another handler.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn with_handler(store: Arc<dyn Store>, handler: &str) -> Result<Self> {
        Self::named(store, handler, handler).await
    }

    /// The same, of another name than its handler's: one of several.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn named(store: Arc<dyn Store>, name: &str, handler: &str) -> Result<Self> {
        let id = NodeId::from(name);
        let ttl = Duration::from_secs(10 * 365 * 86_400);
        let joined = store.join(JoinRequest { id: id.clone(), ttl, info: NodeInfo::default() }).await?;
        let ids = Arc::new(IdSource::new());
        Ok(Self {
            store,
            node: NodeRef { id, epoch: joined.epoch },
            handlers: BTreeSet::from([handler.to_owned()]),
            planner: EnginePlanner::new(Arc::clone(&ids)),
            ids,
        })
    }

    /// Leaves, so that nobody counts on it any more.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn leave(self) -> Result<()> {
        self.store.leave(&self.node).await
    }

    /// Claims at most `limit`.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn claim(&self, limit: usize) -> Result<Vec<Claimed>> {
        let request = ClaimRequest { node: &self.node, handlers: &self.handlers, limit };
        match self.store.claim(request, &self.planner).await? {
            ClaimOutcome::Claimed(batch) => Ok(batch.claimed),
            ClaimOutcome::Refused => Err(unified_scheduler_core::Error::internal("the lease has run out")),
        }
    }

    /// Completes what was claimed.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn complete(&self, claimed: &[Claimed]) -> Result<()> {
        let now = self.store.now().await?;
        let completions: Vec<_> = claimed
            .iter()
            .map(|c| settle(Some(&c.job), &c.execution, Ending::new(Status::Success, now), &self.ids))
            .collect();
        self.store.complete(CompleteRequest { node: &self.node, completions: &completions }).await?;
        Ok(())
    }

    /// Claims and completes, batch by batch, until nothing is due. Answers how many there were.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn work_off(&self, batch: usize) -> Result<usize> {
        let mut n = 0;
        loop {
            let claimed = self.claim(batch).await?;
            if claimed.is_empty() {
                return Ok(n);
            }
            n += claimed.len();
            self.complete(&claimed).await?;
        }
    }
}
