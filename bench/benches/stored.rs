//! A file with 1,000,000 jobs: how long it takes to open it, to enter a node and to make the first claim,
//! and how much memory the process has then.
//!
//! Run: `cargo xtask bench stored`; `STORED=100000` for another number.

use std::sync::Arc;
use std::time::{Duration, Instant};

use unified_scheduler_bench::jobs::{HANDLER, jobs, store_all};
use unified_scheduler_bench::report::say;
use unified_scheduler_core::clock::{Clock, SystemClock};
use unified_scheduler_core::{Context, Scheduler, Store};
use unified_scheduler_sqlite::{SqliteConfig, SqliteStore};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    if let [_, mode, file] = args.as_slice()
        && mode == "serve"
    {
        return tokio::runtime::Runtime::new()?.block_on(serve(file));
    }
    let stored = std::env::var("STORED").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("jobs.db");
    let began = Instant::now();
    tokio::runtime::Runtime::new()?.block_on(fill(&file, stored))?;
    let size = std::fs::metadata(&file)?.len() >> 20;
    say(&format!("{stored} jobs stored in {:.1} s, {size} MB", began.elapsed().as_secs_f64()));
    // A process of its own, so that its memory is that of serving and not of filling.
    let status = std::process::Command::new(std::env::current_exe()?).arg("serve").arg(&file).status()?;
    if status.success() { Ok(()) } else { Err("serving failed".into()) }
}

async fn fill(file: &std::path::Path, stored: usize) -> unified_scheduler_core::Result<()> {
    let store = SqliteStore::open(SqliteConfig::new(file)).await?;
    let far = SystemClock::new().now().saturating_add(Duration::from_secs(365 * 86_400));
    let mut left = stored;
    while left > 0 {
        let n = left.min(20_000);
        left -= n;
        let mut some = jobs(n, Duration::from_secs(86_400), far, Duration::from_millis(11));
        for job in &mut some {
            job.id = format!("{}-{left}", job.id).into();
        }
        store_all(&store, &some).await?;
    }
    store.close().await
}

async fn serve(file: &str) -> Result<(), Box<dyn std::error::Error>> {
    let began = Instant::now();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(SqliteConfig::new(file)).await?);
    let opened = began.elapsed();
    let scheduler = Scheduler::over(store).handler(HANDLER, |_: Context| async {}).start().await?;
    while scheduler.status().await.scheduler.last_claim_at.is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let claimed = began.elapsed();
    let resident = std::fs::read_to_string("/proc/self/status")?;
    let resident = resident.lines().find(|line| line.starts_with("VmRSS")).unwrap_or("VmRSS unknown");
    say(&format!(
        "opened in {:.0} ms; first claim answered {:.0} ms later (a status query of all counts included); {}",
        opened.as_secs_f64() * 1e3,
        claimed.saturating_sub(opened).as_secs_f64() * 1e3,
        resident.split_whitespace().collect::<Vec<_>>().join(" ")
    ));
    scheduler.stop().await;
    Ok(())
}
