//! `jobs list`.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use unified_scheduler::store::{JobQuery, JobSort};
use unified_scheduler::{Job, Origin, Timestamp, document};

use crate::app::App;
use crate::exit::{Answer, Failure};
use crate::output::color::Style;
use crate::output::table::{Cell, Table};
use crate::output::time;

/// Which jobs, in which order.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(crate) struct ListArgs {
    /// With this text in the name or description
    #[arg(long, short, value_name = "TEXT")]
    search: Option<String>,
    /// Of this template or handler; may be repeated
    #[arg(long, short, value_name = "TYPE")]
    template: Vec<String>,
    /// Enabled ones
    #[arg(long, conflicts_with = "disabled")]
    enabled: bool,
    /// Disabled ones
    #[arg(long)]
    disabled: bool,
    /// Those that were set aside
    #[arg(long)]
    faulty: bool,
    /// With this tag
    #[arg(long)]
    tag: Option<String>,
    /// From code, or made at run time
    #[arg(long, value_enum)]
    origin: Option<OriginArg>,
    /// By what they are sorted
    #[arg(long, value_enum, default_value_t = SortArg::Name)]
    sort: SortArg,
    /// From the largest
    #[arg(long)]
    desc: bool,
    /// How many
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: usize,
    /// How many to pass over
    #[arg(long, default_value_t = 0, value_name = "N")]
    offset: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OriginArg {
    Static,
    Dynamic,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum SortArg {
    Name,
    Created,
    Next,
    LastRun,
}

pub(crate) async fn list(app: &App, args: ListArgs) -> Result<Answer, Failure> {
    let query = JobQuery {
        name: None,
        search: args.search,
        handlers: args.template,
        enabled: (args.enabled || args.disabled).then_some(args.enabled),
        origin: args.origin.map(|origin| match origin {
            OriginArg::Static => Origin::Static,
            OriginArg::Dynamic => Origin::Dynamic,
        }),
        tag: args.tag,
        faulty: args.faulty.then_some(true),
        sort: match args.sort {
            SortArg::Name => JobSort::Name,
            SortArg::Created => JobSort::CreatedAt,
            SortArg::Next => JobSort::DueAt,
            SortArg::LastRun => JobSort::LastRunAt,
        },
        descending: args.desc,
        after: None,
        offset: args.offset,
        limit: args.limit,
        count: true,
    };
    let page = app.store().await?.list_jobs(&query).await?;
    if app.out.json {
        let items: Vec<Value> = page.items.iter().map(document::write).collect();
        app.out.value(
            &json!({"items": items, "total": page.total, "offset": args.offset, "limit": args.limit}),
        )?;
        return Ok(Answer::Yes);
    }
    let now = app.now().await?;
    let mut table = Table::new(&["name", "schedule", "next", "last", "status", "template", "id"]);
    for job in &page.items {
        table.row(row(job, now));
    }
    if table.is_empty() {
        app.out.line("no jobs")?;
        return Ok(Answer::Yes);
    }
    table.write(&app.out)?;
    let (shown, total) = (page.items.len() as u64, page.total.unwrap_or(0));
    if shown < total {
        let text =
            format!("{}–{} of {total}; see --limit and --offset", args.offset + 1, args.offset + shown);
        app.out.line(app.out.paint.show(Style::Dim, &text))?;
    }
    Ok(Answer::Yes)
}

fn row(job: &Job, now: Timestamp) -> Vec<Cell> {
    let status = job.last_status.map_or_else(Cell::default, |s| Cell::new(s.as_str()).style(Style::of(s)));
    vec![
        Cell::new(&job.definition.name),
        Cell::new(schedule(job)),
        next(job, now),
        Cell::new(job.last_run_at.map(|t| time::relative(t, now)).unwrap_or_default()),
        status,
        Cell::new(&job.definition.handler),
        Cell::new(job.id.as_str()).style(Style::Dim),
    ]
}

/// The schedule in words; what is wrong with it, where it can't be read.
pub(crate) fn schedule(job: &Job) -> String {
    match job.definition.compiled() {
        Ok(schedule) => schedule.describe(),
        Err(faults) => faults.first().map(ToString::to_string).unwrap_or_default(),
    }
}

fn next(job: &Job, now: Timestamp) -> Cell {
    if job.fault.is_some() {
        return Cell::new("set aside").style(Style::Red);
    }
    if !job.enabled {
        return Cell::new("disabled").style(Style::Dim);
    }
    match job.due {
        Some(due) => Cell::new(time::both(due.due_at, now)),
        None if job.ended.is_some() => Cell::new("ended").style(Style::Dim),
        None => Cell::default(),
    }
}
