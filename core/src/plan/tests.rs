//! The planner by tables, and by properties against what the schedule and a small model say.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::id::JobId;
use crate::job::{Due, JobDefinition};
use crate::schedule::{Exclusions, Schedule, Weekday};

const MINUTE: Duration = Duration::from_secs(60);

/// A Thursday.
const START: Timestamp = Timestamp::from_secs(1_767_225_600);

fn minutes(n: u32) -> Duration {
    MINUTE * n
}

/// That many minutes after the start.
pub(super) fn at(n: u32) -> Timestamp {
    START.saturating_add(minutes(n))
}

fn job(schedule: Schedule) -> Job {
    Job::new(JobId::from("job"), JobDefinition::new("job", "handler", schedule), START)
}

fn change(job: Job, change: impl FnOnce(&mut JobDefinition)) -> Job {
    let mut definition = job.definition.to_owned();
    change(&mut definition);
    Job { definition: crate::job::Definition::new(job.id.clone(), definition), ..job }
}

/// Due every minute from the start on.
pub(super) fn minutely(misfire: Misfire, overlap: Overlap) -> Job {
    change(job(Schedule::every(MINUTE)), |d| (d.misfire, d.overlap) = (misfire, overlap))
}

fn window(from: &str, to: &str) -> Exclusions {
    serde_json::from_value(serde_json::json!({"windows": [{"from": from, "to": to}]})).unwrap()
}

pub(super) fn plan_with(job: &Job, live: Live, now: Timestamp, calendars: &Calendars) -> Plan {
    EnginePlanner::new(Arc::new(IdSource::seeded(1))).plan(job, live, now, calendars)
}

fn plan(job: &Job, now: Timestamp) -> Plan {
    plan_with(job, Live::default(), now, &Calendars::default())
}

/// The records, as in `start 0..2 x3`: what becomes of them, from and to which minute, how many.
fn shown(plan: &Plan) -> Vec<String> {
    let minute = |t: Timestamp| t.since(START).as_secs_f64() / 60.0;
    plan.records
        .iter()
        .map(|r| {
            let fate = match &r.disposition {
                Disposition::Start => "start",
                Disposition::Queue => "queue",
                Disposition::Skip(reason, _) => reason.as_str(),
            };
            match r.covers_until {
                Some(last) => {
                    format!("{fate} {}..{} x{}", minute(r.due_at), minute(last), r.n_occurrences)
                }
                None => format!("{fate} {}", minute(r.due_at)),
            }
        })
        .collect()
}

fn next_minute(plan: &Plan) -> Option<u64> {
    match plan.next {
        NextDue::At(Due { due_at, .. }) => Some(due_at.since(START).as_secs() / 60),
        _ => None,
    }
}

#[test]
fn one_that_is_on_time_follows_the_overlap_policy() {
    use Overlap::{Allow, CancelRunning, QueueOne, Skip};
    let table = [
        (Skip, 0, 0, "start 0", false),
        (Skip, 1, 0, "overlap 0", false),
        (Skip, 0, 1, "start 0", false),
        (Skip, 1, 1, "overlap 0", false),
        (QueueOne, 0, 0, "start 0", false),
        (QueueOne, 1, 0, "queue 0", false),
        (QueueOne, 0, 1, "overlap 0", false),
        (QueueOne, 1, 1, "overlap 0", false),
        (Allow { max: 2 }, 0, 0, "start 0", false),
        (Allow { max: 2 }, 1, 0, "start 0", false),
        (Allow { max: 2 }, 2, 0, "overlap 0", false),
        (Allow { max: 2 }, 9, 9, "overlap 0", false),
        (CancelRunning, 0, 0, "start 0", false),
        (CancelRunning, 1, 0, "queue 0", true),
        (CancelRunning, 1, 1, "overlap 0", true),
        (CancelRunning, 0, 1, "overlap 0", false),
    ];
    let misfires = [Misfire::RunOnce, Misfire::Skip { grace: MINUTE }, Misfire::RunAll { limit: 5 }];
    for (overlap, running, queued, record, cancels) in table {
        for misfire in misfires {
            let job = minutely(misfire, overlap);
            let plan = plan_with(&job, Live { running, queued }, START, &Calendars::default());
            let case = format!("{misfire:?} {overlap:?} {running} running, {queued} queued");
            assert_eq!(shown(&plan), [record], "{case}");
            assert_eq!(plan.cancel_running, cancels, "{case}");
            assert_eq!(plan.n_fired, u64::from(!record.starts_with("overlap")), "{case}");
            assert_eq!(next_minute(&plan), Some(1), "{case}");
        }
    }
}

