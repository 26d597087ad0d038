//! Four node processes, 1,000 jobs, and everything that can go wrong, on each store.
//!
//! `CHAOS_SECONDS` is how long faults go on [15], `CHAOS_STORE` the name of one store, `CHAOS_SEED` what
//! the order of the faults is drawn from. Real time is what this tests.

#![expect(clippy::print_stdout, reason = "whoever runs it wants to see how often each fault has struck")]

use std::path::Path;
use std::time::{Duration, Instant};

use unified_scheduler::IdSource;
use unified_scheduler_processes::Failure;
use unified_scheduler_processes::account::{self, Account};
use unified_scheduler_processes::arena::{Arena, EVERY, N_JOBS};
use unified_scheduler_processes::drill;
use unified_scheduler_processes::targets::{TARGETS, Target};

/// What must have struck at least so often, in any run.
const MINIMA: &[(&str, u64)] = &[
    ("SIGKILL", 1),
    ("SIGSTOP", 1),
    ("executions of a zombie", 10),
    ("lost leases", 1),
    ("skewed clocks", 2),
    ("deaths timed", 1),
];

/// And where there are a server and a network.
const MINIMA_OF_SERVERS: &[(&str, u64)] = &[
    ("all connections cut", 1),
    ("crashes of the database", 1),
    ("restarts of the database", 1),
    ("half-open connections", 1),
    ("lost replies", 1),
    ("partitions longer than the lease", 1),
    ("refused connections", 1),
    ("times degraded", 2),
];

#[test]
fn nothing_is_lost_and_nothing_done_twice_whatever_breaks() {
    let chosen = std::env::var("CHAOS_STORE").ok();
    let seed = number("CHAOS_SEED").unwrap_or_else(|| IdSource::new().random() % 1_000_000);
    let lasts = Duration::from_secs(number("CHAOS_SECONDS").unwrap_or(15));
    let targets: Vec<_> =
        TARGETS.iter().filter(|target| chosen.as_ref().is_none_or(|name| name == target.name)).collect();
    assert!(!targets.is_empty(), "no store is called {chosen:?}");
    let wrong: Vec<String> = targets
        .into_iter()
        .filter_map(|target| run(*target, lasts, seed).err())
        .map(|error| error.to_string())
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n\n"));
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

fn run(target: Target, lasts: Duration, seed: u64) -> Result<(), Failure> {
    let began = Instant::now();
    let name = target.name;
    let program = Path::new(env!("CARGO_BIN_EXE_chaos_node"));
    let mut arena = Arena::open(target, program, seed).map_err(|e| format!("{name}: {e}"))?;
    let judged = judge(&mut arena, lasts);
    let failed = |what: String, arena: &mut Arena| {
        let files = arena.keep_files();
        let again = format!("CHAOS_STORE={name} CHAOS_SEED={seed} CHAOS_SECONDS={}", lasts.as_secs());
        Err(format!("{name}: {what}\nagain: {again}\nfiles: {}\n{}", files.display(), arena.tally).into())
    };
    let account = match judged {
        Ok(account) => account,
        Err(error) => return failed(error.to_string(), &mut arena),
    };
    println!(
        "{name}: seed {seed}, {:.0} s: {} started, {} recorded, {} lost; {}",
        began.elapsed().as_secs_f64(),
        account.n_started,
        account.n_executions,
        account.n_lost,
        arena.tally
    );
    if account.wrong.is_empty() { Ok(()) } else { failed(account.wrong.join("\n"), &mut arena) }
}

fn judge(arena: &mut Arena, lasts: Duration) -> Result<Account, Failure> {
    let began = Instant::now();
    let deeds = drill::run(arena, lasts)?;
    let lasted = began.elapsed();
    let mut account = account::of(arena, &deeds)?;
    arena.tally.add("deaths timed", account.n_timed);
    account.wrong.extend(arena.tally.below(MINIMA));
    if arena.server.is_some() {
        account.wrong.extend(arena.tally.below(MINIMA_OF_SERVERS));
    }
    // A run in which little happens proves little.
    let expected = N_JOBS * lasted.as_secs() / EVERY.as_secs();
    if (account.n_started as u64) < expected / 4 {
        account.wrong.push(format!("only {} of some {expected} occurrences started", account.n_started));
    }
    Ok(account)
}
