//! What happens between the two halves of a claim: a node that ends, an edit, a run that begins.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use unified_scheduler_core::clock::ManualClock;
use unified_scheduler_core::execution::Trigger;
use unified_scheduler_core::plan::EnginePlanner;
use unified_scheduler_core::schedule::Calendars;
use unified_scheduler_core::store::{
    ClaimBatch, ClaimOutcome, ClaimRequest, Completion, CreateJobs, CreateOutcome, JoinRequest, Live,
    NewExecution, NodeInfo, NodeRef, Plan, Planner, Store, TriggerOutcome, TriggerRequest, UpdateJob,
    UpdateOutcome,
};
use unified_scheduler_core::{
    Epoch, Execution, IdSource, Job, JobDefinition, NodeId, Result, Schedule, Timestamp,
};
use unified_scheduler_redis::{RedisConfig, RedisStore};

use crate::server::Server;

/// Asks the engine's planner, and does something else first: between the two halves of a claim.
struct Between<F> {
    engine: EnginePlanner,
    first: F,
}

impl<F: Fn() + Send + Sync> Planner for Between<F> {
    fn plan(&self, job: &Job, live: Live, now: Timestamp, calendars: &Calendars) -> Plan {
        (self.first)();
        self.engine.plan(job, live, now, calendars)
    }

    fn lost(&self, job: Option<&Job>, execution: &Execution, now: Timestamp) -> Completion {
        self.engine.lost(job, execution, now)
    }
}

/// A server with one job that is due, a clock that moves by hand, and a node.
struct Bench {
    server: Server,
    clock: ManualClock,
    store: Arc<RedisStore>,
    node: NodeRef,
    engine: EnginePlanner,
}

impl Bench {
    /// With one node nothing is held between the halves; with two, the jobs are.
    async fn new(n_nodes: usize) -> Self {
        let server = Server::start(&[]);
        let start = Timestamp::from_millis(1_800_000_000_123);
        let clock = ManualClock::at(start);
        let config = RedisConfig::from_url(&server.url("")).expect("a URL").clock(Arc::new(clock.clone()));
        let store = Arc::new(RedisStore::open(config).await.expect("opens"));
        let definition = JobDefinition::new("due", "work", Schedule::every(Duration::from_secs(3600)));
        let jobs = vec![Job::new("due".into(), definition, start)];
        let request = CreateJobs { jobs, unique_names: true, actor: "tester".to_owned() };
        assert_eq!(store.create_jobs(request).await.expect("stored"), CreateOutcome::Created);
        let mut node = NodeRef { id: NodeId::from(""), epoch: Epoch(0) };
        for name in ["other", "node"].into_iter().rev().take(n_nodes).rev() {
            let id = NodeId::from(name);
            let request =
                JoinRequest { id: id.clone(), ttl: Duration::from_secs(600), info: NodeInfo::default() };
            node = NodeRef { epoch: store.join(request).await.expect("joins").epoch, id };
        }
        let ids = Arc::new(IdSource::new());
        Self { server, clock, store, node, engine: EnginePlanner::new(ids) }
    }

    async fn claim(&self, planner: &dyn Planner) -> Result<ClaimBatch> {
        let handlers = BTreeSet::from(["work".to_owned()]);
        let request = ClaimRequest { node: &self.node, handlers: &handlers, limit: 10 };
        match self.store.claim(request, planner).await? {
            ClaimOutcome::Claimed(batch) => Ok(*batch),
            ClaimOutcome::Refused => panic!("refused"),
        }
    }
}

