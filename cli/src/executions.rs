//! `executions`: what ran, is running, waits or was skipped.

mod args;
mod prune;
mod show;

use serde_json::json;
use unified_scheduler::store::{CancelOutcome, ExecutionQuery, ExecutionSort};
use unified_scheduler::{Execution, ExecutionId, Fault, NodeId, Status, Timestamp, Trigger};

pub(crate) use args::ExecutionsCommand;
pub(crate) use show::show_one;

use crate::app::App;
use crate::exit::{Answer, Failure};
use crate::output::color::Style;
use crate::output::table::{Cell, Table};
use crate::output::{clean, time};
use args::ListArgs;

pub(crate) async fn run(app: &App, command: ExecutionsCommand) -> Result<Answer, Failure> {
    match command {
        ExecutionsCommand::List(args) => list(app, args).await,
        ExecutionsCommand::Show { id } => show_one(app, &get(app, &id).await?).await,
        ExecutionsCommand::Logs { id, follow } => show::logs(app, &get(app, &id).await?, follow).await,
        ExecutionsCommand::Cancel { ids } => cancel(app, &ids).await,
        ExecutionsCommand::Retry { id } => retry(app, &id).await,
        ExecutionsCommand::Prune(args) => prune::prune(app, args).await,
    }
}

fn parse_id(text: &str) -> Result<ExecutionId, Failure> {
    text.parse().map_err(|_| {
        let fault = Fault::new("id", format!("`{text}` is not an execution's id"))
            .help("`executions list` shows them");
        Failure::faults("no such execution", vec![fault])
    })
}

async fn get(app: &App, id: &str) -> Result<Execution, Failure> {
    let id = parse_id(id)?;
    let found = app.store().await?.get_execution(&id).await?;
    Ok(found.ok_or_else(|| unified_scheduler::Error::not_found("execution", id))?)
}

async fn list(app: &App, args: ListArgs) -> Result<Answer, Failure> {
    let now = app.now().await?;
    let job_id = match &args.job {
        Some(job) => Some(find_job(app, job).await?),
        None => None,
    };
    let trigger = args.trigger.as_deref().map(str::parse::<Trigger>).transpose()?;
    let query = ExecutionQuery {
        job_id,
        statuses: args.status.iter().map(|s| s.parse::<Status>()).collect::<Result<_, _>>()?,
        trigger,
        node_id: args.node.as_deref().map(NodeId::from),
        root_id: args.attempts_of.as_deref().map(parse_id).transpose()?,
        since: args.since.map(|t| t.resolve(now)),
        until: args.until.map(|t| t.resolve(now)),
        sort: if args.oldest { ExecutionSort::Oldest } else { ExecutionSort::Newest },
        after: args.after.as_deref().map(parse_id).transpose()?,
        offset: args.offset,
        limit: args.limit,
        count: args.count,
    };
    let page = app.store().await?.list_executions(&query).await?;
    if app.out.json {
        app.out.value(&page)?;
        return Ok(Answer::Yes);
    }
    let table = table(&page.items, now, true);
    if table.is_empty() {
        app.out.line("no executions")?;
    } else {
        table.write(&app.out)?;
    }
    let shown = page.items.len();
    let text = match page.total {
        Some(total) => format!("{shown} of {total}"),
        None if shown == args.limit && shown > 0 => format!("the first {shown}; see --limit and --after"),
        None => return Ok(Answer::Yes),
    };
    app.out.line(app.out.paint.show(Style::Dim, &text))?;
    Ok(Answer::Yes)
}

/// The id of a job; one that is gone may still have a history under its id.
async fn find_job(app: &App, name: &str) -> Result<unified_scheduler::JobId, Failure> {
    match app.jobs(None).await?.find(name).await {
        Ok(job) => Ok(job.id),
        Err(error) if error.kind() == unified_scheduler::ErrorKind::NotFound => {
            let id = unified_scheduler::JobId::from(name);
            let query = ExecutionQuery { job_id: Some(id.clone()), limit: 1, ..ExecutionQuery::default() };
            let kept = app.store().await?.list_executions(&query).await?;
            if kept.items.is_empty() { Err(error.into()) } else { Ok(id) }
        }
        Err(error) => Err(error.into()),
    }
}

