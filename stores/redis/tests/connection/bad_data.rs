//! Keys and records that are not as they should be.

use std::time::Duration;

use unified_scheduler_core::ErrorKind;
use unified_scheduler_core::store::{ExecutionQuery, JobQuery, ReapRequest, Store};

use crate::server::Server;
use crate::{Worker, job, open, store_jobs};

#[tokio::test]
async fn definitions_and_rows_that_can_not_be_read_stop_nobody() {
    let server = Server::start(&[]);
    let store = open(&server.url("")).await.expect("opens");
    let now = store.now().await.expect("answers");
    store_jobs(&store, vec![job("broken", now), job("good", now)]).await;
    server.command(&["HSET", "{us:default}:definition", "broken", "\u{1}nonsense"]);
    let worker = Worker::join(&store).await;
    let batch = worker.claim(&store, 10).await.expect("claims");
    assert_eq!(batch.claimed.len(), 1, "the other one runs");
    assert_eq!(batch.set_aside.len(), 1);
    let listed = store.list_jobs(&JobQuery::default()).await.expect("lists").items;
    assert!(listed.iter().any(|job| job.id.as_str() == "broken" && job.fault.is_some()), "{listed:?}");
    let id = batch.claimed[0].execution.id;
    server.hset("{us:default}:x", id.as_uuid().as_bytes(), b"?");
    assert!(store.get_execution(&id).await.is_err_and(|e| e.kind() == ErrorKind::Corrupt));
    assert!(store.list_executions(&ExecutionQuery::default()).await.expect("lists").items.is_empty());
    assert!(store.owned(&worker.node).await.expect("answers").is_empty());
    store.leave(&worker.node).await.expect("leaves");
    let reap = ReapRequest { grace: Duration::ZERO, limit: 10 };
    assert!(store.reap(reap, &worker.planner).await.expect("reaps").ended.is_empty());
}

#[tokio::test]
async fn a_state_that_can_not_be_read_sets_its_job_aside() {
    let server = Server::start(&[]);
    let store = open(&server.url("")).await.expect("opens");
    let now = store.now().await.expect("answers");
    let names = ["cut", "mistyped", "foreign", "good"];
    store_jobs(&store, names.iter().map(|name| job(name, now)).collect()).await;
    // Too few fields; fields of other types; no record at all.
    server.hset("{us:default}:job", b"cut", &[0x92, 1, 0xc3]);
    let mut mistyped = vec![0xdc, 0, 17];
    mistyped.extend([0x01; 17]);
    server.hset("{us:default}:job", b"mistyped", &mistyped);
    server.hset("{us:default}:job", b"foreign", br#"{"json": true}"#);
    let worker = Worker::join(&store).await;
    let batch = worker.claim(&store, 10).await.expect("claims");
    assert_eq!(batch.claimed.len(), 1, "the good one runs");
    assert_eq!(batch.set_aside.len(), 3, "{:?}", batch.set_aside);
    let again = worker.claim(&store, 10).await.expect("claims");
    assert!(again.set_aside.is_empty() && again.claimed.is_empty(), "they are out of the way: {again:?}");
    let listed = store.list_jobs(&JobQuery::default()).await.expect("lists").items;
    assert_eq!(listed.iter().filter(|job| job.fault.is_some()).count(), 3, "{listed:?}");
    assert_eq!(store.counts().await.expect("answers").faulty, 3);
    for name in &names[..3] {
        let job = store.get_job(&(*name).into()).await.expect("answers").expect("is there");
        assert!(!job.enabled && job.fault.is_some_and(|why| why.contains("delete the job")));
        assert!(store.delete_job(&(*name).into(), "tester").await.expect("answers"));
    }
    store_jobs(&store, names[..3].iter().map(|name| job(name, now)).collect()).await;
    assert_eq!(worker.claim(&store, 10).await.expect("claims").claimed.len(), 3, "made again, they run");
}

#[tokio::test]
async fn a_foreign_key_where_a_job_keeps_its_executions_sets_that_job_aside() {
    let server = Server::start(&[]);
    let store = open(&server.url("")).await.expect("opens");
    let now = store.now().await.expect("answers");
    store_jobs(&store, vec![job("odd", now), job("good", now)]).await;
    server.command(&["SET", "{us:default}:of:odd", "somebody else's"]);
    let worker = Worker::join(&store).await;
    let batch = worker.claim(&store, 10).await.expect("claims");
    assert_eq!(batch.claimed.len(), 1, "the other one runs");
    let odd = store.get_job(&"odd".into()).await.expect("answers").expect("is there");
    assert!(odd.fault.is_some(), "{odd:?}");
    let outcomes = worker.complete(&store, &batch.claimed).await.expect("recorded");
    assert_eq!(outcomes.len(), 1);
    assert!(worker.claim(&store, 10).await.expect("claims").claimed.is_empty());
}

#[tokio::test]
async fn keys_of_another_program_are_told_by_name() {
    for (key, value) in [("job", "SET"), ("by_due", "SET"), ("epoch", "LPUSH")] {
        let server = Server::start(&[]);
        let key = format!("{{us:default}}:{key}");
        server.command(&[value, &key, "somebody else's"]);
        let error = open(&server.url("")).await.expect_err("a foreign key");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
        assert!(error.message().contains(&key) && error.message().contains("namespace"), "{error}");
        open(&format!("{}?namespace=other", server.url(""))).await.expect("another namespace is free");
    }
}

#[tokio::test]
async fn a_key_that_becomes_foreign_is_a_clear_error_and_what_it_does_not_touch_goes_on() {
    let server = Server::start(&[]);
    let store = open(&server.url("")).await.expect("opens");
    let now = store.now().await.expect("answers");
    store_jobs(&store, vec![job("one", now)]).await;
    server.command(&["DEL", "{us:default}:audit"]);
    server.command(&["SET", "{us:default}:audit", "somebody else's"]);
    let error = store.delete_job(&"one".into(), "tester").await.expect_err("a foreign key");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    assert!(error.message().contains("prefix"), "{error}");
    let worker = Worker::join(&store).await;
    assert_eq!(worker.claim(&store, 10).await.expect("claims").claimed.len(), 1);
}

#[tokio::test]
async fn a_layout_that_is_newer_or_older_is_refused() {
    let server = Server::start(&[]);
    let store = open(&server.url("")).await.expect("opens");
    let now = store.now().await.expect("answers");
    store_jobs(&store, vec![job("one", now)]).await;
    open(&server.url("")).await.expect("opens again");
    server.command(&["SET", "{us:default}:format", "99"]);
    let error = open(&server.url("")).await.expect_err("from the future");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
    assert!(error.message().contains("newer") && error.message().contains("99"), "{error}");
    // Before there was a mark.
    server.command(&["DEL", "{us:default}:format"]);
    let error = open(&server.url("")).await.expect_err("from the past");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
    assert!(error.message().contains("older"), "{error}");
    let reap = ReapRequest { grace: Duration::ZERO, limit: 10 };
    let worker = Worker::join(&store).await;
    store.reap(reap, &worker.planner).await.expect("whoever is there goes on");
    assert!(store.list_executions(&ExecutionQuery::default()).await.is_ok());
}
