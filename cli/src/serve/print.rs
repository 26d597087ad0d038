//! What `serve` shows: one line for each thing that happens, or one JSON event a line.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use unified_scheduler::execution::StatusClass;
use unified_scheduler::{Event, Execution, ExecutionId, Status, Timestamp};

use crate::executions::outcome;
use crate::exit::Failure;
use crate::output::color::Style;
use crate::output::{Out, clean, count, cut, time};

/// An execution that takes longer gets a line before it has ended.
const LONG: Duration = Duration::from_secs(1);

/// Shows events.
pub(crate) struct Printer<'a> {
    out: &'a Out,
    quiet: bool,
    /// Started and without a line so far.
    fresh: HashMap<ExecutionId, (Instant, Execution)>,
    /// As wide as the widest name so far, within reason, so that columns rarely move.
    width: usize,
    well: u64,
    badly: u64,
}

impl<'a> Printer<'a> {
    pub(crate) fn new(out: &'a Out, quiet: bool) -> Self {
        Self { out, quiet, fresh: HashMap::new(), width: 16, well: 0, badly: 0 }
    }

    /// The first lines.
    pub(crate) fn started(&self, location: &str) -> Result<(), Failure> {
        if self.out.json || self.quiet {
            return Ok(());
        }
        let version = env!("CARGO_PKG_VERSION");
        self.out.line(format_args!(
            "unified-scheduler {version} on {}; Ctrl-C drains and stops",
            clean(location)
        ))?;
        let title = format!(
            "{:<12}  {:<10}  {:<width$}  {:>7}  {:>7}  {:<13}  {}",
            "TIME",
            "STATUS",
            "JOB",
            "TOOK",
            "LATE",
            "NEXT",
            "RESULT",
            width = self.width
        );
        self.out.line(self.out.paint.show(Style::Bold, title.trim_end()))?;
        self.out.flush()
    }

    /// How many executions ended, and how.
    pub(crate) fn summary(&self) -> String {
        format!("{} went well, {} did not", count(self.well, "execution"), self.badly)
    }

    /// Shows one event.
    pub(crate) fn show(&mut self, event: &Event) -> Result<(), Failure> {
        if let Event::ExecutionEnded { execution, .. } = event {
            match execution.status.class() {
                StatusClass::Bad => self.badly += 1,
                _ => self.well += 1,
            }
        }
        if self.out.json {
            let mut value = json!(event);
            if let Value::Object(map) = &mut value {
                map.insert("at".to_owned(), json!(now()));
            }
            self.out.line(&value)?;
        } else {
            self.show_to_people(event)?;
        }
        self.out.flush()
    }

    fn show_to_people(&mut self, event: &Event) -> Result<(), Failure> {
        match event {
            Event::ExecutionStarted { execution } => {
                if !self.quiet {
                    self.fresh.insert(execution.id, (Instant::now(), (**execution).clone()));
                }
                Ok(())
            }
            Event::ExecutionEnded { execution, retry_at, .. } => {
                self.fresh.remove(&execution.id);
                if self.quiet && execution.status.class() != StatusClass::Bad {
                    return Ok(());
                }
                self.execution(execution, *retry_at)
            }
            Event::OccurrenceRecorded { execution } if self.quiet && execution.status == Status::Skipped => {
                Ok(())
            }
            Event::OccurrenceRecorded { execution } => self.execution(execution, None),
            Event::ExecutionRefused { execution } => {
                self.fresh.remove(&execution.id);
                let name = clean(&execution.job_name);
                self.remark(
                    Style::Red,
                    &format!("{name} ended too late: another node had taken it over by then"),
                )
            }
            Event::NodeJoined { node_id, epoch } => {
                self.remark(Style::Dim, &format!("node {node_id} has joined (epoch {})", epoch.0))
            }
            Event::LeaseLost { node_id } => {
                self.remark(Style::Red, &format!("node {node_id} was taken for dead; it joins again"))
            }
            Event::NodeDied { node_id } => {
                self.remark(Style::Yellow, &format!("node {node_id} is gone; what it ran is taken for lost"))
            }
            Event::JobEnded { job_id, reason } => {
                self.remark(Style::Dim, &format!("job {job_id} will not fire again ({})", reason.as_str()))
            }
            Event::JobSetAside { job_id, reason } => {
                self.remark(Style::Red, &format!("job {job_id} was set aside: {}", clean(reason)))
            }
            Event::JobPaused { job_id } => self
                .remark(Style::Red, &format!("job {job_id} was disabled after too many failures in a row")),
            Event::Degraded { reason } => self
                .remark(Style::Red, &format!("the store can't be reached: {}; trying again", clean(reason))),
            Event::Recovered => self.remark(Style::Green, "the store can be reached again"),
            // Others are for programs.
            _ => Ok(()),
        }
    }

    /// Gives a line to what has been running for some time.
    pub(crate) fn look(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        let long: Vec<ExecutionId> = self
            .fresh
            .iter()
            .filter(|(_, (since, _))| now.duration_since(*since) >= LONG)
            .map(|(id, _)| *id)
            .collect();
        if long.is_empty() {
            return Ok(());
        }
        for id in long {
            if let Some((_, execution)) = self.fresh.remove(&id) {
                self.execution(&execution, None)?;
            }
        }
        self.out.flush()
    }

    fn execution(&mut self, execution: &Execution, retry_at: Option<Timestamp>) -> Result<(), Failure> {
        let name = cut(&clean(&execution.job_name), 40);
        self.width = self.width.max(name.chars().count());
        let at = execution.ended_at.or(execution.started_at).unwrap_or(execution.created_at);
        let took = execution.duration.map(time::rough).unwrap_or_default();
        let late = match execution.started_at {
            Some(started) if execution.attempt == 1 => time::rough(started.since(execution.due_at)),
            _ => String::new(),
        };
        let next = match (retry_at, execution.next_due_at) {
            (Some(t), _) => format!("retry {}", time::relative(t, at)),
            // What is due by now, as after an outage, comes next.
            (None, Some(t)) if execution.attempt == 1 && t <= at => "now".to_owned(),
            (None, Some(t)) if execution.attempt == 1 => time::relative(t, at),
            _ => String::new(),
        };
        let paint = self.out.paint;
        let attempt =
            if execution.attempt > 1 { format!("(attempt {}) ", execution.attempt) } else { String::new() };
        let line = format!(
            "{}  {}  {name:<width$}  {took:>7}  {late:>7}  {next:<13}  {attempt}{}",
            paint.show(Style::Dim, &time::clock(at)),
            paint.show(Style::of(execution.status), &format!("{:<10}", execution.status)),
            cut(&clean(&outcome(execution)), 80),
            width = self.width,
        );
        self.out.line(line.trim_end())
    }

    fn remark(&self, style: Style, text: &str) -> Result<(), Failure> {
        if self.quiet && matches!(style, Style::Dim) {
            return Ok(());
        }
        let at = self.out.paint.show(Style::Dim, &time::clock(now()));
        self.out.line(format_args!("{at}  {}", self.out.paint.show(style, text)))
    }
}

/// The clock of this machine: when something was shown, which decides nothing.
fn now() -> Timestamp {
    chrono::Utc::now().into()
}
