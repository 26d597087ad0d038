//! `verify`: nothing lost, nothing doubled, or what is.

use clap::Args;
use serde_json::{Value, json};
use unified_scheduler::Timestamp;
use unified_scheduler::verify::{Problem, ProblemKind, VerifyOptions, VerifyReport, verify};

use crate::app::App;
use crate::exit::{Answer, Failure};
use crate::output::color::Style;
use crate::output::progress::Progress;
use crate::output::table::{Cell, Table};
use crate::output::{count, time};
use crate::values::{When, when};

/// What to look at.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// One job, by id or name [default: all]
    #[arg(long, short)]
    job: Option<String>,
    /// Occurrences due since: 2026-01-02T03:04:05Z, 2026-01-02 (local time), or -1h
    #[arg(long, value_name = "TIME", value_parser = when, allow_hyphen_values = true)]
    since: Option<When>,
    /// Occurrences due before
    #[arg(long, value_name = "TIME", value_parser = when, allow_hyphen_values = true)]
    until: Option<When>,
}

pub(crate) async fn run(app: &App, args: VerifyArgs) -> Result<Answer, Failure> {
    let now = app.now().await?;
    let job_id = match &args.job {
        Some(job) => Some(app.jobs(None).await?.find(job).await?.id),
        None => None,
    };
    let options = VerifyOptions {
        job_id,
        since: args.since.map(|t| t.resolve(now)),
        until: args.until.map(|t| t.resolve(now)),
    };
    let mut progress = Progress::new("verifying jobs");
    let report = verify(&**app.store().await?, &options, |n| progress.done(n)).await?;
    drop(progress);
    let answer = if report.is_whole() { Answer::Yes } else { Answer::No };
    if app.out.json {
        let mut value = json!(report);
        value["whole"] = Value::Bool(report.is_whole());
        app.out.value(&value)?;
        return Ok(answer);
    }
    show(app, &report, now)?;
    Ok(answer)
}

fn show(app: &App, report: &VerifyReport, now: Timestamp) -> Result<(), Failure> {
    let paint = app.out.paint;
    app.out.line(format_args!(
        "{}, {}: {} started, {} skipped with a reason",
        count(report.jobs, "job"),
        count(report.occurrences, "occurrence"),
        report.started,
        report.skipped
    ))?;
    app.out.line(format_args!(
        "{} retried, {} lost with their node",
        count(report.retries, "attempt"),
        report.lost
    ))?;
    if report.jobs_not_kept > 0 {
        let n = report.jobs_not_kept;
        app.out.line(format_args!("{n} jobs keep no full history, and prove nothing"))?;
    }
    if report.is_whole() {
        app.out.line(paint.show(Style::Green, "nothing lost, nothing doubled"))?;
        return Ok(());
    }
    app.out.line(paint.show(Style::Red, &format!("{}:", count(report.problems.len(), "problem"))))?;
    let mut table = Table::new(&["job", "problem", "due", "detail", "execution"]);
    for problem in &report.problems {
        table.row(row(problem, now));
    }
    table.write(&app.out)
}

fn row(problem: &Problem, now: Timestamp) -> Vec<Cell> {
    let kind = match problem.kind {
        ProblemKind::Duplicate => "duplicate",
        ProblemKind::Hole => "hole",
        ProblemKind::Miscounted => "miscounted",
        ProblemKind::Stuck => "stuck",
        ProblemKind::RetryMissing => "retry missing",
    };
    vec![
        Cell::new(&problem.job_name),
        Cell::new(kind).style(Style::Red),
        Cell::new(problem.due_at.map(|t| time::both(t, now)).unwrap_or_default()),
        Cell::whole(&problem.detail),
        Cell::new(problem.execution_id.map(|id| id.to_string()).unwrap_or_default()).style(Style::Dim),
    ]
}
