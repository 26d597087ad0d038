//! What must hold when all has healed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use unified_scheduler_core::execution::Trigger;
use unified_scheduler_core::store::{AuditQuery, Store};
use unified_scheduler_core::verify::{ProblemKind, VerifyOptions, verify};
use unified_scheduler_core::{Clock, Execution, Job, JobId, Keep, Status, Timestamp};

use crate::witness::{Model, at_once};
use crate::world::World;

/// Judges the world; what is wrong goes to the model's violations.
pub(crate) async fn of(world: &Arc<World>) {
    // So that nothing is judged in the middle of an instant.
    world.clock.sleep(Duration::from_millis(50)).await;
    let settings = &world.settings;
    let slack = settings.poll * 2 + settings.lease + settings.call_timeout * 2;
    let now = world.witness.now();
    let all_busy = {
        let schedulers: Vec<_> = world.processes().iter().filter_map(|p| p.scheduler().clone()).collect();
        schedulers.len() == world.shape.n_nodes && schedulers.iter().all(|s| s.node().is_some())
    };
    let mut found = Vec::new();
    if !all_busy {
        found.push("I10 a node has not come back".to_owned());
    }
    {
        let model = world.witness.model();
        // A store clock that was set back makes things late, and that is all it may do.
        let late = |t: Timestamp| now.since(t) > slack;
        for row in model.rows.values().filter(|row| !row.removed) {
            let e = &row.execution;
            let timeout = row.job.as_ref().map_or(Duration::ZERO, |j| j.definition.timeout);
            let most = timeout + settings.cancel_grace + slack;
            if e.status == Status::Running && e.started_at.is_some_and(|t| now.since(t) > most) {
                found.push(format!("I10 it runs for ever: {e:?}"));
            }
            if e.status == Status::Pending && late(e.run_at) && may_start(&model, e) && has_room(world) {
                found.push(format!("I27 nobody starts {e:?}"));
            }
        }
        for job in model.jobs.values().filter(|j| j.enabled && j.fault.is_none()) {
            match job.due {
                Some(due) if late(due.fire_at) && has_room(world) => {
                    found.push(format!("I27 nobody fires {job:?}"));
                }
                None if job.ended.is_none() && !is_manual(job) && !awaits_completion(&model, job) => {
                    found.push(format!("I5 it will never fire again: {job:?}"));
                }
                _ => {}
            }
        }
        once_each(&model, &mut found);
    }
    match verify(&world.witness.store, &VerifyOptions::default(), |_| ()).await {
        Ok(report) => {
            world.count("jobs verified", "");
            for problem in report.problems {
                // What the retention removed can't be told from what was never there.
                let pruned = world.settings.retention.is_some() && problem.kind != ProblemKind::Stuck;
                // When the store's clock is set back, occurrences no longer come in their order.
                let unordered = world.witness.model().store_clock_steps;
                if !pruned
                    && !unordered
                    && problem.kind != ProblemKind::Duplicate
                    && !has_limits(&world.witness.model(), &problem.job_id)
                {
                    found.push(format!("verify: {problem:?}; {}", story(world, &problem.job_id)));
                }
            }
        }
        Err(error) => found.push(format!("verify: {error}")),
    }
    if !world.has(crate::faults::Kind::StoreClock) {
        sane_ends(world, &mut found);
    }
    for text in &found {
        world.violate(text);
    }
}

/// What was done to a job.
fn story(world: &World, id: &JobId) -> String {
    let query = AuditQuery { job_id: Some(id.clone()), limit: 100, ..AuditQuery::default() };
    let mut entries = at_once(world.witness.store.list_audit(&query)).unwrap_or_default();
    entries.reverse();
    let show = |t: Option<Timestamp>| t.map_or_else(|| "-".to_owned(), |t| t.to_string());
    let lines = entries
        .iter()
        .map(|e| format!("{} {} {} -> {}", e.at, e.action, show(e.due_before), show(e.due_after)));
    let job = world.witness.job(id);
    let now = job.map(|j| (j.definition.schedule.clone(), j.enabled, j.due, j.ended, j.fault, j.n_fired));
    let model = world.witness.model();
    let mut rows: Vec<_> =
        model.rows.values().map(|row| &row.execution).filter(|e| e.job_id == *id).collect();
    rows.retain(|e| e.trigger == Trigger::Schedule && e.attempt == 1);
    rows.sort_by_key(|e| e.due_at);
    let rows = rows.iter().map(|e| {
        format!("{} {} -> {} ({}, v{})", e.due_at, e.status, show(e.next_due_at), e.created_at, e.version)
    });
    format!("{:#?}; {now:?}; {:#?}", lines.collect::<Vec<_>>(), rows.collect::<Vec<_>>())
}

