//! Running other programs, one step after another, with a line for each.

use std::fmt;
use std::io::Write;
use std::process::Command;
use std::time::Instant;

/// Why a command of ours failed.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    pub(crate) fn usage(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Writes a line for a person.
pub(crate) fn say(line: &str) {
    // Whoever reads may have gone; the exit code tells all the same.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// The cargo that runs us.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args);
    command
}

/// Runs one step, its output shown.
pub(crate) fn run(name: &str, mut command: Command) -> Result<(), Failure> {
    say(&format!("== {name}"));
    let began = Instant::now();
    let status = command.status().map_err(|e| Failure::new(format!("{name}: can't be started: {e}")))?;
    if status.success() {
        say(&format!("== {name}: well, after {:.1} s", began.elapsed().as_secs_f64()));
        return Ok(());
    }
    Err(Failure::new(format!("== {name}: FAILED ({status})")))
}
