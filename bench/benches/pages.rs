//! What a claim costs a PostgreSQL server in pages touched, which no other load changes: with 1,000 and with 1,000,000
//! jobs stored; then after an hour's worth of occurrences, and after as many again while a transaction elsewhere keeps
//! the server from cleaning up.
//!
//! Run: `cargo xtask bench pages`; `STORED=100000` and `ROUNDS=60` for other numbers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use unified_scheduler::postgres::{PostgresConfig, PostgresStore};
use unified_scheduler_bench::Failure;
use unified_scheduler_bench::jobs::{BareNode, jobs, jobs_of, store_all};
use unified_scheduler_bench::report::say;
use unified_scheduler_core::Store;
use unified_scheduler_core::clock::{Clock, ManualClock, SystemClock};
use unified_scheduler_services::{Durability, PostgresSettings, Server};

/// How many jobs are due again and again, and how often.
const BUSY: usize = 500;
const PERIOD: Duration = Duration::from_secs(10);

const CONF: &str = "shared_preload_libraries='pg_stat_statements'\npg_stat_statements.track='top'\n\
                    autovacuum_naptime=10s\n";

fn main() -> Result<(), Failure> {
    tokio::runtime::Runtime::new()?.block_on(measure())
}

fn number(variable: &str, otherwise: u32) -> u32 {
    std::env::var(variable).ok().and_then(|n| n.parse().ok()).unwrap_or(otherwise)
}

async fn measure() -> Result<(), Failure> {
    let settings = PostgresSettings { conf: CONF.to_owned(), ..PostgresSettings::new(Durability::Fast) };
    let server = Server::start_postgres(&settings).map_err(|e| e.to_string())?;
    let mut admin = PgConnection::connect(&server.url()).await?;
    sqlx::raw_sql("CREATE EXTENSION pg_stat_statements").execute(&mut admin).await?;
    let clock = ManualClock::at(SystemClock::new().now());
    let config = PostgresConfig::from_url(&server.url())?.clock(Arc::new(clock.clone()));
    let store: Arc<dyn Store> = Arc::new(PostgresStore::open(config).await?);
    let mut bench = Bench { node: BareNode::join(Arc::clone(&store)).await?, store, clock, admin };
    let (stored, rounds) = (number("STORED", 1_000_000), number("ROUNDS", 360));

    let first = bench.clock.now();
    store_all(&*bench.store, &jobs(BUSY, PERIOD, first, Duration::ZERO)).await?;
    bench.far(1000 - u32::try_from(BUSY)?, 0).await?;
    let few = bench.pages("1,000 jobs").await?;
    bench.far(stored - 1000, 1).await?;
    bench.pages(&format!("{stored} jobs")).await?.beside(few);
    bench.churn(rounds).await?;
    bench
        .pages(&format!("{stored} jobs, after {} executions", BUSY * usize::try_from(rounds)?))
        .await?
        .beside(few);
    let mut old = PgConnection::connect(&server.url()).await?;
    sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").execute(&mut old).await?;
    for part in 1..=4 {
        bench.churn(rounds / 4).await?;
        let n = BUSY * usize::try_from(rounds / 4 * part)?;
        bench
            .pages(&format!("{stored} jobs, {n} executions since a transaction that is still open"))
            .await?
            .beside(few);
    }
    Ok(())
}

struct Bench {
    node: BareNode,
    store: Arc<dyn Store>,
    clock: ManualClock,
    admin: PgConnection,
}

/// What was measured.
#[derive(Clone, Copy)]
struct Pages {
    idle: i64,
    batch: i64,
}

impl Pages {
    fn beside(self, few: Self) {
        let ratio = |n: i64, of: i64| {
            f64::from(i32::try_from(n).unwrap_or(i32::MAX)) / f64::from(i32::try_from(of).unwrap_or(1))
        };
        let (idle, batch) = (ratio(self.idle, few.idle), ratio(self.batch, few.batch));
        say(&format!("    {idle:.2} and {batch:.2} times as many as with 1,000 jobs"));
    }
}

impl Bench {
    /// Jobs that are not due while this runs.
    async fn far(&self, n: u32, part: u32) -> Result<(), Failure> {
        let far = self.clock.now().saturating_add(Duration::from_secs(10 * 365 * 86_400));
        for from in (0..n).step_by(20_000) {
            let mut some = jobs_of(
                "bench",
                usize::try_from(n.min(from + 20_000) - from)?,
                PERIOD,
                far,
                Duration::from_millis(11),
            );
            for job in &mut some {
                job.id = format!("{}-{part}-{from}", job.id).into();
            }
            store_all(&*self.store, &some).await?;
        }
        Ok(())
    }

    /// Each busy job fires once in each round.
    async fn churn(&self, rounds: u32) -> Result<(), Failure> {
        for _ in 0..rounds {
            self.clock.advance(PERIOD);
            self.node.work_off(BUSY).await?;
        }
        Ok(())
    }

    async fn pages(&mut self, what: &str) -> Result<Pages, Failure> {
        self.node.work_off(BUSY).await?;
        let (idle, idle_took) = self.counted(0).await?;
        self.clock.advance(PERIOD);
        let (batch, batch_took) = self.counted(BUSY).await?;
        say(&format!(
            "{what}: a claim that finds nothing touches {idle} pages ({idle_took:.1} ms), one of {BUSY} due jobs {batch} \
             ({batch_took:.1} ms)"
        ));
        Ok(Pages { idle, batch })
    }

    /// What one claim touches that finds so many.
    async fn counted(&mut self, expected: usize) -> Result<(i64, f64), Failure> {
        const COUNT: &str = "SELECT coalesce(sum(shared_blks_hit + shared_blks_read), 0)::bigint
            FROM pg_stat_statements WHERE query NOT LIKE '%pg_stat_statements%' AND query NOT LIKE 'VACUUM%'";
        // The first of two tidies up after others, as each claim does for the next.
        if expected == 0 {
            self.node.claim(BUSY).await?;
        }
        sqlx::query("SELECT pg_stat_statements_reset()").execute(&mut self.admin).await?;
        let began = Instant::now();
        let claimed = self.node.claim(BUSY).await?;
        let took = began.elapsed().as_secs_f64() * 1e3;
        let row = sqlx::query(AssertSqlSafe(COUNT)).fetch_one(&mut self.admin).await?;
        if claimed.len() != expected {
            return Err(format!("{} claimed in place of {expected}", claimed.len()).into());
        }
        self.node.complete(&claimed).await?;
        Ok((row.try_get(0)?, took))
    }
}
