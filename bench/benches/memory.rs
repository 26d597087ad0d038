//! How much memory Redis takes for a job, for each of its executions, and for an entry of the audit.
//!
//! Run: `cargo xtask bench memory`.

use std::sync::Arc;
use std::time::Duration;

use unified_scheduler_bench::Failure;
use unified_scheduler_bench::ground::{Ground, Plot, Prepared};
use unified_scheduler_bench::jobs::{self, BareNode};
use unified_scheduler_bench::report::say;
use unified_scheduler_core::store::{ExecutionQuery, PruneRequest, UpdateJob};
use unified_scheduler_core::{Job, JobDefinition, JobId, Misfire, Schedule, Store, Timestamp};

const N: usize = 10_000;
/// How many executions the jobs of the second plot get.
const MANY: u32 = 10;

fn main() -> Result<(), Failure> {
    tokio::runtime::Runtime::new()?.block_on(measure())
}

async fn measure() -> Result<(), Failure> {
    let mut prepared = Ground::Redis.prepare()?;
    let (plot, store, now) = begin(&mut prepared).await?;
    let before = used(&plot).await?;
    let day = Duration::from_secs(86_400);
    jobs::store_all(&*store, &jobs::jobs(N, day, now, Duration::ZERO)).await?;
    let stored = used(&plot).await?;
    work_off(&store).await?;
    let first = used(&plot).await?;
    for i in 0..N {
        if let Some(job) = store.get_job(&format!("{}-{i}", jobs::HANDLER).as_str().into()).await? {
            drop(store.update_job(UpdateJob::new(&job, "bench", "updated")).await?);
        }
    }
    let edited = used(&plot).await?;
    say(&format!(
        "redis: {N} jobs: {} bytes each with the audit entry of their creation; the first execution {}; an audit \
         entry {}",
        each(stored - before, N),
        each(first - stored, N),
        each(edited - first, N)
    ));
    store.close().await?;

    let (plot, store, now) = begin(&mut prepared).await?;
    let second = Duration::from_secs(1);
    let first = now.saturating_sub(second * (MANY - 1));
    let all: Vec<Job> = (0..N)
        .map(|i| {
            let mut schedule = Schedule::every(second).anchored_at(first);
            schedule.limit = Some(MANY.into());
            let name = format!("{}-{i}", jobs::HANDLER);
            let mut definition = JobDefinition::new(name.clone(), jobs::HANDLER, schedule);
            definition.misfire = Misfire::RunAll { limit: MANY };
            Job::new(JobId::from(name), definition, first)
        })
        .collect();
    let empty = used(&plot).await?;
    jobs::store_all(&*store, &all).await?;
    let stored = used(&plot).await?;
    work_off(&store).await?;
    let history = used(&plot).await?;
    let made =
        store.list_executions(&ExecutionQuery { count: true, limit: 1, ..ExecutionQuery::default() }).await?;
    let n = usize::try_from(made.total.unwrap_or_default())?;
    say(&format!("redis: {n} executions of {N} jobs: {} bytes each", each(history - stored, n)));
    let all = PruneRequest { max_age: Some(Duration::ZERO), limit: usize::MAX };
    let gone = store.prune(all).await?;
    let pruned = used(&plot).await?;
    say(&format!(
        "redis: after a retention that keeps none of them ({gone} removed): {} bytes a job, {} before the first ran",
        each(pruned - empty, N),
        each(stored - empty, N)
    ));
    Ok(())
}

async fn begin(prepared: &mut Prepared) -> Result<(Plot, Arc<dyn Store>, Timestamp), Failure> {
    let plot = prepared.plot();
    let store = plot.store().await?;
    let now = store.now().await?;
    Ok((plot, store, now))
}

async fn work_off(store: &Arc<dyn Store>) -> Result<(), Failure> {
    BareNode::join(Arc::clone(store)).await?.work_off(500).await?;
    Ok(())
}

/// The bytes that the server has in use.
async fn used(plot: &Plot) -> Result<i64, Failure> {
    let mut client =
        redis::Client::open(plot.server_url.as_str())?.get_multiplexed_async_connection().await?;
    let info: String = redis::cmd("INFO").arg("memory").query_async(&mut client).await?;
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
    Ok(line.ok_or("the server does not tell what it uses")?.trim().parse()?)
}

fn each(bytes: i64, n: usize) -> i64 {
    i64::try_from(n).map_or(0, |n| bytes / n.max(1))
}
