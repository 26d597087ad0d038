//! Why a job did or did not run, and when it will next.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::execution::{Execution, Status};
use crate::job::{Due, EndReason, Job};
use crate::schedule::{Calendars, Preview, preview};
use crate::store::{ExecutionQuery, Node, Store};
use crate::time::Timestamp;

/// What is known of why a job is as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// Whether anything keeps it from running at its next due time.
    pub will_run: bool,
    /// What matters, the most telling first.
    pub reasons: Vec<Reason>,
    /// Its schedule in words.
    pub schedule: String,
    /// The next occurrence, and the ones after it.
    pub next: Vec<Preview>,
    /// Its last executions, the newest first.
    pub last: Vec<Execution>,
}

/// One thing that matters for whether a job runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// For programs: `disabled`, `no_handler`, `overlap`, …
    pub code: String,
    /// For people, with a way to change it.
    pub text: String,
    /// Whether it keeps the job from running.
    pub blocks: bool,
}

impl Reason {
    fn blocks(code: &str, text: impl Into<String>) -> Self {
        Self { code: code.to_owned(), text: text.into(), blocks: true }
    }

    fn note(code: &str, text: impl Into<String>) -> Self {
        Self { code: code.to_owned(), text: text.into(), blocks: false }
    }
}

/// Explains one job.
///
/// # Errors
///
/// The store's own.
pub async fn explain(store: &dyn Store, job: &Job) -> Result<Explanation> {
    let now = store.now().await?;
    let nodes = store.list_nodes().await?;
    let open = open_executions(store, job).await?;
    let query = ExecutionQuery { job_id: Some(job.id.clone()), limit: 5, ..ExecutionQuery::default() };
    let last = store.list_executions(&query).await?.items;
    let calendars = calendars(store).await?;

    let mut reasons = job_reasons(job, now);
    reasons.extend(node_reasons(job, &nodes, now));
    reasons.extend(open_reasons(job, &open, now));
    let next = upcoming(job, now, 5, &calendars);
    if let Some(first) = next.first()
        && let Some(why) = &first.excluded
    {
        reasons.push(Reason::note("excluded", format!("the next occurrence will be skipped: {why}")));
    }
    if let Some(skipped) = last.first().filter(|e| e.status == Status::Skipped) {
        let why = skipped.reason.as_deref().unwrap_or("unknown");
        let more = skipped.result.as_ref().map_or("", |r| r.message.as_str());
        let text = format!("the last occurrence, {}, was skipped: {why} {more}", skipped.due_at);
        reasons.push(Reason::note("last_skipped", text.trim_end()));
    }
    let will_run = !reasons.iter().any(|r| r.blocks);
    if reasons.is_empty() {
        reasons.push(Reason::note("on_time", "nothing keeps it from running at its next due time"));
    }
    let schedule = job.definition.compiled().map_or_else(
        |faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        crate::schedule::CompiledSchedule::describe,
    );
    Ok(Explanation { will_run, reasons, schedule, next, last })
}

/// The next `n` occurrences of a job, from its stored due time on.
pub fn upcoming(job: &Job, now: Timestamp, n: usize, calendars: &Calendars) -> Vec<Preview> {
    match (job.definition.compiled(), job.due) {
        (Ok(schedule), Some(Due { due_at, .. })) => preview(schedule, due_at, n, calendars),
        (Ok(schedule), None) if job.ended.is_none() => preview(schedule, now, n, calendars),
        _ => Vec::new(),
    }
}

/// Every shared calendar, ready to be asked; one that can't be read excludes nothing.
///
/// # Errors
///
/// The store's own.
pub async fn calendars(store: &dyn Store) -> Result<Calendars> {
    let mut calendars = Calendars::new();
    for calendar in store.list_calendars().await? {
        if let Err(faults) = calendars.insert(&calendar) {
            tracing::error!(calendar = %calendar.name, ?faults, "a calendar can't be read");
        }
    }
    Ok(calendars)
}

async fn open_executions(store: &dyn Store, job: &Job) -> Result<Vec<Execution>> {
    let query = ExecutionQuery {
        job_id: Some(job.id.clone()),
        statuses: vec![Status::Pending, Status::Running],
        limit: 20,
        ..ExecutionQuery::default()
    };
    Ok(store.list_executions(&query).await?.items)
}

fn job_reasons(job: &Job, now: Timestamp) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if let Some(fault) = &job.fault {
        let text = format!("it was set aside: {fault}; edit it, or enable it again");
        reasons.push(Reason::blocks("set_aside", text));
    }
    if !job.enabled {
        reasons.push(Reason::blocks("disabled", "it is disabled; enable it to let its schedule count"));
    }
    match job.ended {
        Some(EndReason::Exhausted) => {
            reasons.push(Reason::blocks("ended", "its schedule holds no later time; edit the schedule"));
        }
        Some(EndReason::Limit) => {
            let text = format!("it has run {} times, which is its limit; edit the schedule", job.n_fired);
            reasons.push(Reason::blocks("limit", text));
        }
        None => {}
    }
    match job.due {
        Some(due) if due.fire_at > now => {
            let text =
                format!("it is not due before {} (in {} s)", due.fire_at, due.fire_at.since(now).as_secs());
            reasons.push(Reason::note("not_due", text));
        }
        Some(due) => {
            let text = format!("it has been due since {} and is not claimed yet", due.fire_at);
            reasons.push(Reason::note("due", text));
        }
        None if job.ended.is_none()
            && job.definition.compiled().is_ok_and(crate::schedule::CompiledSchedule::is_manual) =>
        {
            reasons.push(Reason::note("manual", "it has no schedule: it runs when triggered or chained"));
        }
        None => {}
    }
    if job.skip_next > 0 {
        let text = format!("its next {} occurrences will be skipped, as asked", job.skip_next);
        reasons.push(Reason::note("skip_next", text));
    }
    reasons
}