#[test]
fn what_was_missed_follows_the_misfire_policy_then_the_overlap_policy() {
    use Overlap::{Allow, CancelRunning, QueueOne, Skip};
    let once = Misfire::RunOnce;
    let grace = Misfire::Skip { grace: Duration::from_secs(90) };
    let all = Misfire::RunAll { limit: 2 };
    let table: &[(Misfire, Overlap, u32, u32, &[&str])] = &[
        (once, Skip, 0, 0, &["start 0..4 x5"]),
        (once, Skip, 1, 0, &["overlap 0..4 x5"]),
        (once, QueueOne, 0, 0, &["start 0..4 x5"]),
        (once, QueueOne, 1, 0, &["queue 0..4 x5"]),
        (once, QueueOne, 1, 1, &["overlap 0..4 x5"]),
        (once, Allow { max: 2 }, 1, 0, &["start 0..4 x5"]),
        (once, Allow { max: 2 }, 2, 0, &["overlap 0..4 x5"]),
        (once, CancelRunning, 1, 0, &["queue 0..4 x5"]),
        (grace, Skip, 0, 0, &["misfire 0..2 x3", "start 3..4 x2"]),
        (grace, Skip, 1, 0, &["misfire 0..2 x3", "overlap 3..4 x2"]),
        (grace, QueueOne, 1, 0, &["misfire 0..2 x3", "queue 3..4 x2"]),
        (grace, QueueOne, 0, 1, &["misfire 0..2 x3", "overlap 3..4 x2"]),
        (grace, Allow { max: 2 }, 1, 0, &["misfire 0..2 x3", "start 3..4 x2"]),
        (grace, CancelRunning, 1, 1, &["misfire 0..2 x3", "overlap 3..4 x2"]),
        (all, Skip, 0, 0, &["misfire 0..2 x3", "start 3", "queue 4"]),
        (all, Skip, 1, 0, &["misfire 0..2 x3", "overlap 3", "overlap 4"]),
        (all, QueueOne, 0, 0, &["misfire 0..2 x3", "start 3", "queue 4"]),
        (all, QueueOne, 1, 0, &["misfire 0..2 x3", "queue 3", "queue 4"]),
        (all, QueueOne, 1, 1, &["misfire 0..2 x3", "overlap 3", "overlap 4"]),
        (all, Allow { max: 2 }, 0, 0, &["misfire 0..2 x3", "start 3", "queue 4"]),
        (all, Allow { max: 2 }, 2, 0, &["misfire 0..2 x3", "overlap 3", "overlap 4"]),
        (all, CancelRunning, 1, 0, &["misfire 0..2 x3", "queue 3", "queue 4"]),
    ];
    for (misfire, overlap, running, queued, records) in table {
        let live = Live { running: *running, queued: *queued };
        let now = at(4).saturating_add(Duration::from_secs(10));
        let plan = plan_with(&minutely(*misfire, *overlap), live, now, &Calendars::default());
        assert_eq!(shown(&plan), *records, "{misfire:?} {overlap:?} {live:?}");
        assert_eq!(next_minute(&plan), Some(5));
    }
}

#[test]
fn an_occurrence_exactly_as_late_as_its_grace_still_runs() {
    let job = minutely(Misfire::Skip { grace: MINUTE }, Overlap::Skip);
    assert_eq!(shown(&plan(&job, at(1))), ["start 0..1 x2"]);
    let later = at(1).saturating_add(Duration::from_millis(1));
    assert_eq!(shown(&plan(&job, later)), ["misfire 0", "start 1"]);
}

