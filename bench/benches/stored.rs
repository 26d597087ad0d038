//! A store with 1,000,000 jobs, beside one with 1,000: how long it takes to open it and to make a first claim,
//! how much memory the process has then, and what a claim costs, before and after churn.
//!
//! Churn is 1,000 jobs in either that fire again and again with full history, `CHURN` times (300 by default:
//! 300,000 executions, where an hour of one a second each has 3.6 million).
//!
//! Run: `cargo xtask bench stored [sqlite] [postgres] [redis] [mongodb]`; `STORED=100000` for another number.

use std::sync::Arc;
use std::time::{Duration, Instant};

use unified_scheduler::connect;
use unified_scheduler_bench::Failure;
use unified_scheduler_bench::ground::{Ground, Plot, Prepared};
use unified_scheduler_bench::jobs::{BareNode, HANDLER, jobs_of, store_all, store_far};
use unified_scheduler_bench::report::{median, millis, number, rate, say};
use unified_scheduler_core::clock::{Clock, SystemClock};
use unified_scheduler_core::{Context, ManualClock, Scheduler};

/// What the large store is compared with.
const FEW: usize = 1000;
/// How many are due at once where claims are measured.
const BATCH: usize = 500;
/// How often each claim is measured.
const ROUNDS: usize = 25;
const SECOND: Duration = Duration::from_secs(1);
/// The handler of the jobs that fire.
const HOT: &str = "hot";

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().collect();
    if let [_, mode, url] = args.as_slice()
        && mode == "serve"
    {
        return tokio::runtime::Runtime::new()?.block_on(serve(url));
    }
    Ground::each(measure)
}

async fn measure(ground: Ground) -> Result<(), Failure> {
    let name = ground.name();
    let stored = number("STORED", 1_000_000);
    let mut prepared = ground.prepare()?;
    let plot = prepared.plot();
    let began = Instant::now();
    let store = plot.store().await?;
    store_far(&*store, stored).await?;
    store.close().await?;
    let took = began.elapsed();
    say(&format!("{name}: {stored} jobs stored in {:.1} s, {:.0}/s", took.as_secs_f64(), rate(stored, took)));
    // A process of its own, so that its memory is that of serving and not of filling.
    let status =
        std::process::Command::new(std::env::current_exe()?).arg("serve").arg(plot.url()).status()?;
    if !status.success() {
        return Err(format!("{name}: serving failed").into());
    }
    compare(&mut prepared, &plot, stored).await
}

/// Opens the store and starts a node, as a process that does nothing else.
async fn serve(url: &str) -> Result<(), Failure> {
    let began = Instant::now();
    let store = connect(url).await?;
    let opened = began.elapsed();
    let kind = store.describe().kind;
    let scheduler = Scheduler::over(store).handler(HANDLER, |_: Context| async {}).start().await?;
    while scheduler.status().await.scheduler.last_claim_at.is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let claimed = began.elapsed();
    let resident = std::fs::read_to_string("/proc/self/status")?;
    let resident = resident.lines().find(|line| line.starts_with("VmRSS")).unwrap_or("VmRSS unknown");
    say(&format!(
        "{kind}: opened in {:.0} ms; first claim answered {:.0} ms later (a status query of all counts included); {}",
        millis(opened),
        millis(claimed.saturating_sub(opened)),
        resident.split_whitespace().collect::<Vec<_>>().join(" ")
    ));
    scheduler.stop().await;
    Ok(())
}

/// A store with jobs that fire, on a clock of ours.
struct Field {
    node: BareNode,
    clock: ManualClock,
}

/// What claims cost.
#[derive(Clone, Copy)]
struct Costs {
    batch: Duration,
    idle: Duration,
}

impl Field {
    /// Adds `n` jobs to a plot that are due every second.
    async fn on(plot: &Plot, n: usize) -> Result<Self, Failure> {
        let start = SystemClock::new().now();
        let clock = ManualClock::at(start);
        let store = plot.store_at(Arc::new(clock.clone())).await?;
        let first = start.saturating_add(SECOND);
        store_all(&*store, &jobs_of(HOT, n, SECOND, first, Duration::ZERO)).await?;
        Ok(Self { node: BareNode::with_handler(store, HOT).await?, clock })
    }

    /// Fires all jobs that are due every second, some times.
    async fn churn(&self, times: usize) -> Result<Duration, Failure> {
        let began = Instant::now();
        for _ in 0..times {
            self.clock.advance(SECOND);
            self.node.work_off(BATCH).await?;
        }
        Ok(began.elapsed())
    }

    /// The middle of some claims of a full batch, and of some that find nothing.
    async fn costs(&self) -> Result<Costs, Failure> {
        let (mut batch, mut idle) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            self.clock.advance(SECOND);
            let began = Instant::now();
            let claimed = self.node.claim(BATCH).await?;
            batch.push(began.elapsed());
            if claimed.len() != BATCH {
                return Err(format!("claimed {} of {BATCH}", claimed.len()).into());
            }
            self.node.complete(&claimed).await?;
            self.node.work_off(BATCH).await?;
            let began = Instant::now();
            let none = self.node.claim(BATCH).await?;
            idle.push(began.elapsed());
            if !none.is_empty() {
                return Err("claimed what was not due".into());
            }
        }
        Ok(Costs { batch: median(batch), idle: median(idle) })
    }
}

async fn compare(prepared: &mut Prepared, large: &Plot, stored: usize) -> Result<(), Failure> {
    let name = large.ground.name();
    let small = prepared.plot();
    store_far(&*small.store().await?, FEW).await?;
    let (small, large) = (Field::on(&small, FEW).await?, Field::on(large, FEW).await?);
    let few = small.costs().await?;
    let many = large.costs().await?;
    tell(&format!("{name}: {FEW} stored"), few, None);
    tell(&format!("{name}: {stored} stored"), many, Some(few));
    let churn = number("CHURN", 300);
    let n = churn * FEW;
    for (field, of) in [(&small, FEW), (&large, stored)] {
        let took = field.churn(churn).await?;
        say(&format!("{name}: {of} stored: churn of {n} executions: {:.0}/s", rate(n, took)));
    }
    // The history is a table of its own that has grown in both.
    let few = small.costs().await?;
    tell(&format!("{name}: {FEW} stored, after churn"), few, None);
    tell(&format!("{name}: {stored} stored, after churn"), large.costs().await?, Some(few));
    Ok(())
}

fn tell(what: &str, costs: Costs, beside: Option<Costs>) {
    let times = |of: fn(&Costs) -> Duration| {
        let base = beside.as_ref().map(of)?;
        Some(format!(" ({:.2} of {FEW})", of(&costs).as_secs_f64() / base.as_secs_f64()))
    };
    say(&format!(
        "{what}: a claim of {BATCH} {:.2} ms{}, one that finds nothing {:.3} ms{}",
        millis(costs.batch),
        times(|costs| costs.batch).unwrap_or_default(),
        millis(costs.idle),
        times(|costs| costs.idle).unwrap_or_default(),
    ));
}
