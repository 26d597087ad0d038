//! `jobs add` and `jobs edit`.

use std::sync::Arc;

use clap::Args;
use serde_json::Value;
use unified_scheduler::schedule::Recurrence;
use unified_scheduler::{ErrorKind, Fault, Job, JobDefinition, JobId, NewJob, Registry, Schedule, document};

use super::definition::DefinitionArgs;
use crate::app::App;
use crate::exit::{Answer, Failure};
use crate::output::{clean, time, warn};
use crate::{import, registry};

const EXAMPLES: &str = "\
Examples:
  unified-scheduler jobs add hello --template example_log --every 30s --param message=hello
  unified-scheduler jobs add backup --template command --cron '0 3 * * *' --timezone Europe/Berlin \\
      --param program=/usr/local/bin/backup --param 'args=[\"--all\"]' --retries 3 --backoff exponential
  unified-scheduler jobs add ping --template webhook_trigger --cron '@hourly' \\
      --param url=https://example.org/ping --timeout 30s --overlap skip
  unified-scheduler jobs add reminder --template example_log --at +10m";

/// A job to make.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AddArgs {
    /// Its name; no other job has it
    name: String,
    /// What it runs: a built-in template (`command`, `webhook_trigger`, `example_log`, `example_flaky`), or, with
    /// --unchecked, a handler of your own program
    #[arg(long, short, value_name = "TYPE")]
    template: String,
    /// Its id [default: made]
    #[arg(long)]
    id: Option<String>,
    /// Its schedule does not count until it is enabled
    #[arg(long)]
    disabled: bool,
    /// Take a template, and parameters, that this program does not know: another program has the handler
    #[arg(long)]
    unchecked: bool,
    #[command(flatten)]
    definition: DefinitionArgs,
}

/// A change of a job.
#[derive(Debug, Args)]
pub(crate) struct EditArgs {
    /// Its id or name
    job: String,
    /// Another name
    #[arg(long)]
    name: Option<String>,
    /// Another template
    #[arg(long, short, value_name = "TYPE")]
    template: Option<String>,
    /// Take the whole definition from a JSON or YAML document (`-` is the standard input)
    #[arg(long, value_name = "FILE")]
    file: Option<String>,
    /// Take a template, and parameters, that this program does not know
    #[arg(long)]
    unchecked: bool,
    #[command(flatten)]
    definition: DefinitionArgs,
}

pub(crate) async fn add(app: &App, args: AddArgs) -> Result<Answer, Failure> {
    if args.definition.schedule.has_no_recurrence() {
        return Err(Failure::input(
            "nothing says when the job is due; give --every 5m, --cron '0 3 * * *', --at TIME or --manual",
        ));
    }
    let now = app.now().await?;
    let mut definition = JobDefinition::new(args.name, args.template, Schedule::manual());
    args.definition.apply(&mut definition, now)?;
    resolve_chains(app, &mut definition).await?;
    if args.definition.schedule.timezone.is_some()
        && !matches!(definition.schedule.recurrence, Recurrence::Cron(_))
        && definition.schedule.exclude.is_empty()
    {
        warn("the time zone has no effect: only cron expressions and exclusions have one");
    }
    registry::warn_of_disabled(&app.config, std::iter::once(definition.handler.as_str()));
    let jobs = app.jobs(checks(app, args.unchecked)?).await?;
    let new = NewJob {
        id: args.id.map(|id| JobId::from(id.as_str())),
        enabled: !args.disabled,
        ..NewJob::from(definition)
    };
    let job = jobs.create(new).await.map_err(|e| with_advice(e.into()))?;
    tell(app, &job, "made").await
}

