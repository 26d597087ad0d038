//! How late jobs start: 500 jobs of one second, with history; first spread over the second, then all due in
//! the same instant, beside the raw batch writes.
//!
//! Lateness is what the handler sees: its clock minus the due time.
//! Run: `cargo xtask bench lateness [sqlite] [postgres] [redis] [mongodb]`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use unified_scheduler_bench::ground::{Ground, Prepared};
use unified_scheduler_bench::report::{quantile, say};
use unified_scheduler_bench::{Failure, by_hand, jobs};
use unified_scheduler_core::clock::{Clock, SystemClock};
use unified_scheduler_core::{Context, Scheduler, Timestamp};

const N: usize = 500;
const SECONDS: u64 = 20;

fn main() -> Result<(), Failure> {
    Ground::each(measure)
}

async fn measure(ground: Ground) -> Result<(), Failure> {
    let mut prepared = ground.prepare()?;
    let spread = run(&mut prepared, Duration::from_millis(2)).await?;
    tell(ground, "spread over the second", &spread);
    let together = run(&mut prepared, Duration::ZERO).await?;
    tell(ground, "all in the same instant", &together);
    let raw = raw(&mut prepared).await?;
    let (ours, raw) =
        ([0.5, 0.99].map(|p| millis(&together.lateness, p)), [0.5, 0.99].map(|p| millis(&raw, p)));
    say(&format!(
        "{}: raw batch writes of {N} (claim and completion), once a second: p50 {:.1} ms, p99 {:.1}; of that the \
         same instant's p50 is {:.2}, its p99 {:.2}",
        ground.name(),
        raw[0],
        raw[1],
        ours[0] / raw[0],
        ours[1] / raw[1]
    ));
    Ok(())
}

/// How long the same batches take by hand, in microseconds, sorted: in the same rhythm, since a machine that
/// has slept for a second is slower than one that is hot.
async fn raw(prepared: &mut Prepared) -> Result<Vec<i64>, Failure> {
    let plot = prepared.plot();
    let store = plot.store().await?;
    let now = store.now().await?;
    jobs::store_all(&*store, &jobs::jobs(N + 1, Duration::from_secs(1), now, Duration::ZERO)).await?;
    let node = jobs::BareNode::join(Arc::clone(&store)).await?;
    let claimed = node.claim(1).await?;
    node.complete(&claimed).await?;
    store.close().await?;
    let mut client = by_hand::client(&plot).await?;
    let mut took = Vec::new();
    for second in 0..SECONDS {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let began = Instant::now();
        // By hand each batch moves on by a day.
        let n = client.batch(now.as_millis() + i64::try_from(second)? * 86_400_000, N).await?;
        took.push(i64::try_from(began.elapsed().as_micros())?);
        if n < N {
            return Err(format!("by hand {n} of {N}").into());
        }
    }
    // As with ours, the first second warms up.
    took.remove(0);
    took.sort_unstable();
    Ok(took)
}

fn millis(sorted: &[i64], p: f64) -> f64 {
    f64::from(i32::try_from(quantile(sorted, p)).unwrap_or(i32::MAX)) / 1e3
}

struct Measured {
    /// Sorted, in microseconds.
    lateness: Vec<i64>,
    expected: usize,
}

fn tell(ground: Ground, name: &str, measured: &Measured) {
    let at = |p| millis(&measured.lateness, p);
    say(&format!(
        "{}: {N} jobs of 1 s for {SECONDS} s, {name}: {} of {} started; lateness p50 {:.1} ms, p90 {:.1}, p99 {:.1}, max {:.1}",
        ground.name(),
        measured.lateness.len(),
        measured.expected,
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    ));
}

async fn run(prepared: &mut Prepared, spread: Duration) -> Result<Measured, Failure> {
    let store = prepared.plot().store().await?;
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
