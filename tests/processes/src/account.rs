//! What must hold when all has ended: what the handlers did, joined with what the store says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use unified_scheduler::verify::{VerifyOptions, verify};
use unified_scheduler::{Execution, ExecutionId, Status, Timestamp};

use crate::Failure;
use crate::arena::{Arena, HEARTBEAT, LEASE, N_JOBS};
use crate::drill::{CALM, Death, Deeds, Zombie};
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
    account.joined(&starts, &rows, |status| matches!(status, Status::Success | Status::Lost));
    account.all_ended(&rows);
    for zombie in &deeds.zombies {
        account.left_alone(zombie, &rows);
    }
    let now = (arena.ask(async |store| store.now().await)?, Instant::now());
    account.reaped_in_time(&deeds.deaths, &arena.outages, now, &rows);

    let report = arena.ask(async |store| verify(store, &VerifyOptions::default(), |_| {}).await)?;
    account.refuse_if(report.jobs != N_JOBS, || format!("verify has looked at {} jobs", report.jobs));
    for problem in report.problems {
        account.wrong.push(format!("verify: {problem:?}"));
    }
    account.shorten();
    Ok(account)
}

impl Account {
    pub(crate) fn refuse_if(&mut self, is_wrong: bool, why: impl FnOnce() -> String) {
        if is_wrong {
            self.wrong.push(why());
        }
    }

