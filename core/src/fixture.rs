//! A store in memory with a node on it, driven by hand: for the tests of what reads and edits it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, ManualClock};
use crate::execution::{Execution, Status};
use crate::id::{ExecutionId, IdSource, JobId};
use crate::job::{Job, JobDefinition};
use crate::jobs::Jobs;
use crate::plan::EnginePlanner;
use crate::schedule::Schedule;
use crate::settle::{Ending, settle};
use crate::store::{
    ClaimBatch, ClaimOutcome, ClaimRequest, CompleteRequest, ExecutionQuery, ExecutionSort, JoinRequest,
    MemoryStore, NodeInfo, NodeRef, ReapRequest, Store,
};
use crate::time::Timestamp;

/// What all jobs of the fixture run.
pub(crate) const HANDLER: &str = "handler";

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// A Thursday.
pub(crate) const START: Timestamp = Timestamp::from_secs(1_767_225_600);

/// That many minutes after the start.
pub(crate) fn at(minutes: u32) -> Timestamp {
    START.saturating_add(MINUTE * minutes)
}

pub(crate) fn definition(name: &str, schedule: Schedule) -> JobDefinition {
    JobDefinition::new(name, HANDLER, schedule)
}

/// The store, its clock and its one node.
pub(crate) struct Fixture {
    pub(crate) clock: ManualClock,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) jobs: Jobs,
    pub(crate) node: NodeRef,
    ids: Arc<IdSource>,
    planner: EnginePlanner,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let clock = ManualClock::at(START);
        let store = Arc::new(MemoryStore::with_clock(Arc::new(clock.clone())));
        let ids = Arc::new(IdSource::seeded(1));
        let node = join(&store, &ids).await;
        let planner = EnginePlanner::new(Arc::clone(&ids));
        let jobs = Jobs::of(store.clone(), None);
        Self { clock, store, jobs, node, ids, planner }
    }

    /// Moves the clock to that many minutes after the start.
    pub(crate) fn go_to(&self, minutes: u32) {
        self.clock.advance(at(minutes).since(self.clock.now()));
    }

    pub(crate) async fn job(&self, id: &JobId) -> Job {
        self.store.get_job(id).await.unwrap().unwrap()
    }

    /// Takes what is due, and what is queued.
    pub(crate) async fn claim(&self) -> ClaimBatch {
        let handlers = BTreeSet::from([HANDLER.to_owned()]);
        let request = ClaimRequest { node: &self.node, handlers: &handlers, limit: 100 };
        match self.store.claim(request, &self.planner).await.unwrap() {
            ClaimOutcome::Claimed(batch) => *batch,
            ClaimOutcome::Refused => panic!("the node is not a member"),
        }
    }

    /// Ends everything that was claimed.
    pub(crate) async fn end(&self, batch: &ClaimBatch, status: Status) {
        let now = self.clock.now();
        let completions: Vec<_> = batch
            .claimed
            .iter()
            .map(|c| settle(Some(&c.job), &c.execution, Ending::new(status, now), &self.ids))
            .collect();
        let request = CompleteRequest { node: &self.node, completions: &completions };
        self.store.complete(request).await.map(drop).unwrap();
    }

    /// Claims at that minute until nothing is left to start, each ending well at once.
    pub(crate) async fn run_at(&self, minutes: u32) {
        self.go_to(minutes);
        loop {
            let batch = self.claim().await;
            self.end(&batch, Status::Success).await;
            if batch.claimed.is_empty() && !batch.more {
                return;
            }
        }
    }

    /// The same at each minute of a range.
    pub(crate) async fn run_through(&self, minutes: std::ops::RangeInclusive<u32>) {
        for minute in minutes {
            self.run_at(minute).await;
        }
    }

    /// The executions of a job, by due time.
    pub(crate) async fn executions(&self, id: &JobId) -> Vec<Execution> {
        let query = ExecutionQuery {
            job_id: Some(id.clone()),
            sort: ExecutionSort::DueAt,
            limit: 10_000,
            ..ExecutionQuery::default()
        };
        self.store.list_executions(&query).await.unwrap().items
    }

    /// Takes the record of the occurrence at that minute out of the history.
    pub(crate) async fn remove(&self, id: &JobId, minutes: u32) {
        let all = self.executions(id).await;
        let gone: Vec<ExecutionId> = all.iter().filter(|e| e.due_at == at(minutes)).map(|e| e.id).collect();
        assert_eq!(self.store.delete_executions(&gone).await.unwrap(), gone.len() as u64);
        assert!(!gone.is_empty(), "nothing to remove at minute {minutes}");
    }

    /// Lets the node die, reaps it, and enters another in its place.
    pub(crate) async fn crash(&mut self) {
        self.store.leave(&self.node).await.unwrap();
        let request = ReapRequest { grace: Duration::ZERO, limit: 100 };
        self.store.reap(request, &self.planner).await.unwrap();
        self.node = join(&self.store, &self.ids).await;
    }
}

async fn join(store: &MemoryStore, ids: &IdSource) -> NodeRef {
    let id = ids.node("node");
    let info = NodeInfo { handlers: vec![HANDLER.to_owned()], concurrency: 9, ..NodeInfo::default() };
    let request = JoinRequest { id: id.clone(), ttl: Duration::from_hours(10_000), info };
    let joined = store.join(request).await.unwrap();
    NodeRef { id, epoch: joined.epoch }
}
