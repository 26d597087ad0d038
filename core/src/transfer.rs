//! Moves everything from one store to another, of whatever kind.
//!
//! What is there already stays as it is, so that a move that was cut off is repeated, and goes on where it
//! was. History goes first and jobs go last: an occurrence that ran in the old store has its record in the
//! new one before anything could fire it there. At the end each row is read back and compared.

use std::collections::HashSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::execution::Status;
use crate::id::IdSource;
use crate::job::Job;
use crate::plan::EnginePlanner;
use crate::store::{
    AuditEntry, AuditQuery, CreateJobs, CreateOutcome, ExecutionPages, ExecutionQuery, ExecutionSort, Import,
    Imported, JobPages, JobQuery, ReapRequest, Store,
};

/// How many log lines and audit entries one query reads.
const PAGE: usize = 1000;

/// How many differences are named.
const NAMED: usize = 20;

/// What to move.
#[derive(Debug, Clone, Default)]
pub struct TransferOptions {
    /// Executions that have ended, with their logs, and the audit record as well. Without it, only what is
    /// still to be done: jobs, calendars and pending executions.
    pub history: bool,
    /// Who does it, for the audit record of the new store.
    pub actor: String,
    /// Whether the new store may hold jobs that the old one does not have.
    pub merge: bool,
}

/// How a move came out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferReport {
    /// Calendars in the old store; all of them are in the new one.
    pub calendars: u64,
    /// Jobs in the old store.
    pub jobs: u64,
    /// Of them, those that were not in the new one before.
    pub jobs_added: u64,
    /// Executions in the old store that were to be moved.
    pub executions: u64,
    /// Of them, those that were not in the new one before.
    pub executions_added: u64,
    /// Audit entries that were added.
    pub audit_added: u64,
    /// Rows that are in the new store, and otherwise than in the old one: the first of them, in words.
    pub differences: Vec<String>,
}

impl TransferReport {
    /// Whether the new store holds what the old one does.
    pub fn is_whole(&self) -> bool {
        self.differences.is_empty()
    }

    fn differs(&mut self, what: String) {
        if self.differences.len() < NAMED {
            self.differences.push(what);
        }
    }
}

/// Moves everything that `from` holds to `to`, and compares. `progress` hears how many rows are done.
///
/// No node may be alive on either store. What nodes left running on the old one when they died is ended
/// there first, as lost, like any node would.
///
/// # Errors
///
/// [`crate::ErrorKind::Invalid`] when the old store is empty; [`crate::ErrorKind::Conflict`] when a node is
/// alive, when the new store holds jobs of somebody else and [`TransferOptions::merge`] does not allow that, or
/// when a calendar of the same name is in the new store with other contents; the stores' own. Nothing that
/// was moved before is taken back: repeat the call.
pub async fn transfer(
    from: &dyn Store,
    to: &dyn Store,
    options: &TransferOptions,
    mut progress: impl FnMut(u64),
) -> Result<TransferReport> {
    nobody_is_alive(from, "old").await?;
    nobody_is_alive(to, "new").await?;
    something_is_there(from).await?;
    if !options.merge {
        nobody_else_is_there(from, to).await?;
    }
    end_what_the_dead_left(from).await?;
    let mut report = TransferReport { calendars: calendars(from, to).await?, ..TransferReport::default() };
    executions(from, to, options, &mut report, &mut progress).await?;
    if options.history {
        report.audit_added = audit(from, to).await?;
    }
    jobs(from, to, options, &mut report, &mut progress).await?;
    Ok(report)
}

async fn nobody_is_alive(store: &dyn Store, which: &str) -> Result<()> {
    let now = store.now().await?;
    let alive = store.list_nodes().await?.into_iter().find(|node| !node.dead && node.lease_until > now);
    match alive {
        None => Ok(()),
        Some(node) => Err(Error::conflict(format!(
            "node {} is alive on the {which} store ({}); stop all nodes first",
            node.id,
            store.describe().location
        ))),
    }
}

/// A store that is empty was hardly meant: it is made by opening it.
async fn something_is_there(store: &dyn Store) -> Result<()> {
    let counts = store.counts().await?;
    if counts.jobs > 0 || !counts.executions.is_empty() || !store.list_calendars().await?.is_empty() {
        return Ok(());
    }
    let location = store.describe().location;
    Err(Error::invalid(format!(
        "the old store ({location}) is empty, so there is nothing to move; check its URL"
    )))
}

/// What is in the new store must have come from the old one, in a move that was cut off.
async fn nobody_else_is_there(from: &dyn Store, to: &dyn Store) -> Result<()> {
    if to.counts().await?.jobs == 0 {
        return Ok(());
    }
    let mut known = HashSet::new();
    each_job(from, |job| known.extend([job.id])).await?;
    let mut others = Vec::new();
    each_job(to, |job| others.extend((!known.contains(&job.id)).then_some(job.definition.name.clone())))
        .await?;
    let Some(first) = others.first() else { return Ok(()) };
    let n = others.len();
    Err(Error::conflict(format!(
        "the new store ({}) holds {n} {} that the old one does not, such as `{first}`; move into an empty store, \
         or say that both are to be merged (`--merge`)",
        to.describe().location,
        if n == 1 { "job" } else { "jobs" },
    )))
}

