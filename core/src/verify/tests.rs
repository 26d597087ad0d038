//! Histories made by real claims, whole and broken.

use super::*;
use crate::execution::Status;
use crate::fixture::{Fixture, MINUTE, START, at, definition};
use crate::id::JobId;
use crate::job::{JobDefinition, Origin};
use crate::jobs::{NewJob, RunOptions};
use crate::policy::{Misfire, Overlap, Retry};
use crate::schedule::{Exclusions, Recurrence, Schedule};

async fn report(fixture: &Fixture) -> VerifyReport {
    verify(&*fixture.store, &VerifyOptions::default(), |_| {}).await.unwrap()
}

async fn kinds(fixture: &Fixture) -> Vec<(ProblemKind, Option<u64>)> {
    let minute = |t: Timestamp| t.since(START).as_secs() / 60;
    report(fixture).await.problems.iter().map(|p| (p.kind, p.due_at.map(minute))).collect()
}

async fn assert_whole(fixture: &Fixture, case: &str) {
    let report = report(fixture).await;
    assert!(report.is_whole(), "{case}: {:#?}", report.problems);
}

/// A job due every minute, whose definition `change` has changed.
async fn minutely(fixture: &Fixture, change: impl FnOnce(&mut JobDefinition)) -> JobId {
    let mut definition = definition("job", Schedule::every(MINUTE));
    change(&mut definition);
    fixture.jobs.create(definition).await.unwrap().id
}

fn window(from: &str, to: &str) -> Exclusions {
    serde_json::from_value(serde_json::json!({"windows": [{"from": from, "to": to}]})).unwrap()
}

#[tokio::test]
async fn a_history_with_all_its_records_is_whole() {
    let fixture = Fixture::new().await;
    minutely(&fixture, |_| {}).await;
    fixture.run_through(0..=9).await;
    let report = report(&fixture).await;
    assert_eq!((report.jobs, report.occurrences, report.started, report.skipped), (1, 10, 10, 0));
    assert!(report.is_whole(), "{report:?}");
}

#[tokio::test]
async fn a_missing_record_is_a_hole_at_the_start_in_the_middle_and_at_the_end() {
    for minute in [0, 4, 9] {
        let fixture = Fixture::new().await;
        let id = minutely(&fixture, |_| {}).await;
        fixture.run_through(0..=9).await;
        fixture.remove(&id, minute).await;
        assert_eq!(kinds(&fixture).await, [(ProblemKind::Hole, Some(u64::from(minute)))], "{minute}");
    }
}

#[tokio::test]
async fn a_missing_record_is_a_hole_however_often_the_job_was_edited() {
    for minute in [2, 5, 8, 11] {
        let fixture = Fixture::new().await;
        let id = minutely(&fixture, |_| {}).await;
        fixture.run_through(0..=3).await;
        fixture.jobs.edit(&id, |d| d.priority = 3).await.unwrap();
        fixture.run_through(4..=6).await;
        fixture.jobs.edit(&id, |d| d.description = "other".into()).await.unwrap();
        fixture.run_through(7..=9).await;
        fixture.jobs.skip_next(&id, 1).await.unwrap();
        fixture.run_through(10..=12).await;
        assert_whole(&fixture, "edited").await;
        fixture.remove(&id, minute).await;
        assert_eq!(kinds(&fixture).await, [(ProblemKind::Hole, Some(u64::from(minute)))], "{minute}");
    }
}

#[tokio::test]
async fn edits_between_records_are_no_holes() {
    let fixture = Fixture::new().await;
    let id = minutely(&fixture, |_| {}).await;
    fixture.run_through(0..=3).await;
    fixture.jobs.disable(&id).await.unwrap();
    fixture.go_to(20);
    fixture.jobs.enable(&id).await.unwrap();
    fixture.run_through(20..=23).await;
    assert_whole(&fixture, "disabled and enabled").await;
    fixture.jobs.disable(&id).await.unwrap();
    fixture.go_to(30);
    fixture.jobs.enable_with_missed(&id).await.unwrap();
    fixture.run_through(30..=33).await;
    assert_whole(&fixture, "enabled with what was missed").await;
    fixture.jobs.edit(&id, |d| d.schedule = Schedule::cron("*/7 * * * *")).await.unwrap();
    fixture.run_through(34..=60).await;
    assert_whole(&fixture, "rescheduled").await;
    fixture.jobs.edit(&id, |d| d.schedule = Schedule::manual()).await.unwrap();
    fixture.run_through(61..=70).await;
    assert_whole(&fixture, "without a schedule").await;
    fixture.jobs.edit(&id, |d| d.schedule = Schedule::every(MINUTE * 2)).await.unwrap();
    fixture.run_through(71..=80).await;
    assert_whole(&fixture, "with one again").await;
    fixture.jobs.skip_date(&id, "2026-01-02").await.unwrap();
    fixture.run_through(81..=85).await;
    assert_whole(&fixture, "with a date skipped").await;
    fixture.jobs.disable(&id).await.unwrap();
    fixture.go_to(100);
    assert_whole(&fixture, "disabled").await;
}

