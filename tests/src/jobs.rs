//! The jobs of a world.

use std::time::Duration;

use unified_scheduler_core::schedule::{Calendar, Exclusions, Recurrence, Schedule, Window};
use unified_scheduler_core::{
    Backoff, Chain, ChainOn, History, Job, JobDefinition, JobId, Keep, Misfire, Overlap, Retry, Timestamp,
};

use crate::random::Random;

/// The handlers that jobs name.
pub const HANDLERS: [&str; 4] = ["h0", "h1", "h2", "h3"];

/// The calendar that some jobs are excluded by.
pub const CALENDAR: &str = "maintenance";

/// When worlds begin: before the two changes of summer time in Berlin, and on some other day.
pub const BEGINNINGS: [&str; 3] = ["2026-03-28T13:00:00Z", "2026-10-24T13:00:00Z", "2026-06-02T06:00:00Z"];

/// The id of the `n`th job.
pub fn id(n: u64) -> JobId {
    JobId::from(format!("job-{n}"))
}

/// The `n`th job of a seed, made at `now`.
pub fn job(seed: u64, n: u64, n_jobs: u64, now: Timestamp) -> Job {
    let mut random = Random::of(seed, "job", n);
    let mut definition =
        JobDefinition::new(format!("job {n}"), random.pick(&HANDLERS), schedule(&mut random, now));
    definition.misfire = match random.within(0..4) {
        0 | 1 => Misfire::RunOnce,
        2 => Misfire::Skip { grace: random.seconds(1..1800) },
        _ => Misfire::RunAll { limit: u32::try_from(random.within(1..6)).unwrap_or(1) },
    };
    definition.overlap = match random.within(0..5) {
        0 | 1 => Overlap::Skip,
        2 => Overlap::QueueOne,
        3 => Overlap::Allow { max: u32::try_from(random.within(1..4)).unwrap_or(1) },
        _ => Overlap::CancelRunning,
    };
    if random.in_thousand(600) {
        definition.retry = Retry {
            max_retries: u32::try_from(random.within(0..4)).unwrap_or(0),
            delay: random.seconds(1..900),
            backoff: random.pick(&[Backoff::Fixed, Backoff::Exponential]),
            max_delay: random.seconds(60..1800),
            jitter: random.pick(&[0.0, 0.0, 0.3]),
            on_failure: random.in_thousand(800),
            on_timeout: random.in_thousand(800),
            on_lost: random.in_thousand(700),
            crash_limit: u32::try_from(random.within(1..5)).unwrap_or(1),
            explicit: true,
        };
    }
    definition.timeout = random.seconds(30..1200);
    definition.priority = i32::try_from(random.around_zero(3)).unwrap_or(0);
    definition.pause_after_failures =
        random.in_thousand(250).then(|| u32::try_from(random.within(1..6)).unwrap_or(1));
    if random.in_thousand(250) {
        definition.history = History {
            keep: random.pick(&[Keep::All, Keep::Failures, Keep::None]),
            max_age: random.in_thousand(300).then(|| random.seconds(600..20_000)),
            max_count: random.in_thousand(300).then(|| u32::try_from(random.within(1..20)).unwrap_or(1)),
        };
    }
    // Only to later jobs: a ring of chains would never end.
    while n + 1 < n_jobs && random.in_thousand(350) && definition.chains.len() < 2 {
        let on = random.pick(&[ChainOn::Success, ChainOn::Failure, ChainOn::Any]);
        definition.chains.push(Chain { on, job: id(random.within(n + 1..n_jobs)) });
    }
    Job::new(id(n), definition, now)
}

