//! The simulation: with a clock of its own and many seeds, or on a real store in real time.

use crate::services;
use crate::steps::{self, Failure, cargo};

const USAGE: &str = "cargo xtask simulate [SEEDS]
cargo xtask simulate --store NAME [--seconds N] [--seed N]

  SEEDS      how many worlds with a clock of their own [100000]
  --store    on this store instead: sqlite, postgres, redis, redis-cluster, mongodb, mongodb-replica
  --seconds  how long faults go on there [60]
  --seed     what jobs, edits and faults are drawn from there [a new one, which is told]";

/// `cargo xtask simulate …`.
pub(crate) fn run(args: &[&str]) -> Result<(), Failure> {
    match args {
        [] => worlds("100000"),
        [seeds] if seeds.bytes().all(|b| b.is_ascii_digit()) => worlds(seeds),
        options => on_a_store(options),
    }
}

fn worlds(seeds: &str) -> Result<(), Failure> {
    let args = ["test", "--release", "--package", "unified-scheduler-tests", "--test", "simulation"];
    let mut test = cargo(&args);
    test.args(["--", "--nocapture"]).env("SIM_SEEDS", seeds);
    steps::run(&format!("simulation of {seeds} seeds"), test)
}

fn on_a_store(options: &[&str]) -> Result<(), Failure> {
    let mut test = cargo(&["test", "--package", "unified-scheduler-processes", "--test", "simulation"]);
    test.args(["--", "--nocapture"]).env("SIM_SECONDS", "60");
    let variables = [("--store", "SIM_STORE"), ("--seconds", "SIM_SECONDS"), ("--seed", "SIM_SEED")];
    services::name_options(&mut test, options, &variables, USAGE)?;
    services::provide_all();
    steps::run("simulation on a real store", test)
}