fn has_limits(model: &Model, id: &JobId) -> bool {
    model.jobs.get(id).is_none_or(|j| {
        let history = j.definition.history;
        history.max_age.is_some() || history.max_count.is_some()
    })
}

fn is_manual(job: &Job) -> bool {
    job.definition.compiled().is_ok_and(unified_scheduler_core::schedule::CompiledSchedule::is_manual)
}

fn awaits_completion(model: &Model, job: &Job) -> bool {
    let live = model.open.get(&job.id).into_iter().flatten().filter_map(|id| model.rows.get(id));
    job.definition.compiled().is_ok_and(|s| s.from_completion().is_some())
        && live
            .into_iter()
            .any(|row| row.execution.trigger == Trigger::Schedule && row.execution.attempt == 1)
}

fn may_start(model: &Model, e: &Execution) -> bool {
    model.jobs.get(&e.job_id).is_some_and(|job| {
        job.fault.is_none() && model.live(&job.id).running < job.definition.overlap.max_running()
    })
}

/// Whether every node has a free slot: then nothing that is due has a reason to wait.
fn has_room(world: &World) -> bool {
    world.processes().iter().all(|process| {
        let scheduler = process.scheduler().clone();
        scheduler.is_some_and(|s| s.n_running() < 2)
    })
}

/// Executions that are the same attempt at the same thing: there must be none.
pub fn same_attempts<'e>(rows: impl Iterator<Item = &'e Execution>) -> Vec<String> {
    let (mut seen, mut found) = (BTreeMap::new(), Vec::new());
    // What somebody has asked to be tried again is another thing.
    for e in rows.filter(|e| !e.nonce.starts_with("retry:")) {
        if let Some(other) = seen.insert((e.job_id.clone(), e.root_id, e.attempt), e.id) {
            found.push(format!("I12 {other} and {} are the same attempt", e.id));
        }
    }
    found
}

/// Retries and chains, counted: one of each at most.
fn once_each(model: &Model, found: &mut Vec<String>) {
    found.extend(same_attempts(model.rows.values().map(|row| &row.execution)));
    let mut chained = BTreeMap::new();
    for row in
        model.rows.values().filter(|r| r.execution.trigger == Trigger::Chain && r.execution.attempt == 1)
    {
        let e = &row.execution;
        *chained.entry((e.job_id.clone(), e.triggered_by.clone())).or_insert(0) += 1;
    }
    for ((job, parent), n) in chained {
        let allowed = parent
            .strip_prefix("chain:")
            .and_then(|id| model.rows.get(&id.parse().ok()?)?.job.as_ref())
            // Where no history is kept, a repeated trigger can't know that it was carried out.
            .filter(|j| j.definition.history.keep == Keep::All)
            .map_or(2, |j| j.definition.chains.iter().filter(|c| c.job == job).count());
        if n > allowed.max(1) {
            let of = |e: &&Execution| e.triggered_by == parent && e.job_id == job;
            let rows: Vec<_> = model.rows.values().map(|r| &r.execution).filter(of).collect();
            let parent = parent.strip_prefix("chain:").and_then(|id| model.rows.get(&id.parse().ok()?));
            found.push(format!("I12 {parent:?} has started {job} {n} times: {rows:?}"));
        }
    }
}

/// Ends lie between the real start and the real end, however wrong the node's clock was.
fn sane_ends(world: &World, found: &mut Vec<String>) {
    let effects = world.effects();
    let slack = world.settings.call_timeout * 2 + Duration::from_secs(10);
    let model = world.witness.model();
    for row in model.rows.values() {
        let e = &row.execution;
        let (Some(start), Some(ended_at)) = (effects.get(&e.id), e.ended_at) else { continue };
        if e.status == Status::Lost || row.removed {
            continue;
        }
        let too_early = start.at.since(ended_at) > slack;
        let too_late = start.ended_at.is_some_and(|real| ended_at.since(real) > slack);
        if too_early || too_late {
            found.push(format!("I24 it ended at another time: {start:?}, {e:?}"));
        }
    }
}
