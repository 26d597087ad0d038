//! What must hold when all has healed and ended.

use std::collections::{BTreeMap, BTreeSet};

use unified_scheduler::execution::Trigger;
use unified_scheduler::verify::{ProblemKind, VerifyOptions, verify};
use unified_scheduler::{Execution, ExecutionId, JobId, Status};
use unified_scheduler_tests::verdict::same_attempts;

use super::cluster::Cluster;
use super::people::Window;
use super::work::Effect;
use crate::account::Account;
use crate::{Failure, health};

/// How much earlier than its time something may seem to be: clocks that are read one after another, and
/// rounded.
const SLACK_MILLIS: i64 = 2;

/// Goes through everything.
///
/// # Errors
///
/// When the store can't be asked.
pub(super) async fn of(cluster: &Cluster, windows: Vec<Window>) -> Result<Account, Failure> {
    let mut account = Account { wrong: cluster.found(), ..Account::default() };
    let effects = cluster.effects();
    let rows = cluster.ask(|store| async move { health::executions(&*store, &[], None).await }).await?;
    let rows: BTreeMap<ExecutionId, Execution> = rows.into_iter().map(|row| (row.id, row)).collect();
    account.n_started = effects.len();
    account.n_executions = rows.len();
    account.n_lost = rows.values().filter(|row| row.status == Status::Lost).count();

    let (scheduled, others): (Vec<_>, Vec<_>) =
        effects.iter().map(|effect| &effect.start).partition(|start| {
            rows.get(&start.execution)
                .is_some_and(|row| row.trigger == Trigger::Schedule && row.nonce.is_empty())
        });
    account.started_once(scheduled);
    account.executions_once(others);
    let starts: Vec<_> = effects.iter().map(|effect| effect.start.clone()).collect();
    account.joined(&starts, &rows, Status::is_final);
    for row in rows.values().filter(|row| row.status == Status::Running) {
        account.wrong.push(format!("I10 it is still running: {row:?}"));
    }
    account.wrong.extend(same_attempts(rows.values()));
    roots_once(&rows, &mut account);
    fenced_and_not_early(&effects, &rows, &mut account);
    quiet_while_disabled(&windows, &rows, &mut account);

    let report =
        cluster.ask(|store| async move { verify(&*store, &VerifyOptions::default(), |_| {}).await }).await?;
    // An edit that sets a schedule back lets a range and an execution of it meet; roots are counted above.
    let problems = report.problems.into_iter().filter(|problem| problem.kind != ProblemKind::Duplicate);
    account.wrong.extend(problems.map(|problem| format!("verify: {problem:?}")));
    account.shorten();
    Ok(account)
}

/// I1: one root for each occurrence.
fn roots_once(rows: &BTreeMap<ExecutionId, Execution>, account: &mut Account) {
    let mut seen: BTreeSet<(&JobId, i64)> = BTreeSet::new();
    for row in rows.values().filter(|row| is_root(row)) {
        account.refuse_if(!seen.insert((&row.job_id, row.due_at.as_millis())), || {
            format!("I1 the occurrence {}@{} has a second execution", row.job_id, row.due_at)
        });
    }
}

fn is_root(row: &Execution) -> bool {
    row.trigger == Trigger::Schedule && row.attempt == 1 && row.nonce.is_empty()
}

/// I6 and I7: who started had the fence that is recorded, and it was time.
fn fenced_and_not_early(effects: &[Effect], rows: &BTreeMap<ExecutionId, Execution>, account: &mut Account) {
    for effect in effects {
        let Some(row) = rows.get(&effect.start.execution) else { continue };
        account.refuse_if(effect.claim != row.claim, || {
            format!("I7 it started with claim {}, and the record is {row:?}", effect.claim)
        });
        let scheduled = row.trigger == Trigger::Schedule;
        let early = scheduled && effect.at.as_millis() + SLACK_MILLIS < row.due_at.as_millis();
        let claimed_early = scheduled && row.started_at.is_some_and(|at| at < row.due_at);
        account.refuse_if(early || claimed_early, || format!("I6 too early: {effect:?} {row:?}"));
    }
}

/// I18: nothing new of a job came of its schedule while it was disabled.
fn quiet_while_disabled(windows: &[Window], rows: &BTreeMap<ExecutionId, Execution>, account: &mut Account) {
    for row in rows.values().filter(|row| is_root(row)) {
        let inside =
            windows.iter().find(|w| w.job == row.job_id && w.from < row.created_at && row.created_at < w.to);
        account.refuse_if(inside.is_some(), || format!("I18 {inside:?}, and yet {row:?}"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use unified_scheduler::{Epoch, NodeId, Timestamp};

    use super::*;
    use crate::effect_log::Start;

    /// The root execution of the occurrence at second `due`, made and started at second `at`.
    fn row(n: u8, due: i64, at: i64) -> Execution {
        let id = format!("00000000-0000-7000-8000-0000000000{n:02}");
        let second = |s: i64| Timestamp::from_millis(s * 1000);
        serde_json::from_value(json!({
            "id": id, "root_id": id, "job_id": "a", "job_name": "a", "handler": "work",
            "status": "success", "trigger": "schedule", "triggered_by": "scheduler",
            "due_at": second(due), "n_occurrences": 1, "version": 1, "attempt": 1, "retries": 0,
            "crashes": 0, "priority": 0, "created_at": second(at), "run_at": second(due),
            "started_at": second(at), "node_id": "one", "epoch": 1, "claim": 1,
        }))
        .unwrap()
    }

    fn found(rows: &[Execution], judge: impl Fn(&BTreeMap<ExecutionId, Execution>, &mut Account)) -> usize {
        let mut account = Account::default();
        judge(&rows.iter().map(|row| (row.id, row.clone())).collect(), &mut account);
        account.wrong.len()
    }

    #[test]
    fn an_occurrence_with_two_executions_is_found() {
        assert_eq!(found(&[row(1, 1, 1), row(2, 2, 2)], roots_once), 0);
        assert_eq!(found(&[row(1, 1, 1), row(2, 1, 2)], roots_once), 1);
    }

    #[test]
    fn another_fence_and_an_early_start_are_found() {
        let judge = |row: &Execution, claim: u32, at: i64| {
            let start = Start {
                execution: row.id,
                job: row.job_id.clone(),
                due_at: row.due_at,
                attempt: 1,
                node: NodeId::from("one"),
                epoch: Epoch(1),
            };
            let effect = Effect { start, claim, at: Timestamp::from_millis(at * 1000) };
            found(std::slice::from_ref(row), |rows, account| {
                fenced_and_not_early(std::slice::from_ref(&effect), rows, account);
            })
        };
        assert_eq!(judge(&row(1, 5, 5), 1, 5), 0);
        assert_eq!(judge(&row(1, 5, 5), 2, 5), 1, "another claim");
        assert_eq!(judge(&row(1, 5, 5), 1, 4), 1, "the handler was early");
        assert_eq!(judge(&row(1, 5, 4), 1, 5), 1, "the claim was early");
    }

    #[test]
    fn what_a_disabled_job_fired_is_found() {
        let second = |s: i64| Timestamp::from_millis(s * 1000);
        let windows = [Window { job: JobId::from("a"), from: second(10), to: second(20) }];
        let judge =
            |at: i64| found(&[row(1, at, at)], |rows, account| quiet_while_disabled(&windows, rows, account));
        assert_eq!((judge(9), judge(15), judge(21)), (0, 1, 0));
    }
}
