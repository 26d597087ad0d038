//! What the store says and does when the server is not as it should be.

mod bad_data;
mod cluster;
mod halves;
mod server;
mod settings;
mod tls;
mod trips;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use unified_scheduler_core::plan::EnginePlanner;
use unified_scheduler_core::settle::{Ending, settle};
use unified_scheduler_core::store::{
    ClaimBatch, ClaimOutcome, ClaimRequest, Claimed, CompleteOutcome, CompleteRequest, CreateJobs,
    CreateOutcome, JoinRequest, NodeInfo, NodeRef, Store,
};
use unified_scheduler_core::{
    ErrorKind, IdSource, Job, JobDefinition, NodeId, Result, Schedule, Status, Timestamp,
};
use unified_scheduler_redis::{RedisConfig, RedisStore};

use crate::server::{Server, free_port};

async fn open(url: &str) -> Result<RedisStore> {
    RedisStore::open(RedisConfig::from_url(url)?.timeout(Duration::from_secs(5))).await
}

async fn create(store: &dyn Store, name: &str) -> Result<CreateOutcome> {
    let definition = JobDefinition::new(name, "work", Schedule::manual());
    let job = Job::new(name.into(), definition, Timestamp::from_millis(1_700_000_000_000));
    store.create_jobs(CreateJobs { jobs: vec![job], unique_names: true, actor: "tester".to_owned() }).await
}

/// Asks until the answer is as it should be.
pub(crate) fn until<T: std::fmt::Debug>(mut ask: impl FnMut() -> T, is_right: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let answer = ask();
        if is_right(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "still {answer:?}");
        std::thread::yield_now();
    }
}

/// A job that is due every minute, for the first time at `first`.
pub(crate) fn job(name: &str, first: Timestamp) -> Job {
    let definition = JobDefinition::new(name, "work", Schedule::every(Duration::from_secs(60)));
    Job::new(name.into(), definition, first)
}

pub(crate) async fn store_jobs(store: &dyn Store, jobs: Vec<Job>) {
    let request = CreateJobs { jobs, unique_names: true, actor: "tester".to_owned() };
    assert_eq!(store.create_jobs(request).await.expect("stored"), CreateOutcome::Created);
}

/// A node that claims the jobs made by [`job`], and ends what it claims.
pub(crate) struct Worker {
    pub(crate) node: NodeRef,
    pub(crate) planner: EnginePlanner,
    ids: Arc<IdSource>,
}

impl Worker {
    pub(crate) async fn join(store: &dyn Store) -> Self {
        let id = NodeId::from("node");
        let request =
            JoinRequest { id: id.clone(), ttl: Duration::from_secs(600), info: NodeInfo::default() };
        let node = NodeRef { id, epoch: store.join(request).await.expect("joins").epoch };
        let ids = Arc::new(IdSource::new());
        Self { node, planner: EnginePlanner::new(Arc::clone(&ids)), ids }
    }

    pub(crate) async fn claim(&self, store: &dyn Store, limit: usize) -> Result<ClaimBatch> {
        let handlers = BTreeSet::from(["work".to_owned()]);
        let request = ClaimRequest { node: &self.node, handlers: &handlers, limit };
        match store.claim(request, &self.planner).await? {
            ClaimOutcome::Claimed(batch) => Ok(*batch),
            ClaimOutcome::Refused => panic!("refused"),
        }
    }

    pub(crate) async fn complete(
        &self,
        store: &dyn Store,
        claimed: &[Claimed],
    ) -> Result<Vec<CompleteOutcome>> {
        let ended = |c: &Claimed| {
            let ending = Ending::new(Status::Success, c.execution.created_at);
            settle(Some(&c.job), &c.execution, ending, &self.ids)
        };
        let completions: Vec<_> = claimed.iter().map(ended).collect();
        store.complete(CompleteRequest { node: &self.node, completions: &completions }).await
    }
}

