//! How often the server is asked, as it counts itself.

use std::time::Duration;

use unified_scheduler_core::store::Store;

use crate::server::Server;
use crate::{Worker, job, open, store_jobs};

fn scripts(server: &Server) -> u64 {
    server.calls("evalsha") + server.calls("eval")
}

#[tokio::test]
async fn a_claim_takes_two_scripts_and_its_record_one_whatever_the_batch() {
    let server = Server::start(&[]);
    let store = open(&server.url("")).await.expect("opens");
    let now = store.now().await.expect("answers");
    let worker = Worker::join(&store).await;
    // The server knows the scripts from then on.
    store_jobs(&store, vec![job("first", now)]).await;
    let claimed = worker.claim(&store, 10).await.expect("claims").claimed;
    worker.complete(&store, &claimed).await.expect("recorded");
    for n in [1, 10, 100, 500] {
        let names = (0..n).map(|i| format!("{n}-{i}"));
        store_jobs(&store, names.map(|name| job(&name, now)).collect()).await;
        // Another process, which has not seen these jobs.
        let other = open(&server.url("")).await.expect("opens");
        server.command(&["CONFIG", "RESETSTAT"]);
        let claimed = worker.claim(&other, 500).await.expect("claims").claimed;
        assert_eq!((claimed.len(), scripts(&server)), (n, 2), "{n} jobs");
        server.command(&["CONFIG", "RESETSTAT"]);
        worker.complete(&other, &claimed).await.expect("recorded");
        assert_eq!(scripts(&server), 1, "{n} ends");
        server.command(&["CONFIG", "RESETSTAT"]);
        assert!(worker.claim(&other, 500).await.expect("claims").claimed.is_empty());
        assert_eq!(scripts(&server), 1, "nothing is due");
    }
}

#[tokio::test]
async fn what_runs_is_found_without_a_search_however_little_it_is() {
    let server = Server::start(&[]);
    let store = open(&server.url("")).await.expect("opens");
    let now = store.now().await.expect("answers");
    let worker = Worker::join(&store).await;
    let encoding = || server.ask::<String>(&["OBJECT", "ENCODING", "{us:default}:open"]);
    for round in 0..2 {
        let names = (0..3).map(|i| format!("{round}-{i}"));
        store_jobs(&store, names.map(|name| job(&name, now)).collect()).await;
        let claimed = worker.claim(&store, 10).await.expect("claims").claimed;
        assert_eq!((claimed.len(), &*encoding()), (3, "hashtable"), "a list is searched from its beginning");
        worker.complete(&store, &claimed).await.expect("recorded");
    }
}

#[tokio::test]
async fn jobs_of_one_claim_that_were_due_at_different_times_each_move_on_by_their_own() {
    let server = Server::start(&[]);
    let store = open(&server.url("")).await.expect("opens");
    let now = store.now().await.expect("answers");
    let worker = Worker::join(&store).await;
    // In turn, so that those that are written alike do not stand together; the last is late by several.
    let late = [1, 2, 1, 2, 400].map(Duration::from_secs);
    let jobs = late.iter().enumerate().map(|(i, late)| job(&format!("job-{i}"), now.saturating_sub(*late)));
    store_jobs(&store, jobs.collect()).await;
    let claimed = worker.claim(&store, 10).await.expect("claims").claimed;
    assert_eq!(claimed.len(), late.len());
    for one in &claimed {
        let stored = store.get_execution(&one.execution.id).await.expect("answers").expect("is there");
        assert_eq!(stored, one.execution);
        let job = store.get_job(&one.execution.job_id).await.expect("answers").expect("is there");
        let next = job.due.expect("is due again").due_at;
        assert_eq!(Some(next), one.execution.next_due_at, "{}", job.id);
        assert!(next > now && next <= now.saturating_add(Duration::from_secs(60)), "{}", job.id);
    }
    assert!(worker.claim(&store, 10).await.expect("claims").claimed.is_empty(), "each is claimed once");
}
