//! `jobs enable`, `disable`, `run`, `skip-next`, `delete` and `clone`.

use clap::Args;
use serde_json::{Value, json};
use unified_scheduler::{Execution, RunOptions};

use super::create::tell;
use super::{JobArg, instant};
use crate::app::App;
use crate::exit::{Answer, Failure};
use crate::output::{clean, warn};
use crate::registry;
use crate::values::{When, parameters};

/// A run by hand.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    job: JobArg,
    /// One parameter, in place of the job's; may be repeated
    #[arg(long, short, value_name = "NAME=VALUE")]
    param: Vec<String>,
    /// All parameters, as a JSON object or @FILE, in place of the job's
    #[arg(long, value_name = "JSON|@FILE")]
    parameters: Option<String>,
    /// Not before this
    #[arg(long, value_name = "TIME", value_parser = instant)]
    at: Option<When>,
    /// The same key again gives the same execution
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Answer no when the job is running, or waits to run
    #[arg(long)]
    unless_running: bool,
    /// Wait until it has ended; answer no when it did not go well
    #[arg(long, short)]
    wait: bool,
}

/// Jobs to remove.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Their ids or names
    #[arg(required = true, value_name = "JOB")]
    jobs: Vec<String>,
}

pub(crate) async fn enable(app: &App, job: &str, with_missed: bool) -> Result<Answer, Failure> {
    let jobs = app.jobs(None).await?;
    let id = jobs.find(job).await?.id;
    let job = if with_missed { jobs.enable_with_missed(&id).await? } else { jobs.enable(&id).await? };
    tell(app, &job, "enabled").await
}

pub(crate) async fn disable(app: &App, job: &str) -> Result<Answer, Failure> {
    let jobs = app.jobs(None).await?;
    let id = jobs.find(job).await?.id;
    tell(app, &jobs.disable(&id).await?, "disabled").await
}

pub(crate) async fn skip(app: &App, job: &str, count: u32, date: Option<&str>) -> Result<Answer, Failure> {
    let jobs = app.jobs(None).await?;
    let id = jobs.find(job).await?.id;
    let (job, verb) = match date {
        Some(date) => (jobs.skip_date(&id, date).await?, format!("leaves out {date}")),
        None => (jobs.skip_next(&id, count).await?, format!("skips its next {count}")),
    };
    tell(app, &job, &verb).await
}

pub(crate) async fn clone(app: &App, job: &str, name: &str) -> Result<Answer, Failure> {
    let jobs = app.jobs(None).await?;
    let id = jobs.find(job).await?.id;
    tell(app, &jobs.clone_as(&id, name).await?, "made").await
}

pub(crate) async fn delete(app: &App, args: DeleteArgs) -> Result<Answer, Failure> {
    let jobs = app.jobs(None).await?;
    // All are looked up first, so that a misspelled name removes none.
    let mut found = Vec::new();
    for name in &args.jobs {
        found.push(jobs.find(name).await?);
    }
    for job in &found {
        jobs.delete(&job.id).await?;
        app.out.say(format_args!("{} removed ({})", clean(&job.definition.name), job.id))?;
    }
    if app.out.json {
        let ids: Vec<&str> = found.iter().map(|job| job.id.as_str()).collect();
        app.out.value(&json!({ "deleted": ids }))?;
    }
    Ok(Answer::Yes)
}

pub(crate) async fn run(app: &App, args: RunArgs) -> Result<Answer, Failure> {
    let registry = registry::known(&app.config)?;
    let job = app.jobs(None).await?.find(&args.job.job).await?;
    let now = app.now().await?;
    // Single parameters change single ones of the job's.
    let mut given = parameters(args.parameters.as_deref(), &args.param)?;
    if let (None, Some(single)) = (&args.parameters, &mut given) {
        for (name, value) in &job.definition.parameters {
            single.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    let options = RunOptions {
        parameters: given.map(Value::Object),
        at: args.at.map(|at| at.resolve(now)),
        idempotency_key: args.key,
        unless_open: args.unless_running,
        ..RunOptions::default()
    };
    let known = registry.names().contains(&job.definition.handler);
    let execution = app.jobs(known.then_some(registry)).await?.run(&job.id, options).await?;
    if args.wait {
        let nodes = app.store().await?.list_nodes().await?;
        if !nodes.iter().any(|node| !node.dead && node.lease_until >= now) {
            warn("no node is running; this waits until one has run it");
        }
        let ended = ended(app, execution).await?;
        crate::executions::show_one(app, &ended).await?;
        let bad = ended.status.class() == unified_scheduler::execution::StatusClass::Bad;
        return Ok(if bad { Answer::No } else { Answer::Yes });
    }
    if app.out.json {
        app.out.value(&execution)?;
    } else {
        let name = clean(&execution.job_name);
        app.out.line(format_args!("{name} will run as execution {} ({})", execution.id, execution.status))?;
    }
    Ok(Answer::Yes)
}

/// Waits until an execution, and what retries it, has ended.
async fn ended(app: &App, mut execution: Execution) -> Result<Execution, Failure> {
    let store = app.store().await?;
    let mut hints = store.hints();
    loop {
        if execution.status.is_final() {
            let query = unified_scheduler::store::ExecutionQuery {
                root_id: Some(execution.root_id),
                limit: 1,
                ..Default::default()
            };
            let newest = store.list_executions(&query).await?.items.pop();
            match newest {
                Some(newest) if newest.id != execution.id => execution = newest,
                _ => return Ok(execution),
            }
            continue;
        }
        // Ends give no hints; what hints there are only shorten the wait.
        tokio::select! {
            () = tokio::time::sleep(std::time::Duration::from_millis(200)) => {}
            _ = hints.changed() => {}
        }
        match store.get_execution(&execution.id).await? {
            Some(now) => execution = now,
            None => return Err(Failure::input("the execution is gone: its job keeps no history")),
        }
    }
}
