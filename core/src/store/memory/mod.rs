//! The reference store: everything in this process, in ordered maps, gone when it ends.
//!
//! It is for tests, for the simulation and for applications that need no history. It answers the same
//! to the same calls in the same order (no hashing, no threads, no time but its clock's), and the cost of
//! a claim grows with what is due: see [`ready::Ready`].
//!
//! One lock holds the whole [`State`]; each verb takes it once, and never across an await.

mod audit;
mod claim;
mod complete;
mod executions;
mod history;
mod import;
mod jobs;
mod list;
mod nodes;
mod ready;
mod trigger;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;

use self::audit::Audit;
use self::executions::Executions;
use self::jobs::Jobs;
use self::nodes::Nodes;
use super::{
    AuditEntry, AuditQuery, CancelOutcome, Check, CheckLevel, ClaimOutcome, ClaimRequest, Claimed,
    CompleteOutcome, CompleteRequest, Completion, Counts, CreateJobs, CreateOutcome, ExecutionQuery,
    HeartbeatOutcome, HeartbeatRequest, Import, Imported, JobQuery, JoinRequest, Joined, Node, NodeRef, Page,
    Planner, PruneRequest, ReapRequest, Reaped, Report, Store, StoreDescription, TriggerOutcome,
    TriggerRequest, UpdateJob, UpdateOutcome,
};
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, Result};
use crate::execution::{Execution, LogLine};
use crate::id::{ExecutionId, JobId};
use crate::job::Job;
use crate::schedule::Calendar;
use crate::time::Timestamp;

/// A store in memory.
pub struct MemoryStore {
    shared: Arc<Shared>,
    closed: AtomicBool,
}

struct Shared {
    clock: Arc<dyn Clock>,
    hints: watch::Sender<u64>,
    state: Mutex<State>,
}

/// Everything that the store holds.
#[derive(Default)]
struct State {
    jobs: Jobs,
    executions: Executions,
    nodes: Nodes,
    audit: Audit,
    /// Whether the step under way has made something due.
    hint: bool,
}