#[tokio::test]
async fn a_hole_beside_a_pause_is_still_one() {
    for minute in [2, 21] {
        let fixture = Fixture::new().await;
        let id = minutely(&fixture, |_| {}).await;
        fixture.run_through(0..=3).await;
        fixture.jobs.disable(&id).await.unwrap();
        fixture.go_to(20);
        fixture.jobs.enable(&id).await.unwrap();
        fixture.run_through(20..=24).await;
        fixture.remove(&id, minute).await;
        assert_eq!(kinds(&fixture).await, [(ProblemKind::Hole, Some(u64::from(minute)))], "{minute}");
    }
}

#[tokio::test]
async fn what_coalesced_is_counted_with_exclusions_inside() {
    for misfire in [
        Misfire::RunOnce,
        Misfire::Skip { grace: MINUTE * 2 },
        Misfire::RunAll { limit: 3 },
        Misfire::RunAll { limit: 100 },
    ] {
        let fixture = Fixture::new().await;
        minutely(&fixture, |d| {
            d.misfire = misfire;
            d.schedule.exclude = window("00:05", "00:08");
        })
        .await;
        fixture.run_through(0..=2).await;
        fixture.run_at(12).await;
        fixture.run_through(13..=15).await;
        let report = report(&fixture).await;
        assert!(report.is_whole(), "{misfire:?}: {:#?}", report.problems);
        assert_eq!(report.occurrences, 16, "{misfire:?}");
        assert_eq!(report.started + report.skipped, 16, "{misfire:?}");
    }
}

#[tokio::test]
async fn a_long_downtime_is_accounted_for() {
    for misfire in [Misfire::RunOnce, Misfire::Skip { grace: MINUTE }, Misfire::RunAll { limit: 1000 }] {
        let fixture = Fixture::new().await;
        minutely(&fixture, |d| {
            d.misfire = misfire;
            d.schedule.exclude = window("05:00", "08:00");
        })
        .await;
        fixture.run_through(0..=2).await;
        fixture.run_at(4000).await;
        fixture.run_at(4001).await;
        assert_whole(&fixture, &format!("{misfire:?}")).await;
    }
}

#[tokio::test]
async fn what_overlaps_is_accounted_for() {
    for overlap in [Overlap::Skip, Overlap::QueueOne, Overlap::Allow { max: 2 }, Overlap::CancelRunning] {
        let fixture = Fixture::new().await;
        minutely(&fixture, |d| d.overlap = overlap).await;
        let first = fixture.claim().await;
        for minute in 1..=4 {
            fixture.go_to(minute);
            fixture.claim().await;
        }
        fixture.end(&first, Status::Success).await;
        fixture.run_through(5..=7).await;
        assert_whole(&fixture, &format!("{overlap:?}")).await;
    }
}

#[tokio::test]
async fn one_counted_from_completion_is_whole() {
    let fixture = Fixture::new().await;
    let every = Recurrence::Interval { every: MINUTE, anchor: None, from_completion: true };
    let id = minutely(&fixture, |d| d.schedule = Schedule::new(every)).await;
    for round in 0..5 {
        fixture.go_to(round * 3);
        let batch = fixture.claim().await;
        assert_eq!(batch.claimed.len(), 1);
        fixture.go_to(round * 3 + 1);
        fixture.end(&batch, Status::Success).await;
    }
    assert_whole(&fixture, "late").await;
    fixture.jobs.edit(&id, |d| d.priority = 1).await.unwrap();
    fixture.run_through(14..=20).await;
    assert_whole(&fixture, "edited").await;
    fixture.jobs.skip_next(&id, 2).await.unwrap();
    fixture.run_through(21..=30).await;
    assert_whole(&fixture, "skipped").await;
}

#[tokio::test]
async fn the_end_of_a_schedule_is_no_hole() {
    for schedule in [
        Schedule::every(MINUTE).limit(3),
        Schedule::every(MINUTE).until(at(3)),
        Schedule::once(at(2)),
        Schedule::every(MINUTE).limit(3).excluding(window("00:02", "00:20")),
    ] {
        let fixture = Fixture::new().await;
        let id = minutely(&fixture, |d| {
            d.schedule = schedule.clone();
            d.misfire = Misfire::RunAll { limit: 9 };
        })
        .await;
        fixture.run_at(0).await;
        fixture.run_at(40).await;
        assert!(fixture.job(&id).await.ended.is_some());
        assert_whole(&fixture, &format!("{schedule:?}")).await;
        let last = fixture.executions(&id).await.len();
        assert!(last >= 1);
    }
}