fn node_reasons(job: &Job, nodes: &[Node], now: Timestamp) -> Vec<Reason> {
    let alive: Vec<&Node> = nodes.iter().filter(|n| !n.dead && n.lease_until >= now).collect();
    let handler = &job.definition.handler;
    let able: Vec<&&Node> = alive.iter().filter(|n| n.info.handlers.contains(handler)).collect();
    if alive.is_empty() {
        return vec![Reason::blocks(
            "no_node",
            "no node is running; start one with `serve` or in your application",
        )];
    }
    if able.is_empty() {
        let known: Vec<&str> =
            alive.iter().flat_map(|n| n.info.handlers.iter().map(String::as_str)).take(20).collect();
        let text = format!("no running node has its handler `{handler}`; they have {}", known.join(", "));
        return vec![Reason::blocks("no_handler", text)];
    }
    if able.iter().all(|n| n.info.draining) {
        return vec![Reason::blocks("draining", "every node that has its handler is stopping")];
    }
    if able.iter().all(|n| n.info.running >= n.info.concurrency) {
        let text = "every node that has its handler runs as much as it may; raise their concurrency";
        return vec![Reason::note("busy", text)];
    }
    Vec::new()
}

fn open_reasons(job: &Job, open: &[Execution], now: Timestamp) -> Vec<Reason> {
    let running: Vec<&Execution> = open.iter().filter(|e| e.status == Status::Running).collect();
    let mut reasons = Vec::new();
    if running.len() >= job.definition.overlap.max_running() as usize
        && let Some(first) = running.last()
    {
        let since = first.started_at.unwrap_or(first.created_at);
        let node = first.node_id.as_ref().map_or("?", |n| n.as_str());
        let text =
            format!("it runs since {since} on {node} (execution {}): its overlap policy decides", first.id);
        reasons.push(Reason::note("overlap", text));
    }
    for pending in open.iter().filter(|e| e.status == Status::Pending) {
        let when =
            if pending.run_at > now { format!("not before {}", pending.run_at) } else { "now".to_owned() };
        let text = format!("execution {} (attempt {}) waits to run {when}", pending.id, pending.attempt);
        reasons.push(Reason::note("pending", text));
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, MINUTE, at, definition};
    use crate::schedule::Schedule;

    async fn explained(fixture: &Fixture, id: &crate::JobId) -> Explanation {
        explain(&*fixture.store, &fixture.job(id).await).await.unwrap()
    }

    fn codes(explanation: &Explanation) -> Vec<&str> {
        explanation.reasons.iter().map(|reason| reason.code.as_str()).collect()
    }

    #[tokio::test]
    async fn a_job_that_is_well_is_told_when_it_runs_next() {
        let fixture = Fixture::new().await;
        let id = fixture.jobs.create(definition("job", Schedule::every(MINUTE))).await.unwrap().id;
        assert_eq!(codes(&explained(&fixture, &id).await), ["due"]);
        fixture.run_through(0..=7).await;
        let well = explained(&fixture, &id).await;
        assert_eq!((codes(&well), well.will_run), (vec!["not_due"], true));
        assert_eq!((well.next[0].due, well.next.len(), well.last.len()), (at(8), 5, 5));
        assert_eq!(well.schedule, "every minute");
    }

    #[tokio::test]
    async fn whatever_keeps_a_job_from_running_is_told() {
        let mut fixture = Fixture::new().await;
        let id = fixture.jobs.create(definition("job", Schedule::every(MINUTE).limit(3))).await.unwrap().id;
        let batch = fixture.claim().await;
        assert_eq!(codes(&explained(&fixture, &id).await), ["not_due", "overlap"]);
        fixture.go_to(1);
        fixture.claim().await;
        assert_eq!(codes(&explained(&fixture, &id).await), ["not_due", "overlap", "last_skipped"]);
        fixture.end(&batch, Status::Success).await;
        fixture.jobs.skip_next(&id, 1).await.unwrap();
        fixture.clock.advance(MINUTE / 2);
        fixture.jobs.run(&id, crate::RunOptions::default()).await.unwrap();
        let waiting = explained(&fixture, &id).await;
        assert_eq!((codes(&waiting), waiting.will_run), (vec!["not_due", "skip_next", "pending"], true));
        fixture.jobs.disable(&id).await.unwrap();
        let disabled = explained(&fixture, &id).await;
        assert_eq!((codes(&disabled)[0], disabled.will_run), ("disabled", false));
        fixture.jobs.enable(&id).await.unwrap();
        fixture.run_through(2..=9).await;
        let ended = explained(&fixture, &id).await;
        assert_eq!((codes(&ended)[0], ended.will_run, ended.next.len()), ("limit", false, 0));
        let other = crate::JobDefinition::new("other", "unknown", Schedule::manual());
        let other = fixture.jobs.create(other).await.unwrap().id;
        assert_eq!(codes(&explained(&fixture, &other).await), ["manual", "no_handler"]);
        fixture.crash().await;
        fixture.store.leave(&fixture.node).await.unwrap();
        assert_eq!(codes(&explained(&fixture, &other).await), ["manual", "no_node"]);
    }

    #[tokio::test]
    async fn an_excluded_occurrence_is_told_before_it_comes() {
        let fixture = Fixture::new().await;
        let id = fixture.jobs.create(definition("job", Schedule::every(MINUTE))).await.unwrap().id;
        fixture.jobs.skip_date(&id, "2026-01-01").await.unwrap();
        let explanation = explained(&fixture, &id).await;
        assert_eq!((codes(&explanation), explanation.will_run), (vec!["due", "excluded"], true));
    }
}
