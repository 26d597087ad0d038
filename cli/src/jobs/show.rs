//! `jobs show`.

use unified_scheduler::policy::ChainOn;
use unified_scheduler::store::ExecutionQuery;
use unified_scheduler::{Backoff, Job, Keep, Misfire, Overlap, Timestamp, document};

use crate::app::App;
use crate::exit::{Answer, Failure};
use crate::output::color::Style;
use crate::output::table::Facts;
use crate::output::{clean, count, time};

pub(crate) async fn show(app: &App, job: &str) -> Result<Answer, Failure> {
    let job = app.jobs(None).await?.find(job).await?;
    if app.out.json {
        app.out.value(&document::write(&job))?;
        return Ok(Answer::Yes);
    }
    let now = app.now().await?;
    facts(app, &job, now).write(&app.out)?;
    let query = ExecutionQuery { job_id: Some(job.id.clone()), limit: 5, ..ExecutionQuery::default() };
    let last = app.store().await?.list_executions(&query).await?.items;
    if !last.is_empty() {
        app.out.line("")?;
        crate::executions::table(&last, now, false).write(&app.out)?;
    }
    Ok(Answer::Yes)
}

fn facts(app: &App, job: &Job, now: Timestamp) -> Facts {
    let d = &job.definition;
    let mut facts = Facts::new();
    facts.add("name", app.out.paint.show(Style::Bold, &clean(&d.name)));
    facts.add("id", job.id.as_str());
    facts.add("description", clean(&d.description));
    facts.add("runs", format!("{} ({})", clean(&d.handler), d.origin.as_str()));
    facts.add("schedule", clean(&super::list::schedule(job)));
    facts.add("state", state(app, job));
    facts.add("next", job.due.map(|due| time::exact(due.due_at, now)).unwrap_or_default());
    facts.add("skips next", if job.skip_next > 0 { job.skip_next.to_string() } else { String::new() });
    let last = job.last_run_at.map(|t| {
        let status = job.last_status.map_or("", |status| status.as_str());
        format!("{} {status}", time::exact(t, now))
    });
    facts.add("last run", last.unwrap_or_default());
    let fired = job.definition.schedule.limit.map_or(String::new(), |limit| format!(" of {limit}"));
    facts.add("has fired", format!("{}{fired}", job.n_fired));
    if !d.parameters.is_empty() {
        let text = serde_json::to_string_pretty(&d.parameters).unwrap_or_default();
        facts.add("parameters", text.lines().map(clean).collect::<Vec<_>>().join("\n"));
    }
    policies(job, &mut facts);
    facts.add("tags", clean(&d.tags.join(", ")));
    let by = job.created_by.as_deref().map_or(String::new(), |user| format!(" by {}", clean(user)));
    facts.add("made", format!("{}{by}", time::exact(job.created_at, now)));
    facts.add("changed", format!("{}, version {}", time::exact(job.updated_at, now), job.version));
    facts
}

fn state(app: &App, job: &Job) -> String {
    let paint = app.out.paint;
    if let Some(fault) = &job.fault {
        return paint.show(Style::Red, &format!("set aside: {}", clean(fault)));
    }
    let mut text =
        if job.enabled { paint.show(Style::Green, "enabled") } else { paint.show(Style::Yellow, "disabled") };
    if let Some(ended) = job.ended {
        text = format!("{text}, ended ({})", ended.as_str());
    }
    if job.failures_in_row > 0 {
        text = format!("{text}, {} in a row", count(job.failures_in_row, "failure"));
    }
    text
}

fn policies(job: &Job, facts: &mut Facts) {
    let d = &job.definition;
    facts.add("timeout", time::rough(d.timeout));
    let retry = &d.retry;
    if retry.max_retries == 0 {
        facts.add("retries", "never");
    } else {
        let growth = if retry.backoff == Backoff::Exponential {
            format!(", doubling up to {}", time::rough(retry.max_delay))
        } else {
            String::new()
        };
        let chosen = if retry.explicit { "" } else { " (only for templates that are safe to repeat)" };
        let delay = time::rough(retry.delay);
        facts.add("retries", format!("{}, {delay} apart{growth}{chosen}", retry.max_retries));
    }
    facts.add(
        "overlap",
        match d.overlap {
            Overlap::Skip => "skip".to_owned(),
            Overlap::QueueOne => "queue one".to_owned(),
            Overlap::CancelRunning => "cancel the running one".to_owned(),
            Overlap::Allow { max } => format!("allow {max} at once"),
        },
    );
    facts.add(
        "misfire",
        match d.misfire {
            Misfire::RunOnce => "run once".to_owned(),
            Misfire::Skip { grace } => format!("skip when later than {}", time::rough(grace)),
            Misfire::RunAll { limit } => format!("run all, at most {limit}"),
        },
    );
    if d.priority != 0 {
        facts.add("priority", d.priority.to_string());
    }
    if let Some(n) = d.pause_after_failures {
        facts.add("pauses after", format!("{n} failures in a row"));
    }
    let history = &d.history;
    let mut kept = match history.keep {
        Keep::All => Vec::new(),
        Keep::Failures => vec!["failures only".to_owned()],
        Keep::None => vec!["nothing".to_owned()],
    };
    kept.extend(history.max_age.map(|age| format!("for {}", time::rough(age))));
    kept.extend(history.max_count.map(|n| format!("the last {n}")));
    facts.add("history", kept.join(", "));
    let chains: Vec<String> = d
        .chains
        .iter()
        .map(|chain| {
            let on = match chain.on {
                ChainOn::Success => "success",
                ChainOn::Failure => "failure",
                ChainOn::Any => "any end",
            };
            format!("on {on}: {}", clean(chain.job.as_str()))
        })
        .collect();
    facts.add("then", chains.join("\n"));
}