/// A schedule with some ten to hundred occurrences a day.
pub fn schedule(random: &mut Random, now: Timestamp) -> Schedule {
    let mut schedule = match random.within(0..20) {
        0..=6 => Schedule::every(random.between(Duration::from_mins(8), Duration::from_hours(3))),
        7..=8 => Schedule::new(Recurrence::Interval {
            every: random.seconds(600..7200),
            anchor: None,
            from_completion: true,
        }),
        9..=15 => Schedule::cron_in(
            random.pick(&[
                "*/15 * * * *",
                "7 * * * *",
                "30 2 * * *",
                "0 */2 * * *",
                "H H * * *",
                "*/20 9-17 * * MON-FRI",
                "*/10 * * * *",
            ]),
            random.pick(&["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
        ),
        16 => return Schedule::once(now.saturating_add(random.seconds(0..80_000))),
        17..=18 => return Schedule::manual(),
        _ => Schedule::every(random.seconds(300..900))
            .anchored_at(now.saturating_sub(random.seconds(0..9_000_000))),
    };
    if random.in_thousand(250) {
        schedule.jitter = random.seconds(1..300);
    }
    if random.in_thousand(150) {
        schedule.start = Some(now.saturating_add(random.seconds(0..20_000)));
    }
    if random.in_thousand(100) {
        schedule.end = Some(now.saturating_add(random.seconds(30_000..80_000)));
    }
    if random.in_thousand(100) {
        schedule.limit = Some(random.within(1..30));
    }
    if random.in_thousand(250) {
        schedule.exclude = exclusions(random);
    }
    schedule
}

/// The same job on a scale of time that is `by` times quicker: for where time is real.
#[must_use]
pub fn quicker(job: &Job, by: u32, now: Timestamp) -> Job {
    let mut definition = job.definition.to_owned();
    if let Misfire::Skip { grace } = &mut definition.misfire {
        // The least that is accepted.
        *grace = shorter(*grace, by).max(Duration::from_secs(1));
    }
    for duration in [&mut definition.retry.delay, &mut definition.retry.max_delay, &mut definition.timeout] {
        *duration = shorter(*duration, by);
    }
    let schedule = std::mem::replace(&mut definition.schedule, Schedule::manual());
    definition.schedule = quicker_schedule(schedule, by, now);
    // What is judged afterwards must still be there.
    definition.history = History::default();
    Job::new(job.id.clone(), definition, now)
}

/// The same for a schedule. Cron knows no fractions of a second, so what it says becomes something else.
#[must_use]
pub fn quicker_schedule(mut schedule: Schedule, by: u32, now: Timestamp) -> Schedule {
    let sooner = |at: Timestamp| {
        let (at, now) = (at.as_millis(), now.as_millis());
        Timestamp::from_millis(now + (at - now) / i64::from(by))
    };
    match &mut schedule.recurrence {
        Recurrence::Interval { every, anchor, .. } => {
            *every = shorter(*every, by);
            *anchor = anchor.map(sooner);
        }
        Recurrence::Cron(cron) => {
            let often = cron.expression.starts_with("*/");
            (if often { "*/2 * * * * *" } else { "*/3 * * * * *" }).clone_into(&mut cron.expression);
        }
        Recurrence::Once { at } => *at = sooner(*at),
        Recurrence::Manual => {}
    }
    schedule.jitter = Duration::from_millis(u64::try_from((schedule.jitter / by).as_millis()).unwrap_or(0));
    schedule.start = schedule.start.map(sooner);
    schedule.end = schedule.end.map(sooner);
    schedule
}

/// In whole milliseconds, and not nothing.
fn shorter(duration: Duration, by: u32) -> Duration {
    let millis = u64::try_from((duration / by).as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(millis.max(1))
}

fn exclusions(random: &mut Random) -> Exclusions {
    let hour = random.within(0..24);
    Exclusions {
        windows: window(hour, (hour + random.within(1..6)) % 24).into_iter().collect(),
        calendars: if random.in_thousand(500) { vec![CALENDAR.to_owned()] } else { Vec::new() },
        ..Exclusions::default()
    }
}

fn window(from: u64, to: u64) -> Option<Window> {
    Some(Window { from: format!("{from:02}:00").parse().ok()?, to: format!("{to:02}:00").parse().ok()? })
}

/// The calendar, as it is at first or after an edit.
pub fn calendar(random: &mut Random) -> Calendar {
    let hour = random.within(0..23);
    Calendar {
        name: CALENDAR.to_owned(),
        windows: window(hour, hour + 1).into_iter().collect(),
        ..Calendar::default()
    }
}