async fn each_job(store: &dyn Store, mut see: impl FnMut(Job)) -> Result<()> {
    let mut pages = JobPages::new(store, JobQuery::default());
    loop {
        let page = pages.next().await?;
        if page.is_empty() {
            return Ok(());
        }
        page.into_iter().for_each(&mut see);
    }
}

async fn end_what_the_dead_left(store: &dyn Store) -> Result<()> {
    let planner = EnginePlanner::new(Arc::new(IdSource::new()));
    let request = ReapRequest { grace: std::time::Duration::ZERO, limit: 500 };
    while store.reap(request, &planner).await?.more {}
    let running = store.counts().await?.executions.get(&Status::Running).copied().unwrap_or(0);
    if running > 0 {
        return Err(Error::conflict(format!("{running} executions are still running on the old store")));
    }
    Ok(())
}

async fn calendars(from: &dyn Store, to: &dyn Store) -> Result<u64> {
    let known = to.list_calendars().await?;
    let calendars = from.list_calendars().await?;
    for calendar in &calendars {
        match known.iter().find(|other| other.name == calendar.name) {
            Some(same) if same == calendar => {}
            Some(_) => {
                return Err(Error::conflict(format!(
                    "the new store has another calendar named `{}`; rename or remove one of them",
                    calendar.name
                )));
            }
            None => to.put_calendar(calendar).await?,
        }
    }
    Ok(calendars.len() as u64)
}

async fn executions(
    from: &dyn Store,
    to: &dyn Store,
    options: &TransferOptions,
    report: &mut TransferReport,
    progress: &mut impl FnMut(u64),
) -> Result<()> {
    let statuses = if options.history { Vec::new() } else { vec![Status::Pending] };
    let query = ExecutionQuery { statuses, sort: ExecutionSort::Oldest, ..ExecutionQuery::default() };
    let mut pages = ExecutionPages::new(from, query);
    loop {
        let page = pages.next().await?;
        if page.is_empty() {
            return Ok(());
        }
        let mut rows = Vec::with_capacity(page.len());
        for execution in page {
            let logs = logs_of(from, &execution).await?;
            rows.push((execution, logs));
        }
        report.executions += rows.len() as u64;
        let import = Import { executions: rows.clone(), ..Import::default() };
        report.executions_added += to.import(import).await?.executions;
        for (execution, logs) in rows {
            let moved = to.get_execution(&execution.id).await?;
            if moved.as_ref() != Some(&execution) || logs_of(to, &execution).await? != logs {
                report.differs(format!("execution {} of `{}`", execution.id, execution.job_name));
            }
        }
        progress(report.executions);
    }
}

async fn logs_of(
    store: &dyn Store,
    execution: &crate::execution::Execution,
) -> Result<Vec<crate::execution::LogLine>> {
    let mut all = Vec::new();
    // What has not started has said nothing.
    while execution.started_at.is_some() {
        let page = store.list_logs(&execution.id, all.len() as u64, PAGE).await?;
        let last = page.len() < PAGE;
        all.extend(page);
        if last {
            break;
        }
    }
    Ok(all)
}

async fn audit(from: &dyn Store, to: &dyn Store) -> Result<u64> {
    let mut entries: Vec<AuditEntry> = Vec::new();
    loop {
        let query = AuditQuery { offset: entries.len() as u64, limit: PAGE, ..AuditQuery::default() };
        let page = from.list_audit(&query).await?;
        let last = page.len() < PAGE;
        entries.extend(page);
        if last {
            break;
        }
    }
    // The oldest first, as they were made.
    entries.reverse();
    let mut imported = Imported::default();
    for page in entries.chunks(PAGE) {
        imported += to.import(Import { audit: page.to_vec(), ..Import::default() }).await?;
    }
    Ok(imported.audit)
}

