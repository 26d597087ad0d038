//! A store that counts how often it is called.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use tokio::sync::watch;
use unified_scheduler_core::schedule::Calendar;
use unified_scheduler_core::store::{
    AuditEntry, AuditQuery, CancelOutcome, Check, ClaimOutcome, ClaimRequest, Claimed, CompleteOutcome,
    CompleteRequest, Counts, CreateJobs, CreateOutcome, ExecutionQuery, HeartbeatOutcome, HeartbeatRequest,
    Import, Imported, JobQuery, JoinRequest, Joined, Node, NodeRef, Page, Planner, PruneRequest, ReapRequest,
    Reaped, Report, Store, StoreDescription, TriggerOutcome, TriggerRequest, UpdateJob, UpdateOutcome,
};
use unified_scheduler_core::{Execution, ExecutionId, Job, JobId, LogLine, Result, Timestamp};

/// Another store, and how often it was asked for something.
#[derive(Debug)]
pub struct Counted {
    inner: Arc<dyn Store>,
    calls: AtomicU64,
}

impl Counted {
    /// Counts from nothing.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, calls: AtomicU64::new(0) }
    }

    /// How often it was asked so far.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}

/// The verbs, each passed on and counted.
macro_rules! counted {
    ($($verb:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl Store for Counted {
            fn describe(&self) -> StoreDescription {
                self.inner.describe()
            }

            fn hints(&self) -> watch::Receiver<u64> {
                self.inner.hints()
            }

            $(async fn $verb(&self, $($argument: $type),*) -> Result<$answer> {
                self.calls.fetch_add(1, Ordering::Relaxed);
                self.inner.$verb($($argument),*).await
            })*
        }
    };
}

counted! {
    now() -> Timestamp;
    create_jobs(request: CreateJobs) -> CreateOutcome;
    update_job(request: UpdateJob) -> UpdateOutcome;
    delete_job(id: &JobId, actor: &str) -> bool;
    get_job(id: &JobId) -> Option<Job>;
    list_jobs(query: &JobQuery) -> Page<Job>;
    put_calendar(calendar: &Calendar) -> ();
    delete_calendar(name: &str) -> bool;
    list_calendars() -> Vec<Calendar>;
    list_audit(query: &AuditQuery) -> Vec<AuditEntry>;
    claim(request: ClaimRequest<'_>, planner: &dyn Planner) -> ClaimOutcome;
    owned(node: &NodeRef) -> Vec<Claimed>;
    complete(request: CompleteRequest<'_>) -> Vec<CompleteOutcome>;
    report(node: &NodeRef, reports: &[Report]) -> usize;
    trigger(request: TriggerRequest) -> TriggerOutcome;
    cancel(id: &ExecutionId, actor: &str) -> CancelOutcome;
    join(request: JoinRequest) -> Joined;
    heartbeat(request: HeartbeatRequest) -> HeartbeatOutcome;
    leave(node: &NodeRef) -> ();
    reap(request: ReapRequest, planner: &dyn Planner) -> Reaped;
    list_nodes() -> Vec<Node>;
    get_execution(id: &ExecutionId) -> Option<Execution>;
    list_executions(query: &ExecutionQuery) -> Page<Execution>;
    list_logs(id: &ExecutionId, skip: u64, limit: usize) -> Vec<LogLine>;
    delete_executions(ids: &[ExecutionId]) -> u64;
    prune(request: PruneRequest) -> u64;
    import(import: Import) -> Imported;
    counts() -> Counts;
    diagnose() -> Vec<Check>;
    close() -> ();
}
