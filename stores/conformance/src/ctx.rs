//! What a case works with: a fresh store, its clock, and short words for the usual calls.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use unified_scheduler_core::clock::Clock;
use unified_scheduler_core::error::{Error, Result};
use unified_scheduler_core::execution::{Execution, Status, Trigger};
use unified_scheduler_core::id::{ExecutionId, IdSource, JobId, NodeId};
use unified_scheduler_core::job::{Job, JobDefinition};
use unified_scheduler_core::plan::EnginePlanner;
use unified_scheduler_core::schedule::Schedule;
use unified_scheduler_core::settle::{Ending, settle};
use unified_scheduler_core::store::{
    AuditEntry, AuditQuery, ClaimBatch, ClaimOutcome, ClaimRequest, Claimed, CompleteOutcome,
    CompleteRequest, Completion, CreateJobs, CreateOutcome, ExecutionQuery, ExecutionSort, HeartbeatOutcome,
    HeartbeatRequest, JoinRequest, MemoryStore, NewExecution, NodeInfo, NodeRef, Planner, ReapRequest,
    Reaped, Store, TriggerOutcome, TriggerRequest, UpdateJob, UpdateOutcome,
};
use unified_scheduler_core::time::Timestamp;

use crate::backend::{Backend, Fixture};

/// The handler of every job, unless a case says otherwise.
pub(crate) const HANDLER: &str = "work";

/// The period of every job, unless a case says otherwise.
pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// A lease that does not run out by itself during a case.
pub(crate) const LONG: Duration = Duration::from_secs(10 * 365 * 86_400);

/// What a case works with.
pub struct Ctx<'a> {
    backend: &'a dyn Backend,
    fixture: Fixture,
    pub(crate) ids: Arc<IdSource>,
    pub(crate) planner: EnginePlanner,
}

impl fmt::Debug for Ctx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ctx").field("fixture", &self.fixture).finish_non_exhaustive()
    }
}

impl<'a> Ctx<'a> {
    /// A fresh store of `backend`, at a fixed time with odd milliseconds.
    ///
    /// # Errors
    ///
    /// What prevents a fresh store.
    pub async fn new(backend: &'a dyn Backend) -> Result<Self> {
        let fixture = backend.fresh().await?;
        let ids = Arc::new(IdSource::seeded(20_260_329));
        let planner = EnginePlanner::new(Arc::clone(&ids));
        Ok(Self { backend, fixture, ids, planner })
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &*self.fixture.store
    }

    /// The store, for another task.
    pub(crate) fn shared(&self) -> Arc<dyn Store> {
        Arc::clone(&self.fixture.store)
    }

