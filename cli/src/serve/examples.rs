//! Example templates, and the example jobs of `serve --examples`.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use unified_scheduler::handler::{HandlerError, Outcome};
use unified_scheduler::policy::{Chain, ChainOn};
use unified_scheduler::{
    Context, ErrorKind, Fault, JobDefinition, JobId, JobResult, NewJob, Retry, Schedule, Template,
    TemplateMetadata, Timestamp,
};

use crate::app::App;
use crate::exit::Failure;
use crate::output::note;

/// Logs a message.
pub(crate) struct ExampleLog;

#[async_trait]
impl Template for ExampleLog {
    fn metadata(&self) -> TemplateMetadata {
        let mut metadata = TemplateMetadata::new("example_log", "Example: log a message");
        "Logs its message, after a while if it is told to.".clone_into(&mut metadata.description);
        "example".clone_into(&mut metadata.category);
        metadata.retry_safe = true;
        metadata.parameters_schema = json!({
            "type": "object",
            "properties": {
                "message": {"type": "string", "description": "What to log", "default": "hello"},
                "seconds": {"type": "number", "minimum": 0, "maximum": 3600, "description": "How long it takes"},
            },
            "additionalProperties": false,
        });
        metadata
    }

    fn check(&self, _: &mut Map<String, Value>) -> Vec<Fault> {
        Vec::new()
    }

    async fn run(&self, ctx: Context) -> Result<Outcome, HandlerError> {
        let seconds = ctx.parameters().get("seconds").and_then(Value::as_f64).unwrap_or(0.0);
        if let Ok(wait) = Duration::try_from_secs_f64(seconds)
            && !wait.is_zero()
        {
            tokio::select! {
                () = ctx.sleep(wait) => {}
                () = ctx.cancelled() => return Err(HandlerError::new("was asked to stop")),
            }
        }
        let mut message =
            ctx.parameters().get("message").and_then(Value::as_str).unwrap_or("hello").to_owned();
        if let Some(parent) = ctx.parent().await? {
            let result = parent.result.map(|result| result.message).unwrap_or_default();
            message = format!("{message} (after {}: {result})", parent.job_name);
        }
        ctx.info(message.as_str());
        Ok(message.into())
    }
}

/// Fails a few times, then goes well.
pub(crate) struct ExampleFlaky;

#[async_trait]
impl Template for ExampleFlaky {
    fn metadata(&self) -> TemplateMetadata {
        let mut metadata = TemplateMetadata::new("example_flaky", "Example: fail, then go well");
        "Fails at its first attempts, to show retries.".clone_into(&mut metadata.description);
        "example".clone_into(&mut metadata.category);
        metadata.retry_safe = true;
        metadata.parameters_schema = json!({
            "type": "object",
            "properties": {
                "failures": {"type": "integer", "minimum": 0, "maximum": 1000, "default": 1,
                    "description": "How many attempts fail"},
            },
            "additionalProperties": false,
        });
        metadata
    }

    fn check(&self, _: &mut Map<String, Value>) -> Vec<Fault> {
        Vec::new()
    }

    async fn run(&self, ctx: Context) -> Result<Outcome, HandlerError> {
        let failures = ctx.parameters().get("failures").and_then(Value::as_u64).unwrap_or(1);
        if u64::from(ctx.attempt()) <= failures {
            ctx.warn("about to fail, as it was told to");
            return Err(HandlerError::new(format!(
                "failed, as it was told to ({} of {failures})",
                ctx.attempt()
            )));
        }
        let message = format!("went well at attempt {}", ctx.attempt());
        Ok(JobResult { message, ..JobResult::default() }.into())
    }
}

/// Adds the example jobs that are not there. Their ids are fixed, so that several nodes that start
/// together, or again, make each once.
pub(crate) async fn add(app: &App) -> Result<(), Failure> {
    let registry = crate::registry::known(&app.config)?;
    let jobs = app.jobs(Some(registry)).await?;
    let now = app.now().await?;
    let mut added = Vec::new();
    for (id, definition) in definitions(now) {
        let id = JobId::from(id);
        if app.store().await?.get_job(&id).await?.is_some() {
            continue;
        }
        let name = definition.name.clone();
        let new = NewJob { id: Some(id), ..NewJob::from(definition) };
        match jobs.create(new).await {
            Ok(_) => added.push(name),
            // Another node was faster, or somebody uses the name.
            Err(error)
                if error.kind() == ErrorKind::Invalid
                    && error.faults().iter().all(|f| f.field == "id" || f.field == "name") => {}
            Err(error) => return Err(error.into()),
        }
    }
    if !added.is_empty() {
        note(format_args!("example jobs added: {}", added.join(", ")));
    }
    Ok(())
}

fn definitions(now: Timestamp) -> Vec<(&'static str, JobDefinition)> {
    let log = |name: &str, schedule: Schedule, message: &str| {
        let mut job = JobDefinition::new(name, "example_log", schedule);
        job.parameters.insert("message".to_owned(), json!(message));
        job.tags.push("example".to_owned());
        job
    };
    let hello = log("hello", Schedule::every(Duration::from_secs(2)), "hello");
    let minute = log("every minute", Schedule::cron("* * * * *"), "a minute has begun");
    let mut flaky = JobDefinition::new("flaky", "example_flaky", Schedule::every(Duration::from_secs(15)));
    flaky.parameters.insert("failures".to_owned(), json!(2));
    flaky.retry = Retry::times(3, Duration::from_secs(1)).exponential(Duration::from_secs(10));
    flaky.tags.push("example".to_owned());
    let once = log("once", Schedule::once(now.saturating_add(Duration::from_secs(5))), "only once");
    let mut extract = log("extract", Schedule::every(Duration::from_secs(10)), "42 rows extracted");
    extract.parameters.insert("seconds".to_owned(), json!(1.5));
    extract.chains.push(Chain { on: ChainOn::Success, job: JobId::from("example-load") });
    let load = log("load", Schedule::manual(), "loaded");
    vec![
        ("example-hello", hello),
        ("example-minute", minute),
        ("example-flaky", flaky),
        ("example-once", once),
        ("example-extract", extract),
        ("example-load", load),
    ]
}
