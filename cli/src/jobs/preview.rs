//! `jobs preview` and `jobs explain`: what is to come, and why.

use clap::Args;
use serde_json::json;
use unified_scheduler::explain::{calendars, explain as explain_job, upcoming};
use unified_scheduler::schedule::{Dst, Preview, preview as preview_schedule};
use unified_scheduler::{Fault, Schedule, Timestamp};

use super::definition::ScheduleArgs;
use super::instant;
use crate::app::App;
use crate::exit::{Answer, Failure};
use crate::output::color::Style;
use crate::output::table::{Cell, Table};
use crate::output::{clean, time};
use crate::values::When;

/// A job, or a schedule that is not stored.
#[derive(Debug, Args)]
pub(crate) struct PreviewArgs {
    /// The job's id or name; or give a schedule, such as --cron '0 3 * * *'
    #[arg(required_unless_present_any = ["every", "cron", "at"], conflicts_with_all = ["every", "cron", "at"])]
    job: Option<String>,
    #[command(flatten)]
    schedule: ScheduleArgs,
    /// How many
    #[arg(long, short = 'n', default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    count: u16,
    /// From this time on [default: now]
    #[arg(long, value_name = "TIME", value_parser = instant, allow_hyphen_values = true)]
    from: Option<When>,
}

pub(crate) async fn preview(app: &App, args: PreviewArgs) -> Result<Answer, Failure> {
    let now = app.now().await?;
    let known = calendars(&**app.store().await?).await?;
    let count = usize::from(args.count);
    let from = args.from.map(|t| t.resolve(now));
    let (words, rows) = if let Some(name) = &args.job {
        let job = app.jobs(None).await?.find(name).await?;
        let rows = match (from, job.definition.compiled()) {
            (Some(from), Ok(schedule)) => preview_schedule(schedule, from, count, &known),
            _ => upcoming(&job, now, count, &known),
        };
        (super::list::schedule(&job), rows)
    } else {
        let mut schedule = Schedule::manual();
        args.schedule.apply(&mut schedule, now)?;
        let compiled = schedule.compile("preview").map_err(refused)?;
        (compiled.describe(), preview_schedule(&compiled, from.unwrap_or(now), count, &known))
    };
    if app.out.json {
        app.out.value(&json!({"schedule": words, "next": rows}))?;
        return Ok(Answer::Yes);
    }
    app.out.line(clean(&words))?;
    if rows.is_empty() {
        app.out.line("nothing to come")?;
        return Ok(Answer::Yes);
    }
    table(&rows, now).write(&app.out)?;
    Ok(Answer::Yes)
}

fn refused(faults: Vec<Fault>) -> Failure {
    Failure::faults("the schedule can't be used", faults)
}

fn table(rows: &[Preview], now: Timestamp) -> Table {
    let mut table = Table::new(&["local time of the schedule", "utc", "from now", "note"]);
    for row in rows {
        let dst = row.dst.map(|dst| match dst {
            Dst::Gap => "moved: the clocks skip its time",
            Dst::FoldFirst => "the clocks show this time twice; the first",
            Dst::FoldSecond => "the clocks show this time twice; the second",
        });
        let (note, style) = match (&row.excluded, dst) {
            (Some(why), _) => (format!("left out: {why}"), Style::Yellow),
            (None, Some(dst)) => (dst.to_owned(), Style::Cyan),
            (None, None) => (String::new(), Style::Plain),
        };
        table.row(vec![
            Cell::new(&row.local),
            Cell::new(row.due.to_string()).style(Style::Dim),
            Cell::new(time::relative(row.due, now)),
            Cell::new(note).style(style),
        ]);
    }
    table
}

pub(crate) async fn explain(app: &App, name: &str) -> Result<Answer, Failure> {
    let job = app.jobs(None).await?.find(name).await?;
    let explanation = explain_job(&**app.store().await?, &job).await?;
    if app.out.json {
        app.out.value(&explanation)?;
        return Ok(Answer::Yes);
    }
    let (now, paint) = (app.now().await?, app.out.paint);
    let verdict = if explanation.will_run {
        paint.show(Style::Green, "will run")
    } else {
        paint.show(Style::Red, "will not run")
    };
    app.out.line(format_args!("{} {verdict}", paint.show(Style::Bold, &clean(&job.definition.name))))?;
    app.out.line(format_args!("schedule: {}", clean(&explanation.schedule)))?;
    for reason in &explanation.reasons {
        let mark = if reason.blocks { paint.show(Style::Red, "✗") } else { paint.show(Style::Cyan, "·") };
        app.out.line(format_args!("  {mark} {}", clean(&reason.text)))?;
    }
    if !explanation.next.is_empty() {
        app.out.line("")?;
        table(&explanation.next, now).write(&app.out)?;
    }
    if !explanation.last.is_empty() {
        app.out.line("")?;
        crate::executions::table(&explanation.last, now, false).write(&app.out)?;
    }
    Ok(Answer::Yes)
}
