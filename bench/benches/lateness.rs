//! How late jobs start: 500 jobs of one second on SQLite, `synchronous=FULL`, with history; first spread
//! over the second, then all due in the same instant, beside the raw batch writes.
//!
//! Lateness is what the handler sees: its clock minus the due time. Run: `cargo xtask bench lateness`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use unified_scheduler_bench::report::{median, quantile, say};
use unified_scheduler_bench::{by_hand, jobs};
use unified_scheduler_core::clock::{Clock, SystemClock};
use unified_scheduler_core::{Context, Scheduler, Store, Timestamp};
use unified_scheduler_sqlite::{SqliteConfig, SqliteStore};

const N: usize = 500;
const SECONDS: u64 = 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Runtime::new()?;
    let spread = runtime.block_on(run(Duration::from_millis(2)))?;
    tell("spread over the second", &spread);
    let together = runtime.block_on(run(Duration::ZERO))?;
    tell("all in the same instant", &together);
    let mut raw = Vec::new();
    for _ in 0..9 {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("hand.db");
        let now = SystemClock::new().now();
        runtime.block_on(async {
            let store = SqliteStore::open(SqliteConfig::new(&file)).await?;
            jobs::store_all(&store, &jobs::jobs(N, Duration::from_secs(1), now, Duration::ZERO)).await?;
            store.close().await
        })?;
        raw.push(by_hand::work_off(&file, now.as_millis(), N)?.1);
    }
    let raw = median(raw);
    say(&format!(
        "raw batch writes of {N} (claim and completion, two commits): {:.1} ms; p99 of the same instant is {:.2} of that",
        raw.as_secs_f64() * 1e3,
        f64::from(i32::try_from(quantile(&together.lateness, 0.99)).unwrap_or(i32::MAX))
            / 1e3
            / (raw.as_secs_f64() * 1e3)
    ));
    Ok(())
}

struct Measured {
    /// Sorted, in microseconds.
    lateness: Vec<i64>,
    expected: usize,
}

fn tell(name: &str, measured: &Measured) {
    let at = |p| f64::from(i32::try_from(quantile(&measured.lateness, p)).unwrap_or(i32::MAX)) / 1000.0;
    say(&format!(
        "{N} jobs of 1 s for {SECONDS} s, {name}: {} of {} started; lateness p50 {:.1} ms, p90 {:.1}, p99 {:.1}, max {:.1}",
        measured.lateness.len(),
        measured.expected,
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    ));
}

async fn run(spread: Duration) -> Result<Measured, Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let store: Arc<dyn Store> =
        Arc::new(SqliteStore::open(SqliteConfig::new(folder.path().join("jobs.db"))).await?);
    let first = Timestamp::from_millis((SystemClock::new().now().as_millis() / 1000 + 3) * 1000);
    jobs::store_all(&*store, &jobs::jobs(N, Duration::from_secs(1), first, spread)).await?;
    let last = first.saturating_add(Duration::from_secs(SECONDS));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let scheduler = Scheduler::over(store)
        .handler(jobs::HANDLER, move |ctx: Context| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            let late = i64::try_from(now.as_micros()).unwrap_or(i64::MAX) - ctx.due_at().as_millis() * 1000;
            sink.lock().unwrap_or_else(PoisonError::into_inner).push((ctx.due_at(), late));
            async {}
        })
        .concurrency(1000)
        .start()
        .await?;
    let left = last.since(SystemClock::new().now()) + Duration::from_millis(500);
    tokio::time::sleep(left).await;
    scheduler.stop().await;
    // The first second warms up.
    let from = first.saturating_add(Duration::from_secs(1));
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let mut lateness: Vec<i64> =
        seen.iter().filter(|(due, _)| *due >= from && *due < last).map(|(_, late)| *late).collect();
    lateness.sort_unstable();
    Ok(Measured { lateness, expected: N * (usize::try_from(SECONDS)? - 1) })
}
