//! `jobs`: make, change and look at jobs.

mod change;
mod create;
mod definition;
mod export;
mod list;
mod preview;
mod show;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::app::App;
use crate::exit::{Answer, Failure};
use crate::import::{self, ImportArgs};
use crate::values::{When, when};

/// What can be done with jobs.
#[derive(Debug, Subcommand)]
pub(crate) enum JobsCommand {
    /// Make a job
    #[command(visible_alias = "create")]
    Add(create::AddArgs),
    /// List jobs, by name unless asked otherwise
    #[command(visible_alias = "ls")]
    List(list::ListArgs),
    /// Show one job
    Show(JobArg),
    /// Change a job's definition; what is not named stays
    Edit(create::EditArgs),
    /// Let a job's schedule count again
    Enable {
        #[command(flatten)]
        job: JobArg,
        /// Treat what was due since it was disabled as missed: its misfire policy decides
        #[arg(long)]
        with_missed: bool,
    },
    /// Keep a job's schedule from counting; what runs goes on
    Disable(JobArg),
    /// Run a job now, without moving its schedule
    Run(change::RunArgs),
    /// Skip the next occurrences of a job, with a record each
    SkipNext {
        #[command(flatten)]
        job: JobArg,
        /// How many; 0 takes it back
        #[arg(default_value_t = 1, conflicts_with = "date")]
        count: u32,
        /// Skip all of this date instead (2026-12-24), or of these (2026-12-24/2026-12-31)
        #[arg(long)]
        date: Option<String>,
    },
    /// Remove a job; its history stays
    #[command(visible_alias = "rm")]
    Delete(change::DeleteArgs),
    /// Make a disabled copy of a job
    Clone {
        #[command(flatten)]
        job: JobArg,
        /// The name of the copy
        name: String,
    },
    /// Write jobs as documents that `import` reads
    Export {
        /// Ids or names; all jobs without any
        jobs: Vec<String>,
        /// Write to this file
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Write one document a line
        #[arg(long)]
        lines: bool,
    },
    /// Make jobs from a JSON or YAML file, or from a crontab: all of them, or none
    Import(ImportArgs),
    /// Show when a job, or a schedule that is not stored, is due next
    Preview(preview::PreviewArgs),
    /// Tell why a job did or did not run, and when it will
    Explain(JobArg),
}

/// Which job.
#[derive(Debug, Args)]
pub(crate) struct JobArg {
    /// Its id or name
    #[arg(value_name = "JOB")]
    pub(crate) job: String,
}

/// A time at which something is wanted.
fn instant(text: &str) -> Result<When, String> {
    when(text)
}

pub(crate) async fn run(app: &App, command: JobsCommand) -> Result<Answer, Failure> {
    match command {
        JobsCommand::Add(args) => create::add(app, args).await,
        JobsCommand::List(args) => list::list(app, args).await,
        JobsCommand::Show(job) => show::show(app, &job.job).await,
        JobsCommand::Edit(args) => create::edit(app, args).await,
        JobsCommand::Enable { job, with_missed } => change::enable(app, &job.job, with_missed).await,
        JobsCommand::Disable(job) => change::disable(app, &job.job).await,
        JobsCommand::Run(args) => change::run(app, args).await,
        JobsCommand::SkipNext { job, count, date } => {
            change::skip(app, &job.job, count, date.as_deref()).await
        }
        JobsCommand::Delete(args) => change::delete(app, args).await,
        JobsCommand::Clone { job, name } => change::clone(app, &job.job, &name).await,
        JobsCommand::Export { jobs, output, lines } => export::export(app, &jobs, output, lines).await,
        JobsCommand::Import(args) => import::run(app, args).await,
        JobsCommand::Preview(args) => preview::preview(app, args).await,
        JobsCommand::Explain(job) => preview::explain(app, &job.job).await,
    }
}
