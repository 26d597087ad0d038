//! Servers that are set up in ways that put the promise at risk, or that refuse to be asked.

use std::time::Duration;

use unified_scheduler_core::ErrorKind;
use unified_scheduler_core::store::{
    Check, CheckLevel, CompleteOutcome, CreateOutcome, JoinRequest, NodeInfo, Store,
};
use unified_scheduler_redis::{RedisConfig, RedisStore};

use crate::server::Server;
use crate::{Worker, create, job, open, store_jobs};

fn find<'a>(checks: &'a [Check], name: &str) -> &'a Check {
    checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("no `{name}` in {checks:?}"))
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
async fn missing_persistence_is_told_with_what_is_at_risk() {
    let server = Server::start(&[]);
    let store = open(&server.url("")).await.expect("opens");
    assert!(!store.describe().durable);
    let checks = store.diagnose().await.expect("answers");
    let check = find(&checks, "persistence");
    assert_eq!(check.level, CheckLevel::Warning, "{check:?}");
    assert!(
        check.detail.contains("everything is lost") && check.detail.contains("appendonly yes"),
        "{check:?}"
    );
    server.command(&["CONFIG", "SET", "appendonly", "yes", "appendfsync", "everysec"]);
    let checks = store.diagnose().await.expect("answers");
    assert_eq!(find(&checks, "persistence").level, CheckLevel::Ok, "{checks:?}");
}

#[tokio::test]
async fn a_server_that_forbids_config_is_used_and_doctor_says_what_it_could_not_read() {
    let server = Server::start(&["--appendonly", "yes", "--rename-command", "CONFIG", ""]);
    let store = open(&server.url("")).await.expect("opens");
    assert_eq!(create(&store, "one").await.expect("stored"), CreateOutcome::Created);
    let checks = store.diagnose().await.expect("answers");
    assert_eq!(find(&checks, "settings").level, CheckLevel::Warning, "{checks:?}");
    assert!(find(&checks, "persistence").detail.contains("could not be read"), "{checks:?}");
    // What it evicts is read without CONFIG.
    let server = Server::start(&["--maxmemory-policy", "volatile-ttl", "--rename-command", "CONFIG", ""]);
    let error = open(&server.url("")).await.expect_err("it evicts");
    assert!(error.message().contains("volatile-ttl"), "{error}");
}

#[tokio::test]
async fn a_server_that_loads_its_data_is_unavailable_until_it_has_them() {
    let slowly = ["--key-load-delay", "50000", "--loading-process-events-interval-bytes", "1024"];
    let mut server = Server::start(&slowly);
    let store = open(&server.url("")).await.expect("opens");
    assert_eq!(create(&store, "one").await.expect("stored"), CreateOutcome::Created);
    let filler = "x".repeat(4000);
    for i in 0..60 {
        server.command(&["SET", &format!("filler-{i}"), &filler]);
    }
    server.command(&["SAVE"]);
    server.stop();
    server.start_again();
    let config = || RedisConfig::from_url(&server.url("")).expect("a URL").timeout(Duration::from_secs(1));
    let error = RedisStore::open(config()).await.expect_err("it loads");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.message().contains("loading"), "{error}");
    let store = loop {
        match RedisStore::open(config()).await {
            Ok(store) => break store,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}"),
        }
    };
    assert_eq!(store.counts().await.expect("answers").jobs, 1);
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
async fn what_runs_while_memory_is_full_is_recorded_when_there_is_room() {
    let server = Server::start(&["--maxmemory-policy", "noeviction"]);
    let store = open(&server.url("")).await.expect("opens");
    let now = store.now().await.expect("answers");
    store_jobs(&store, vec![job("one", now), job("two", now)]).await;
    let worker = Worker::join(&store).await;
    let running = worker.claim(&store, 1).await.expect("claims").claimed;
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    for _ in 0..3 {
        // What has ended may still be written: the server refuses only what begins with taking memory.
        if let Err(error) = worker.complete(&store, &running).await {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        }
        let error = worker.claim(&store, 10).await.expect_err("no memory");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    }
    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    let outcomes = worker.complete(&store, &running).await.expect("there is room");
    assert_eq!(outcomes, [CompleteOutcome::Applied { paused: false }]);
    let more = worker.claim(&store, 10).await.expect("claims").claimed;
    assert_eq!(more.len(), 1, "the other one is still due, and the first is not again");
    assert_ne!(more[0].job.id, running[0].job.id);
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
async fn forgotten_scripts_are_brought_again() {
    let server = Server::start(&[]);
    let store = open(&server.url("")).await.expect("opens");
    assert_eq!(create(&store, "one").await.expect("stored"), CreateOutcome::Created);
    server.command(&["SCRIPT", "FLUSH"]);
    assert_eq!(create(&store, "two").await.expect("stored"), CreateOutcome::Created);
    assert_eq!(store.counts().await.expect("answers").jobs, 2);
}

#[tokio::test]
async fn a_claim_is_done_although_its_second_script_was_forgotten_meanwhile() {
    let server = Server::start(&[]);
    let store = open(&server.url("")).await.expect("opens");
    let now = store.now().await.expect("answers");
    store_jobs(&store, (0..20).map(|i| job(&format!("job-{i}"), now)).collect()).await;
    let worker = Worker::join(&store).await;
    for _ in 0..10 {
        server.command(&["SCRIPT", "FLUSH"]);
        let claimed = worker.claim(&store, 2).await.expect("claims").claimed;
        assert_eq!(claimed.len(), 2);
        server.command(&["SCRIPT", "FLUSH"]);
        let outcomes = worker.complete(&store, &claimed).await.expect("recorded");
        assert_eq!(outcomes, vec![CompleteOutcome::Applied { paused: false }; 2]);
    }
}
