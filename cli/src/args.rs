//! What may stand on the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::calendars::CalendarsCommand;
use crate::executions::ExecutionsCommand;
use crate::jobs::JobsCommand;
use crate::migrate::MigrateArgs;
use crate::serve::ServeArgs;
use crate::verify::VerifyArgs;

const AFTER: &str = "\
Exit codes:
  0   it went well
  1   the answer is no: verify found a problem, doctor a failure, or things are not as the command needs them
  2   bad usage or bad input: an unknown job, a schedule that can't be, a config with unknown keys
  3   the store can't be opened, reached or read
  70  a defect of this program

Examples:
  unified-scheduler serve --examples
  unified-scheduler jobs add backup --template command --cron '0 3 * * *' --timezone Europe/Berlin \\
      --param program=/usr/local/bin/backup --retries 3 --retry-delay 1m
  unified-scheduler executions list --job backup
  unified-scheduler verify";

/// A job scheduler over the database that you already have.
#[derive(Debug, Parser)]
#[command(name = "unified-scheduler", version, after_help = AFTER, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// URL of the store [default: the config's, else `sqlite://unified-scheduler.db`]
    #[arg(
        long,
        global = true,
        help_heading = "Everywhere",
        value_name = "URL",
        env = "UNIFIED_SCHEDULER_STORE",
        hide_env_values = true
    )]
    pub(crate) store: Option<String>,
    /// Settings in TOML; docs/unified-scheduler.example.toml shows all of them
    #[arg(
        long,
        global = true,
        help_heading = "Everywhere",
        value_name = "FILE",
        env = "UNIFIED_SCHEDULER_CONFIG",
        hide_env_values = true
    )]
    pub(crate) config: Option<PathBuf>,
    /// Answer in JSON: one value, or one event a line for `serve`
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub(crate) json: bool,
    /// Whether to color what people read: where a terminal is and `NO_COLOR` is not set, always, or never
    #[arg(long, global = true, help_heading = "Everywhere", value_enum, default_value_t = ColorChoice::Auto, value_name = "WHEN")]
    pub(crate) color: ColorChoice,
}

/// Whether to color; automatically is where a terminal is, unless `NO_COLOR` is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "made once, from the command line")]
pub(crate) enum Command {
    /// Run a node: fire what is due, and show it as it happens
    Serve(ServeArgs),
    /// Make, change and look at jobs
    #[command(subcommand, visible_alias = "job")]
    Jobs(JobsCommand),
    /// Look at what ran, is running or was skipped
    #[command(subcommand, visible_alias = "execution")]
    Executions(ExecutionsCommand),
    /// Days and hours on which jobs do not run, shared by name
    #[command(subcommand, visible_alias = "calendar")]
    Calendars(CalendarsCommand),
    /// The nodes that share the store
    Nodes,
    /// How the scheduler and its store are
    Status,
    /// Replay the history and prove that nothing was lost or doubled
    Verify(VerifyArgs),
    /// Look for what usually is wrong
    Doctor,
    /// Bring the store's schema up to date, or move everything to another store
    Migrate(MigrateArgs),
    /// A script that completes commands, for your shell
    Completions {
        /// Which shell
        shell: Shell,
    },
}