#[tokio::test]
async fn an_ended_job_that_is_edited_is_taken_up_without_a_hole() {
    let fixture = Fixture::new().await;
    let id = minutely(&fixture, |d| d.schedule = Schedule::every(MINUTE).limit(3)).await;
    fixture.run_through(0..=9).await;
    fixture.jobs.edit(&id, |d| d.schedule.limit = Some(5)).await.unwrap();
    fixture.run_through(10..=20).await;
    assert_eq!(fixture.executions(&id).await.len(), 5);
    assert_whole(&fixture, "with another limit").await;
}

#[tokio::test]
async fn a_first_time_beside_the_grid_counts_as_one() {
    let fixture = Fixture::new().await;
    let schedule = Schedule::cron("*/2 * * * *");
    let new = NewJob { first_due: Some(at(1)), ..NewJob::from(definition("job", schedule)) };
    fixture.jobs.create(new).await.unwrap();
    fixture.run_at(7).await;
    fixture.run_at(8).await;
    let report = report(&fixture).await;
    assert!(report.is_whole(), "{:#?}", report.problems);
    assert_eq!(report.occurrences, 5);
}

#[tokio::test]
async fn a_static_job_deleted_and_registered_again_begins_anew() {
    let fixture = Fixture::new().await;
    let mut definition = definition("job", Schedule::every(MINUTE));
    definition.origin = Origin::Static;
    let id = fixture.jobs.register(definition.clone()).await.unwrap().id;
    fixture.run_through(0..=3).await;
    fixture.jobs.delete(&id).await.unwrap();
    fixture.go_to(10);
    fixture.jobs.register(definition).await.unwrap();
    fixture.run_through(10..=13).await;
    assert_whole(&fixture, "registered again").await;
    fixture.remove(&id, 12).await;
    assert_eq!(kinds(&fixture).await, [(ProblemKind::Hole, Some(12))]);
}

#[tokio::test]
async fn a_period_is_looked_at_by_itself() {
    let fixture = Fixture::new().await;
    let id = minutely(&fixture, |_| {}).await;
    fixture.run_through(0..=4).await;
    fixture.jobs.edit(&id, |d| d.priority = 1).await.unwrap();
    fixture.run_through(5..=9).await;
    fixture.jobs.disable(&id).await.unwrap();
    fixture.go_to(15);
    fixture.jobs.enable(&id).await.unwrap();
    fixture.run_through(15..=19).await;
    let in_period = async |since: Option<u32>, until: Option<u32>| {
        let options =
            VerifyOptions { since: since.map(at), until: until.map(at), ..VerifyOptions::default() };
        verify(&*fixture.store, &options, |_| {}).await.unwrap()
    };
    for (since, until) in
        [(Some(2), None), (Some(7), None), (Some(12), None), (Some(3), Some(8)), (None, Some(8))]
    {
        let report = in_period(since, until).await;
        assert!(report.is_whole(), "{since:?}..{until:?}: {:#?}", report.problems);
    }
    fixture.remove(&id, 7).await;
    assert_eq!(in_period(Some(3), None).await.problems.len(), 1);
    assert_eq!(in_period(Some(3), Some(10)).await.problems.len(), 1);
    assert!(in_period(Some(8), None).await.is_whole());
    assert!(in_period(None, Some(7)).await.is_whole());
}

#[tokio::test]
async fn a_lost_attempt_without_its_retry_is_told() {
    let mut fixture = Fixture::new().await;
    let id = minutely(&fixture, |d| d.retry = Retry::times(1, MINUTE)).await;
    fixture.claim().await;
    fixture.crash().await;
    fixture.run_through(0..=2).await;
    let whole = report(&fixture).await;
    assert!(whole.is_whole(), "{:#?}", whole.problems);
    assert_eq!((whole.lost, whole.retries, whole.started), (1, 1, 3));
    let retry = fixture.executions(&id).await.iter().find(|e| e.attempt == 2).unwrap().id;
    fixture.store.delete_executions(&[retry]).await.unwrap();
    assert_eq!(kinds(&fixture).await, [(ProblemKind::RetryMissing, Some(0))]);
}

#[tokio::test]
async fn manual_runs_and_jobs_that_keep_no_history_prove_nothing() {
    let fixture = Fixture::new().await;
    let id = minutely(&fixture, |_| {}).await;
    let forgetful = definition("forgetful", Schedule::every(MINUTE));
    let forgetful = JobDefinition {
        history: crate::policy::History { keep: Keep::None, ..Default::default() },
        ..forgetful
    };
    fixture.jobs.create(forgetful).await.unwrap();
    fixture.run_through(0..=2).await;
    fixture.jobs.run(&id, RunOptions::default()).await.unwrap();
    fixture.run_through(3..=5).await;
    let report = report(&fixture).await;
    assert!(report.is_whole(), "{:#?}", report.problems);
    assert_eq!((report.jobs, report.jobs_not_kept, report.occurrences), (2, 1, 6));
}
