//! Tick throughput: what it costs to claim and complete what is due, with history, by how much is due, on
//! one node and on four that share the store.
//!
//! 20,000 jobs are stored beside those that are due; `cargo xtask bench stored` shows that a million cost no
//! more. Run: `cargo xtask bench tick [memory] [sqlite] [postgres] [redis] [mongodb]`; `STORED=1000000` for
//! another number.

use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use unified_scheduler_bench::Failure;
use unified_scheduler_bench::field::{Bed, SECOND, START};
use unified_scheduler_bench::jobs::{BareNode, jobs_of, store_all, store_far};
use unified_scheduler_bench::report::number;
use unified_scheduler_core::{ManualClock, Store};

/// How many are due at a tick; each kind has a handler, and so nodes, of its own.
const DUE: [(usize, &str); 3] = [(1, "one"), (100, "hundred"), (10_000, "myriad")];
const N_NODES: [usize; 2] = [1, 4];
const BATCH: usize = 500;

fn ticks(c: &mut Criterion) {
    let Ok(runtime) = tokio::runtime::Runtime::new() else { return };
    let stored = number("STORED", 20_000);
    let mut group = c.benchmark_group(format!("tick, {stored} stored"));
    group.sample_size(10);
    for mut bed in Bed::asked_for() {
        let clock = ManualClock::at(START);
        let Ok(handles) = runtime.block_on(filled(&mut bed, &clock, stored)) else { return };
        for (n_due, handler) in DUE {
            for n_nodes in N_NODES {
                let Ok(nodes) = runtime.block_on(enter(&handles[..n_nodes], handler)) else { return };
                group.throughput(Throughput::Elements(n_due as u64));
                let name = if n_nodes == 1 { "one node" } else { "four nodes" };
                group.bench_function(BenchmarkId::new(bed.name(), format!("{n_due} due, {name}")), |b| {
                    b.iter(|| {
                        clock.advance(SECOND);
                        runtime.block_on(work_off(&nodes))
                    });
                });
            }
        }
    }
    group.finish();
}

/// Handles on a store with the jobs that fall due, and the rest not due for a year.
async fn filled(bed: &mut Bed, clock: &ManualClock, stored: usize) -> Result<Vec<Arc<dyn Store>>, Failure> {
    let handles = bed.fresh(clock, 4).await?;
    for (n, handler) in DUE {
        let first = START.saturating_add(SECOND);
        store_all(&*handles[0], &jobs_of(handler, n, SECOND, first, Duration::ZERO)).await?;
    }
    store_far(&*handles[0], stored).await?;
    Ok(handles)
}

async fn enter(stores: &[Arc<dyn Store>], handler: &str) -> Result<Vec<Arc<BareNode>>, Failure> {
    let mut nodes = Vec::new();
    for (n, store) in stores.iter().enumerate() {
        let name = format!("{handler}-{}-{n}", stores.len());
        nodes.push(Arc::new(BareNode::named(Arc::clone(store), &name, handler).await?));
    }
    Ok(nodes)
}

async fn work_off(nodes: &[Arc<BareNode>]) -> usize {
    let mut all = tokio::task::JoinSet::new();
    for node in nodes {
        let node = Arc::clone(node);
        all.spawn(async move { node.work_off(BATCH).await });
    }
    let mut n = 0;
    while let Some(done) = all.join_next().await {
        n += done.ok().and_then(Result::ok).unwrap_or(0);
    }
    n
}

criterion_group!(benches, ticks);
criterion_main!(benches);
