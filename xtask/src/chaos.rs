//! The tests with many processes, for longer than `cargo xtask test` runs them.

use unified_scheduler_services::{Kind, install};

use crate::steps::{self, Failure, cargo, say};

const USAGE: &str = "cargo xtask chaos [--seconds N] [--store NAME] [--seed N]

  --seconds  how long faults go on, for each store [60]
  --store    only this one
  --seed     what the order of the faults is drawn from [a new one, which is told]";

/// `cargo xtask chaos …`.
pub(crate) fn run(args: &[&str]) -> Result<(), Failure> {
    let mut test = cargo(&["test", "--package", "unified-scheduler-processes", "--test", "chaos"]);
    test.args(["--", "--nocapture"]).env("CHAOS_SECONDS", "60");
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let variable = match *arg {
            "--seconds" => "CHAOS_SECONDS",
            "--store" => "CHAOS_STORE",
            "--seed" => "CHAOS_SEED",
            _ => return Err(Failure::usage(USAGE)),
        };
        test.env(variable, rest.next().ok_or_else(|| Failure::usage(USAGE))?);
    }
    // It starts its own servers, which it kills; what is missing is told by the store that needs it.
    for kind in Kind::ALL {
        if let Err(failure) = install::provide(*kind, &mut |what| say(&format!("== {kind}: {what}"))) {
            say(&format!("== {kind}: {failure}"));
        }
    }
    steps::run("chaos", test)
}
