//! Jobs made at run time from a template: created, listed, run by hand, explained and removed.
//! Run: `cargo run --example dynamic_jobs`.

use std::time::Duration;

use serde_json::{Map, Value, json};
use unified_scheduler::store::{JobQuery, MemoryStore};
use unified_scheduler::{
    Context, Fault, HandlerError, JobDefinition, Outcome, Result, RunOptions, Schedule, Scheduler, Template,
    TemplateMetadata, async_trait,
};

/// Greets somebody: a template with one parameter.
struct Greeting;

#[async_trait]
impl Template for Greeting {
    fn metadata(&self) -> TemplateMetadata {
        let mut metadata = TemplateMetadata::new("greeting", "Greeting");
        "Says hello".clone_into(&mut metadata.description);
        metadata.parameters_schema = json!({
            "type": "object",
            "properties": { "whom": { "type": "string", "minLength": 1, "description": "Whom to greet" } },
            "required": ["whom"],
        });
        metadata
    }

    fn check(&self, _parameters: &mut Map<String, Value>) -> Vec<Fault> {
        Vec::new()
    }

    async fn run(&self, ctx: Context) -> Result<Outcome, HandlerError> {
        let whom = ctx.parameters().get("whom").and_then(Value::as_str).unwrap_or("nobody");
        ctx.info(format!("hello, {whom}"));
        Ok(Outcome::from(format!("greeted {whom}")))
    }
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "an example for a terminal")]
async fn main() -> Result<()> {
    let scheduler = Scheduler::builder(MemoryStore::new()).template(Greeting).start().await?;
    let jobs = scheduler.jobs().by("ada");

    let mut definition = JobDefinition::new("greet the world", "greeting", Schedule::cron("0 9 * * mon-fri"));
    definition.parameters.insert("whom".to_owned(), json!("world"));
    let job = jobs.create(definition.clone()).await?;

    // What is wrong is said all at once, and nothing is stored.
    definition.parameters.clear();
    definition.schedule = Schedule::cron("0 25 * * *");
    if let Err(error) = jobs.create(definition).await {
        println!("refused:");
        for fault in error.faults() {
            println!("  {fault}");
        }
    }

    let mut events = scheduler.events();
    let run = jobs.run(&job.id, RunOptions::default()).await?;
    while let Ok(event) = events.recv().await {
        if let unified_scheduler::Event::ExecutionEnded { execution, .. } = event
            && execution.id == run.id
        {
            println!("{}: {:?}", execution.status, execution.result.map(|r| r.message));
            break;
        }
    }

    for job in jobs.list(&JobQuery::default()).await?.items {
        let explanation = unified_scheduler::explain::explain(&**scheduler.store(), &job).await?;
        println!("`{}` runs {}", job.definition.name, explanation.schedule);
        for reason in explanation.reasons {
            println!("  {}", reason.text);
        }
    }
    jobs.delete(&job.id).await?;
    scheduler.stop_within(Duration::from_secs(1)).await;
    Ok(())
}
