//! Three jobs in one program, over one SQLite file: an interval, a cron expression, and one that fails at
//! first and is retried. Run: `cargo run --example first_job`. Ctrl-C drains.
//!
//! Start it twice at the same time: each occurrence still fires once.

use std::time::Duration;

use unified_scheduler::{Context, Event, HandlerError, Result, Retry, Scheduler, connect, cron, every};

#[tokio::main]
async fn main() -> Result<()> {
    let store = connect("sqlite://first-job.db").await?;
    let scheduler = Scheduler::over(store)
        .job(every("heartbeat", Duration::from_secs(2)).run(|ctx: Context| async move {
            ctx.info("still here");
        }))
        .job(
            cron("minutely", "* * * * *")
                .timezone("Europe/Berlin")
                .run(|_: Context| async { "a new minute" }),
        )
        .job(every("flaky", Duration::from_secs(10)).retry(Retry::times(3, Duration::from_secs(1))).run(
            |ctx: Context| async move {
                if ctx.attempt() < 3 {
                    return Err(HandlerError::new("not yet"));
                }
                Ok(format!("well at attempt {}", ctx.attempt()))
            },
        ))
        .listener(show)
        .start()
        .await?;
    // An error means that there is no Ctrl-C to wait for.
    let _ = tokio::signal::ctrl_c().await;
    scheduler.stop().await;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "an example for a terminal")]
fn show(event: &Event) {
    match event {
        Event::ExecutionStarted { execution } => {
            println!("{} starts, due {}", execution.job_name, execution.due_at);
        }
        Event::ExecutionEnded { execution, retry_at, .. } => {
            let again = retry_at.map(|t| format!(", again at {t}")).unwrap_or_default();
            println!("{} ends: {}{again}", execution.job_name, execution.status);
        }
        _ => {}
    }
}
