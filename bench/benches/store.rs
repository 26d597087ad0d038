//! Claim and complete, by batch size, on a store in memory and on SQLite (`synchronous=FULL`).
//!
//! A thousand jobs of one second, on a clock that moves by hand: each round a second passes, and all of
//! them are claimed and completed in batches. Run: `cargo xtask bench store`.

use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use unified_scheduler_bench::jobs::{BareNode, jobs, store_all};
use unified_scheduler_core::store::MemoryStore;
use unified_scheduler_core::{ManualClock, Store, Timestamp};
use unified_scheduler_sqlite::{SqliteConfig, SqliteStore};

const SECOND: Duration = Duration::from_secs(1);
const N: usize = 1000;

fn batches(c: &mut Criterion) {
    let Ok(runtime) = tokio::runtime::Runtime::new() else { return };
    let Ok(folder) = tempfile::tempdir() else { return };
    let mut group = c.benchmark_group("claim and complete 1000");
    group.sample_size(10).throughput(Throughput::Elements(N as u64));
    for batch in [1, 10, 100, 500] {
        for kind in ["memory", "sqlite"] {
            // One row at a time is one commit at a time: a second of it tells enough.
            let clock = ManualClock::at(Timestamp::from_secs(1_782_820_800));
            let node = runtime.block_on(async {
                let store: Arc<dyn Store> = if kind == "memory" {
                    Arc::new(MemoryStore::with_clock(Arc::new(clock.clone())))
                } else {
                    let config = SqliteConfig::new(folder.path().join(format!("{batch}.db")));
                    Arc::new(SqliteStore::open(config.clock(Arc::new(clock.clone()))).await?)
                };
                let first = Timestamp::from_secs(1_782_820_801);
                store_all(&*store, &jobs(N, SECOND, first, Duration::ZERO)).await?;
                BareNode::join(store).await
            });
            let Ok(node) = node else { return };
            group.bench_function(BenchmarkId::new(kind, batch), |b| {
                b.iter(|| {
                    clock.advance(SECOND);
                    runtime.block_on(node.work_off(batch)).ok()
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, batches);
criterion_main!(benches);
