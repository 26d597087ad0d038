//! 20,000 jobs due at once, each with a handler that does nothing, fired and recorded with full history: by
//! one scheduler, by four that share the store, and beside them, in the same run, the same rows by hand.
//!
//! Run: `cargo xtask bench burst [sqlite] [postgres] [redis] [mongodb]`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use unified_scheduler_bench::ground::{Ground, Plot, Prepared};
use unified_scheduler_bench::report::{median, rate, say};
use unified_scheduler_bench::{Failure, by_hand, jobs};
use unified_scheduler_core::{Context, Scheduler, Status, Store};

const N: usize = 20_000;
const BATCH: usize = 500;
const RUNS: usize = 3;

fn main() -> Result<(), Failure> {
    Ground::each(measure)
}

async fn measure(ground: Ground) -> Result<(), Failure> {
    let mut prepared = ground.prepare()?;
    let (mut hand, mut one, mut four) = (Vec::new(), Vec::new(), Vec::new());
    for run in 1..=RUNS {
        // In turn, so that a change of the machine's speed meets all.
        hand.push(raw(&mut prepared).await?);
        one.push(burst(&mut prepared, 1).await?);
        four.push(burst(&mut prepared, 4).await?);
        let [hand, one, four] = [&hand, &one, &four].map(|took| rate(N, took[run - 1]));
        let (name, share) = (ground.name(), one / hand);
        say(&format!(
            "{name} run {run}: one node {one:>8.0}/s   four {four:>8.0}/s   by hand {hand:>8.0}/s   share {share:.2}"
        ));
    }
    let [hand, one, four] = [hand, one, four].map(|took| rate(N, median(took)));
    say(&format!(
        "{}: burst of {N}, batches of {BATCH}, with history: median {one:.0} occurrences/s on one node, {four:.0}/s \
         on four; by hand {hand:.0}/s; one node has {:.0} % of it, four nodes {:.2} of one",
        ground.name(),
        100.0 * one / hand,
        four / one
    ));
    Ok(())
}

/// A plot with all jobs due, of which one has run: what it wrote is the model of what is written by hand.
async fn filled(prepared: &mut Prepared) -> Result<Plot, Failure> {
    let plot = prepared.plot();
    let store = plot.store().await?;
    let past = store.now().await?.saturating_sub(Duration::from_secs(1));
    let all = jobs::jobs(N + 1, Duration::from_secs(86_400), past, Duration::ZERO);
    jobs::store_all(&*store, &all).await?;
    let node = jobs::BareNode::join(Arc::clone(&store)).await?;
    let claimed = node.claim(1).await?;
    node.complete(&claimed).await?;
    node.leave().await?;
    store.close().await?;
    Ok(plot)
}

async fn raw(prepared: &mut Prepared) -> Result<Duration, Failure> {
    let plot = filled(prepared).await?;
    let now = now();
    let (n, took) = by_hand::work_off(&plot, now, BATCH, 1).await?;
    if n == N { Ok(took) } else { Err(format!("by hand {n} of {N}").into()) }
}

fn now() -> i64 {
    use unified_scheduler_core::clock::{Clock, SystemClock};
    SystemClock::new().now().as_millis()
}

/// From the start of the schedulers until the last end is recorded.
async fn burst(prepared: &mut Prepared, nodes: usize) -> Result<Duration, Failure> {
    let plot = filled(prepared).await?;
    let mut stores: Vec<Arc<dyn Store>> = Vec::new();
    for _ in 0..nodes {
        stores.push(plot.store().await?);
    }
    let began = Instant::now();
    let started = Arc::new(AtomicUsize::new(0));
    let mut schedulers = Vec::new();
    for store in &stores {
        let started = Arc::clone(&started);
        let scheduler = Scheduler::over(Arc::clone(store))
            .handler(jobs::HANDLER, move |_: Context| {
                started.fetch_add(1, Ordering::Relaxed);
                async {}
            })
            .concurrency(2 * BATCH)
            .start();
        schedulers.push(scheduler.await?);
    }
    loop {
        tokio::time::sleep(Duration::from_millis(5)).await;
        // Counting all there is loads the server as well, so it is asked only at the end.
        let is_busy = schedulers.iter().any(|scheduler| scheduler.n_running() > 0);
        if is_busy || started.load(Ordering::Relaxed) < N {
            continue;
        }
        let counts = stores[0].counts().await?;
        if counts.executions.get(&Status::Success).copied() == Some(N as u64 + 1) {
            break;
        }
    }
    let took = began.elapsed();
    for (scheduler, store) in schedulers.iter().zip(&stores) {
        scheduler.stop().await;
        store.close().await?;
    }
    Ok(took)
}
