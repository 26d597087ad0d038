//! What `executions` takes.

use std::time::Duration;

use clap::{Args, Subcommand};

use crate::values::{When, duration, when};

/// What can be asked of executions.
#[derive(Debug, Subcommand)]
pub(crate) enum ExecutionsCommand {
    /// List executions, the newest first unless asked otherwise
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Show one execution
    Show {
        /// Its id
        id: String,
    },
    /// Show what an execution logged
    Logs {
        /// Its id
        id: String,
        /// Go on until it has ended
        #[arg(long, short)]
        follow: bool,
    },
    /// End executions that wait, and ask running ones to stop
    Cancel {
        /// Their ids
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
    /// Run an execution that has ended once more
    Retry {
        /// Its id
        id: String,
    },
    /// Remove old executions, with their logs
    Prune(PruneArgs),
}

/// Which executions, in which order.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Of this job, by id or name
    #[arg(long, short)]
    pub(crate) job: Option<String>,
    /// With this status (pending, running, success, failed, timeout, skipped, lost, …); may be repeated
    #[arg(long, short, value_delimiter = ',')]
    pub(crate) status: Vec<String>,
    /// Made by schedule, manual or chain
    #[arg(long)]
    pub(crate) trigger: Option<String>,
    /// Run by this node
    #[arg(long)]
    pub(crate) node: Option<String>,
    /// All attempts that go back to this execution
    #[arg(long, value_name = "ID")]
    pub(crate) attempts_of: Option<String>,
    /// Made since: 2026-01-02T03:04:05Z, 2026-01-02 (local time), or -1h
    #[arg(long, value_name = "TIME", value_parser = when, allow_hyphen_values = true)]
    pub(crate) since: Option<When>,
    /// Made before
    #[arg(long, value_name = "TIME", value_parser = when, allow_hyphen_values = true)]
    pub(crate) until: Option<When>,
    /// The oldest first
    #[arg(long)]
    pub(crate) oldest: bool,
    /// Only those after this one in the order asked for
    #[arg(long, value_name = "ID")]
    pub(crate) after: Option<String>,
    /// How many
    #[arg(long, short = 'n', default_value_t = 50, value_name = "N")]
    pub(crate) limit: usize,
    /// How many to pass over
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) offset: u64,
    /// Count them all
    #[arg(long)]
    pub(crate) count: bool,
}

/// What to remove.
#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Those that ended longer ago than this [default: the config's retention, else 30d]. What a job says
    /// of its own history goes before
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) older_than: Option<Duration>,
}
