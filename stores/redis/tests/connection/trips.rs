//! How often the server is asked, as it counts itself.

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
