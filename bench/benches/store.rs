//! Claim and complete, by batch size, on each store, with history.
//!
//! A thousand jobs of one second, on a clock that moves by hand: each round a second passes, and all of
//! them are claimed and completed in batches. Run:
//! `cargo xtask bench store [memory] [sqlite] [postgres] [redis] [mongodb]`.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use unified_scheduler_bench::Failure;
use unified_scheduler_bench::field::{Bed, SECOND, START};
use unified_scheduler_bench::jobs::{BareNode, HANDLER, jobs, store_all};
use unified_scheduler_core::ManualClock;

const N: usize = 1000;

fn batches(c: &mut Criterion) {
    let Ok(runtime) = tokio::runtime::Runtime::new() else { return };
    let mut group = c.benchmark_group("claim and complete 1000");
    group.sample_size(10).throughput(Throughput::Elements(N as u64));
    for mut bed in Bed::asked_for() {
        for batch in [1, 10, 100, 500] {
            // One row at a time is one commit at a time: a second of it tells enough.
            let clock = ManualClock::at(START);
            let node = runtime.block_on(async {
                let store = bed.fresh(&clock, 1).await?.remove(0);
                let first = START.saturating_add(SECOND);
                store_all(&*store, &jobs(N, SECOND, first, Duration::ZERO)).await?;
                Ok::<_, Failure>(BareNode::with_handler(store, HANDLER).await?)
            });
            let Ok(node) = node else { return };
            group.bench_function(BenchmarkId::new(bed.name(), batch), |b| {
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
