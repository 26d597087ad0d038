//! What must hold when all has ended: what the handlers did, joined with what the store says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use unified_scheduler::verify::{VerifyOptions, verify};
use unified_scheduler::{Execution, ExecutionId, Status};

use crate::arena::{Arena, Failure, HEARTBEAT, LEASE, N_JOBS};
use crate::drill::{Deeds, Zombie};
use crate::effect_log::{self, Start};

/// How long a dead node may go unnoticed: its lease, and a heartbeat of whoever finds it; and a little
/// more, because the machine is busy.
const MOST: Duration = LEASE.saturating_add(HEARTBEAT).saturating_add(Duration::from_millis(1000));

/// How many lines of one kind are shown.
const SHOWN: usize = 5;

/// What was found.
#[derive(Debug, Default)]
pub struct Account {
    /// How many handlers started.
    pub n_started: usize,
    /// How many executions there are.
    pub n_executions: usize,
    /// How many were lost with their node.
    pub n_lost: usize,
    /// How many deaths could be timed: those without an outage around them.
    pub n_timed: u64,
    /// Everything that must not be.
    pub wrong: Vec<String>,
}

/// Goes through everything.
///
/// # Errors
///
/// When something can't be read.
pub fn of(arena: &Arena, deeds: &Deeds) -> Result<Account, Failure> {
    let mut account = Account::default();
    let starts = effect_log::read_all(arena.folder())?;
    let rows: BTreeMap<ExecutionId, Execution> =
        arena.executions(&[], None)?.into_iter().map(|row| (row.id, row)).collect();
    account.n_started = starts.len();
    account.n_executions = rows.len();
    account.n_lost = rows.values().filter(|row| row.status == Status::Lost).count();
    account.started_once(&starts);
    account.joined(&starts, &rows);
    account.all_ended(&rows);
    for zombie in &deeds.zombies {
        account.left_alone(zombie, &rows);
    }
    account.reaped_in_time(arena, deeds, &rows)?;

    let report = arena.ask(async |store| verify(store, &VerifyOptions::default(), |_| {}).await)?;
    account.refuse_if(report.jobs != N_JOBS, || format!("verify has looked at {} jobs", report.jobs));
    for problem in report.problems {
        account.wrong.push(format!("verify: {problem:?}"));
    }
    account.shorten();
    Ok(account)
}

impl Account {
    fn refuse_if(&mut self, is_wrong: bool, why: impl FnOnce() -> String) {
        if is_wrong {
            self.wrong.push(why());
        }
    }

    /// No occurrence and no execution has started twice.
    fn started_once(&mut self, starts: &[Start]) {
        let (mut executions, mut occurrences) = (BTreeSet::new(), BTreeSet::new());
        for start in starts {
            self.refuse_if(!executions.insert(start.execution), || {
                format!("an execution started twice: {start:?}")
            });
            self.refuse_if(!occurrences.insert((&start.job, start.due_at, start.attempt)), || {
                format!("an occurrence started twice: {start:?}")
            });
        }
    }

    /// What started is recorded as it was, and what is recorded as done was done.
    fn joined(&mut self, starts: &[Start], rows: &BTreeMap<ExecutionId, Execution>) {
        for start in starts {
            let Some(row) = rows.get(&start.execution) else {
                self.wrong.push(format!("it started and there is no record: {start:?}"));
                continue;
            };
            let same = (&row.job_id, row.due_at, row.attempt) == (&start.job, start.due_at, start.attempt)
                && row.node_id.as_ref() == Some(&start.node)
                && row.epoch == start.epoch;
            self.refuse_if(!same, || format!("it started as {start:?} and is recorded as {row:?}"));
            self.refuse_if(!matches!(row.status, Status::Success | Status::Lost), || {
                format!("it started and is recorded as {}: {row:?}", row.status)
            });
        }
        let started: BTreeSet<ExecutionId> = starts.iter().map(|start| start.execution).collect();
        for row in rows.values().filter(|row| row.status == Status::Success) {
            self.refuse_if(!started.contains(&row.id), || {
                format!("recorded as done, never started: {row:?}")
            });
        }
    }

    fn all_ended(&mut self, rows: &BTreeMap<ExecutionId, Execution>) {
        for row in rows.values().filter(|row| !row.status.is_final()) {
            self.wrong.push(format!("it is still {}: {row:?}", row.status));
        }
    }

    /// What a zombie did after it was found dead changed nothing.
    fn left_alone(&mut self, zombie: &Zombie, rows: &BTreeMap<ExecutionId, Execution>) {
        for before in &zombie.lost {
            let after = rows.get(&before.id);
            self.refuse_if(after != Some(before), || {
                format!("{} came back and changed {before:?} to {after:?}", zombie.node)
            });
        }
        let late = rows.values().filter(|row| {
            row.node_id.as_ref() == Some(&zombie.node)
                && row.epoch == zombie.epoch
                && row.status == Status::Lost
        });
        let n_late = late.count();
        self.refuse_if(n_late > zombie.lost.len(), || {
            format!("{} has lost {n_late}, of which {} before it came back", zombie.node, zombie.lost.len())
        });
    }

    /// What dead nodes left is ended within a lease and a heartbeat of their last sign of life.
    fn reaped_in_time(
        &mut self,
        arena: &Arena,
        deeds: &Deeds,
        rows: &BTreeMap<ExecutionId, Execution>,
    ) -> Result<(), Failure> {
        let now = (arena.ask(async |store| store.now().await)?, Instant::now());
        for death in &deeds.deaths {
            // The test and the store are on one machine, and so by one clock.
            let died_at = now.0.as_millis()
                - i64::try_from(now.1.duration_since(death.at).as_millis()).unwrap_or(i64::MAX);
            let reaped_at = rows
                .values()
                .filter(|row| row.node_id.as_ref() == Some(&death.node) && row.status == Status::Lost)
                .filter_map(|row| row.ended_at)
                .filter(|at| at.as_millis() >= died_at)
                .min();
            let Some(reaped_at) = reaped_at else {
                self.wrong.push(format!("{} died in the middle of nothing", death.node));
                continue;
            };
            let took = Duration::from_millis(u64::try_from(reaped_at.as_millis() - died_at).unwrap_or(0));
            // Nobody may reap who has not been in touch with the store for a lease: that is another promise.
            let meanwhile = death.at..death.at + took.min(MOST);
            let calm = LEASE + HEARTBEAT;
            if arena.outages.iter().any(|(from, to)| *from < meanwhile.end && *to + calm > meanwhile.start) {
                continue;
            }
            self.n_timed += 1;
            self.refuse_if(took > MOST, || {
                format!("{} was reaped {} ms after it died", death.node, took.as_millis())
            });
        }
        Ok(())
    }

    /// The first few of each kind say it.
    fn shorten(&mut self) {
        let n = self.wrong.len();
        let mut of_kind = BTreeMap::<String, usize>::new();
        self.wrong.retain(|line| {
            let kind: String = line.split(':').next().unwrap_or_default().chars().take(24).collect();
            let seen = of_kind.entry(kind).or_default();
            *seen += 1;
            *seen <= SHOWN
        });
        if n > self.wrong.len() {
            self.wrong.push(format!("and {} more", n - self.wrong.len()));
        }
    }
}
