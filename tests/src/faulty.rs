//! The store as a node sees it: calls that get lost, hang, come late, come twice, or kill the node.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;
use unified_scheduler_core::schedule::Calendar;
use unified_scheduler_core::store::{
    AuditEntry, AuditQuery, CancelOutcome, Check, ClaimOutcome, ClaimRequest, Claimed, CompleteOutcome,
    CompleteRequest, Counts, CreateJobs, CreateOutcome, ExecutionQuery, HeartbeatOutcome, HeartbeatRequest,
    Import, Imported, JobQuery, JoinRequest, Joined, Node, NodeRef, Page, Planner, PruneRequest, ReapRequest,
    Reaped, Report, Store, StoreDescription, TriggerOutcome, TriggerRequest, UpdateJob, UpdateOutcome,
};
use unified_scheduler_core::{Clock, Error, Execution, ExecutionId, Job, JobId, LogLine, Result, Timestamp};

use crate::faults::CallFault;
use crate::witness::{Witness, at_once};
use crate::world::Process;

/// What one process has in place of a database connection.
pub struct FaultyStore {
    process: Arc<Process>,
}

impl FaultyStore {
    /// The connection of `process`.
    pub fn new(process: Arc<Process>) -> Self {
        Self { process }
    }

    async fn call<T: Send + 'static>(
        &self,
        verb: &'static str,
        op: impl Fn(&Witness) -> Result<T> + Send + Sync + 'static,
    ) -> Result<T> {
        let process = &self.process;
        let world = &process.world;
        process.clock.awake().await;
        world.note_call().await;
        process.if_alive().await;
        if world.is_cut_off(process.slot) {
            world.count("call in a partition", verb);
            // One end of the line knows; the other waits.
            if world.draw(|r| r.in_thousand(500)) {
                return Err(lost());
            }
            return std::future::pending().await;
        }
        let Some(fault) = world.call_fault() else {
            let answer = world.commit(&op);
            process.clock.awake().await;
            process.if_alive().await;
            return answer;
        };
        world.count(fault.name(), verb);
        let sleep = |duration| world.clock.sleep(duration);
        let late = |delay, op: Operation<T>| {
            let world = Arc::clone(world);
            tokio::spawn(async move {
                world.clock.sleep(delay).await;
                // Nobody hears the answer.
                let _ = world.commit(&op);
            });
        };
        let answer = match fault {
            CallFault::Fail => Err(lost()),
            CallFault::LoseReply => world.commit(&op).and(Err(lost())),
            CallFault::Hang => std::future::pending().await,
            CallFault::HangAfter => {
                let _ = world.commit(&op);
                std::future::pending().await
            }
            CallFault::SlowRequest(delay) => {
                sleep(delay).await;
                world.commit(&op)
            }
            CallFault::SlowReply(delay) => {
                let answer = world.commit(&op);
                sleep(delay).await;
                answer
            }
            CallFault::Late(delay) => {
                late(delay, Box::new(op));
                std::future::pending().await
            }
            CallFault::Twice => world.commit(&op).and_then(|_| world.commit(&op)),
            CallFault::Again(delay) => {
                let answer = world.commit(&op);
                late(delay, Box::new(op));
                answer
            }
            CallFault::CrashBefore => {
                process.crash();
                std::future::pending().await
            }
            CallFault::CrashAfter => {
                let _ = world.commit(&op);
                process.crash();
                std::future::pending().await
            }
        };
        process.clock.awake().await;
        process.if_alive().await;
        answer
    }
}

type Operation<T> = Box<dyn Fn(&Witness) -> Result<T> + Send + Sync>;

