//! What happens to a world from outside: nodes that are hit, clocks that step, people who edit.

use std::sync::Arc;

use unified_scheduler_core::store::{ExecutionQuery, Store};
use unified_scheduler_core::{Clock, ErrorKind, JobId, Jobs, Result};

use crate::edits::{Edit, PATIENCE};
use crate::faults::Kind;
use crate::jobs;
use crate::random::Random;
use crate::witness::at_once;
use crate::world::{Process, World};

/// Hits nodes and clocks, one after another.
pub(crate) async fn strike(world: Arc<World>) {
    let kinds: Vec<Kind> =
        [Kind::Crash, Kind::Pause, Kind::Partition, Kind::NodeClock, Kind::StoreClock, Kind::Stop]
            .into_iter()
            .filter(|kind| world.has(*kind))
            .collect();
    if kinds.is_empty() {
        return;
    }
    let lease = world.settings.lease;
    loop {
        let wait = world.draw(|r| r.seconds(60..5400));
        world.clock.sleep(wait).await;
        let slot = world.draw(|r| usize::try_from(r.within(0..world.shape.n_nodes as u64)).unwrap_or(0));
        let kind = world.draw(|r| r.pick(&kinds));
        let Some(process) = world.process(slot) else { continue };
        match kind {
            Kind::Crash => {
                world.count("crash", "at any time");
                process.crash();
            }
            Kind::Pause => {
                world.count("pause", "");
                process.clock.pause(world.draw(|r| r.between(lease / 10, lease * 10)));
            }
            Kind::Partition => {
                world.count("partition", "");
                world.cut_off(slot, world.draw(|r| r.between(lease, lease * 20)));
            }
            Kind::NodeClock => {
                world.count("node clock step", "");
                process.clock.step(world.draw(step));
            }
            Kind::StoreClock => {
                world.count("store clock step", "");
                world.witness.model().store_clock_steps = true;
                world.clock.step_wall(world.draw(|r| r.around_zero(3_600_000)));
            }
            _ => {
                world.count("orderly stop", "");
                let grace = world.draw(|r| r.seconds(0..300));
                tokio::spawn(async move { process.stop(grace).await });
            }
        }
    }
}

fn step(random: &mut Random) -> i64 {
    let most = random.pick(&[5_000, 300_000, 3_600_000, 86_400_000]);
    random.around_zero(most)
}

/// Edits, triggers and cancels.
pub(crate) async fn edit(world: Arc<World>) {
    loop {
        let wait = world.draw(|r| r.seconds(60..4000));
        world.clock.sleep(wait).await;
        let slot = world.draw(|r| usize::try_from(r.within(0..world.shape.n_nodes as u64)).unwrap_or(0));
        let Some(process) = world.process(slot) else { continue };
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            // People give up too.
            tokio::select! {
                biased;
                () = act(&world, &process) => {}
                () = world.clock.sleep(PATIENCE) => {}
            }
        });
    }
}

async fn act(world: &World, process: &Process) {
    let Some(jobs) = process.scheduler().as_ref().map(|s| s.jobs().by("operator")) else { return };
    let id = jobs::id(world.draw(|r| r.within(0..world.shape.n_jobs)));
    let now = world.witness.now();
    let edit = world.draw(|r| Edit::draw(r, now));
    let answer = match &edit {
        Edit::Cancel => cancel(world, process).await,
        Edit::Trigger(_) => trigger(world, &jobs, &id, &edit).await,
        edit => edit.make(&jobs, &id).await.map(drop),
    };
    world.count(edit.name(), "");
    // The node that is asked may lack the job's handler, and then can't check an edit.
    if let Err(error) = answer
        && !error.to_string().contains("nothing is registered")
        && !matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::NotFound | ErrorKind::Conflict)
    {
        world.violate(&format!("{} of {id}: {error}", edit.name()));
    }
}

/// Triggers a job, again with the same key until there is an answer.
async fn trigger(world: &World, jobs: &Jobs, id: &JobId, edit: &Edit) -> Result<()> {
    for _ in 0..3 {
        match edit.make(jobs, id).await {
            Err(error) if error.is_retryable() => world.count("edit: trigger again", ""),
            answer => return answer.map(drop),
        }
    }
    Ok(())
}

/// Cancels something that is open, or something that has ended.
async fn cancel(world: &World, process: &Process) -> Result<()> {
    let open: Vec<_> = world.witness.model().open.values().flatten().copied().collect();
    let id = if open.is_empty() || world.draw(|r| r.in_thousand(100)) {
        let query = ExecutionQuery { limit: 1, ..ExecutionQuery::default() };
        let page = at_once(world.witness.store.list_executions(&query))?;
        let Some(newest) = page.items.first() else { return Ok(()) };
        newest.id
    } else {
        world.draw(|r| r.pick(&open))
    };
    let scheduler = process.scheduler().clone();
    let Some(scheduler) = scheduler else { return Ok(()) };
    scheduler.cancel(&id, "operator").await.map(drop)
}