#[test]
fn neighbors_that_are_excluded_share_a_record_and_are_not_counted_as_run() {
    let job = job(Schedule::every(MINUTE).excluding(window("00:01", "00:03")));
    assert_eq!(shown(&plan(&job, at(4))), ["start 0..4 x3", "excluded 1..2 x2"]);
    let all = change(job, |d| d.misfire = Misfire::RunAll { limit: 9 });
    assert_eq!(shown(&plan(&all, at(4))), ["start 0", "excluded 1..2 x2", "queue 3", "queue 4"]);
}

#[test]
fn a_calendar_excludes_as_the_schedule_itself_does() {
    let job = job(Schedule::every(minutes(1440))
        .excluding(Exclusions { calendars: vec!["closed".into()], ..Exclusions::default() }));
    let mut calendars = Calendars::default();
    assert_eq!(shown(&plan_with(&job, Live::default(), START, &calendars)), ["start 0"]);
    let closed = serde_json::from_value(serde_json::json!({"name": "closed", "dates": ["2026-01-01"]}));
    calendars.insert(&closed.unwrap()).unwrap();
    let plan = plan_with(&job, Live::default(), START, &calendars);
    assert_eq!(shown(&plan), ["excluded 0"]);
    assert_eq!(plan.n_fired, 0);
    let Disposition::Skip(_, why) = &plan.records[0].disposition else { panic!("{plan:?}") };
    assert!(why.contains("closed"), "{why}");
}

#[test]
fn skips_that_were_asked_for_come_first_and_are_used_up() {
    let mut job = minutely(Misfire::RunOnce, Overlap::Skip);
    job.skip_next = 3;
    let two = plan(&job, at(1));
    assert_eq!((shown(&two), two.skip_next, two.n_fired), (vec!["requested 0..1 x2".into()], 1, 0));
    let five = plan(&job, at(4));
    assert_eq!(shown(&five), ["requested 0..2 x3", "start 3..4 x2"]);
    assert_eq!(five.skip_next, 0);
}

#[test]
fn nothing_runs_while_more_is_to_be_skipped_than_was_missed() {
    let mut job = minutely(Misfire::RunOnce, Overlap::Skip);
    job.skip_next = 10_000;
    let plan = plan(&job, at(4999));
    assert_eq!(shown(&plan), ["requested 0..4999 x5000"]);
    assert_eq!((plan.skip_next, plan.n_fired), (5000, 0));
}

#[test]
fn a_limit_ends_the_job_and_nothing_is_recorded_beyond_it() {
    let schedule = Schedule::every(MINUTE).limit(2).excluding(window("00:03", "00:09"));
    let job = change(job(schedule), |d| {
        d.misfire = Misfire::RunAll { limit: 9 };
    });
    let plan_all = plan(&job, at(4));
    assert_eq!(shown(&plan_all), ["start 0", "queue 1"]);
    assert_eq!((&plan_all.next, plan_all.n_fired), (&NextDue::Ended(EndReason::Limit), 2));
    // What is skipped does not count.
    let busy = plan_with(&job, Live { running: 1, queued: 0 }, START, &Calendars::default());
    assert_eq!((shown(&busy), busy.n_fired), (vec!["overlap 0".into()], 0));
    assert_eq!(next_minute(&busy), Some(1));
}

#[test]
fn a_schedule_ends_with_its_end_and_a_single_time_after_it() {
    let bounded = plan(&job(Schedule::every(MINUTE).until(at(2))), at(9));
    assert_eq!(shown(&bounded), ["start 0..2 x3"]);
    assert_eq!(bounded.next, NextDue::Ended(EndReason::Exhausted));
    assert_eq!(bounded.records[0].next_due_at, None);
    let late = job(Schedule::every(MINUTE).starting(at(5)));
    assert_eq!(shown(&plan(&late, at(6))), ["start 5..6 x2"]);
    let once = plan(&job(Schedule::once(at(3))), at(1000));
    assert_eq!((shown(&once), once.next), (vec!["start 3".into()], NextDue::Ended(EndReason::Exhausted)));
}

