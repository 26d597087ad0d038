//! Tick throughput: what it costs to claim and complete what is due, by how much is due and how much is
//! stored. The cost must grow with the first and not with the second.
//!
//! Run: `cargo xtask bench tick`; `STORED=1000` leaves the million out.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use unified_scheduler_bench::jobs::{BareNode, jobs, jobs_of, store_all};
use unified_scheduler_core::store::MemoryStore;
use unified_scheduler_core::{ManualClock, Result, Store, Timestamp};
use unified_scheduler_sqlite::{SqliteConfig, SqliteStore};

const SECOND: Duration = Duration::from_secs(1);
const START: Timestamp = Timestamp::from_secs(1_782_820_800);
/// How many are due at a tick; each kind has a handler, and so a node, of its own.
const DUE: [(usize, &str); 3] = [(1, "one"), (100, "hundred"), (10_000, "myriad")];

fn ticks(c: &mut Criterion) {
    let Ok(runtime) = tokio::runtime::Runtime::new() else { return };
    let only = std::env::var("STORED").ok().and_then(|n| n.parse::<usize>().ok());
    for stored in [20_000, 1_000_000].into_iter().filter(|n| only.is_none_or(|only| only == *n)) {
        for kind in ["memory", "sqlite"] {
            let Ok(folder) = tempfile::tempdir() else { return };
            let clock = ManualClock::at(START);
            let nodes = runtime.block_on(filled(kind, folder.path(), &clock, stored));
            let Ok(nodes) = nodes else { return };
            let mut group = c.benchmark_group(format!("tick, {stored} stored"));
            group.sample_size(10);
            for ((n_due, _), node) in DUE.iter().zip(&nodes) {
                group.throughput(Throughput::Elements(*n_due as u64));
                group.bench_function(BenchmarkId::new(kind, format!("{n_due} due")), |b| {
                    b.iter(|| {
                        clock.advance(SECOND);
                        runtime.block_on(node.work_off(500)).ok()
                    });
                });
            }
            group.finish();
        }
    }
}

/// A store with the jobs that fall due, and the rest not due for years; a node for each handler.
async fn filled(kind: &str, folder: &Path, clock: &ManualClock, stored: usize) -> Result<Vec<BareNode>> {
    let store: Arc<dyn Store> = if kind == "memory" {
        Arc::new(MemoryStore::with_clock(Arc::new(clock.clone())))
    } else {
        let config = SqliteConfig::new(folder.join("jobs.db")).clock(Arc::new(clock.clone()));
        Arc::new(SqliteStore::open(config).await?)
    };
    let (mut nodes, mut left) = (Vec::new(), stored);
    for (n, handler) in DUE {
        let first = START.saturating_add(SECOND);
        store_all(&*store, &jobs_of(handler, n, SECOND, first, Duration::ZERO)).await?;
        nodes.push(BareNode::with_handler(Arc::clone(&store), handler).await?);
        left -= n;
    }
    let far = START.saturating_add(Duration::from_secs(10 * 365 * 86_400));
    while left > 0 {
        let n = left.min(50_000);
        left -= n;
        let mut rest = jobs(n, Duration::from_secs(86_400), far, Duration::from_millis(7));
        for job in &mut rest {
            job.id = format!("{}-{left}", job.id).into();
        }
        store_all(&*store, &rest).await?;
    }
    Ok(nodes)
}

criterion_group!(benches, ticks);
criterion_main!(benches);