#[tokio::test]
async fn a_wrong_password_is_told_and_never_shown() {
    let server = Server::start(&["--requirepass", "right"]);
    let store = open(&server.url(":right@")).await.expect("the right password");
    assert!(!format!("{store:?} {:?}", store.describe()).contains("right"));
    for login in [":wr0ng@", "user:wr0ng@", ""] {
        let error = open(&server.url(login)).await.expect_err("a wrong password");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
        assert!(!format!("{error:?} {error}").contains("wr0ng"), "{error:?}");
        assert!(error.message().contains("password"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let error = open(&format!("redis://:secret@127.0.0.1:{}/", free_port())).await.expect_err("nobody there");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(!format!("{error:?} {error}").contains("secret"), "{error:?}");
    let url = format!("redis-cluster://:secret@127.0.0.1:{}", free_port());
    let error = open(&url).await.expect_err("nobody there");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
}

#[tokio::test]
async fn a_restart_between_two_calls_is_survived() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let store = open(&server.url("")).await.expect("opens");
    assert!(store.describe().durable);
    let mut hints = store.hints();
    assert_eq!(create(&store, "kept").await.expect("stored"), CreateOutcome::Created);
    server.stop();
    let error = store.counts().await.expect_err("nobody there");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    server.start_again();
    let deadline = Instant::now() + Duration::from_secs(20);
    let jobs = loop {
        // While it loads its file, and while the connection is made anew, it is not available.
        match store.counts().await {
            Ok(counts) => break counts.jobs,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}"),
        }
        assert!(Instant::now() < deadline, "the store has not come back");
        tokio::task::yield_now().await;
    };
    assert_eq!(jobs, 1, "the scripts are known again, and what was stored is there");
    let other = open(&server.url("")).await.expect("opens");
    hints.mark_unchanged();
    assert_eq!(create(&other, "new").await.expect("stored"), CreateOutcome::Created);
    let hinted = tokio::time::timeout(Duration::from_secs(20), hints.changed()).await;
    assert!(hinted.is_ok(), "the subscription is back, with a hint for what was missed");
}

#[tokio::test]
async fn a_server_that_stands_still_is_unavailable_in_time_and_then_answers_right() {
    let server = Server::start(&[]);
    let config = RedisConfig::from_url(&server.url("")).expect("a URL").timeout(Duration::from_millis(300));
    let store = RedisStore::open(config).await.expect("opens");
    assert_eq!(create(&store, "one").await.expect("stored"), CreateOutcome::Created);
    server.signal("-STOP");
    let began = Instant::now();
    for name in ["two", "three"] {
        let error = create(&store, name).await.expect_err("it stands still");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(10), "each call has a deadline");
    server.signal("-CONT");
    let deadline = Instant::now() + Duration::from_secs(20);
    // A call may have been done although its answer was late: its repeat finds the truth.
    for name in ["two", "three"] {
        while create(&store, name).await.is_err() {
            assert!(Instant::now() < deadline, "the store has not come back");
        }
    }
    assert_eq!(store.counts().await.expect("answers").jobs, 3, "no answer is taken for that of another call");
    assert_eq!(store.get_job(&"three".into()).await.expect("answers").map(|job| job.version), Some(1));
}

#[tokio::test]
async fn tls_with_a_server_that_has_none_is_an_error() {
    let server = Server::start(&[]);
    let url = server.url(":secret@").replace("redis://", "rediss://");
    let error = open(&url).await.expect_err("no TLS there");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(!format!("{error:?} {error}").contains("secret"), "{error:?}");
}

#[tokio::test]
async fn namespaces_on_one_server_share_nothing() {
    let server = Server::start(&[]);
    let one = open(&server.url("")).await.expect("opens");
    let two = open(&format!("{}?namespace=two", server.url(""))).await.expect("opens");
    assert_eq!(create(&one, "same").await.expect("stored"), CreateOutcome::Created);
    assert_eq!(two.counts().await.expect("answers").jobs, 0);
    assert_eq!(create(&two, "same").await.expect("stored"), CreateOutcome::Created);
}