impl MemoryStore {
    /// An empty store on this machine's clock.
    pub fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock::new()))
    }

    /// An empty store that takes its time from `clock`.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        let shared = Shared { clock, hints: watch::Sender::new(0), state: Mutex::default() };
        Self { shared: Arc::new(shared), closed: AtomicBool::new(false) }
    }

    /// Another handle on the same data, as another process would have on a database: it is closed on
    /// its own.
    #[must_use]
    pub fn handle(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), closed: AtomicBool::new(false) }
    }

    /// Runs one verb as one atomic step.
    fn step<R>(&self, verb: impl FnOnce(&mut State, Timestamp) -> R) -> Result<R> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::stopped("the store is closed"));
        }
        let (answer, hint) = {
            let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
            let answer = verb(&mut state, self.shared.clock.now());
            (answer, std::mem::take(&mut state.hint))
        };
        if hint {
            self.shared.hints.send_modify(|n| *n = n.wrapping_add(1));
        }
        Ok(answer)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn describe(&self) -> StoreDescription {
        StoreDescription {
            kind: "memory".to_owned(),
            location: "memory:".to_owned(),
            shared: false,
            durable: false,
        }
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.shared.hints.subscribe()
    }

    async fn now(&self) -> Result<Timestamp> {
        self.step(|_, now| now)
    }

    async fn create_jobs(&self, request: CreateJobs) -> Result<CreateOutcome> {
        self.step(|state, now| state.create_jobs(request, now))
    }

    async fn update_job(&self, request: UpdateJob) -> Result<UpdateOutcome> {
        self.step(|state, now| state.update_job(&request, now))
    }

    async fn delete_job(&self, id: &JobId, actor: &str) -> Result<bool> {
        self.step(|state, now| state.delete_job(id, actor, now))
    }

    async fn get_job(&self, id: &JobId) -> Result<Option<Job>> {
        self.step(|state, _| state.jobs.get(id).cloned())
    }

    async fn list_jobs(&self, query: &JobQuery) -> Result<Page<Job>> {
        query.check()?;
        self.step(|state, _| state.jobs.list(query))
    }

    async fn put_calendar(&self, calendar: &Calendar) -> Result<()> {
        self.step(|state, _| {
            state.jobs.put_calendar(calendar.clone());
            state.hint = true;
        })
    }

    async fn delete_calendar(&self, name: &str) -> Result<bool> {
        self.step(|state, _| {
            let gone = state.jobs.delete_calendar(name);
            state.hint |= gone;
            gone
        })
    }

    async fn list_calendars(&self) -> Result<Vec<Calendar>> {
        self.step(|state, _| state.jobs.calendars())
    }

    async fn list_audit(&self, query: &AuditQuery) -> Result<Vec<AuditEntry>> {
        self.step(|state, _| state.audit.list(query))
    }

    async fn claim(&self, request: ClaimRequest<'_>, planner: &dyn Planner) -> Result<ClaimOutcome> {
        self.step(|state, now| state.claim(request, planner, now))
    }

    async fn owned(&self, node: &NodeRef) -> Result<Vec<Claimed>> {
        self.step(|state, _| state.owned(node))
    }

    async fn complete(&self, request: CompleteRequest<'_>) -> Result<Vec<CompleteOutcome>> {
        Completion::check(request.completions)?;
        self.step(|state, now| state.complete(request, now))
    }

    async fn report(&self, node: &NodeRef, reports: &[Report]) -> Result<usize> {
        self.step(|state, _| state.report(node, reports))
    }

    async fn trigger(&self, request: TriggerRequest) -> Result<TriggerOutcome> {
        self.step(|state, now| state.trigger(request, now))?
    }

    async fn cancel(&self, id: &ExecutionId, actor: &str) -> Result<CancelOutcome> {
        self.step(|state, now| state.cancel(id, actor, now))
    }

    async fn join(&self, request: JoinRequest) -> Result<Joined> {
        self.step(|state, now| state.nodes.join(request, now))
    }

    async fn heartbeat(&self, request: HeartbeatRequest) -> Result<HeartbeatOutcome> {
        self.step(|state, now| state.heartbeat(request, now))
    }

    async fn leave(&self, node: &NodeRef) -> Result<()> {
        self.step(|state, now| state.nodes.leave(node, now))
    }

    async fn reap(&self, request: ReapRequest, planner: &dyn Planner) -> Result<Reaped> {
        self.step(|state, now| state.reap(request, planner, now))
    }

    async fn list_nodes(&self) -> Result<Vec<Node>> {
        self.step(|state, now| state.nodes.list(now))
    }

    async fn get_execution(&self, id: &ExecutionId) -> Result<Option<Execution>> {
        self.step(|state, _| state.executions.get(id).cloned())
    }

    async fn list_executions(&self, query: &ExecutionQuery) -> Result<Page<Execution>> {
        self.step(|state, _| state.executions.list(query))?
    }

    async fn list_logs(&self, id: &ExecutionId, skip: u64, limit: usize) -> Result<Vec<LogLine>> {
        self.step(|state, _| {
            let skip = usize::try_from(skip).unwrap_or(usize::MAX);
            state.executions.logs(id).iter().skip(skip).take(limit).cloned().collect()
        })
    }

    async fn delete_executions(&self, ids: &[ExecutionId]) -> Result<u64> {
        self.step(|state, _| state.delete_executions(ids))
    }

    async fn prune(&self, request: PruneRequest) -> Result<u64> {
        self.step(|state, now| state.prune(request, now))
    }

    async fn import(&self, import: Import) -> Result<Imported> {
        import.check()?;
        self.step(|state, _| state.import(import))
    }

    async fn counts(&self) -> Result<Counts> {
        self.step(|state, now| state.counts(now))
    }

    async fn diagnose(&self) -> Result<Vec<Check>> {
        let held = self.step(|state, _| (state.jobs.len(), state.executions.len()))?;
        Ok(vec![Check::new(
            "store",
            CheckLevel::Warning,
            format!("{} jobs and {} executions, in memory: they go when the process ends", held.0, held.1),
        )])
    }

    async fn close(&self) -> Result<()> {
        self.closed.store(true, Ordering::Release);
        Ok(())
    }
}
