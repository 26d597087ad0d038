//! `jobs import --crontab`: the lines of a crontab as jobs of the template `command`.

use std::time::Duration;

use clap::Args;
use unified_scheduler::{Fault, NewJob};
use unified_scheduler_cli::crontab::{CrontabFault, CrontabOptions, read as read_crontab};

use super::{Candidate, Found};
use crate::exit::Problem;
use crate::values::duration;

/// How a crontab is read.
#[derive(Debug, Args)]
#[command(next_help_heading = "Crontabs")]
pub(crate) struct CrontabArgs {
    /// The file is a crontab, as `crontab -l` prints it
    #[arg(long)]
    crontab: bool,
    /// It is a system crontab (/etc/crontab, /etc/cron.d/*): the word before each command is a user
    #[arg(long, requires = "crontab")]
    system: bool,
    /// Take lines of any user; every command runs as the user of `serve` all the same
    #[arg(long, requires = "system")]
    ignore_user: bool,
    /// IANA time zone of lines for which the crontab names none
    #[arg(long, visible_alias = "tz", value_name = "ZONE", default_value = "UTC", requires = "crontab")]
    timezone: String,
    /// What the name of each job begins with
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, requires = "crontab")]
    name_prefix: String,
    /// How long each job may take
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1d", requires = "crontab")]
    timeout: Duration,
}

impl CrontabArgs {
    pub(super) fn is_asked_for(&self) -> bool {
        self.crontab
    }
}

pub(super) fn read(text: &str, args: &CrontabArgs) -> Found {
    let options = CrontabOptions {
        system: args.system,
        ignore_user: args.ignore_user,
        current_user: std::env::var("USER").ok().filter(|user| !user.is_empty()),
        timezone: args.timezone.clone(),
        name_prefix: args.name_prefix.clone(),
        timeout: args.timeout,
    };
    let mut found = Found::default();
    match read_crontab(text, &options) {
        Ok(jobs) => {
            for job in jobs {
                found.warnings.extend(job.warnings.into_iter().map(|text| (job.line, text)));
                found.candidates.push(Candidate { line: job.line, new: NewJob::from(job.definition) });
            }
        }
        Err(faults) => found.problems.extend(faults.into_iter().map(problem)),
    }
    found
}

fn problem(fault: CrontabFault) -> Problem {
    let CrontabFault { line, column, text, message, help } = fault;
    let mut problem = Problem::new(line, None, Fault::new("", message).help(help));
    problem.column = column;
    problem.text = (text.chars().count() <= 120).then_some(text);
    problem
}
