//! A store with a bug in it: the store in memory, but for one thing that it does wrong.

use async_trait::async_trait;
use tokio::sync::watch;
use unified_scheduler_core::error::Result;
use unified_scheduler_core::execution::{Execution, LogLine};
use unified_scheduler_core::id::{ExecutionId, JobId};
use unified_scheduler_core::job::{Due, Job};
use unified_scheduler_core::schedule::Calendar;
use unified_scheduler_core::store::{
    AuditEntry, AuditQuery, CancelOutcome, Check, ClaimOutcome, ClaimRequest, Claimed, CompleteOutcome,
    CompleteRequest, Counts, CreateJobs, CreateOutcome, ExecutionQuery, HeartbeatOutcome, HeartbeatRequest,
    Import, Imported, JobQuery, JoinRequest, Joined, MemoryStore, Node, NodeRef, Page, Planner, PruneRequest,
    ReapRequest, Reaped, Report, Store, StoreDescription, TriggerOutcome, TriggerRequest, UpdateJob,
    UpdateOutcome,
};
use unified_scheduler_core::time::Timestamp;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Answers every completion as if it had been taken, whoever sends it.
    NoFence,
    /// Keeps due times in whole seconds.
    RoundsTimes,
    /// Takes an edit from any version.
    LastWriteWins,
    /// Makes a new execution for a key that it has seen.
    ForgetsKeys,
    /// Claims whatever there is.
    NoLimit,
    /// Panics when it counts.
    Panics,
}

/// The store in memory with a bug.
#[derive(Debug)]
pub(crate) struct Buggy {
    pub(crate) store: MemoryStore,
    pub(crate) bug: Bug,
}

#[async_trait]
impl Store for Buggy {
    async fn create_jobs(&self, mut request: CreateJobs) -> Result<CreateOutcome> {
        if self.bug == Bug::RoundsTimes {
            let round = |t: Timestamp| Timestamp::from_secs(t.as_millis().div_euclid(1000));
            for job in &mut request.jobs {
                job.due = job.due.map(|d| Due { due_at: round(d.due_at), fire_at: round(d.fire_at) });
            }
        }
        self.store.create_jobs(request).await
    }

    async fn update_job(&self, mut request: UpdateJob) -> Result<UpdateOutcome> {
        let job = self.store.get_job(&request.id).await?;
        if let (Bug::LastWriteWins, Some(job)) = (self.bug, job) {
            request.expected_version = job.version;
        }
        self.store.update_job(request).await
    }

    async fn claim(&self, mut request: ClaimRequest<'_>, planner: &dyn Planner) -> Result<ClaimOutcome> {
        if self.bug == Bug::NoLimit {
            request.limit = usize::MAX;
        }
        self.store.claim(request, planner).await
    }

    async fn complete(&self, request: CompleteRequest<'_>) -> Result<Vec<CompleteOutcome>> {
        let outcomes = self.store.complete(request).await?;
        if self.bug == Bug::NoFence {
            return Ok(vec![CompleteOutcome::Applied { paused: false }; outcomes.len()]);
        }
        Ok(outcomes)
    }

    async fn trigger(&self, mut request: TriggerRequest) -> Result<TriggerOutcome> {
        if self.bug == Bug::ForgetsKeys {
            request.idempotency_key = None;
        }
        self.store.trigger(request).await
    }

    async fn counts(&self) -> Result<Counts> {
        assert_ne!(self.bug, Bug::Panics, "a planted panic");
        self.store.counts().await
    }

    // ---- the rest is as it should be ----

    fn describe(&self) -> StoreDescription {
        self.store.describe()
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.store.hints()
    }

    async fn now(&self) -> Result<Timestamp> {
        self.store.now().await
    }

    async fn delete_job(&self, id: &JobId, actor: &str) -> Result<bool> {
        self.store.delete_job(id, actor).await
    }

    async fn get_job(&self, id: &JobId) -> Result<Option<Job>> {
        self.store.get_job(id).await
    }

    async fn list_jobs(&self, query: &JobQuery) -> Result<Page<Job>> {
        self.store.list_jobs(query).await
    }

    async fn put_calendar(&self, calendar: &Calendar) -> Result<()> {
        self.store.put_calendar(calendar).await
    }

    async fn delete_calendar(&self, name: &str) -> Result<bool> {
        self.store.delete_calendar(name).await
    }

    async fn list_calendars(&self) -> Result<Vec<Calendar>> {
        self.store.list_calendars().await
    }

    async fn list_audit(&self, query: &AuditQuery) -> Result<Vec<AuditEntry>> {
        self.store.list_audit(query).await
    }

    async fn owned(&self, node: &NodeRef) -> Result<Vec<Claimed>> {
        self.store.owned(node).await
    }

    async fn report(&self, node: &NodeRef, reports: &[Report]) -> Result<usize> {
        self.store.report(node, reports).await
    }

    async fn cancel(&self, id: &ExecutionId, actor: &str) -> Result<CancelOutcome> {
        self.store.cancel(id, actor).await
    }

    async fn join(&self, request: JoinRequest) -> Result<Joined> {
        self.store.join(request).await
    }

    async fn heartbeat(&self, request: HeartbeatRequest) -> Result<HeartbeatOutcome> {
        self.store.heartbeat(request).await
    }

    async fn leave(&self, node: &NodeRef) -> Result<()> {
        self.store.leave(node).await
    }

    async fn reap(&self, request: ReapRequest, planner: &dyn Planner) -> Result<Reaped> {
        self.store.reap(request, planner).await
    }

    async fn list_nodes(&self) -> Result<Vec<Node>> {
        self.store.list_nodes().await
    }

    async fn get_execution(&self, id: &ExecutionId) -> Result<Option<Execution>> {
        self.store.get_execution(id).await
    }

    async fn list_executions(&self, query: &ExecutionQuery) -> Result<Page<Execution>> {
        self.store.list_executions(query).await
    }

    async fn list_logs(&self, id: &ExecutionId, skip: u64, limit: usize) -> Result<Vec<LogLine>> {
        self.store.list_logs(id, skip, limit).await
    }

    async fn delete_executions(&self, ids: &[ExecutionId]) -> Result<u64> {
        self.store.delete_executions(ids).await
    }

    async fn prune(&self, request: PruneRequest) -> Result<u64> {
        self.store.prune(request).await
    }

    async fn diagnose(&self) -> Result<Vec<Check>> {
        self.store.diagnose().await
    }

    async fn import(&self, import: Import) -> Result<Imported> {
        self.store.import(import).await
    }

    async fn close(&self) -> Result<()> {
        self.store.close().await
    }
}
