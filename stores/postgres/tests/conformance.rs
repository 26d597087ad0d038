//! The store in PostgreSQL passes the suite.

mod server;

use server::{Postgres, assert_passed_but_for_hints, url};
use unified_scheduler_conformance::run_all;

#[tokio::test(flavor = "multi_thread")]
async fn the_store_in_postgres_conforms() {
    run_all(&Postgres { base: url(), parameters: "" }).await.assert_passed();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_prepared_statements_it_conforms_too() {
    let report = run_all(&Postgres { base: url(), parameters: "&statement_cache=0" }).await;
    assert_passed_but_for_hints(&report);
}
