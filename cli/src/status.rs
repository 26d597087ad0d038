//! `status`: how the scheduler and its store are.

use std::time::Duration;

use unified_scheduler::Status;
use unified_scheduler::status::{Activity, of_store};

use crate::app::App;
use crate::exit::{Answer, Failure};
use crate::output::color::Style;
use crate::output::table::Facts;
use crate::output::{clean, time};

pub(crate) async fn run(app: &App) -> Result<Answer, Failure> {
    let report = of_store(&**app.store().await?).await?;
    if app.out.json {
        app.out.value(&report)?;
        return Ok(Answer::Yes);
    }
    let paint = app.out.paint;
    let scheduler = &report.scheduler;
    let activity = match scheduler.status {
        Activity::Active => paint.show(Style::Green, "active"),
        Activity::Degraded => paint.show(Style::Red, "degraded"),
        Activity::Draining => paint.show(Style::Yellow, "draining"),
        Activity::Stopped => paint.show(Style::Yellow, "stopped: no node is running"),
    };
    let mut facts = Facts::new();
    facts.add("scheduler", activity);
    facts.add("store", clean(&scheduler.store));
    facts.add("nodes alive", scheduler.nodes_alive.to_string());
    if scheduler.oldest_due_seconds >= 1.0 {
        let late = Duration::try_from_secs_f64(scheduler.oldest_due_seconds).unwrap_or_default();
        facts.add(
            "waiting",
            paint.show(Style::Yellow, &format!("something is due since {}", time::rough(late))),
        );
    }
    let jobs = &report.jobs;
    let faulty = if jobs.faulty > 0 {
        paint.show(Style::Red, &format!(", {} set aside", jobs.faulty))
    } else {
        String::new()
    };
    facts.add(
        "jobs",
        format!("{} ({} enabled, {} disabled{faulty})", jobs.total, jobs.enabled, jobs.disabled),
    );
    let executions = &report.executions;
    facts.add("executions", format!("{} in the history, {} running", executions.total, executions.running));
    facts.add("success rate", executions.success_rate.as_str());
    let by_status: Vec<String> =
        executions.by_status.iter().filter(|(_, n)| **n > 0).map(|(s, n)| count(app, *s, *n)).collect();
    facts.add("by status", by_status.join(", "));
    facts.add("time zones", format!("IANA {}", scheduler.tzdb));
    facts.add("version", scheduler.version.as_str());
    facts.write(&app.out)?;
    Ok(Answer::Yes)
}

fn count(app: &App, status: Status, n: u64) -> String {
    app.out.paint.show(Style::of(status), &format!("{n} {status}"))
}
