//! 20,000 jobs due at once on SQLite, each with a handler that does nothing, fired and recorded with full
//! history and `synchronous=FULL`: by a scheduler, and beside it the same writes by hand.
//!
//! Run: `cargo xtask bench burst`.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use unified_scheduler_bench::report::{median, rate, say};
use unified_scheduler_bench::{by_hand, jobs};
use unified_scheduler_core::clock::{Clock, SystemClock};
use unified_scheduler_core::{Context, Scheduler, Status, Store, Timestamp};
use unified_scheduler_sqlite::{SqliteConfig, SqliteStore};

const N: usize = 20_000;
const BATCH: usize = 500;
const RUNS: usize = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Runtime::new()?;
    let (mut ours, mut raw) = (Vec::new(), Vec::new());
    for run in 1..=RUNS {
        let folder = tempfile::tempdir()?;
        // In turn, so that a change of the machine's speed meets both.
        let by_hand = runtime.block_on(filled(&folder.path().join("hand.db")))?;
        let now = SystemClock::new().now().as_millis();
        runtime.block_on(by_hand.close())?;
        let (n, took) = by_hand::work_off(&folder.path().join("hand.db"), now, BATCH)?;
        if n != N {
            return Err(format!("by hand {n} of {N}").into());
        }
        raw.push(took);
        let store = runtime.block_on(filled(&folder.path().join("ours.db")))?;
        let took = runtime.block_on(burst(store))?;
        ours.push(took);
        say(&format!(
            "run {run}: scheduler {:>8.0}/s   by hand {:>8.0}/s   share {:.2}",
            rate(N, took),
            rate(N, raw[run - 1]),
            raw[run - 1].as_secs_f64() / took.as_secs_f64()
        ));
    }
    let (ours, raw) = (median(ours), median(raw));
    say(&format!(
        "burst of {N}, batches of {BATCH}, synchronous=FULL, with history: median {:.0} occurrences/s; \
         by hand {:.0}/s; share of the raw limit {:.0} %",
        rate(N, ours),
        rate(N, raw),
        100.0 * raw.as_secs_f64() / ours.as_secs_f64()
    ));
    Ok(())
}

async fn filled(file: &Path) -> unified_scheduler_core::Result<Arc<dyn Store>> {
    let store = Arc::new(SqliteStore::open(SqliteConfig::new(file)).await?);
    let past = Timestamp::from_millis(SystemClock::new().now().as_millis() - 1000);
    let all = jobs::jobs(N, Duration::from_secs(86_400), past, Duration::ZERO);
    jobs::store_all(&*store, &all).await?;
    Ok(store)
}

/// From the start of the scheduler until the last end is recorded.
async fn burst(store: Arc<dyn Store>) -> Result<Duration, Box<dyn std::error::Error>> {
    let began = Instant::now();
    let scheduler = Scheduler::over(Arc::clone(&store))
        .handler(jobs::HANDLER, |_: Context| async {})
        .concurrency(2 * BATCH)
        .start()
        .await?;
    loop {
        tokio::time::sleep(Duration::from_millis(5)).await;
        if scheduler.n_running() > 0 {
            continue;
        }
        let counts = store.counts().await?;
        if counts.executions.get(&Status::Success).copied() == Some(N as u64) {
            break;
        }
    }
    let took = began.elapsed();
    scheduler.stop().await;
    Ok(took)
}
