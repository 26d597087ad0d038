//! How a scheduler is, in the shape that existing admin pages read.

use serde::{Deserialize, Serialize};

use crate::engine::Engine;
use crate::error::Result;
use crate::execution::{Status, StatusClass};
use crate::scheduler::Scheduler;
use crate::store::{Counts, Node, Store};
use crate::time::Timestamp;

/// How a scheduler and its store are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    /// The scheduler itself.
    pub scheduler: SchedulerStatus,
    /// The jobs.
    pub jobs: JobTotals,
    /// The executions.
    pub executions: ExecutionTotals,
}

/// Whether anything runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// A node claims what is due.
    Active,
    /// This node runs, but can't reach its store.
    Degraded,
    /// This node finishes what it runs, and takes nothing new.
    Draining,
    /// No node runs.
    Stopped,
}

/// The scheduler itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SchedulerStatus {
    /// Whether anything runs.
    pub status: Activity,
    /// How many templates this process has.
    pub template_count: usize,
    /// Which store.
    pub store: String,
    /// This node, when this process has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// How many executions run on this node.
    pub running_here: usize,
    /// Nodes that are alive.
    pub nodes_alive: usize,
    /// How far the clock of this node is ahead of the store's, in milliseconds.
    pub clock_skew_ms: i64,
    /// Since when the store can't be reached, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// When this node last asked the store for work and had an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_claim_at: Option<Timestamp>,
    /// How long the oldest occurrence that is due has been waiting to be claimed: 0 when all is on time.
    pub oldest_due_seconds: f64,
    /// The IANA time zone data in use.
    pub tzdb: String,
    /// The version of this software.
    pub version: String,
}

/// How many jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct JobTotals {
    pub total: u64,
    pub enabled: u64,
    pub disabled: u64,
    /// Set aside, because they can't be read or kept crashing.
    pub faulty: u64,
}

/// How many executions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecutionTotals {
    /// All that are in the history.
    pub total: u64,
    /// Those that went well.
    pub successful: u64,
    /// Those that went wrong.
    pub failed: u64,
    /// Those that run now.
    pub running: u64,
    /// The successful part of those that finished, such as `97.5%`; `N/A` when none has.
    pub success_rate: String,
    /// Each status by itself.
    pub by_status: std::collections::BTreeMap<Status, u64>,
}

impl Scheduler {
    /// How this scheduler and its store are. When the store can't be reached, what this node knows by
    /// itself, with the counts at 0.
    pub async fn status(&self) -> StatusReport {
        let engine = self.engine();
        let asked = async { Ok((self.store().counts().await?, self.store().list_nodes().await?)) };
        let (counts, nodes) = engine.call("status", asked).await.unwrap_or_default();
        let mut report = report(&**self.store(), &counts, &nodes, engine.store_now());
        report.scheduler.tell_node(engine);
        report
    }
}

impl SchedulerStatus {
    fn tell_node(&mut self, engine: &Engine) {
        let trouble = engine.health.trouble();
        self.status = if engine.ended.is_cancelled() {
            Activity::Stopped
        } else if engine.stopping.is_cancelled() {
            Activity::Draining
        } else if trouble.is_some() || engine.node.borrow().is_none() {
            Activity::Degraded
        } else {
            Activity::Active
        };
        self.trouble = trouble.map(|t| format!("since {}: {}", t.since, t.reason));
        self.template_count = engine.registry.templates().len();
        self.node = engine.node.borrow().as_ref().map(|node| node.id.to_string());
        self.running_here = engine.owned.active();
        self.clock_skew_ms = -engine.skew_millis();
        self.last_claim_at = engine.health.last_claim_at();
    }
}

/// How a store and the nodes on it are, as seen without a scheduler in this process.
///
/// # Errors
///
/// The store's own.
pub async fn of_store(store: &dyn Store) -> Result<StatusReport> {
    let (counts, nodes, now) = (store.counts().await?, store.list_nodes().await?, store.now().await?);
    Ok(report(store, &counts, &nodes, now))
}

fn report(store: &dyn Store, counts: &Counts, nodes: &[Node], now: Timestamp) -> StatusReport {
    let sum = |wanted: fn(StatusClass) -> bool| -> u64 {
        counts.executions.iter().filter(|(s, _)| wanted(s.class())).map(|(_, n)| n).sum()
    };
    let successful = sum(|class| class == StatusClass::Ok);
    let failed = sum(|class| class == StatusClass::Bad);
    let finished = sum(|class| matches!(class, StatusClass::Ok | StatusClass::Part | StatusClass::Bad));
    let alive = nodes.iter().filter(|n| !n.dead && n.lease_until >= now).count();
    StatusReport {
        scheduler: SchedulerStatus {
            status: if alive > 0 { Activity::Active } else { Activity::Stopped },
            template_count: 0,
            store: store.describe().location,
            node: None,
            running_here: 0,
            nodes_alive: alive,
            clock_skew_ms: 0,
            trouble: None,
            last_claim_at: None,
            oldest_due_seconds: counts.oldest_due.map_or(0.0, |t| now.since(t).as_secs_f64()),
            tzdb: crate::schedule::tzdb_version().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        jobs: JobTotals {
            total: counts.jobs,
            enabled: counts.enabled,
            disabled: counts.jobs.saturating_sub(counts.enabled),
            faulty: counts.faulty,
        },
        executions: ExecutionTotals {
            total: counts.executions.values().sum(),
            successful,
            failed,
            running: counts.executions.get(&Status::Running).copied().unwrap_or(0),
            success_rate: rate(successful, finished),
            by_status: counts.executions.clone(),
        },
    }
}

fn rate(successful: u64, finished: u64) -> String {
    if finished == 0 {
        return "N/A".to_owned();
    }
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let percent = successful as f64 * 100.0 / finished as f64;
    format!("{percent:.1}%")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, MINUTE, definition};
    use crate::schedule::Schedule;

    #[tokio::test]
    async fn a_store_is_told_without_a_scheduler() {
        let fixture = Fixture::new().await;
        let id = fixture.jobs.create(definition("job", Schedule::every(MINUTE))).await.unwrap().id;
        fixture.jobs.create(definition("other", Schedule::manual())).await.unwrap();
        fixture.run_at(0).await;
        fixture.go_to(1);
        fixture.end(&fixture.claim().await, Status::Failed).await;
        fixture.go_to(3);
        let late = of_store(&*fixture.store).await.unwrap();
        assert_eq!(late.scheduler.status, Activity::Active);
        assert!((late.scheduler.oldest_due_seconds - 60.0).abs() < f64::EPSILON);
        fixture.claim().await;
        fixture.jobs.disable(&id).await.unwrap();
        fixture.store.leave(&fixture.node).await.unwrap();
        let report = of_store(&*fixture.store).await.unwrap();
        assert_eq!((report.scheduler.status, report.scheduler.nodes_alive), (Activity::Stopped, 0));
        assert_eq!(report.jobs, JobTotals { total: 2, enabled: 1, disabled: 1, faulty: 0 });
        let executions = report.executions;
        assert_eq!((executions.total, executions.successful, executions.failed), (3, 1, 1));
        assert_eq!((executions.running, executions.success_rate.as_str()), (1, "50.0%"));
    }

    #[test]
    fn a_rate_counts_what_has_finished() {
        assert_eq!(rate(0, 0), "N/A");
        assert_eq!(rate(39, 40), "97.5%");
    }
}