async fn jobs(
    from: &dyn Store,
    to: &dyn Store,
    options: &TransferOptions,
    report: &mut TransferReport,
    progress: &mut impl FnMut(u64),
) -> Result<()> {
    let mut pages = JobPages::new(from, JobQuery::default());
    loop {
        let page = pages.next().await?;
        if page.is_empty() {
            return Ok(());
        }
        let mut missing = Vec::new();
        for job in &page {
            if to.get_job(&job.id).await?.is_none() {
                missing.push(job.clone());
            }
        }
        report.jobs += page.len() as u64;
        report.jobs_added += missing.len() as u64;
        if options.history {
            // Their audit record has come along, and says how they were made.
            let _ = to.import(Import { jobs: missing, ..Import::default() }).await?;
        } else {
            let request = CreateJobs { jobs: missing, unique_names: false, actor: options.actor.clone() };
            if let CreateOutcome::Refused(conflicts) = to.create_jobs(request).await? {
                return Err(Error::conflict(format!("{} jobs were made there meanwhile", conflicts.len())));
            }
        }
        for job in page {
            if to.get_job(&job.id).await?.as_ref() != Some(&job) {
                report.differs(format!("job `{}` ({})", job.definition.name, job.id));
            }
        }
        progress(report.jobs + report.executions);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::ManualClock;
    use crate::job::JobDefinition;
    use crate::schedule::{Calendar, Schedule};
    use crate::store::{JoinRequest, MemoryStore, NodeInfo};
    use crate::testing::TestScheduler;
    use crate::time::Timestamp;
    use crate::verify::{VerifyOptions, verify};
    use crate::{Context, every};

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
    }

    /// A store in which jobs have run for some minutes, and whose node has left; and its clock.
    fn lived_in() -> (MemoryStore, ManualClock) {
        let job = |n: u64| {
            every(format!("job {n}"), Duration::from_secs(60 * n)).run(|ctx: Context| async move {
                ctx.info("working");
            })
        };
        let test = TestScheduler::at("2026-11-01T00:00:00Z")
            .with(|builder| builder.job(job(1)).job(job(2)).job(job(3)));
        test.advance(Duration::from_secs(600));
        test.block_on(test.scheduler().stop());
        (test.store().handle(), ManualClock::at(test.now()))
    }

    #[test]
    fn everything_moves_and_what_was_moved_can_be_verified() {
        let (old, clock) = lived_in();
        let new = MemoryStore::with_clock(Arc::new(clock.clone()));
        block_on(async {
            old.put_calendar(&Calendar { name: "holidays".to_owned(), ..Calendar::default() }).await.unwrap();
            let options =
                TransferOptions { history: true, actor: "tester".to_owned(), ..TransferOptions::default() };
            let report = transfer(&old, &new, &options, |_| {}).await.unwrap();
            assert_eq!((report.calendars, report.jobs, report.jobs_added), (1, 3, 3));
            assert_eq!(report.executions, report.executions_added);
            assert!(report.executions >= 18 && report.is_whole(), "{report:?}");
            let again = transfer(&old, &new, &options, |_| {}).await.unwrap();
            assert_eq!((again.jobs_added, again.executions_added, again.audit_added), (0, 0, 0));
            let whole = verify(&new, &VerifyOptions::default(), |_| {}).await.unwrap();
            assert!(whole.is_whole() && whole.occurrences >= 18, "{whole:?}");
        });
    }

    #[test]
    fn without_history_go_jobs_and_what_is_still_to_be_done() {
        let (old, clock) = lived_in();
        let new = MemoryStore::with_clock(Arc::new(clock));
        let report = block_on(transfer(&old, &new, &TransferOptions::default(), |_| {})).unwrap();
        assert_eq!((report.jobs, report.executions, report.audit_added), (3, 0, 0));
        assert!(report.is_whole());
    }

    #[test]
    fn an_empty_store_is_not_moved_and_somebody_elses_is_not_moved_into() {
        let (old, clock) = lived_in();
        let (other, _) = lived_in();
        let empty = MemoryStore::with_clock(Arc::new(clock));
        let options = TransferOptions::default();
        let refused = block_on(transfer(&empty, &old, &options, |_| {})).unwrap_err();
        assert!(refused.to_string().contains("nothing to move"), "{refused}");
        block_on(async {
            // The same seed makes the same ids: one job too many makes it another's.
            let job =
                Job::new("x".into(), JobDefinition::new("x", "w", Schedule::manual()), other.now().await?);
            let request = CreateJobs { jobs: vec![job], unique_names: true, actor: String::new() };
            assert_eq!(other.create_jobs(request).await?, CreateOutcome::Created);
            let refused = transfer(&old, &other, &options, |_| {}).await.unwrap_err();
            assert!(refused.to_string().contains("holds 1 job that"), "{refused}");
            let merge = TransferOptions { merge: true, ..TransferOptions::default() };
            transfer(&old, &other, &merge, |_| {}).await.map(drop)
        })
        .unwrap();
    }

    #[test]
    fn a_node_that_is_alive_refuses_it() {
        let (old, new) = (MemoryStore::new(), MemoryStore::new());
        let request = JoinRequest { id: "n".into(), ttl: Duration::from_secs(60), info: NodeInfo::default() };
        block_on(new.join(request)).unwrap();
        let refused = block_on(transfer(&old, &new, &TransferOptions::default(), |_| {})).unwrap_err();
        assert!(refused.to_string().contains("stop all nodes"), "{refused}");
    }

    #[test]
    fn what_is_there_with_other_contents_is_named() {
        let (old, new) = (MemoryStore::new(), MemoryStore::new());
        let job = |name: &str| {
            let definition = JobDefinition::new(name, "work", Schedule::manual());
            Job::new("same-id".into(), definition, Timestamp::from_secs(1))
        };
        block_on(async {
            for (store, name) in [(&old, "a"), (&new, "b")] {
                let jobs = vec![job(name)];
                let request = CreateJobs { jobs, unique_names: false, actor: String::new() };
                assert_eq!(store.create_jobs(request).await.unwrap(), CreateOutcome::Created);
            }
            let report = transfer(&old, &new, &TransferOptions::default(), |_| {}).await.unwrap();
            assert_eq!(report.differences, ["job `a` (same-id)"]);
        });
    }
}
