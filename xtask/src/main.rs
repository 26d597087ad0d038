//! `cargo xtask …`: what anyone must remember to run, as commands. CI runs the same.

mod chaos;
mod mutants;
mod python;
mod python_bench;
mod services;
mod simulate;
mod steps;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

use services::Services;
use steps::{Failure, cargo};
use unified_scheduler_services::{Durability, Kind};

const USAGE: &str = "cargo xtask <command>

  test               everything that must hold: format, lints, tidiness, docs, and all tests, also those
                     of the Python package
  tidy               who imports whom, file lengths, words that must not be there
  services …         private database servers for tests; `services --help` says how
  chaos [--seconds N] [--store NAME] [--seed N]
                     many processes on each store, under faults, for longer than `test` does
  simulate [SEEDS]   the simulation with more seeds [100000]
  simulate --store NAME [--seconds N] [--seed N]
                     the simulation on a real store, for longer than `test` does [60]
  mutants [PART]     seed known bugs one by one (those with PART in their name) and demand that
                     the tests catch each
  python             the Python package alone: wheel, clean environment, linters, types, tests
  bench [NAME]       the benches, in release mode
  bench python [rate|lag|leak|burst]
                     those of the Python package, beside the design it replaces and APScheduler
  ci                 test, then every mutant";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["test"] => test(),
        ["tidy"] => tidy::run(&root()),
        ["services", rest @ ..] => services::run(rest),
        ["chaos", rest @ ..] => chaos::run(rest),
        ["simulate", rest @ ..] => simulate::run(rest),
        ["mutants", rest @ ..] => mutants::run(&root(), rest.first().copied()),
        ["python"] => python::run(&root()),
        ["bench", "python", rest @ ..] => python_bench::run(&root(), rest),
        ["bench", rest @ ..] => bench(rest),
        ["ci"] => ci(),
        _ => Err(Failure::usage(USAGE)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            steps::say(&failure.to_string());
            ExitCode::FAILURE
        }
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, PathBuf::from)
}

fn test() -> Result<(), Failure> {
    steps::run("format", cargo(&["fmt", "--all", "--check"]))?;
    tidy::run(&root())?;
    steps::run("lints", cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    for features in [&["--no-default-features"][..], &["--no-default-features", "--features", "sqlite"]] {
        let mut check = cargo(&["check", "--package", "unified-scheduler"]);
        check
            .args(features)
            .env("RUSTFLAGS", "-D warnings")
            .env("CARGO_TARGET_DIR", root().join("target/features"));
        steps::run(&format!("facade with {}", features.join(" ")), check)?;
    }
    let mut docs = cargo(&["doc", "--workspace", "--no-deps", "--document-private-items"]);
    docs.env("RUSTDOCFLAGS", "-D warnings");
    steps::run("docs", docs)?;
    let services = Services::start(Kind::ALL, Durability::Fast);
    let mut tests = cargo(&["test", "--workspace", "--no-fail-fast"]);
    services.name_in(&mut tests);
    // What could not be had is told after what the tests say of the rest.
    let tested = steps::run("tests", tests).and_then(|()| python::test(&root(), &services));
    services.complete().and(tested)
}

fn bench(rest: &[&str]) -> Result<(), Failure> {
    let mut run = cargo(&["bench", "--package", "unified-scheduler-bench"]);
    match rest {
        [] => {}
        [name, more @ ..] => {
            run.args(["--bench", name]).arg("--").args(more);
        }
    }
    steps::run("benches", run)
}

fn ci() -> Result<(), Failure> {
    test()?;
    mutants::run(&root(), None)
}
