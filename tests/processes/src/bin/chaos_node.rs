//! A node for the tests with many processes: `chaos_node URL NAME FOLDER SKEW_MILLIS`.
//!
//! It runs jobs named `work`, each for as long as its parameters say, and notes each start in a file of
//! its own, and what happens to the node in another. It drains at SIGTERM, and ends at once when its
//! input does.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::signal::unix::{SignalKind, signal};
use unified_scheduler::{Context, Event, Handler, HandlerError, Outcome, Scheduler, Store, connect};
use unified_scheduler_processes::arena::{HANDLER, options};
use unified_scheduler_processes::effect_log::{self, EffectLog};
use unified_scheduler_processes::node::EVENTS;
use unified_scheduler_processes::skew::SkewedClock;

type Failure = Box<dyn std::error::Error + Send + Sync>;

struct Work(EffectLog);

#[async_trait]
impl Handler for Work {
    async fn run(&self, ctx: Context) -> Result<Outcome, HandlerError> {
        self.0.started(&ctx).map_err(|e| HandlerError::new(e.to_string()))?;
        let millis = ctx.parameters().get("millis").and_then(serde_json::Value::as_u64).unwrap_or(1000);
        // It does not listen when it is asked to stop: what has lost its node ends all the same, late,
        // and must change nothing.
        ctx.sleep(Duration::from_millis(millis)).await;
        Ok(().into())
    }
}

struct Arguments {
    url: String,
    name: String,
    folder: PathBuf,
    skew_millis: i64,
}

fn arguments() -> Option<Arguments> {
    let mut args = std::env::args().skip(1);
    Some(Arguments {
        url: args.next()?,
        name: args.next()?,
        folder: args.next()?.into(),
        skew_millis: args.next()?.parse().ok()?,
    })
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stderr).init();
    let Some(arguments) = arguments() else { return ExitCode::from(2) };
    std::thread::spawn(|| {
        // Nobody writes: this returns when whoever started us is gone.
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(3);
    });
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let mut end = signal(SignalKind::terminate())?;
    let file = |extension: &str| arguments.folder.join(format!("{}.{extension}", arguments.name));
    let effects = EffectLog::open(&file(effect_log::EXTENSION))?;
    let mut builder = Scheduler::over(patiently(&arguments.url).await?)
        .options(options(&arguments.name))
        .handler(HANDLER, Work(effects))
        .listener(write_down(&file(EVENTS))?);
    if arguments.skew_millis != 0 {
        builder = builder.clock(SkewedClock::ahead_by(arguments.skew_millis));
    }
    let scheduler = builder.start().await?;
    end.recv().await;
    scheduler.stop().await;
    Ok(())
}

/// Connects, and tries again while the store can't be reached: a node may be started in an outage.
async fn patiently(url: &str) -> Result<Arc<dyn Store>, Failure> {
    loop {
        match connect(url).await {
            Err(error) if error.is_retryable() => tokio::time::sleep(Duration::from_millis(200)).await,
            done => return Ok(done?),
        }
    }
}

/// A listener that writes down what happens to the node itself.
fn write_down(path: &Path) -> std::io::Result<impl Fn(&Event) + Send + Sync + 'static> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    Ok(move |event: &Event| {
        let about_node = matches!(
            event,
            Event::NodeJoined { .. }
                | Event::LeaseLost { .. }
                | Event::NodeDied { .. }
                | Event::ExecutionRefused { .. }
                | Event::Degraded { .. }
                | Event::Recovered
                | Event::JobSetAside { .. }
                | Event::Stopped
        );
        if about_node && let Ok(line) = serde_json::to_string(event) {
            // The test finds that a line is missing.
            let _ = (&file).write_all(format!("{line}\n").as_bytes());
        }
    })
}
