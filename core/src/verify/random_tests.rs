//! Histories made at random: no false alarm, whatever was done, and a hole wherever a record is taken out.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::fixture::{Fixture, MINUTE, definition};
use crate::job::JobDefinition;
use crate::policy::{Misfire, Overlap, Retry};
use crate::schedule::{Exclusions, Recurrence, Schedule};

/// What is done to a job or its scheduler.
#[derive(Debug, Clone)]
enum Step {
    /// Time passes with nobody there.
    Wait(u64),
    /// What is due is claimed and ends.
    Run,
    /// What is due is claimed and goes on.
    Claim,
    /// What runs ends.
    End(Status),
    Crash,
    Edit(i32),
    Reschedule(usize),
    Misfire(Misfire),
    Overlap(Overlap),
    SkipNext(u32),
    Disable,
    Enable,
    EnableWithMissed,
}

fn schedules() -> Vec<Schedule> {
    let exclude: Exclusions =
        serde_json::from_value(serde_json::json!({"windows": [{"from": "00:20", "to": "00:40"}]})).unwrap();
    let from_completion = Recurrence::Interval { every: MINUTE, anchor: None, from_completion: true };
    vec![
        Schedule::every(MINUTE),
        Schedule::every(MINUTE * 3).excluding(exclude.clone()),
        Schedule::cron("*/2 * * * *").excluding(exclude),
        Schedule::cron("* * * * *").jitter(MINUTE * 4),
        Schedule::every(MINUTE).limit(4),
        Schedule::every(Duration::from_secs(7)),
        Schedule::new(from_completion),
        Schedule::manual(),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let misfires = prop_oneof![
        Just(Misfire::RunOnce),
        Just(Misfire::Skip { grace: MINUTE * 2 }),
        Just(Misfire::RunAll { limit: 3 }),
    ];
    let overlaps = prop_oneof![
        Just(Overlap::Skip),
        Just(Overlap::QueueOne),
        Just(Overlap::Allow { max: 2 }),
        Just(Overlap::CancelRunning),
    ];
    prop_oneof![
        8 => (1_u64..400).prop_map(Step::Wait),
        2 => Just(Step::Wait(40_000)),
        8 => Just(Step::Run),
        4 => Just(Step::Claim),
        4 => prop_oneof![Just(Status::Success), Just(Status::Failed)].prop_map(Step::End),
        1 => Just(Step::Crash),
        2 => any::<i8>().prop_map(|n| Step::Edit(i32::from(n) / 2)),
        2 => (0..schedules().len()).prop_map(Step::Reschedule),
        1 => misfires.prop_map(Step::Misfire),
        1 => overlaps.prop_map(Step::Overlap),
        1 => (0_u32..4).prop_map(Step::SkipNext),
        1 => Just(Step::Disable),
        1 => Just(Step::Enable),
        1 => Just(Step::EnableWithMissed),
    ]
}

async fn played(first: usize, steps: &[Step]) -> (Fixture, JobId) {
    let mut fixture = Fixture::new().await;
    let retry = Retry::times(1, MINUTE);
    let job = JobDefinition { retry, ..definition("job", schedules()[first].clone()) };
    let id = fixture.jobs.create(job).await.unwrap().id;
    let mut running = Vec::new();
    for step in steps {
        let jobs = fixture.jobs.clone();
        match step {
            Step::Wait(seconds) => fixture.clock.advance(Duration::from_secs(*seconds)),
            Step::Run => {
                let batch = fixture.claim().await;
                fixture.end(&batch, Status::Success).await;
            }
            Step::Claim => running.push(fixture.claim().await),
            Step::End(status) => {
                for batch in running.drain(..) {
                    fixture.end(&batch, *status).await;
                }
            }
            Step::Crash => {
                running.clear();
                fixture.crash().await;
            }
            Step::Edit(priority) => drop(jobs.edit(&id, |d| d.priority = *priority).await.unwrap()),
            Step::Reschedule(i) => {
                // Not in the instant of an occurrence: the new schedule's first would be the same one.
                fixture.clock.advance(Duration::from_millis(1));
                jobs.edit(&id, |d| d.schedule = schedules()[*i].clone()).await.unwrap();
            }
            Step::Misfire(misfire) => drop(jobs.edit(&id, |d| d.misfire = *misfire).await.unwrap()),
            Step::Overlap(overlap) => drop(jobs.edit(&id, |d| d.overlap = *overlap).await.unwrap()),
            Step::SkipNext(n) => drop(jobs.skip_next(&id, *n).await.unwrap()),
            Step::Disable => drop(jobs.disable(&id).await.unwrap()),
            Step::Enable => drop(jobs.enable(&id).await.unwrap()),
            Step::EnableWithMissed => drop(jobs.enable_with_missed(&id).await.unwrap()),
        }
    }
    (fixture, id)
}

async fn problems(fixture: &Fixture) -> Vec<Problem> {
    verify(&*fixture.store, &VerifyOptions::default(), |_| {}).await.unwrap().problems
}

proptest! {
    #[test]
    fn a_history_is_whole_whatever_was_done_and_never_without_one_of_its_records(
        first in 0..schedules().len(),
        steps in prop::collection::vec(steps(), 1..60),
        taken in any::<prop::sample::Index>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (fixture, id) = played(first, &steps).await;
            let found = problems(&fixture).await;
            prop_assert!(found.is_empty(), "{:#?}", found);
            let all = fixture.executions(&id).await;
            // What comes before an end, or before a time that only an end or an edit decides, can't show.
            let hides = steps.iter().any(|step| matches!(step, Step::Reschedule(_)))
                || fixture.job(&id).await.ended.is_some()
                || all.iter().any(|e| e.next_due_at.is_none());
            // Records inside the period of another don't show; the oldest may have been removed by the
            // retention.
            let inside = |e: &Execution| {
                all.iter().any(|o| o.id != e.id && o.due_at <= e.due_at && e.due_at <= o.last_due_at())
            };
            let ended = |e: &Execution| e.status.is_final();
            let alone: Vec<_> = all.iter().skip(1).filter(|e| ended(e) && !inside(e) && !hides).collect();
            if !alone.is_empty() {
                let gone = alone[taken.index(alone.len())];
                let attempts: Vec<_> = all.iter().filter(|e| e.due_at == gone.due_at).map(|e| e.id).collect();
                prop_assert_eq!(fixture.store.delete_executions(&attempts).await.unwrap(), attempts.len() as u64);
                let found = problems(&fixture).await;
                prop_assert!(!found.is_empty(), "nothing is missed without {:#?}", gone);
            }
            Ok(())
        })?;
    }
}
