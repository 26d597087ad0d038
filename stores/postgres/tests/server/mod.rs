//! The server that the tests use, and schemas in it, each dropped at the end of a test.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};
use unified_scheduler_conformance::{Backend, Fixture, Report};
use unified_scheduler_core::clock::ManualClock;
use unified_scheduler_core::error::{Error, Result};
use unified_scheduler_core::id::{IdSource, JobId, NodeId};
use unified_scheduler_core::job::{Job, JobDefinition};
use unified_scheduler_core::plan::EnginePlanner;
use unified_scheduler_core::schedule::Schedule;
use unified_scheduler_core::store::{
    ClaimBatch, ClaimOutcome, ClaimRequest, Claimed, CreateJobs, CreateOutcome, JoinRequest, NodeInfo,
    NodeRef, Store,
};
use unified_scheduler_postgres::{PostgresConfig, PostgresStore};

/// Where the server is.
pub(crate) fn url() -> String {
    std::env::var("TEST_POSTGRES_URL")
        .expect("these tests need a server: run `cargo xtask test`, or set TEST_POSTGRES_URL")
}

/// A schema of its own, dropped at the end.
pub(crate) struct Schema {
    pub(crate) namespace: String,
    base: String,
}

impl Schema {
    /// One that nobody else has.
    pub(crate) fn fresh() -> Self {
        Self::fresh_at(url())
    }

    /// The same in the database of this URL.
    pub(crate) fn fresh_at(base: String) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("t{}_{n}", std::process::id());
        Self { namespace, base }
    }

    /// Its URL, with more parameters, each after a `&`.
    pub(crate) fn url(&self, parameters: &str) -> String {
        let base = &self.base;
        let joint = if base.contains('?') { '&' } else { '?' };
        format!("{base}{joint}namespace={}{parameters}", self.namespace)
    }

    /// Its name in the database.
    pub(crate) fn name(&self) -> String {
        format!("unified_scheduler_{}", self.namespace)
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        let sql = format!("DROP SCHEMA IF EXISTS {} CASCADE", self.name());
        let base = self.base.clone();
        let sweep = async move {
            let mut connection = connect(&base).await?;
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
            connection.close().await
        };
        // On a thread of its own, since the test's own runtime is at work here.
        let thread = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().map(|rt| rt.block_on(sweep))
        });
        // Where it fails, an empty schema is left behind.
        drop(thread.join());
    }
}

/// The store as the suite wants it, each case in a schema of its own.
pub(crate) struct Postgres {
    /// Where the server is.
    pub(crate) base: String,
    /// What the URL ends with.
    pub(crate) parameters: &'static str,
}

impl Postgres {
    fn config(&self, schema: &Schema, clock: &ManualClock) -> Result<PostgresConfig> {
        Ok(PostgresConfig::from_url(&schema.url(self.parameters))?.clock(Arc::new(clock.clone())))
    }
}

#[async_trait]
impl Backend for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    async fn fresh(&self) -> Result<Fixture> {
        let clock = ManualClock::at("2026-03-29T00:59:58.765Z".parse()?);
        let schema = Schema::fresh_at(self.base.clone());
        let store = PostgresStore::open(self.config(&schema, &clock)?).await?;
        Ok(Fixture { store: Arc::new(store), clock, keep: Box::new(schema) })
    }

    async fn reopen(&self, fixture: &Fixture) -> Result<Option<Arc<dyn Store>>> {
        let Some(schema) = fixture.keep.downcast_ref::<Schema>() else { return Ok(None) };
        let store = PostgresStore::open(self.config(schema, &fixture.clock)?).await?;
        Ok(Some(Arc::new(store)))
    }
}

/// Every case passed, but for the one that no pooler in transaction mode lets pass.
pub(crate) fn assert_passed_but_for_hints(report: &Report) {
    let failed: Vec<String> = report.failed.iter().map(|f| format!("{}: {}", f.name, f.reason)).collect();
    let only = failed.len() == 1 && failed[0].starts_with("strangers::a_hint_reaches_another_handle:");
    assert!(only, "{} failed:\n  {}", failed.len(), failed.join("\n  "));
}

pub(crate) async fn open(url: &str) -> Result<PostgresStore> {
    PostgresStore::open(PostgresConfig::from_url(url)?).await
}

pub(crate) async fn refused(url: &str) -> Error {
    open(url).await.map(drop).expect_err("it can't be opened")
}

/// A connection for the test itself, also through a pooler.
async fn connect(url: &str) -> sqlx::Result<PgConnection> {
    let options: PgConnectOptions = url.parse()?;
    options.extra_float_digits(None).connect().await
}

/// Runs statements on the server of this URL.
pub(crate) async fn run_at(url: &str, sql: String) {
    let mut connection = connect(url).await.expect("the server answers");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.expect("the statement is right");
    connection.close().await.expect("it closes");
}

pub(crate) async fn run(sql: String) {
    run_at(&url(), sql).await;
}

/// Jobs of a minute, due now.
pub(crate) async fn with_jobs(store: &dyn Store, n: usize) -> Vec<Job> {
    let now = store.now().await.expect("the store works");
    let job = |i: usize| {
        let definition =
            JobDefinition::new(format!("job {i}"), "work", Schedule::every(Duration::from_secs(60)));
        Job::new(JobId::from(format!("job-{i}")), definition, now)
    };
    let jobs: Vec<Job> = (0..n).map(job).collect();
    let request = CreateJobs { jobs: jobs.clone(), unique_names: true, actor: "tester".to_owned() };
    assert_eq!(store.create_jobs(request).await.expect("the store works"), CreateOutcome::Created);
    jobs
}

pub(crate) async fn join(store: &dyn Store) -> NodeRef {
    let id = NodeId::from("node");
    let ttl = Duration::from_secs(365 * 86_400);
    let request = JoinRequest { id: id.clone(), ttl, info: NodeInfo::default() };
    NodeRef { id, epoch: store.join(request).await.expect("the store works").epoch }
}

pub(crate) async fn claim(store: &dyn Store, node: &NodeRef, limit: usize) -> Vec<Claimed> {
    claim_batch(store, node, limit).await.claimed
}

pub(crate) async fn claim_batch(store: &dyn Store, node: &NodeRef, limit: usize) -> ClaimBatch {
    let planner = EnginePlanner::new(IdSource::new().into());
    let handlers = ["work".to_owned()].into();
    match store
        .claim(ClaimRequest { node, handlers: &handlers, limit }, &planner)
        .await
        .expect("the store works")
    {
        ClaimOutcome::Claimed(batch) => *batch,
        ClaimOutcome::Refused => panic!("refused"),
    }
}

pub(crate) async fn claim_all(store: &dyn Store) -> (NodeRef, Vec<Claimed>) {
    let node = join(store).await;
    let claimed = claim(store, &node, 100).await;
    (node, claimed)
}
