//! Claims beside others that hold what is due.

mod server;

use server::{Schema, claim_batch, join, open, url, with_jobs};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

/// The states of the `n` jobs that have waited for longest, in a transaction that goes on holding them.
async fn hold(other: &mut PgConnection, schema: &Schema, n: usize) {
    let name = schema.name();
    let sql = format!("BEGIN; SELECT FROM {name}.job_state ORDER BY fire_at, id LIMIT {n} FOR NO KEY UPDATE");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(other).await.expect("the server works");
}

#[tokio::test]
async fn a_page_that_others_hold_is_followed_by_a_longer_one_at_once() {
    let schema = Schema::fresh();
    let store = open(&schema.url("")).await.expect("the server works");
    with_jobs(&store, 1_000).await;
    let node = join(&store).await;
    let mut other = PgConnection::connect(&url()).await.expect("the server works");
    hold(&mut other, &schema, 400).await;
    let first = claim_batch(&store, &node, 100).await;
    assert_eq!(first.claimed.len(), 0);
    assert!(first.more && first.next_at.is_some_and(|next| next <= first.now), "{first:?}");
    let mut n_claimed = 0;
    for _ in 0..10 {
        n_claimed += claim_batch(&store, &node, 100).await.claimed.len();
    }
    assert_eq!(n_claimed, 600, "all that nobody holds");
    // Of what is left others hold everything, so there is nothing to hurry for.
    let last = claim_batch(&store, &node, 100).await;
    assert!(last.claimed.is_empty() && last.more, "{last:?}");
    assert!(last.next_at.is_some_and(|next| next > last.now), "{last:?}");
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.expect("the server works");
    assert_eq!(claim_batch(&store, &node, 1_000).await.claimed.len(), 400);
}