/// What is claimed after the connection was cut between the halves of a claim.
async fn claim_after_a_cut(bench: &Bench) -> ClaimBatch {
    let cut = || bench.server.command(&["CLIENT", "KILL", "TYPE", "normal"]);
    let planner = Between { engine: bench.engine.clone(), first: cut };
    assert!(bench.claim(&planner).await.is_err(), "the connection was cut before the second half");
    loop {
        // The connection is made anew.
        if let Ok(batch) = bench.claim(&bench.engine).await {
            return batch;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_node_that_ends_between_the_halves_of_a_claim_delays_its_jobs_by_seconds() {
    let bench = Bench::new(2).await;
    assert_eq!(claim_after_a_cut(&bench).await.claimed.len(), 0, "it is held");
    bench.clock.advance(Duration::from_secs(6));
    assert_eq!(bench.claim(&bench.engine).await.expect("claims").claimed.len(), 1, "and comes back");
}

#[tokio::test]
async fn a_node_that_is_alone_and_loses_its_connection_between_the_halves_claims_again_at_once() {
    let bench = Bench::new(1).await;
    assert_eq!(claim_after_a_cut(&bench).await.claimed.len(), 1);
}

/// Does something the first time only: what was planned in vain is planned again.
fn once(what: impl Fn() + Send + Sync) -> impl Fn() + Send + Sync {
    let done = AtomicBool::new(false);
    move || {
        if !done.swap(true, Ordering::Relaxed) {
            what();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_between_the_halves_of_a_claim_wins() {
    for n_nodes in [1, 2] {
        edit_between(Bench::new(n_nodes).await).await;
    }
}

async fn edit_between(bench: Bench) {
    let edit = || {
        let store = Arc::clone(&bench.store);
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                let job = store.get_job(&"due".into()).await.expect("answers").expect("is there");
                let mut edit = UpdateJob::new(&job, "tester", "updated");
                edit.skip_next = Some(1);
                let outcome = store.update_job(edit).await.expect("answers");
                assert!(matches!(outcome, UpdateOutcome::Updated(_)));
            });
        });
    };
    let planner = Between { engine: bench.engine.clone(), first: once(edit) };
    let batch = bench.claim(&planner).await.expect("claims");
    assert_eq!((batch.claimed.len(), batch.skipped.len()), (0, 1), "by the definition as it is now");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_begins_between_the_halves_of_a_claim_counts_for_the_overlap() {
    for n_nodes in [1, 2] {
        begin_between(Bench::new(n_nodes).await).await;
    }
}

async fn begin_between(bench: Bench) {
    let begin = || {
        let (store, node) = (Arc::clone(&bench.store), bench.node.clone());
        let id = IdSource::new().execution(Timestamp::from_millis(1_800_000_000_123));
        let execution = NewExecution {
            id,
            job_id: "due".into(),
            trigger: Trigger::Manual,
            triggered_by: "manual:tester".to_owned(),
            due_at: Timestamp::from_millis(1_800_000_000_123),
            covers_until: None,
            n_occurrences: 1,
            run_at: Timestamp::from_millis(1_800_000_000_123),
            attempt: 1,
            retries: 0,
            crashes: 0,
            root_id: id,
            nonce: id.to_string(),
            parameters: None,
        };
        let request = TriggerRequest { execution, idempotency_key: None, unless_open: true };
        let engine = bench.engine.clone();
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                let outcome = store.trigger(request).await.expect("answers");
                assert!(matches!(outcome, TriggerOutcome::Created(_)));
                let handlers = BTreeSet::from(["work".to_owned()]);
                let request = ClaimRequest { node: &node, handlers: &handlers, limit: 1 };
                let outcome = store.claim(request, &engine).await.expect("claims");
                assert!(matches!(outcome, ClaimOutcome::Claimed(b) if b.claimed.len() == 1));
            });
        });
    };
    let planner = Between { engine: bench.engine.clone(), first: once(begin) };
    let batch = bench.claim(&planner).await.expect("claims");
    assert_eq!((batch.claimed.len(), batch.skipped.len()), (0, 1), "skipped, since the other one runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_that_never_pause_do_not_keep_other_jobs_from_being_claimed() {
    let bench = Bench::new(1).await;
    let start = Timestamp::from_millis(1_800_000_000_123);
    let definition = JobDefinition::new("edited", "work", Schedule::manual());
    let jobs = vec![Job::new("edited".into(), definition, start)];
    let request = CreateJobs { jobs, unique_names: true, actor: "tester".to_owned() };
    assert_eq!(bench.store.create_jobs(request).await.expect("stored"), CreateOutcome::Created);
    let edit = || {
        let store = Arc::clone(&bench.store);
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                let job = store.get_job(&"edited".into()).await.expect("answers").expect("is there");
                let mut edit = UpdateJob::new(&job, "tester", "updated");
                edit.enabled = Some(!job.enabled);
                assert!(matches!(store.update_job(edit).await, Ok(UpdateOutcome::Updated(_))));
            });
        });
    };
    let batch = bench.claim(&Between { engine: bench.engine.clone(), first: edit }).await.expect("claims");
    assert_eq!(batch.claimed.len(), 1, "in one claim: {batch:?}");
}
