//! Through a real `PgBouncer` in transaction mode.

mod server;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use server::{Postgres, Schema, assert_passed_but_for_hints, open, run_at, with_jobs};
use unified_scheduler_conformance::run_all;
use unified_scheduler_core::error::ErrorKind;
use unified_scheduler_core::store::{CheckLevel, Store};
use unified_scheduler_core::{Context, Options, Scheduler};
use unified_scheduler_services::{Durability, Kind, Pooler, Server};

/// The server and the pooler before it, for all tests of this file. Their end is that of the process.
fn place() -> &'static (Server, Pooler) {
    static PLACE: OnceLock<(Server, Pooler)> = OnceLock::new();
    PLACE.get_or_init(|| {
        let server = Server::start(Kind::Postgres, Durability::Fast).expect("there is PostgreSQL");
        let pooler = Pooler::start(&server, 30).expect("there is PgBouncer");
        (server, pooler)
    })
}

fn through() -> String {
    place().1.url()
}

#[tokio::test(flavor = "multi_thread")]
async fn through_a_pooler_in_transaction_mode_it_conforms() {
    let report = run_all(&Postgres { base: through(), parameters: "&statement_cache=0" }).await;
    assert_passed_but_for_hints(&report);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_behind_a_pooler_finds_what_others_change_by_polling() {
    let schema = Schema::fresh_at(through());
    let store: Arc<dyn Store> = Arc::new(open(&schema.url("&statement_cache=0")).await.unwrap());
    let runs = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&runs);
    let scheduler = Scheduler::over(Arc::clone(&store))
        .handler("work", move |_: Context| {
            seen.fetch_add(1, Ordering::Relaxed);
            async {}
        })
        .options(Options { poll: Duration::from_millis(200), ..Options::default() })
        .start()
        .await
        .unwrap();
    let other = open(&schema.url("&statement_cache=0")).await.unwrap();
    with_jobs(&other, 20).await;
    tokio::time::timeout(Duration::from_secs(20), async {
        while runs.load(Ordering::Relaxed) < 20 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("polling finds them");
    let checks = store.diagnose().await.unwrap();
    let told = checks.iter().find(|check| check.name == "notifications").unwrap();
    assert_eq!(told.level, CheckLevel::Warning, "{}", told.detail);
    assert!(told.detail.contains("pooler") && told.detail.contains("polling"), "{}", told.detail);
    scheduler.stop().await;
    assert_eq!(runs.load(Ordering::Relaxed), 20, "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_the_url_says_nothing_of_is_noticed() {
    let schema = Schema::fresh_at(through());
    let store = open(&schema.url("")).await.unwrap();
    with_jobs(&store, 3).await;
    let (_, claimed) = server::claim_all(&store).await;
    assert_eq!(claimed.len(), 3);
    assert!(format!("{store:?}").contains("statement_cache: 0"), "{store:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_a_pooler_are_left_as_they_were() {
    let schema = Schema::fresh_at(through());
    let store = open(&schema.url("&statement_cache=0")).await.unwrap();
    with_jobs(&store, 1).await;
    // Somebody else's statement on the same sessions sees nothing of ours.
    for _ in 0..5 {
        let check =
            "DO $$ BEGIN IF current_setting('enable_seqscan') <> 'on' THEN RAISE 'changed'; END IF; END $$";
        run_at(&through(), check.to_owned()).await;
    }
    let error = open("postgres://nobody:hush@127.0.0.1:1/x?statement_cache=0").await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}
