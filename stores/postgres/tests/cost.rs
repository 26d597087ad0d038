//! What claims and ends cost the server, as it counts itself: calls and pages.

mod server;

use std::sync::Arc;
use std::time::Duration;

use server::{Schema, claim, join};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use unified_scheduler_core::Timestamp;
use unified_scheduler_core::clock::ManualClock;
use unified_scheduler_core::execution::Status;
use unified_scheduler_core::id::{IdSource, JobId};
use unified_scheduler_core::job::{Job, JobDefinition};
use unified_scheduler_core::schedule::Schedule;
use unified_scheduler_core::settle::{Ending, settle};
use unified_scheduler_core::store::{
    Claimed, CompleteOutcome, CompleteRequest, CreateJobs, CreateOutcome, NodeRef, Store,
};
use unified_scheduler_postgres::{PostgresConfig, PostgresStore};
use unified_scheduler_services::{Durability, PostgresSettings, Server};

const COUNTS: &str = "shared_preload_libraries='pg_stat_statements'\npg_stat_statements.track='top'\n";

/// A server that counts, with a store on it and a connection that asks.
struct Place {
    store: PostgresStore,
    clock: ManualClock,
    node: NodeRef,
    ids: IdSource,
    admin: PgConnection,
    schema: Schema,
    server: Server,
}

impl Place {
    async fn new() -> Self {
        let settings =
            PostgresSettings { conf: COUNTS.to_owned(), ..PostgresSettings::new(Durability::Fast) };
        let server = Server::start_postgres(&settings).expect("there is PostgreSQL");
        let mut admin = PgConnection::connect(&server.url()).await.expect("the server works");
        sqlx::raw_sql("CREATE EXTENSION pg_stat_statements")
            .execute(&mut admin)
            .await
            .expect("the server works");
        let schema = Schema::fresh_at(server.url());
        let clock = ManualClock::at(Timestamp::from_millis(1_800_000_000_000));
        let config = PostgresConfig::from_url(&schema.url(""))
            .expect("the server works")
            .clock(Arc::new(clock.clone()));
        let store = PostgresStore::open(config).await.expect("the server works");
        let node = join(&store).await;
        Self { store, clock, node, ids: IdSource::new(), admin, schema, server }
    }

    /// `n` jobs of an hour, the first at once.
    async fn add(&self, name: &str, n: usize, first: Timestamp) {
        for from in (0..n).step_by(5000) {
            let job = |i: usize| {
                let schedule = Schedule::every(Duration::from_secs(10)).anchored_at(first);
                let definition = JobDefinition::new(format!("{name}-{i}"), "work", schedule);
                Job::new(JobId::from(format!("{name}-{i}")), definition, first)
            };
            let jobs = (from..n.min(from + 5000)).map(job).collect();
            let request = CreateJobs { jobs, unique_names: false, actor: "tester".to_owned() };
            assert_eq!(
                self.store.create_jobs(request).await.expect("the server works"),
                CreateOutcome::Created
            );
        }
        self.tidy().await;
    }

    async fn tidy(&self) {
        // What autovacuum would have done by then.
        let name = self.schema.name();
        let tables = format!("{name}.jobs, {name}.job_state, {name}.executions");
        server::run_at(&self.server.url(), format!("VACUUM ANALYZE {tables}")).await;
    }

    async fn claim(&self, limit: usize) -> Vec<Claimed> {
        claim(&self.store, &self.node, limit).await
    }

    async fn complete(&self, claimed: &[Claimed]) {
        let now = self.store.now().await.expect("the server works");
        let end =
            |c: &Claimed| settle(Some(&c.job), &c.execution, Ending::new(Status::Success, now), &self.ids);
        let completions: Vec<_> = claimed.iter().map(end).collect();
        let request = CompleteRequest { node: &self.node, completions: &completions };
        let outcomes = self.store.complete(request).await.expect("the server works");
        assert!(outcomes.iter().all(|outcome| *outcome == CompleteOutcome::Applied { paused: false }));
    }