/// Executions as a table, with or without their job's name.
pub(crate) fn table(executions: &[Execution], now: Timestamp, with_job: bool) -> Table {
    let mut table = Table::new(&["due", "job", "status", "took", "late", "try", "trigger", "result", "id"]);
    for execution in executions {
        let job = if with_job { Cell::new(&execution.job_name) } else { Cell::default() };
        let attempt = if execution.attempt > 1 { execution.attempt.to_string() } else { String::new() };
        table.row(vec![
            Cell::new(time::both(execution.due_at, now)),
            job,
            Cell::new(execution.status.as_str()).style(Style::of(execution.status)),
            Cell::new(execution.duration.map(time::rough).unwrap_or_default()).right(),
            Cell::new(lateness(execution)).right(),
            Cell::new(attempt).right(),
            Cell::new(execution.trigger.as_str()),
            Cell::new(outcome(execution)),
            Cell::new(execution.id.to_string()).style(Style::Dim),
        ]);
    }
    table
}

/// How long after its due time it started; a retry is late by design.
fn lateness(execution: &Execution) -> String {
    match execution.started_at {
        Some(started) if execution.attempt == 1 => time::rough(started.since(execution.due_at)),
        _ => String::new(),
    }
}

/// What there is to say of how an execution went, in one line.
pub(crate) fn outcome(execution: &Execution) -> String {
    if let Some(error) = &execution.error {
        let first = error.message.lines().next().unwrap_or_default();
        return if error.kind == "error" { first.to_owned() } else { format!("{}: {first}", error.kind) };
    }
    if execution.status == Status::Running
        && let Some(progress) = &execution.progress
    {
        let total = progress.total.map_or(String::new(), |total| format!("/{total}"));
        return format!("{}{total} {}", progress.done, progress.message).trim_end().to_owned();
    }
    let message = execution.result.as_ref().map(|r| r.message.as_str()).unwrap_or_default();
    match (&execution.reason, message) {
        (Some(reason), "") => reason.clone(),
        (Some(reason), message) => format!("{reason}: {message}"),
        (None, message) if execution.n_occurrences > 1 => {
            format!("{message} (stands for {})", execution.n_occurrences).trim_start().to_owned()
        }
        (None, message) => message.to_owned(),
    }
}

async fn cancel(app: &App, ids: &[String]) -> Result<Answer, Failure> {
    let ids: Vec<ExecutionId> = ids.iter().map(|id| parse_id(id)).collect::<Result<_, _>>()?;
    let (store, mut answer, mut all) = (app.store().await?, Answer::Yes, Vec::new());
    for id in ids {
        let outcome = store.cancel(&id, &crate::app::actor()).await?;
        let (word, text) = match outcome {
            CancelOutcome::Cancelled => ("cancelled", "cancelled before it started".to_owned()),
            CancelOutcome::Requested => ("requested", "asked to stop".to_owned()),
            CancelOutcome::Ended(status) => ("ended", format!("has ended already: {status}")),
            CancelOutcome::NotFound => {
                return Err(unified_scheduler::Error::not_found("execution", id).into());
            }
        };
        if let CancelOutcome::Ended(_) = outcome {
            answer = Answer::No;
        }
        app.out.say(format_args!("{id} {text}"))?;
        all.push(json!({"id": id, "outcome": word}));
    }
    if app.out.json {
        app.out.value(&all)?;
    }
    Ok(answer)
}

async fn retry(app: &App, id: &str) -> Result<Answer, Failure> {
    let execution = app.jobs(None).await?.retry(&parse_id(id)?).await?;
    if app.out.json {
        app.out.value(&execution)?;
    } else {
        let (name, attempt) = (clean(&execution.job_name), execution.attempt);
        app.out
            .line(format_args!("{name} will run again as execution {} (attempt {attempt})", execution.id))?;
    }
    Ok(Answer::Yes)
}
