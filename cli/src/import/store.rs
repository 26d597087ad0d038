//! Storing what was found in a file and is right.

use serde_json::json;
use unified_scheduler::{Job, JobDefinition, Jobs, NewJob, Timestamp};

use super::check::Action;
use super::{Candidate, Found};
use crate::app::App;
use crate::exit::{Answer, Failure};
use crate::output::color::Style;
use crate::output::progress::Progress;
use crate::output::table::{Cell, Table};
use crate::output::{clean, note, time, warn};

/// More warnings than these are only counted.
const SHOWN: usize = 20;

/// What became, or would become, of one entry.
struct Done {
    line: usize,
    action: &'static str,
    job: Job,
}

pub(super) async fn apply(
    app: &App,
    found: Found,
    actions: Vec<Action>,
    dry_run: bool,
) -> Result<Answer, Failure> {
    let now = app.now().await?;
    let warnings = found.warnings;
    let (mut new, mut changed, mut done) = (Vec::new(), Vec::new(), Vec::new());
    for (Candidate { line, new: candidate }, action) in found.candidates.into_iter().zip(actions) {
        match action {
            Action::Create => new.push((line, candidate)),
            Action::Skip(job) => done.push(Done { line, action: "skipped", job: *job }),
            Action::Replace(job) => changed.push((line, candidate, job)),
        }
    }
    // What is in the file was checked by then.
    let jobs = app.jobs(None).await?;
    let (lines, new): (Vec<usize>, Vec<NewJob>) = new.into_iter().unzip();
    let made = if dry_run {
        new.into_iter().map(|new| planned(new, now)).collect()
    } else if new.is_empty() {
        Vec::new()
    } else {
        jobs.create_all(new).await?
    };
    done.extend(lines.into_iter().zip(made).map(|(line, job)| Done { line, action: "created", job }));
    let mut progress = Progress::new("replacing jobs");
    for (line, candidate, stored) in changed {
        progress.done(done.len() as u64);
        let job = if dry_run { planned(candidate, now) } else { replace(&jobs, &stored, candidate).await? };
        done.push(Done { line, action: "replaced", job });
    }
    drop(progress);
    done.sort_by_key(|done| done.line);
    tell(app, &done, &warnings, dry_run, now)?;
    Ok(Answer::Yes)
}

/// The job as it would be made.
fn planned(new: NewJob, now: Timestamp) -> Job {
    let id = new.id.unwrap_or_else(|| "new".into());
    let mut job = Job::new(id, new.definition, now);
    job.enabled = new.enabled;
    if let (Some(due_at), Ok(schedule)) = (new.first_due, job.definition.compiled()) {
        job.due = Some(unified_scheduler::job::due_with_jitter(schedule, due_at));
    }
    job
}

async fn replace(jobs: &Jobs, stored: &Job, new: NewJob) -> Result<Job, Failure> {
    let definition = JobDefinition { origin: stored.definition.origin, ..new.definition };
    let job = jobs.edit(&stored.id, |job| *job = definition.clone()).await?;
    Ok(match (job.enabled, new.enabled) {
        (false, true) => jobs.enable(&job.id).await?,
        (true, false) => jobs.disable(&job.id).await?,
        _ => job,
    })
}

fn tell(
    app: &App,
    done: &[Done],
    warnings: &[(usize, String)],
    dry_run: bool,
    now: Timestamp,
) -> Result<(), Failure> {
    let count = |action: &str| done.iter().filter(|done| done.action == action).count();
    let (created, replaced, skipped) = (count("created"), count("replaced"), count("skipped"));
    if app.out.json {
        let jobs: Vec<_> = done
            .iter()
            .map(|d| {
                let id = (!dry_run || d.action != "created").then_some(&d.job.id);
                json!({"line": d.line, "action": d.action, "id": id, "name": d.job.definition.name})
            })
            .collect();
        let warnings: Vec<_> =
            warnings.iter().map(|(line, text)| json!({"line": line, "message": text})).collect();
        return app.out.value(&json!({"dry_run": dry_run, "created": created, "replaced": replaced,
            "skipped": skipped, "jobs": jobs, "warnings": warnings}));
    }
    for (line, text) in warnings.iter().take(SHOWN) {
        warn(format_args!("line {line}: {text}"));
    }
    if warnings.len() > SHOWN {
        note(format_args!("… and {} more warnings; --json has them all", warnings.len() - SHOWN));
    }
    if dry_run {
        plan(app, done, now)?;
    }
    let would = if dry_run { "would be " } else { "" };
    let counts = [(created, "created"), (replaced, "replaced"), (skipped, "skipped")];
    let text: Vec<String> = counts
        .iter()
        .filter(|(n, word)| *n > 0 || *word == "created")
        .map(|(n, word)| format!("{n} {would}{word}"))
        .collect();
    app.out.line(text.join(", "))
}

fn plan(app: &App, done: &[Done], now: Timestamp) -> Result<(), Failure> {
    let mut table = Table::new(&["line", "action", "name", "schedule", "next", "template"]);
    for Done { line, action, job } in done {
        let next = match job.due {
            _ if !job.enabled => "disabled".to_owned(),
            Some(due) => time::both(due.due_at, now),
            None => String::new(),
        };
        let schedule = job.definition.compiled().map(|s| clean(&s.describe())).unwrap_or_default();
        table.row(vec![
            Cell::new(line.to_string()).right(),
            Cell::new(action),
            Cell::new(&job.definition.name),
            Cell::new(schedule),
            Cell::new(next),
            Cell::new(&job.definition.handler).style(Style::Dim),
        ]);
    }
    if table.is_empty() { Ok(()) } else { table.write(&app.out) }
}