fn lost() -> Error {
    Error::unavailable("the connection was lost")
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyStore").field("slot", &self.process.slot).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for FaultyStore {
    fn describe(&self) -> StoreDescription {
        self.process.world.witness.store.describe()
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.process.hints.subscribe()
    }

    async fn now(&self) -> Result<Timestamp> {
        self.call("now", |w| Ok(w.now())).await
    }

    async fn create_jobs(&self, request: CreateJobs) -> Result<CreateOutcome> {
        self.call("create_jobs", move |w| w.create_jobs(request.clone())).await
    }

    async fn update_job(&self, request: UpdateJob) -> Result<UpdateOutcome> {
        self.call("update_job", move |w| w.update_job(request.clone())).await
    }

    async fn delete_job(&self, id: &JobId, actor: &str) -> Result<bool> {
        let (id, actor) = (id.clone(), actor.to_owned());
        self.call("delete_job", move |w| w.delete_job(&id, &actor)).await
    }

    async fn get_job(&self, id: &JobId) -> Result<Option<Job>> {
        let id = id.clone();
        self.call("get_job", move |w| at_once(w.store.get_job(&id))).await
    }

    async fn list_jobs(&self, query: &JobQuery) -> Result<Page<Job>> {
        let query = query.clone();
        self.call("list_jobs", move |w| at_once(w.store.list_jobs(&query))).await
    }

    async fn put_calendar(&self, calendar: &Calendar) -> Result<()> {
        let calendar = calendar.clone();
        self.call("put_calendar", move |w| at_once(w.store.put_calendar(&calendar))).await
    }

    async fn delete_calendar(&self, name: &str) -> Result<bool> {
        let name = name.to_owned();
        self.call("delete_calendar", move |w| at_once(w.store.delete_calendar(&name))).await
    }

    async fn list_calendars(&self) -> Result<Vec<Calendar>> {
        self.call("list_calendars", |w| at_once(w.store.list_calendars())).await
    }

    async fn list_audit(&self, query: &AuditQuery) -> Result<Vec<AuditEntry>> {
        let query = query.clone();
        self.call("list_audit", move |w| at_once(w.store.list_audit(&query))).await
    }

    async fn claim(&self, request: ClaimRequest<'_>, _planner: &dyn Planner) -> Result<ClaimOutcome> {
        let (node, handlers, limit) = (request.node.clone(), request.handlers.clone(), request.limit);
        self.process.may_claim();
        self.call("claim", move |w| w.claim(&node, &handlers, limit)).await
    }

    async fn owned(&self, node: &NodeRef) -> Result<Vec<Claimed>> {
        let node = node.clone();
        self.call("owned", move |w| w.owned(&node)).await
    }

    async fn complete(&self, request: CompleteRequest<'_>) -> Result<Vec<CompleteOutcome>> {
        let (node, completions) = (request.node.clone(), request.completions.to_vec());
        self.call("complete", move |w| w.complete(&node, &completions)).await
    }

    async fn report(&self, node: &NodeRef, reports: &[Report]) -> Result<usize> {
        let (node, reports) = (node.clone(), reports.to_vec());
        self.call("report", move |w| w.report(&node, &reports)).await
    }

    async fn trigger(&self, request: TriggerRequest) -> Result<TriggerOutcome> {
        self.call("trigger", move |w| w.trigger(request.clone())).await
    }

    async fn cancel(&self, id: &ExecutionId, actor: &str) -> Result<CancelOutcome> {
        let (id, actor) = (*id, actor.to_owned());
        self.call("cancel", move |w| w.cancel(&id, &actor)).await
    }

    async fn join(&self, request: JoinRequest) -> Result<Joined> {
        self.call("join", move |w| w.join(request.clone())).await
    }

    async fn heartbeat(&self, request: HeartbeatRequest) -> Result<HeartbeatOutcome> {
        self.call("heartbeat", move |w| w.heartbeat(request.clone())).await
    }

    async fn leave(&self, node: &NodeRef) -> Result<()> {
        let node = node.clone();
        self.process.leaves();
        self.call("leave", move |w| w.leave(&node)).await
    }

    async fn reap(&self, request: ReapRequest, _planner: &dyn Planner) -> Result<Reaped> {
        self.call("reap", move |w| w.reap(request)).await
    }

    async fn list_nodes(&self) -> Result<Vec<Node>> {
        self.call("list_nodes", |w| at_once(w.store.list_nodes())).await
    }

    async fn get_execution(&self, id: &ExecutionId) -> Result<Option<Execution>> {
        let id = *id;
        self.call("get_execution", move |w| at_once(w.store.get_execution(&id))).await
    }

    async fn list_executions(&self, query: &ExecutionQuery) -> Result<Page<Execution>> {
        let query = query.clone();
        self.call("list_executions", move |w| at_once(w.store.list_executions(&query))).await
    }

    async fn list_logs(&self, id: &ExecutionId, skip: u64, limit: usize) -> Result<Vec<LogLine>> {
        let id = *id;
        self.call("list_logs", move |w| at_once(w.store.list_logs(&id, skip, limit))).await
    }

    async fn delete_executions(&self, ids: &[ExecutionId]) -> Result<u64> {
        let ids = ids.to_vec();
        self.call("delete_executions", move |w| at_once(w.store.delete_executions(&ids))).await
    }

    async fn prune(&self, request: PruneRequest) -> Result<u64> {
        self.call("prune", move |w| at_once(w.store.prune(request))).await
    }

    async fn counts(&self) -> Result<Counts> {
        self.call("counts", |w| at_once(w.store.counts())).await
    }

    async fn diagnose(&self) -> Result<Vec<Check>> {
        self.call("diagnose", |w| at_once(w.store.diagnose())).await
    }

    async fn import(&self, import: Import) -> Result<Imported> {
        self.call("import", move |w| at_once(w.store.import(import.clone()))).await
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}