    /// Everything that is due, claimed and completed, each ten seconds anew.
    async fn churn(&self, rounds: u32) {
        for _ in 0..rounds {
            self.clock.advance(Duration::from_secs(10));
            loop {
                let claimed = self.claim(500).await;
                if claimed.is_empty() {
                    break;
                }
                self.complete(&claimed).await;
            }
        }
    }

    async fn reset(&mut self) {
        sqlx::query("SELECT pg_stat_statements_reset()")
            .execute(&mut self.admin)
            .await
            .expect("the server works");
    }

    /// Calls and pages since the last reset.
    async fn counted(&mut self) -> (i64, i64) {
        let sql = "SELECT coalesce(sum(calls), 0)::bigint,
                coalesce(sum(shared_blks_hit + shared_blks_read), 0)::bigint
            FROM pg_stat_statements WHERE query NOT LIKE '%pg_stat_statements%'";
        let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(&mut self.admin).await.expect("the server works");
        (row.get(0), row.get(1))
    }

    /// Pages of a claim that finds nothing, and of one that takes a hundred.
    async fn pages(&mut self) -> (i64, i64) {
        self.claim(100).await;
        self.reset().await;
        assert_eq!(self.claim(100).await.len(), 0);
        let idle = self.counted().await.1;
        self.clock.advance(Duration::from_secs(10));
        self.reset().await;
        let claimed = self.claim(100).await;
        assert_eq!(claimed.len(), 100);
        let batch = self.counted().await.1;
        self.complete(&claimed).await;
        (idle, batch)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_costs_the_same_round_trips_whatever_its_size() {
    let mut place = Place::new().await;
    place.add("job", 2000, place.clock_now()).await;
    place.churn(1).await;
    for size in [1, 10, 500, 2000] {
        place.clock.advance(Duration::from_secs(10));
        place.reset().await;
        let claimed = place.claim(size).await;
        assert_eq!(claimed.len(), size);
        let (calls, _) = place.counted().await;
        assert!(calls <= 4, "a claim of {size}: {calls}");
        place.reset().await;
        place.complete(&claimed).await;
        let (calls, _) = place.counted().await;
        assert!(calls <= 1, "ends of {size}: {calls}");
        place.churn(1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_nothing_to_do_asks_with_one_statement() {
    let mut place = Place::new().await;
    place.add("job", 10, place.clock_now()).await;
    place.churn(1).await;
    for _ in 0..3 {
        place.reset().await;
        assert_eq!(place.claim(100).await.len(), 0);
        assert_eq!(place.counted().await.0, 1);
    }
    // What comes all the same is found, whether or not anybody hinted at it.
    place.add("new", 1, place.clock_now()).await;
    let claimed = place.claim(100).await;
    assert_eq!(claimed.len(), 1);
    place.complete(&claimed).await;
    place.clock.advance(Duration::from_secs(10));
    assert_eq!(place.claim(100).await.len(), 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_costs_what_is_due_and_not_what_is_stored_or_was() {
    let mut place = Place::new().await;
    place.add("due", 100, place.clock_now()).await;
    place.churn(1).await;
    let few = place.pages().await;
    let far = place.clock_now().saturating_add(Duration::from_secs(365 * 86_400));
    place.add("far", 50_000, far).await;
    let many = place.pages().await;
    assert!(within(few, many, 1.5), "{few:?} pages of 100 jobs, {many:?} of 50,100");
    // Nothing is vacuumed from here on but what claims themselves come by.
    place.churn(100).await;
    let churned = place.pages().await;
    assert!(within(few, churned, 1.5), "{few:?} pages at first, {churned:?} after 10,000 executions");
}

fn within(before: (i64, i64), after: (i64, i64), most: f64) -> bool {
    let ratio = |a: i64, b: i64| {
        f64::from(i32::try_from(b).expect("they are few"))
            / f64::from(i32::try_from(a).expect("they are few"))
    };
    ratio(before.0, after.0) <= most && ratio(before.1, after.1) <= most
}

impl Place {
    fn clock_now(&self) -> Timestamp {
        use unified_scheduler_core::clock::Clock;
        self.clock.now()
    }
}
