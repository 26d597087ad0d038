//! `serve`: a node that fires what is due, and shows it as it happens.

pub(crate) mod examples;
mod print;
mod signals;

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::sync::mpsc;
use unified_scheduler::{Event, Options, Scheduler};

use crate::app::App;
use crate::exit::{Answer, Failure};
use crate::output::{note, warn};
use crate::registry;
use crate::values::duration;
use print::Printer;
use signals::Signals;

/// How often the printer looks for executions that take long.
const LOOK: Duration = Duration::from_millis(250);

/// How this node behaves; what is given here wins over the config.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The first part of this node's id [default: the machine's name]
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// How many executions run at once, at most [default: 100]
    #[arg(long, short, value_name = "N")]
    concurrency: Option<usize>,
    /// How long this node is believed alive without a heartbeat [default: 15s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    lease: Option<Duration>,
    /// How long running executions may take when the node stops [default: 8s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    stop_grace: Option<Duration>,
    /// Add a handful of example jobs, unless they are there
    #[arg(long)]
    examples: bool,
    /// Show only what goes wrong
    #[arg(long, short)]
    quiet: bool,
}

impl ServeArgs {
    fn options(&self, app: &App) -> Result<Options, Failure> {
        let mut options = app.config.options()?;
        if let Some(name) = &self.node_name {
            options.node_name.clone_from(name);
        }
        options.concurrency = self.concurrency.unwrap_or(options.concurrency);
        options.lease = self.lease.unwrap_or(options.lease);
        options.stop_grace = self.stop_grace.unwrap_or(options.stop_grace);
        options.validate()?;
        Ok(options)
    }
}

pub(crate) async fn run(app: &App, args: ServeArgs) -> Result<Answer, Failure> {
    // From here on, so that a signal during the start drains too.
    let mut signals = Signals::new()?;
    let options = args.options(app)?;
    let grace = options.stop_grace;
    let store = app.store().await?;
    if args.examples {
        examples::add(app).await?;
    }
    if app.is_private() {
        warn("this store lives in the memory of this process, and ends with it");
    }
    let (sender, events) = mpsc::unbounded_channel();
    let builder = Scheduler::over(Arc::clone(store)).options(options).listener(move |event| {
        // Nobody listens any more once the program is about to end.
        let _ = sender.send(event.clone());
    });
    let scheduler = registry::install(builder, &app.config)?.start().await?;
    let mut printer = Printer::new(&app.out, args.quiet);
    printer.started(&store.describe().location)?;
    let answer = attend(&scheduler, &mut printer, &mut signals, events, grace).await;
    if matches!(answer, Err(Failure::BrokenPipe)) {
        // Nobody reads on, as in `serve | head`: that is a wish to end, not a crash.
        scheduler.stop_within(grace).await;
    }
    answer
}

/// Prints until somebody asks to stop, then drains.
async fn attend(
    scheduler: &Scheduler,
    printer: &mut Printer<'_>,
    signals: &mut Signals,
    mut events: mpsc::UnboundedReceiver<Event>,
    grace: Duration,
) -> Result<Answer, Failure> {
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            biased;
            name = signals.next() => {
                let n = scheduler.n_running();
                let running = if n == 0 { String::new() } else { format!(", {n} running may end within {}", crate::output::time::rough(grace)) };
                note(format_args!("{name}: draining{running}; once more to end at once"));
                break;
            }
            Some(event) = events.recv() => printer.show(&event)?,
            _ = look.tick() => printer.look()?,
        }
    }
    let stop = scheduler.stop_within(grace);
    tokio::pin!(stop);
    let stopped = loop {
        tokio::select! {
            biased;
            name = signals.next() => {
                note(format_args!("{name}: ended at once; other nodes will take what was running for lost"));
                scheduler.kill();
                return Ok(Answer::Code(signals.code()));
            }
            Some(event) = events.recv() => printer.show(&event)?,
            _ = look.tick() => printer.look()?,
            () = &mut stop => break Ok(Answer::Yes),
        }
    };
    // What was told until the end: `Stopped` comes last.
    while let Ok(Some(event)) = tokio::time::timeout(Duration::from_millis(500), events.recv()).await {
        printer.show(&event)?;
        if matches!(event, Event::Stopped) {
            break;
        }
    }
    note(format_args!("stopped: {}", printer.summary()));
    stopped
}