#[test]
fn one_counted_from_completion_waits_for_it_only_if_something_starts() {
    let schedule = Schedule::new(crate::schedule::Recurrence::Interval {
        every: MINUTE,
        anchor: None,
        from_completion: true,
    });
    let job = change(job(schedule), |d| d.overlap = Overlap::QueueOne);
    let started = plan(&job, START);
    assert_eq!((&started.next, started.records[0].next_due_at), (&NextDue::AfterCompletion, None));
    for live in [Live { running: 1, queued: 0 }, Live { running: 1, queued: 1 }] {
        assert_eq!(next_minute(&plan_with(&job, live, START, &Calendars::default())), Some(1), "{live:?}");
    }
    let mut skipping = job;
    skipping.skip_next = 1;
    assert_eq!(next_minute(&plan(&skipping, START)), Some(1));
}

#[test]
fn a_definition_that_cannot_be_read_is_set_aside_and_a_manual_one_left_alone() {
    let mut broken = job(Schedule::cron("every other blue moon"));
    broken.due = Some(Due { due_at: START, fire_at: START });
    let plan_broken = plan(&broken, START);
    let NextDue::SetAside(reason) = &plan_broken.next else { panic!("{plan_broken:?}") };
    assert!(reason.contains("expression") && plan_broken.records.is_empty(), "{reason}");
    let mut manual = job(Schedule::manual());
    manual.due = Some(Due { due_at: START, fire_at: START });
    assert_eq!(plan(&manual, START).next, NextDue::AfterCompletion);
    assert_eq!(plan(&job(Schedule::manual()), START).next, NextDue::Ended(EndReason::Exhausted));
}

#[test]
fn a_first_time_beside_the_grid_is_an_occurrence_of_its_own() {
    let mut job = job(Schedule::cron("* * * * *"));
    let odd = START.saturating_add(Duration::from_secs(30));
    job.due = Some(Due { due_at: odd, fire_at: odd });
    assert_eq!(shown(&plan(&job, at(3))), ["start 0.5..3 x4"]);
}

/// Nothing that jitter holds back is among the records, even where a later one would be free to go.
#[test]
fn jitter_longer_than_the_period_never_lets_one_start_early() {
    let job = change(job(Schedule::cron("* * * * * ?").jitter(minutes(5))), |d| {
        d.misfire = Misfire::RunAll { limit: 1000 };
    });
    let schedule = job.definition.compiled().unwrap();
    let mut job = job.clone();
    for _ in 0..500 {
        let now = job.due.unwrap().fire_at;
        let plan = plan(&job, now);
        for record in &plan.records {
            let fire_at = due_with_jitter(schedule, record.due_at).fire_at;
            assert!(fire_at <= now, "{} starts at {now}, before {fire_at}", record.due_at);
        }
        let NextDue::At(next) = plan.next else { panic!("{plan:?}") };
        assert!(next.due_at > job.due.unwrap().due_at && next.fire_at > now);
        job.due = Some(next);
    }
}

#[test]
fn a_range_before_the_window_that_is_all_excluded_does_not_run() {
    let exclude = Exclusions { weekdays: vec![Weekday::Thursday], ..Exclusions::default() };
    let job = job(Schedule::every(MINUTE).excluding(exclude));
    assert_eq!(shown(&plan(&job, at(1300))), ["excluded 0..1300 x1301"]);
}

#[test]
fn run_all_runs_each_on_its_own_or_not_at_all() {
    let exclude = Exclusions { weekdays: vec![Weekday::Friday], ..Exclusions::default() };
    let job = change(job(Schedule::every(MINUTE).excluding(exclude)), |d| {
        d.misfire = Misfire::RunAll { limit: 1000 };
    });
    let plan = plan(&job, at(2000));
    let shown = shown(&plan);
    assert_eq!(shown[..3], ["misfire 0..1000 x1001", "start 1001", "queue 1002"]);
    assert_eq!((shown.last().unwrap().as_str(), plan.n_fired), ("excluded 1440..2000 x561", 439));
}

