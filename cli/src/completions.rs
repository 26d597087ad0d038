//! `completions`: a script by which a shell completes our commands.

use std::io::Write as _;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::exit::{Answer, Failure};

pub(crate) fn write(shell: Shell) -> Result<Answer, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "unified-scheduler", &mut script);
    std::io::stdout().write_all(&script).map_err(|e| Failure::from_output(&e))?;
    Ok(Answer::Yes)
}