    /// A store in memory on the same clock: another database.
    pub(crate) fn elsewhere(&self) -> Ctx<'a> {
        let clock = self.fixture.clock.clone();
        let store = Arc::new(MemoryStore::with_clock(Arc::new(clock.clone())));
        let fixture = Fixture { store, clock, keep: Box::new(()) };
        Ctx { backend: self.backend, fixture, ids: Arc::clone(&self.ids), planner: self.planner.clone() }
    }

    /// Another handle on the same data.
    pub(crate) async fn other(&self) -> Result<Arc<dyn Store>> {
        let other = self.backend.reopen(&self.fixture).await?;
        other.ok_or_else(|| Error::unsupported("this backend can't open its data a second time"))
    }

    // ---- time ----

    /// Steps the store's clock, without any time going by.
    pub(crate) fn step(&self, millis: i64) {
        self.fixture.clock.step_wall(millis);
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.fixture.clock.now()
    }

    pub(crate) fn advance(&self, duration: Duration) {
        self.fixture.clock.advance(duration);
    }

    /// An id made now.
    pub(crate) fn id(&self) -> ExecutionId {
        self.ids.execution(self.now())
    }

    // ---- jobs ----

    /// A job that is due now and then every minute; not stored.
    pub(crate) fn job(&self, name: &str) -> Job {
        self.job_with(name, Schedule::every(MINUTE), |_| {})
    }

    /// A job that only runs when asked to; not stored.
    pub(crate) fn manual_job(&self, name: &str) -> Job {
        self.job_with(name, Schedule::manual(), |_| {})
    }

    /// A job with a changed definition; not stored.
    pub(crate) fn job_with(
        &self,
        name: &str,
        schedule: Schedule,
        change: impl FnOnce(&mut JobDefinition),
    ) -> Job {
        let mut definition = JobDefinition::new(name, HANDLER, schedule);
        change(&mut definition);
        Job::new(JobId::from(format!("job-{name}")), definition, self.now())
    }

    /// Stores `job`.
    pub(crate) async fn create(&self, job: Job) -> Result<Job> {
        let jobs = vec![job.clone()];
        let outcome = self.create_all(jobs).await?;
        assert_eq!(outcome, CreateOutcome::Created);
        Ok(job)
    }

    pub(crate) async fn create_all(&self, jobs: Vec<Job>) -> Result<CreateOutcome> {
        self.store().create_jobs(CreateJobs { jobs, unique_names: false, actor: "tester".to_owned() }).await
    }

    /// The job as stored; it must be there.
    pub(crate) async fn get(&self, id: &JobId) -> Result<Job> {
        self.store().get_job(id).await?.ok_or_else(|| Error::not_found("job", id))
    }

    /// Changes a job from its present version; that must succeed.
    pub(crate) async fn update(
        &self,
        id: &JobId,
        action: &str,
        change: impl FnOnce(&mut UpdateJob),
    ) -> Result<Job> {
        let mut request = UpdateJob::new(&self.get(id).await?, "tester", action);
        change(&mut request);
        match self.store().update_job(request).await? {
            UpdateOutcome::Updated(job) => Ok(*job),
            other => Err(Error::conflict(format!("the edit gave {other:?}"))),
        }
    }

    /// The audit of a job, oldest first.
    pub(crate) async fn audit(&self, id: &JobId) -> Result<Vec<AuditEntry>> {
        let query = AuditQuery { job_id: Some(id.clone()), ..AuditQuery::default() };
        let mut entries = self.store().list_audit(&query).await?;
        entries.reverse();
        Ok(entries)
    }

    // ---- nodes ----

    /// A node whose lease does not run out during the case.
    pub(crate) async fn join(&self, name: &str) -> Result<NodeRef> {
        self.join_for(name, LONG).await
    }

    pub(crate) async fn join_for(&self, name: &str, ttl: Duration) -> Result<NodeRef> {
        let id = NodeId::from(name);
        let request = JoinRequest { id: id.clone(), ttl, info: NodeInfo::default() };
        let joined = self.store().join(request).await?;
        Ok(NodeRef { id, epoch: joined.epoch })
    }

    pub(crate) async fn heartbeat(&self, node: &NodeRef, ttl: Duration) -> Result<HeartbeatOutcome> {
        let request = HeartbeatRequest { node: node.clone(), ttl, info: NodeInfo::default() };
        self.store().heartbeat(request).await
    }

    /// Reaps without grace, with room for everything.
    pub(crate) async fn reap(&self) -> Result<Reaped> {
        self.store().reap(ReapRequest { grace: Duration::ZERO, limit: 1000 }, &self.planner).await
    }

    /// Makes a node dead by taking it out; what it ran stays to be reaped.
    pub(crate) async fn kill(&self, node: &NodeRef) -> Result<()> {
        self.store().leave(node).await
    }

    // ---- claims ----

    /// Claims of [`HANDLER`], once.
    pub(crate) async fn claim(&self, node: &NodeRef, limit: usize) -> Result<ClaimBatch> {
        self.claim_with(node, limit, &self.planner).await
    }

    pub(crate) async fn claim_with(
        &self,
        node: &NodeRef,
        limit: usize,
        planner: &dyn Planner,
    ) -> Result<ClaimBatch> {
        claim_on(self.store(), node, &[HANDLER], limit, planner).await
    }

    pub(crate) async fn claim_of(
        &self,
        node: &NodeRef,
        handlers: &[&str],
        limit: usize,
    ) -> Result<ClaimBatch> {
        claim_on(self.store(), node, handlers, limit, &self.planner).await
    }

    /// Whether a claim of this node is refused.
    pub(crate) async fn is_refused(&self, node: &NodeRef) -> Result<bool> {
        let handlers = names(&[HANDLER]);
        let request = ClaimRequest { node, handlers: &handlers, limit: 10 };
        Ok(matches!(self.store().claim(request, &self.planner).await?, ClaimOutcome::Refused))
    }

    /// Claims one execution; there must be exactly one.
    pub(crate) async fn claim_one(&self, node: &NodeRef) -> Result<Claimed> {
        let batch = self.claim(node, 10).await?;
        let due = claimed_jobs(&batch);
        assert_eq!(due.len(), 1, "one execution is due, of {due:?}; skipped {}", batch.skipped.len());
        batch.claimed.into_iter().next().ok_or_else(|| Error::internal("counted above"))
    }

    /// A stored job with one running execution.
    pub(crate) async fn running(&self, name: &str, node: &NodeRef) -> Result<Claimed> {
        self.create(self.job(name)).await?;
        self.claim_one(node).await
    }

    // ---- completions ----

    /// The end of `claimed`, with all that follows, now.
    pub(crate) fn ending(&self, claimed: &Claimed, status: Status) -> Completion {
        let ending = Ending::new(status, self.now());
        settle(Some(&claimed.job), &claimed.execution, ending, &self.ids)
    }

    pub(crate) async fn complete(
        &self,
        node: &NodeRef,
        completions: &[Completion],
    ) -> Result<Vec<CompleteOutcome>> {
        self.store().complete(CompleteRequest { node, completions }).await
    }

    /// Ends `claimed`; the store must take it.
    pub(crate) async fn end(&self, node: &NodeRef, claimed: &Claimed, status: Status) -> Result<Execution> {
        let outcomes = self.complete(node, &[self.ending(claimed, status)]).await?;
        assert!(matches!(outcomes[..], [CompleteOutcome::Applied { .. }]), "{outcomes:?}");
        self.execution(&claimed.execution.id).await
    }

    // ---- triggers ----

    /// A manual execution of a job, for now.
    pub(crate) fn manual(&self, job: &JobId) -> NewExecution {
        let (id, now) = (self.id(), self.now());
        NewExecution {
            id,
            job_id: job.clone(),
            trigger: Trigger::Manual,
            triggered_by: "manual:tester".to_owned(),
            due_at: now,
            covers_until: None,
            n_occurrences: 1,
            run_at: now,
            attempt: 1,
            retries: 0,
            crashes: 0,
            root_id: id,
            nonce: id.to_string(),
            parameters: None,
        }
    }

    /// Asks for an execution of a job now; it must be a new one.
    pub(crate) async fn trigger(&self, job: &JobId) -> Result<Execution> {
        self.trigger_new(self.manual(job)).await
    }

    /// Asks for this execution; it must be a new one.
    pub(crate) async fn trigger_new(&self, execution: NewExecution) -> Result<Execution> {
        let request = TriggerRequest { execution, idempotency_key: None, unless_open: false };
        match self.store().trigger(request).await? {
            TriggerOutcome::Created(execution) => Ok(*execution),
            other => Err(Error::conflict(format!("the trigger gave {other:?}"))),
        }
    }

    // ---- history ----

    /// The execution as stored; it must be there.
    pub(crate) async fn execution(&self, id: &ExecutionId) -> Result<Execution> {
        self.store().get_execution(id).await?.ok_or_else(|| Error::not_found("execution", id))
    }

    /// Every execution of a job, by due time, then attempt.
    pub(crate) async fn executions(&self, job: &JobId) -> Result<Vec<Execution>> {
        let query = ExecutionQuery {
            job_id: Some(job.clone()),
            sort: ExecutionSort::DueAt,
            limit: 10_000,
            ..ExecutionQuery::default()
        };
        Ok(self.store().list_executions(&query).await?.items)
    }
}

/// Claims once on `store`; refusal is an error.
pub(crate) async fn claim_on(
    store: &dyn Store,
    node: &NodeRef,
    handlers: &[&str],
    limit: usize,
    planner: &dyn Planner,
) -> Result<ClaimBatch> {
    let handlers = names(handlers);
    match store.claim(ClaimRequest { node, handlers: &handlers, limit }, planner).await? {
        ClaimOutcome::Claimed(batch) => Ok(*batch),
        ClaimOutcome::Refused => Err(Error::conflict("the claim was refused")),
    }
}

pub(crate) fn names(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

/// The ids of the jobs that were claimed, in order.
pub(crate) fn claimed_jobs(batch: &ClaimBatch) -> Vec<&str> {
    batch.claimed.iter().map(|claimed| claimed.execution.job_id.as_str()).collect()
}
