//! The simulation on real stores. See `unified_scheduler_processes::sim` for what it is.
//!
//! - `SIM_STORE=postgres` runs it on one store, one of all that there are; otherwise on each of some.
//! - `SIM_SECONDS=600` is how long faults go on [8]; each fault strikes at least once in any case.
//! - `SIM_SEED=17` is what jobs, edits and faults are drawn from; otherwise a new one, which is printed.
//!
//! Real time is what this tests.

#![expect(clippy::print_stdout, reason = "whoever runs it wants to see how often each fault has struck")]

use std::sync::Mutex;
use std::time::{Duration, Instant};

use unified_scheduler::IdSource;
use unified_scheduler_processes::sim;
use unified_scheduler_processes::targets::{TARGETS, Target};
use unified_scheduler_tests::effects::silence_handlers;

/// What must have struck at least so often, in any run.
const MINIMA: &[(&str, u64)] = &[
    ("nodes killed", 2),
    ("nodes stopped", 1),
    ("clock steps", 1),
    ("edit: disable", 1),
    ("edit: enable", 1),
    ("edit: trigger", 2),
    ("edit: cancel", 1),
];

/// And where there are a server and a network.
const MINIMA_OF_SERVERS: &[(&str, u64)] = &[
    ("connections cut", 1),
    ("connections refused", 1),
    ("connections half open", 1),
    ("replies lost", 1),
    ("connections slow", 1),
    ("requests late", 1),
    ("connections fickle", 1),
    ("errors of the server", 4),
    ("crashes of the server", 1),
    ("restarts of the server", 1),
    ("times degraded", 2),
];

/// How many starts there must be for each second.
const STARTS: u64 = 4;

#[test]
fn a_real_store_keeps_every_invariant() {
    silence_handlers();
    let chosen = std::env::var("SIM_STORE").ok();
    let seed = number("SIM_SEED").unwrap_or_else(|| IdSource::new().random() % 1_000_000);
    let lasts = Duration::from_secs(number("SIM_SECONDS").unwrap_or(8));
    let usual = ["sqlite", "postgres", "redis", "mongodb"];
    let targets: Vec<Target> = TARGETS
        .iter()
        .filter(|target| chosen.as_deref().map_or(usual.contains(&target.name), |name| name == target.name))
        .copied()
        .collect();
    assert!(!targets.is_empty(), "no store is called {chosen:?}");
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for target in targets {
            let wrong = &wrong;
            scope.spawn(move || {
                if let Err(found) = run(target, lasts, seed) {
                    wrong.lock().unwrap().push(found);
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n\n"));
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

fn run(target: Target, lasts: Duration, seed: u64) -> Result<(), String> {
    let name = target.name;
    let began = Instant::now();
    let again = format!("{name}: again: SIM_STORE={name} SIM_SEED={seed} SIM_SECONDS={}", lasts.as_secs());
    let report = sim::run(target, lasts, seed).map_err(|error| format!("{name}: {error}\n{again}"))?;
    let (account, tally) = (report.account, report.tally);
    println!(
        "{name}: seed {seed}, {:.0} s: {} started, {} recorded, {} lost; {tally}",
        began.elapsed().as_secs_f64(),
        account.n_started,
        account.n_executions,
        account.n_lost,
    );
    let mut wrong = account.wrong;
    wrong.extend(tally.below(MINIMA));
    if target.server.is_some() {
        wrong.extend(tally.below(MINIMA_OF_SERVERS));
    }
    if (account.n_started as u64) < STARTS * lasts.as_secs() {
        wrong.push(format!("only {} executions started", account.n_started));
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("{name}: {}\n{again}\n{tally}", wrong.join("\n"))) }
}
