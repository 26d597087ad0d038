//! The tests with many processes, for longer than `cargo xtask test` runs them.

use crate::services;
use crate::steps::{self, Failure, cargo};

const USAGE: &str = "cargo xtask chaos [--seconds N] [--store NAME] [--seed N]

  --seconds  how long faults go on, for each store [60]
  --store    only this one
  --seed     what the order of the faults is drawn from [a new one, which is told]";

/// `cargo xtask chaos …`.
pub(crate) fn run(args: &[&str]) -> Result<(), Failure> {
    let mut test = cargo(&["test", "--package", "unified-scheduler-processes", "--test", "chaos"]);
    test.args(["--", "--nocapture"]).env("CHAOS_SECONDS", "60");
    let variables = [("--store", "CHAOS_STORE"), ("--seconds", "CHAOS_SECONDS"), ("--seed", "CHAOS_SEED")];
    services::name_options(&mut test, args, &variables, USAGE)?;
    services::provide_all();
    steps::run("chaos", test)
}
