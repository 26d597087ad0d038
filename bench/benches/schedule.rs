//! The pure part: cron's `next_after`, and the planner.
//!
//! Run: `cargo xtask bench schedule`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use unified_scheduler_core::plan::EnginePlanner;
use unified_scheduler_core::schedule::Calendars;
use unified_scheduler_core::store::{Live, Planner};
use unified_scheduler_core::{IdSource, Job, JobDefinition, JobId, Misfire, Schedule, Timestamp};

const NOON: Timestamp = Timestamp::from_secs(1_782_820_800);

fn cron(c: &mut Criterion) {
    let mut group = c.benchmark_group("cron");
    for (name, expression, zone) in [
        ("every 5 minutes, UTC", "*/5 * * * *", "UTC"),
        ("weekdays at 03:30, Berlin", "30 3 * * mon-fri", "Europe/Berlin"),
        ("last friday, New York", "0 9 * * friL", "America/New_York"),
        ("29 February, UTC", "0 0 29 2 *", "UTC"),
    ] {
        let Ok(schedule) = Schedule::cron_in(expression, zone).compile("bench") else { continue };
        let mut t = NOON;
        group.bench_function(format!("next_after: {name}"), |b| {
            b.iter(|| {
                t = schedule.next_after(black_box(t), NOON).unwrap_or(NOON);
                t
            });
        });
    }
    let schedule = Schedule::cron_in("30 3 * * mon-fri", "Europe/Berlin");
    group.bench_function("compile", |b| b.iter(|| black_box(&schedule).compile("bench").is_ok()));
    group.finish();
}

fn planner(c: &mut Criterion) {
    let planner = EnginePlanner::new(Arc::new(IdSource::seeded(1)));
    let calendars = Calendars::new();
    let mut group = c.benchmark_group("plan");
    let minute = Schedule::every(Duration::from_secs(60));
    let cron = Schedule::cron_in("*/5 * * * *", "Europe/Berlin");
    let second = Schedule::every(Duration::from_secs(1));
    for (name, schedule, misfire, late) in [
        ("interval, on time", &minute, Misfire::RunOnce, 0),
        ("cron in a zone, on time", &cron, Misfire::RunOnce, 0),
        ("interval of 1 s, a day late, run once", &second, Misfire::RunOnce, 86_400),
        ("interval of 1 s, a day late, run 100", &second, Misfire::RunAll { limit: 100 }, 86_400),
    ] {
        let mut definition = JobDefinition::new("bench", "bench", schedule.clone());
        definition.misfire = misfire;
        let job = Job::new(JobId::from("bench"), definition, NOON);
        let due = job.due.map_or(NOON, |due| due.due_at);
        let now = due.saturating_add(Duration::from_secs(late));
        group.bench_function(name, |b| {
            b.iter(|| planner.plan(black_box(&job), Live::default(), now, &calendars));
        });
    }
    group.finish();
}

criterion_group!(benches, cron, planner);
criterion_main!(benches);
