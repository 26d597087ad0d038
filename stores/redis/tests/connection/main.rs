//! What the store says and does when the server is not as it should be.

mod halves;
mod server;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use unified_scheduler_core::plan::EnginePlanner;
use unified_scheduler_core::store::{
    CheckLevel, ClaimOutcome, ClaimRequest, CreateJobs, CreateOutcome, ExecutionQuery, JobQuery, JoinRequest,
    NodeInfo, NodeRef, ReapRequest, Store,
};
use unified_scheduler_core::{ErrorKind, IdSource, Job, JobDefinition, NodeId, Result, Schedule, Timestamp};
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
async fn a_server_that_evicts_keys_is_refused_unless_that_is_accepted() {
    let server = Server::start(&["--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru"]);
    let error = open(&server.url("")).await.expect_err("it evicts");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("noeviction"), "{error}");
    let store = open(&format!("{}?allow_eviction=true", server.url(""))).await.expect("accepted");
    let checks = store.diagnose().await.expect("answers");
    assert!(checks.iter().any(|check| check.name == "memory" && check.level == CheckLevel::Failed));
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
async fn forgotten_scripts_are_brought_again() {
    let server = Server::start(&[]);
    let store = open(&server.url("")).await.expect("opens");
    assert_eq!(create(&store, "one").await.expect("stored"), CreateOutcome::Created);
    server.command(&["SCRIPT", "FLUSH"]);
    assert_eq!(create(&store, "two").await.expect("stored"), CreateOutcome::Created);
    assert_eq!(store.counts().await.expect("answers").jobs, 2);
}

#[tokio::test]
async fn full_memory_refuses_a_call_and_changes_nothing() {
    let server = Server::start(&["--maxmemory-policy", "noeviction"]);
    let store = open(&server.url("")).await.expect("opens");
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let error = create(&store, "one").await.expect_err("no memory");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.message().contains("maxmemory"), "{error}");
    assert_eq!(store.counts().await.expect("reads go on").jobs, 0);
    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(create(&store, "one").await.expect("stored"), CreateOutcome::Created);
}

#[tokio::test]
async fn a_replica_is_unavailable_and_told() {
    let primary = Server::start(&[]);
    let replica = Server::start(&[]);
    let port = primary.port.to_string();
    replica.command(&["REPLICAOF", "127.0.0.1", &port]);
    let store = open(&replica.url("")).await.expect("opens, to be able to tell");
    let join = JoinRequest { id: "node".into(), ttl: Duration::from_secs(9), info: NodeInfo::default() };
    let error = store.join(join).await.expect_err("takes no writes");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    let checks = store.diagnose().await.expect("answers");
    assert!(
        checks.iter().any(|check| check.name == "role" && check.level == CheckLevel::Failed),
        "{checks:?}"
    );
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

#[tokio::test]
async fn definitions_and_rows_that_can_not_be_read_stop_nobody() {
    let server = Server::start(&[]);
    let store = open(&server.url("")).await.expect("opens");
    let now = store.now().await.expect("answers");
    let job = |name: &str| {
        let definition = JobDefinition::new(name, "work", Schedule::every(Duration::from_secs(60)));
        Job::new(name.into(), definition, now)
    };
    let jobs = vec![job("broken"), job("good")];
    let request = CreateJobs { jobs, unique_names: true, actor: "tester".to_owned() };
    assert_eq!(store.create_jobs(request).await.expect("stored"), CreateOutcome::Created);
    server.command(&["HSET", "{us:default}:definition", "broken", "\u{1}nonsense"]);
    let id = NodeId::from("node");
    let request = JoinRequest { id: id.clone(), ttl: Duration::from_secs(60), info: NodeInfo::default() };
    let node = NodeRef { id, epoch: store.join(request).await.expect("joins").epoch };
    let handlers = BTreeSet::from(["work".to_owned()]);
    let planner = EnginePlanner::new(Arc::new(IdSource::new()));
    let request = ClaimRequest { node: &node, handlers: &handlers, limit: 10 };
    let ClaimOutcome::Claimed(batch) = store.claim(request, &planner).await.expect("claims") else {
        panic!("refused")
    };
    assert_eq!(batch.claimed.len(), 1, "the other one runs");
    assert_eq!(batch.set_aside.len(), 1);
    let listed = store.list_jobs(&JobQuery::default()).await.expect("lists").items;
    assert!(listed.iter().any(|job| job.id.as_str() == "broken" && job.fault.is_some()), "{listed:?}");
    let id = batch.claimed[0].execution.id;
    let client = redis::Client::open(server.url("")).expect("a URL");
    let mut link = client.get_connection().expect("a connection");
    let key = &id.as_uuid().as_bytes()[..];
    redis::cmd("HSET").arg("{us:default}:x").arg(key).arg("?").exec(&mut link).expect("written");
    assert!(store.get_execution(&id).await.is_err_and(|e| e.kind() == ErrorKind::Corrupt));
    assert!(store.list_executions(&ExecutionQuery::default()).await.expect("lists").items.is_empty());
    assert!(store.owned(&node).await.expect("answers").is_empty());
    store.leave(&node).await.expect("leaves");
    let reap = ReapRequest { grace: Duration::ZERO, limit: 10 };
    assert!(store.reap(reap, &planner).await.expect("reaps").ended.is_empty());
}
