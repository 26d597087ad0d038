//! A store that fails as it is told to: for the tests of what the loops do then.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::execution::{Execution, LogLine};
use crate::id::{ExecutionId, JobId};
use crate::job::Job;
use crate::schedule::Calendar;
use crate::store::{
    AuditEntry, AuditQuery, CancelOutcome, Check, ClaimOutcome, ClaimRequest, Claimed, CompleteOutcome,
    CompleteRequest, Counts, CreateJobs, CreateOutcome, ExecutionQuery, HeartbeatOutcome, HeartbeatRequest,
    Import, Imported, JobQuery, JoinRequest, Joined, MemoryStore, Node, NodeRef, Page, Planner, PruneRequest,
    ReapRequest, Reaped, Report, Store, StoreDescription, TriggerOutcome, TriggerRequest, UpdateJob,
    UpdateOutcome,
};
use crate::time::Timestamp;

/// How a call goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The store is away.
    Away,
    /// It never answers, and does nothing.
    Hangs,
    /// It does what it is asked to, and the answer is lost.
    LosesReply,
    /// It does what it is asked to, and never answers.
    NeverReplies,
    /// It can't take what it is given.
    Refuses,
}

/// Which calls go wrong: of this verb (`*` is every verb), so many times.
type Plan = (&'static str, Fault, usize);

/// A store in memory that fails as it is told to. Clones are the same store.
#[derive(Debug, Clone)]
pub(crate) struct FaultyStore {
    inner: Arc<MemoryStore>,
    plans: Arc<Mutex<Vec<Plan>>>,
}

impl FaultyStore {
    pub(crate) fn over(inner: MemoryStore) -> Self {
        Self { inner: Arc::new(inner), plans: Arc::default() }
    }

    /// Lets the next `times` calls of `verb` fail.
    pub(crate) fn fail(&self, verb: &'static str, fault: Fault, times: usize) {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner).push((verb, fault, times));
    }

    /// Lets all calls through again.
    pub(crate) fn heal(&self) {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn fault(&self, verb: &str) -> Option<Fault> {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, fault, left) =
            plans.iter_mut().find(|(name, _, left)| *left > 0 && (*name == verb || *name == "*"))?;
        *left -= 1;
        Some(*fault)
    }

    async fn pass<T>(&self, verb: &str, call: impl Future<Output = Result<T>>) -> Result<T> {
        match self.fault(verb) {
            None => call.await,
            Some(Fault::Away) => Err(Error::unavailable("the store is away")),
            Some(Fault::Hangs) => std::future::pending().await,
            Some(Fault::LosesReply) => {
                call.await?;
                Err(Error::unavailable("the reply is lost"))
            }
            Some(Fault::NeverReplies) => {
                call.await?;
                std::future::pending().await
            }
            Some(Fault::Refuses) => Err(Error::invalid("more than the store can take")),
        }
    }
}

#[async_trait]
impl Store for FaultyStore {
    fn describe(&self) -> StoreDescription {
        self.inner.describe()
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.inner.hints()
    }

    async fn now(&self) -> Result<Timestamp> {
        self.pass("now", self.inner.now()).await
    }

    async fn create_jobs(&self, request: CreateJobs) -> Result<CreateOutcome> {
        self.pass("create_jobs", self.inner.create_jobs(request)).await
    }

    async fn update_job(&self, request: UpdateJob) -> Result<UpdateOutcome> {
        self.pass("update_job", self.inner.update_job(request)).await
    }

    async fn delete_job(&self, id: &JobId, actor: &str) -> Result<bool> {
        self.pass("delete_job", self.inner.delete_job(id, actor)).await
    }

    async fn get_job(&self, id: &JobId) -> Result<Option<Job>> {
        self.pass("get_job", self.inner.get_job(id)).await
    }

    async fn list_jobs(&self, query: &JobQuery) -> Result<Page<Job>> {
        self.pass("list_jobs", self.inner.list_jobs(query)).await
    }

    async fn put_calendar(&self, calendar: &Calendar) -> Result<()> {
        self.pass("put_calendar", self.inner.put_calendar(calendar)).await
    }

    async fn delete_calendar(&self, name: &str) -> Result<bool> {
        self.pass("delete_calendar", self.inner.delete_calendar(name)).await
    }

    async fn list_calendars(&self) -> Result<Vec<Calendar>> {
        self.pass("list_calendars", self.inner.list_calendars()).await
    }

    async fn list_audit(&self, query: &AuditQuery) -> Result<Vec<AuditEntry>> {
        self.pass("list_audit", self.inner.list_audit(query)).await
    }

    async fn claim(&self, request: ClaimRequest<'_>, planner: &dyn Planner) -> Result<ClaimOutcome> {
        self.pass("claim", self.inner.claim(request, planner)).await
    }

    async fn owned(&self, node: &NodeRef) -> Result<Vec<Claimed>> {
        self.pass("owned", self.inner.owned(node)).await
    }

    async fn complete(&self, request: CompleteRequest<'_>) -> Result<Vec<CompleteOutcome>> {
        self.pass("complete", self.inner.complete(request)).await
    }

    async fn report(&self, node: &NodeRef, reports: &[Report]) -> Result<usize> {
        self.pass("report", self.inner.report(node, reports)).await
    }

    async fn trigger(&self, request: TriggerRequest) -> Result<TriggerOutcome> {
        self.pass("trigger", self.inner.trigger(request)).await
    }

    async fn cancel(&self, id: &ExecutionId, actor: &str) -> Result<CancelOutcome> {
        self.pass("cancel", self.inner.cancel(id, actor)).await
    }

    async fn join(&self, request: JoinRequest) -> Result<Joined> {
        self.pass("join", self.inner.join(request)).await
    }

    async fn heartbeat(&self, request: HeartbeatRequest) -> Result<HeartbeatOutcome> {
        self.pass("heartbeat", self.inner.heartbeat(request)).await
    }

    async fn leave(&self, node: &NodeRef) -> Result<()> {
        self.pass("leave", self.inner.leave(node)).await
    }

    async fn reap(&self, request: ReapRequest, planner: &dyn Planner) -> Result<Reaped> {
        self.pass("reap", self.inner.reap(request, planner)).await
    }

    async fn list_nodes(&self) -> Result<Vec<Node>> {
        self.pass("list_nodes", self.inner.list_nodes()).await
    }

    async fn get_execution(&self, id: &ExecutionId) -> Result<Option<Execution>> {
        self.pass("get_execution", self.inner.get_execution(id)).await
    }

    async fn list_executions(&self, query: &ExecutionQuery) -> Result<Page<Execution>> {
        self.pass("list_executions", self.inner.list_executions(query)).await
    }

    async fn list_logs(&self, id: &ExecutionId, skip: u64, limit: usize) -> Result<Vec<LogLine>> {
        self.pass("list_logs", self.inner.list_logs(id, skip, limit)).await
    }

    async fn delete_executions(&self, ids: &[ExecutionId]) -> Result<u64> {
        self.pass("delete_executions", self.inner.delete_executions(ids)).await
    }

    async fn prune(&self, request: PruneRequest) -> Result<u64> {
        self.pass("prune", self.inner.prune(request)).await
    }

    async fn counts(&self) -> Result<Counts> {
        self.pass("counts", self.inner.counts()).await
    }

    async fn diagnose(&self) -> Result<Vec<Check>> {
        self.pass("diagnose", self.inner.diagnose()).await
    }

    async fn import(&self, import: Import) -> Result<Imported> {
        self.pass("import", self.inner.import(import)).await
    }

    async fn close(&self) -> Result<()> {
        self.pass("close", self.inner.close()).await
    }
}
