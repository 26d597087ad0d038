//! The templates as the engine runs them.

#![cfg(all(feature = "command", feature = "webhook", unix))]

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use unified_scheduler_core::job::JobDefinition;
use unified_scheduler_core::store::MemoryStore;
use unified_scheduler_core::{
    Error, Event, Execution, ExecutionId, Jobs, RunOptions, Schedule, Scheduler, Status,
};
use unified_scheduler_templates::command::{CommandOptions, CommandTemplate};
use unified_scheduler_templates::webhook::{WebhookOptions, WebhookTrigger};

async fn scheduler() -> Scheduler {
    let mut options = CommandOptions::default();
    options.allow_shell = true;
    Scheduler::builder(MemoryStore::new())
        .template(CommandTemplate::new(options))
        .template(WebhookTrigger::new(WebhookOptions::default()))
        .start()
        .await
        .expect("a scheduler starts over an empty store")
}

fn job(template: &str, parameters: &Value) -> JobDefinition {
    let mut job = JobDefinition::new("it", template, Schedule::manual());
    job.parameters.clone_from(parameters.as_object().expect("parameters are an object"));
    job
}

async fn start(jobs: &Jobs, definition: JobDefinition) -> ExecutionId {
    let job = jobs.create(definition).await.expect("the job is fine");
    jobs.run(&job.id, RunOptions::default()).await.expect("the job is there").id
}

async fn run(definition: JobDefinition) -> (Scheduler, Execution) {
    let scheduler = scheduler().await;
    let mut events = scheduler.events();
    let id = start(&scheduler.jobs(), definition).await;
    loop {
        if let Event::ExecutionEnded { execution, .. } = events.recv().await.expect("the scheduler runs")
            && execution.id == id
        {
            return (scheduler, *execution);
        }
    }
}

async fn lines(scheduler: &Scheduler, id: &ExecutionId) -> Vec<String> {
    scheduler.logs(id).await.expect("the store answers").into_iter().map(|line| line.message).collect()
}

#[tokio::test]
async fn a_command_is_told_which_execution_it_is() {
    let shell = "echo $UNIFIED_SCHEDULER_JOB_ID $UNIFIED_SCHEDULER_EXECUTION_ID $UNIFIED_SCHEDULER_ATTEMPT; \
                 echo $UNIFIED_SCHEDULER_DUE_AT; echo $UNIFIED_SCHEDULER_IDEMPOTENCY_KEY";
    let (scheduler, execution) = run(job("command", &json!({"shell": shell}))).await;
    assert_eq!(execution.status, Status::Success, "{execution:?}");
    assert_eq!(
        lines(&scheduler, &execution.id).await,
        [
            format!("{} {} 1", execution.job_id, execution.id),
            execution.due_at.to_string(),
            execution.idempotency_key(),
        ]
    );
    scheduler.stop().await;
}

#[tokio::test]
async fn a_command_that_runs_out_of_time_is_recorded_so_and_leaves_nothing_running() {
    let mut definition = job("command", &json!({"shell": "sleep 1000 & echo $!; wait"}));
    definition.timeout = Duration::from_millis(500);
    let (scheduler, execution) = run(definition).await;
    assert_eq!(execution.status, Status::Timeout, "{execution:?}");
    let pid = lines(&scheduler, &execution.id).await.remove(0);
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
    scheduler.stop().await;
}

#[tokio::test]
async fn a_webhook_carries_the_key_of_its_occurrence() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            assert!(stream.read_buf(&mut request).await.unwrap() > 0);
        }
        stream.write_all(b"HTTP/1.1 204 Done\r\nconnection: close\r\n\r\n").await.unwrap();
        String::from_utf8(request).unwrap()
    });
    // A form sends numbers as text; what is stored are numbers.
    let (scheduler, execution) =
        run(job("webhook_trigger", &json!({"url": url, "expected_status": ["204"]}))).await;
    assert_eq!(execution.status, Status::Success, "{execution:?}");
    let stored = scheduler.jobs().get(&execution.job_id).await.unwrap();
    assert_eq!(stored.definition.parameters["expected_status"], json!([204]));
    let request = server.await.unwrap();
    let key = format!("idempotency-key: {}\r\n", execution.idempotency_key());
    assert!(request.contains(&key), "{request}");
    scheduler.stop().await;
}

#[tokio::test]
async fn what_the_schema_and_the_template_refuse_is_not_stored() {
    let scheduler = scheduler().await;
    for (template, parameters, field) in [
        ("webhook_trigger", json!({"url": "http://169.254.169.254/"}), "parameters.url"),
        ("webhook_trigger", json!({"url": "ftp://example.org"}), "parameters.url"),
        ("webhook_trigger", json!({"url": "http://x", "max_retries": 6}), "parameters.max_retries"),
        ("command", json!({"program": "true", "user": "root"}), "parameters.user"),
        (
            "command",
            json!({"program": "true", "success_exit_codes": [256]}),
            "parameters.success_exit_codes.0",
        ),
        ("command", json!({}), "parameters.program"),
    ] {
        let error: Error = scheduler.jobs().create(job(template, &parameters)).await.unwrap_err();
        let fields: Vec<&str> = error.faults().iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, [field], "{parameters}");
    }
    scheduler.stop().await;
}
