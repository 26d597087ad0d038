//! What a node costs that has nothing to do: statements and processor time in one real minute, with 10,000
//! jobs that are not due.
//!
//! Calls are counted in the node, statements where they arrive, on the server. Run:
//! `cargo xtask bench idle [sqlite] [postgres] [redis] [mongodb]`; `STORED=1000` for another number of jobs.

use std::sync::Arc;
use std::time::Duration;

use unified_scheduler_bench::Failure;
use unified_scheduler_bench::counted::Counted;
use unified_scheduler_bench::ground::{Ground, Prepared};
use unified_scheduler_bench::jobs::{HANDLER, store_far};
use unified_scheduler_bench::meter::{Meter, between};
use unified_scheduler_bench::report::{millis, number, say};
use unified_scheduler_core::{Context, Scheduler, Store};
use unified_scheduler_services::cpu;

const MINUTE: Duration = Duration::from_secs(60);
/// Until the node has joined, asked for work and found none, and the server has settled.
const WARM: Duration = Duration::from_secs(5);

fn main() -> Result<(), Failure> {
    Ground::each(measure)
}

async fn measure(ground: Ground) -> Result<(), Failure> {
    let stored = number("STORED", 10_000);
    let mut prepared = ground.prepare()?;
    let mut meter = Meter::on(ground, &mut prepared).await?;
    let plot = prepared.plot();
    let store = Arc::new(Counted::new(plot.store().await?));
    store_far(&*store, stored).await?;
    let shared: Arc<dyn Store> = Arc::clone(&store) as _;
    let scheduler = Scheduler::over(shared).handler(HANDLER, |_: Context| async {}).start().await?;
    tokio::time::sleep(WARM).await;

    let server_cpu = |prepared: &mut Prepared| prepared.server().map(|s| s.cpu()).unwrap_or_default();
    let before = (cpu::own(), server_cpu(&mut prepared), store.calls(), meter.statements().await?);
    tokio::time::sleep(MINUTE).await;
    let sent = meter.statements().await?.zip(before.3).map(|(after, before)| between(&before, &after));
    let statements = match sent {
        None => "no server".to_owned(),
        Some((n, sent)) => format!("{n} statements on the server {sent:?}"),
    };
    say(&format!(
        "{}: an idle minute with {stored} jobs not due: {} calls of the store, {statements}; processor time: \
         node {:.0} ms, server {:.0} ms",
        ground.name(),
        store.calls() - before.2,
        millis(cpu::own().saturating_sub(before.0)),
        millis(server_cpu(&mut prepared).saturating_sub(before.1)),
    ));
    scheduler.stop().await;
    Ok(())
}