/// What a plan must be, whatever the job.
fn check(job: &Job, live: Live, now: Timestamp, plan: &Plan) -> Result<(), TestCaseError> {
    let schedule = job.definition.compiled().unwrap();
    let first = job.due.unwrap().due_at;
    let limit = job.definition.schedule.limit;
    let until = match &plan.next {
        NextDue::At(next) => {
            prop_assert!(next.due_at > first, "the next due time increases");
            prop_assert!(next.fire_at >= next.due_at);
            Timestamp::from_millis(next.due_at.as_millis() - 1)
        }
        NextDue::Ended(EndReason::Exhausted) => Timestamp::MAX,
        NextDue::Ended(EndReason::Limit) => {
            prop_assert_eq!(Some(plan.n_fired), limit);
            plan.records.iter().map(|r| r.covers_until.unwrap_or(r.due_at)).max().unwrap()
        }
        other => return Err(TestCaseError::fail(format!("{other:?}"))),
    };
    let nominal = schedule.last_until(first, until, first, 1_000_000);
    let n: u64 = plan.records.iter().map(|r| r.n_occurrences).sum();
    let all = nominal.len() as u64;
    // Above the cap it is a lower bound.
    prop_assert!(n == all || COUNT_CAP < n && n < all, "{} of {}: {:?}", n, all, shown(plan));
    let last = |r: &Planned| r.covers_until.unwrap_or(r.due_at);
    for t in &nominal {
        let held = plan.records.iter().any(|r| r.due_at <= *t && *t <= last(r));
        prop_assert!(held, "no record stands for {}", t);
    }
    let mut covered: Option<Timestamp> = None;
    for record in &plan.records {
        let held = nominal.iter().filter(|t| record.due_at <= **t && **t <= last(record)).count() as u64;
        prop_assert!(nominal.contains(&record.due_at) && nominal.contains(&last(record)));
        prop_assert!((1..=held).contains(&record.n_occurrences));
        prop_assert_eq!(record.next_due_at, schedule.next_after(last(record), first));
        if !matches!(record.disposition, Disposition::Skip(..)) {
            prop_assert!(covered.is_none_or(|c| c < record.due_at), "two stand for the same");
            covered = Some(last(record));
            prop_assert!(due_with_jitter(schedule, record.due_at).fire_at <= now, "early");
        }
    }
    let fired = plan.records.iter().filter(|r| !matches!(r.disposition, Disposition::Skip(..))).count();
    prop_assert_eq!(plan.n_fired, job.n_fired + fired as u64);
    let bound = match job.definition.misfire {
        Misfire::RunAll { limit } => limit as usize,
        Misfire::RunOnce | Misfire::Skip { .. } => 1,
    };
    prop_assert!(fired <= bound);
    let starts = plan.records.iter().filter(|r| r.disposition == Disposition::Start).count();
    let room = job.definition.overlap.max_running().saturating_sub(live.running) as usize;
    prop_assert!(starts <= room);
    prop_assert!(plan.records.len() <= 2 * WINDOW + 2);
    Ok(())
}

fn schedules() -> impl Strategy<Value = Schedule> {
    let base = prop_oneof![
        (1_u64..400).prop_map(|secs| Schedule::every(Duration::from_secs(secs))),
        Just(Schedule::cron("*/7 * * * *")),
        Just(Schedule::cron("*/20 * * * * ?")),
        Just(Schedule::cron_in("30 2 * * *", "Europe/Berlin")),
    ];
    let windows = (0_u32..24, 0_u32..24)
        .prop_map(|(from, to)| window(&format!("{from:02}:00"), &format!("{to:02}:30")));
    let exclusions = (windows, any::<bool>()).prop_map(|(exclude, weekend)| Exclusions {
        weekdays: if weekend { vec![Weekday::Saturday, Weekday::Sunday] } else { Vec::new() },
        ..exclude
    });
    (base, prop::option::of(exclusions), prop::option::of(0_u32..5000), prop::option::of(1_u64..9), 0_u32..3)
        .prop_map(|(mut schedule, exclude, end, limit, jitter)| {
            if let Some(end) = end {
                schedule = schedule.until(at(end));
            }
            schedule.limit = limit;
            schedule.jitter = match (jitter, &schedule.recurrence) {
                (1, _) => Duration::from_millis(900),
                (2, crate::schedule::Recurrence::Cron(_)) => minutes(30),
                _ => Duration::ZERO,
            };
            schedule.excluding(exclude.unwrap_or_default())
        })
}