pub(crate) async fn edit(app: &App, args: EditArgs) -> Result<Answer, Failure> {
    let now = app.now().await?;
    let stored = app.jobs(None).await?.find(&args.job).await?;
    let mut definition = match &args.file {
        Some(file) => from_file(file, &stored)?,
        None => stored.definition.to_owned(),
    };
    if let Some(name) = args.name {
        definition.name = name;
    }
    if let Some(template) = args.template {
        definition.handler = template;
    }
    args.definition.apply(&mut definition, now)?;
    resolve_chains(app, &mut definition).await?;
    let registry = checks(app, args.unchecked)?;
    // A handler that this program never knew is no reason to refuse another change.
    let foreign = |r: &Arc<Registry>| {
        definition.handler == stored.definition.handler && !r.names().contains(&definition.handler)
    };
    let registry = registry.filter(|r| !foreign(r));
    if definition.handler != stored.definition.handler {
        registry::warn_of_disabled(&app.config, std::iter::once(definition.handler.as_str()));
    }
    let jobs = app.jobs(registry).await?;
    let job =
        jobs.edit(&stored.id, |job| *job = definition.clone()).await.map_err(|e| with_advice(e.into()))?;
    let verb = if job.version == stored.version { "as it was" } else { "changed" };
    tell(app, &job, verb).await
}

fn from_file(file: &str, stored: &Job) -> Result<JobDefinition, Failure> {
    let entries = import::entries(&import::read_text(file)?, file)?;
    let [entry] = entries.as_slice() else {
        return Err(Failure::input(format!("`{file}` holds {} documents; an edit takes one", entries.len())));
    };
    let value: &Value =
        entry.value.as_ref().map_err(|fault| Failure::faults("not a document", vec![fault.clone()]))?;
    let read =
        document::read(value).map_err(|faults| Failure::faults("the document can't be used", faults))?;
    if read.id.as_ref().is_some_and(|id| *id != stored.id) {
        let fault = Fault::new("id", "is another job's").help(format!("leave it out, or give {}", stored.id));
        return Err(Failure::faults("the document can't be used", vec![fault]));
    }
    for warning in &read.warnings {
        warn(warning);
    }
    Ok(JobDefinition { origin: stored.definition.origin, ..read.definition })
}

fn checks(app: &App, unchecked: bool) -> Result<Option<Arc<Registry>>, Failure> {
    if unchecked { Ok(None) } else { registry::known(&app.config).map(Some) }
}

/// Says what to do about a handler that only another program has.
pub(crate) fn with_advice(failure: Failure) -> Failure {
    match failure {
        Failure::Scheduler(error)
            if error.faults().iter().any(|f| f.message.starts_with("nothing is registered")) =>
        {
            let faults = error
                .faults()
                .iter()
                .cloned()
                .map(|mut fault| {
                    if fault.message.starts_with("nothing is registered") {
                        fault.help.push_str("; for a handler of another program add --unchecked");
                    }
                    fault
                })
                .collect();
            Failure::faults(error.message(), faults)
        }
        other => other,
    }
}

/// Chains name jobs by their id; here a name will do too.
async fn resolve_chains(app: &App, definition: &mut JobDefinition) -> Result<(), Failure> {
    let jobs = app.jobs(None).await?;
    for chain in &mut definition.chains {
        match jobs.find(chain.job.as_str()).await {
            Ok(job) => chain.job = job.id,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                warn(format_args!("there is no job `{}` to run after this one, so far", chain.job));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Shows a job that was made or changed.
pub(crate) async fn tell(app: &App, job: &Job, verb: &str) -> Result<Answer, Failure> {
    if app.out.json {
        app.out.value(&document::write(job))?;
        return Ok(Answer::Yes);
    }
    let now = app.now().await?;
    let next = match job.due {
        _ if job.fault.is_some() => "set aside".to_owned(),
        _ if !job.enabled => "disabled".to_owned(),
        Some(due) => format!("next {}", time::both(due.due_at, now)),
        None if job.ended.is_some() => "it will not run: its schedule holds no later time".to_owned(),
        None => "runs when triggered".to_owned(),
    };
    app.out.line(format_args!("{} {verb} ({}): {next}", clean(&job.definition.name), job.id))?;
    Ok(Answer::Yes)
}