    /// No execution has started twice.
    pub(crate) fn executions_once<'s>(&mut self, starts: impl IntoIterator<Item = &'s Start>) {
        let mut executions = BTreeSet::new();
        for start in starts {
            self.refuse_if(!executions.insert(start.execution), || {
                format!("an execution started twice: {start:?}")
            });
        }
    }

    /// No occurrence and no execution has started twice.
    pub(crate) fn started_once<'s>(&mut self, starts: impl IntoIterator<Item = &'s Start>) {
        let starts: Vec<&Start> = starts.into_iter().collect();
        self.executions_once(starts.iter().copied());
        let mut occurrences = BTreeSet::new();
        for start in starts {
            self.refuse_if(!occurrences.insert((&start.job, start.due_at, start.attempt)), || {
                format!("an occurrence started twice: {start:?}")
            });
        }
    }

    /// What started is recorded as it was, with an end that it may have; what is recorded as done was done.
    pub(crate) fn joined(
        &mut self,
        starts: &[Start],
        rows: &BTreeMap<ExecutionId, Execution>,
        may_end: impl Fn(Status) -> bool,
    ) {
        for start in starts {
            let Some(row) = rows.get(&start.execution) else {
                self.wrong.push(format!("it started and there is no record: {start:?}"));
                continue;
            };
            let same = (&row.job_id, row.due_at, row.attempt) == (&start.job, start.due_at, start.attempt)
                && row.node_id.as_ref() == Some(&start.node)
                && row.epoch == start.epoch;
            self.refuse_if(!same, || format!("it started as {start:?} and is recorded as {row:?}"));
            self.refuse_if(!may_end(row.status), || {
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

    /// What dead nodes left is ended within a lease and a heartbeat of their last sign of life. `now` is one
    /// instant by the store's clock and by ours.
    fn reaped_in_time(
        &mut self,
        deaths: &[Death],
        outages: &[(Instant, Instant)],
        now: (Timestamp, Instant),
        rows: &BTreeMap<ExecutionId, Execution>,
    ) {
        for death in deaths {
            let ago = i64::try_from(now.1.duration_since(death.at).as_millis()).unwrap_or(i64::MAX);
            let died_at = now.0.as_millis() - ago;
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
            if outages.iter().any(|(from, to)| *from < meanwhile.end && *to + CALM > meanwhile.start) {
                continue;
            }
            self.n_timed += 1;
            self.refuse_if(took > MOST, || {
                format!("{} was reaped {} ms after it died", death.node, took.as_millis())
            });
        }
    }

    /// The first few of each kind say it.
    pub(crate) fn shorten(&mut self) {
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

#[cfg(test)]
mod tests {
    use serde_json::json;
    use unified_scheduler::{Epoch, NodeId};

    use super::*;

    /// The `n`th execution, of a node in epoch 1.
    fn row(n: u8, status: Status) -> Execution {
        let id = format!("00000000-0000-7000-8000-0000000000{n:02}");
        serde_json::from_value(json!({
            "id": id, "root_id": id, "job_id": "a", "job_name": "a", "handler": "work",
            "status": status.as_str(), "trigger": "schedule", "triggered_by": "scheduler",
            "due_at": Timestamp::from_millis(i64::from(n) * 1000), "n_occurrences": 1, "version": 1, "attempt": 1,
            "retries": 0, "crashes": 0, "priority": 0,
            "created_at": Timestamp::from_millis(0), "run_at": Timestamp::from_millis(0),
            "node_id": "one", "epoch": 1,
        }))
        .unwrap()
    }

    fn start(row: &Execution) -> Start {
        Start {
            execution: row.id,
            job: row.job_id.clone(),
            due_at: row.due_at,
            attempt: row.attempt,
            node: NodeId::from("one"),
            epoch: Epoch(1),
        }
    }

    fn rows(of: &[Execution]) -> BTreeMap<ExecutionId, Execution> {
        of.iter().map(|row| (row.id, row.clone())).collect()
    }

    /// What is found wrong with these.
    fn found(starts: &[Start], of: &[Execution]) -> usize {
        let mut account = Account::default();
        account.started_once(starts);
        account.joined(starts, &rows(of), |status| status != Status::Skipped);
        account.all_ended(&rows(of));
        account.wrong.len()
    }

    #[test]
    fn what_fits_is_accepted() {
        let (done, lost, never) = (row(1, Status::Success), row(2, Status::Lost), row(3, Status::Lost));
        assert_eq!(found(&[start(&done), start(&lost)], &[done, lost, never, row(4, Status::Skipped)]), 0);
    }

    #[test]
    fn what_started_twice_is_found() {
        let done = row(1, Status::Success);
        // The execution, and with it the occurrence.
        assert_eq!(found(&[start(&done), start(&done)], std::slice::from_ref(&done)), 2);
        let mut again = row(2, Status::Success);
        again.due_at = done.due_at;
        assert_eq!(found(&[start(&done), start(&again)], &[done, again]), 1);
    }

    #[test]
    fn what_does_not_fit_its_record_is_found() {
        let done = row(1, Status::Success);
        assert_eq!(found(&[start(&done)], &[]), 1, "no record");
        assert_eq!(found(&[], std::slice::from_ref(&done)), 1, "never started");
        let other = Start { epoch: Epoch(2), ..start(&done) };
        assert_eq!(found(&[other], std::slice::from_ref(&done)), 1, "another epoch");
        let skipped = row(1, Status::Skipped);
        assert_eq!(found(&[start(&skipped)], &[skipped]), 1, "recorded as skipped");
        let running = row(1, Status::Running);
        assert_eq!(found(&[], &[running]), 1, "still open");
    }

    #[test]
    fn what_a_zombie_changed_is_found() {
        let before = row(1, Status::Lost);
        let zombie = Zombie { node: NodeId::from("one"), epoch: Epoch(1), lost: vec![before.clone()] };
        let judge = |after: &[Execution]| {
            let mut account = Account::default();
            account.left_alone(&zombie, &rows(after));
            account.wrong.len()
        };
        assert_eq!(judge(std::slice::from_ref(&before)), 0);
        assert_eq!(judge(&[row(1, Status::Success)]), 1);
        assert_eq!(judge(&[]), 1);
        assert_eq!(judge(&[before, row(2, Status::Lost)]), 1, "it took up work in its dead epoch");
    }

    #[test]
    fn who_is_reaped_too_late_is_found_unless_the_store_was_away() {
        let died = Instant::now();
        let deaths = [Death { node: NodeId::from("one"), at: died }];
        let judge = |millis: i64, outages: &[(Instant, Instant)]| {
            let lost = Execution { ended_at: Some(Timestamp::from_millis(millis)), ..row(1, Status::Lost) };
            let mut account = Account::default();
            account.reaped_in_time(&deaths, outages, (Timestamp::from_millis(0), died), &rows(&[lost]));
            (account.wrong.len(), account.n_timed)
        };
        let most = i64::try_from(MOST.as_millis()).unwrap();
        assert_eq!(judge(most, &[]), (0, 1));
        assert_eq!(judge(most + 1, &[]), (1, 1));
        assert_eq!(judge(most + 1, &[(died, died + LEASE)]), (0, 0));
        assert_eq!(judge(most + 1, &[(died + MOST * 2, died + MOST * 3)]), (1, 1), "that came later");
        assert_eq!(judge(-1, &[]), (1, 0), "nothing was lost with it");
    }
}