fn misfires() -> impl Strategy<Value = Misfire> {
    prop_oneof![
        Just(Misfire::RunOnce),
        (1_u64..4000).prop_map(|secs| Misfire::Skip { grace: Duration::from_secs(secs) }),
        (1_u32..=1000).prop_map(|limit| Misfire::RunAll { limit }),
    ]
}

pub(super) fn overlaps() -> impl Strategy<Value = Overlap> {
    prop_oneof![
        Just(Overlap::Skip),
        Just(Overlap::QueueOne),
        (1_u32..4).prop_map(|max| Overlap::Allow { max }),
        Just(Overlap::CancelRunning),
    ]
}

proptest! {
    #[test]
    fn every_occurrence_between_two_due_times_is_accounted_for_once(
        schedule in schedules(),
        misfire in misfires(),
        overlap in overlaps(),
        live in (0_u32..4, 0_u32..2).prop_map(|(running, queued)| Live { running, queued }),
        skip_next in prop_oneof![3 => Just(0_u32), 1 => 1_u32..3000],
        waits in prop::collection::vec(0_u64..400_000, 1..4),
    ) {
        let mut job = change(job(schedule), |d| (d.misfire, d.overlap) = (misfire, overlap));
        job.skip_next = skip_next;
        for wait in waits {
            let Some(due) = job.due else { break };
            let now = due.fire_at.saturating_add(Duration::from_secs(wait));
            let plan = plan_with(&job, live, now, &Calendars::default());
            check(&job, live, now, &plan)?;
            job.due = match plan.next { NextDue::At(due) => Some(due), _ => None };
            (job.n_fired, job.skip_next) = (plan.n_fired, plan.skip_next);
        }
    }

    /// Skipping runs nothing after a long downtime, once one, all as many as were missed or allowed.
    #[test]
    fn runs_after_a_downtime_are_bounded_by_the_policy(
        missed in 1_u32..200_000,
        limit in 1_u32..=1000,
    ) {
        let now = at(missed - 1).saturating_add(Duration::from_secs(30));
        let fired = |misfire| plan(&minutely(misfire, Overlap::QueueOne), now).n_fired;
        prop_assert_eq!(fired(Misfire::Skip { grace: Duration::from_secs(29) }), 0);
        prop_assert_eq!(fired(Misfire::RunOnce), 1);
        prop_assert_eq!(fired(Misfire::RunAll { limit }), u64::from(missed.min(limit)));
    }
}

/// A template whose work can be repeated.
struct Repeatable;

#[async_trait::async_trait]
impl crate::template::Template for Repeatable {
    fn metadata(&self) -> crate::template::TemplateMetadata {
        let metadata = crate::template::TemplateMetadata::new("handler", "Repeatable");
        crate::template::TemplateMetadata { retry_safe: true, ..metadata }
    }

    fn check(&self, _: &mut serde_json::Map<String, serde_json::Value>) -> Vec<crate::Fault> {
        Vec::new()
    }

    async fn run(&self, _: crate::Context) -> Result<crate::Outcome, crate::HandlerError> {
        Ok(().into())
    }
}

#[test]
fn lost_work_is_retried_by_a_policy_that_nobody_chose_only_where_it_can_be_repeated() {
    let job = change(job(Schedule::every(MINUTE)), |d| {
        d.retry = crate::Retry { explicit: false, ..crate::Retry::times(3, MINUTE) };
    });
    let node = crate::store::NodeRef { id: "n".into(), epoch: crate::id::Epoch(1) };
    let record = plan(&job, at(0)).records.remove(0);
    let execution = record.into_execution(&job, at(0), &node);
    let planner = EnginePlanner::new(Arc::new(IdSource::seeded(1)));
    assert!(planner.lost(Some(&job), &execution, at(1)).retry.is_none());
    let registry = Arc::new(Registry::new());
    registry.template(Arc::new(Repeatable)).unwrap();
    assert!(planner.knowing(registry).lost(Some(&job), &execution, at(1)).retry.is_some());
}
