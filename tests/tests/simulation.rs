//! Thousands of worlds from their seeds. See `unified_scheduler_tests` for what a world is.
//!
//! - `SIM_SEEDS=1000000` runs that many, `SIM_FIRST=5000` begins there; the default is 2,000 from 1 on.
//! - `SIM_KEEP_GOING=1` lists every seed that fails, with what it found first.
//! - `SIM_SEED=17` runs one seed, and shrinks it when it fails.
//!
//! A failure prints the seed, how to run it again, and the smallest shape that still fails.

use std::panic;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use unified_scheduler_tests::effects::silence_handlers;
use unified_scheduler_tests::faults::Counters;
use unified_scheduler_tests::shape::Shape;
use unified_scheduler_tests::world::{Report, run};

/// How many seeds are run when nobody says otherwise.
const SEEDS: u64 = 2000;

/// How often each of these must have happened in a thousand seeds: a fault that does not strike proves
/// nothing.
const MINIMA: &[(&str, u64)] = &[
    ("request lost", 3000),
    ("reply lost", 3000),
    ("hang before", 2000),
    ("hang after", 2000),
    ("slow request", 3000),
    ("slow reply", 3000),
    ("late commit", 2000),
    ("twice", 3000),
    ("again later", 3000),
    ("crash before", 1000),
    ("crash after", 1000),
    ("crash", 500),
    ("pause", 1000),
    ("partition", 1000),
    ("call in a partition", 5000),
    ("node clock step", 1000),
    ("store clock step", 1000),
    ("hints that never come", 500),
    ("orderly stop", 500),
    ("edit: disable", 1000),
    ("edit: enable", 1000),
    ("edit: enable with missed", 500),
    ("edit: reschedule", 500),
    ("edit: priority", 500),
    ("edit: skip next", 300),
    ("edit: delete", 50),
    ("edit: calendar", 100),
    ("edit: trigger", 2000),
    ("edit: trigger again", 50),
    ("edit: cancel", 1000),
    ("handlers started", 100_000),
];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// A world that panics itself has failed, too.
fn report_of(shape: &Shape) -> Report {
    panic::catch_unwind(|| run(shape)).unwrap_or_else(|_| Report {
        violations: vec!["the world panicked".to_owned()],
        counters: Counters::default(),
        trace: 0,
    })
}

/// The smallest shape found that still fails, and how.
fn shrunk(shape: &Shape, report: Report) -> (Shape, Report) {
    let (mut shape, mut report) = (shape.clone(), report);
    while let Some(smaller) = shape.smaller().into_iter().find_map(|candidate| {
        let report = report_of(&candidate);
        (!report.violations.is_empty()).then_some((candidate, report))
    }) {
        (shape, report) = smaller;
    }
    (shape, report)
}

fn fail(shape: &Shape, report: Report) -> ! {
    let first = report.violations.clone();
    let (small, found) = shrunk(shape, report);
    panic!(
        "seed {} fails:\n  {}\nrun it again with\n  SIM_SEED={} cargo test -p unified-scheduler-tests --test simulation\n\
         smallest that still fails: {small:?}\n  {}",
        shape.seed,
        first.join("\n  "),
        shape.seed,
        found.violations.join("\n  "),
    );
}

#[test]
fn every_seed_keeps_every_invariant() {
    silence_handlers();
    if let Some(seed) = number("SIM_SEED") {
        let shape = Shape::of(seed);
        let report = report_of(&shape);
        println!("{shape:?}\n{:#?}", report.counters.totals());
        if !report.violations.is_empty() {
            fail(&shape, report);
        }
        return;
    }
    let first = number("SIM_FIRST").unwrap_or(1);
    let keep_going = number("SIM_KEEP_GOING").is_some();
    let n = number("SIM_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(first);
    let all = Mutex::new(Counters::default());
    let failed: Mutex<Vec<(Shape, Report)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + n || (!keep_going && !failed.lock().unwrap().is_empty()) {
                        return;
                    }
                    let shape = Shape::of(seed);
                    let report = report_of(&shape);
                    all.lock().unwrap().merge(&report.counters);
                    if !report.violations.is_empty() {
                        if keep_going {
                            println!("seed {seed}: {}", report.violations[0]);
                        }
                        failed.lock().unwrap().push((shape, report));
                    }
                }
            });
        }
    });
    let counters = all.into_inner().unwrap();
    println!("{n} seeds, {:#?}", counters.totals());
    if let Some((shape, report)) = failed.into_inner().unwrap().into_iter().min_by_key(|(s, _)| s.seed) {
        fail(&shape, report);
    }
    let rare: Vec<_> = MINIMA
        .iter()
        .map(|(what, least)| (what, counters.total(what), least * n / 1000))
        .filter(|(_, n, least)| n < least)
        .collect();
    assert!(n < 500 || rare.is_empty(), "struck too rarely (what, how often, at least): {rare:?}");
}

#[test]
fn the_same_seed_gives_the_same_world() {
    silence_handlers();
    for seed in 1..50 {
        let shape = Shape::of(seed);
        let (first, second) = (run(&shape), run(&shape));
        assert_eq!((first.trace, first.counters), (second.trace, second.counters), "seed {seed}");
    }
}
