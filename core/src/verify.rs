//! Replays a period of the history and proves, for each job: *due = started + skipped with a reason*.
//!
//! Every record of an occurrence says which occurrence comes after it, and every edit that moves a job's
//! next occurrence leaves an audit entry with the one before and the one after. So the records of a job
//! are a chain. A record that is missing leaves a hole in it, and one too many does not fit.
//!
//! Where the record comes from the definition that the job still has, the schedule is asked too: whether
//! the next occurrence is right, and whether the record stands for as many as it says.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::execution::{Execution, Status, Trigger};
use crate::id::{ExecutionId, JobId, NodeId};
use crate::job::Job;
use crate::policy::Keep;
use crate::schedule::CompiledSchedule;
use crate::store::{
    AuditEntry, AuditQuery, ExecutionPages, ExecutionQuery, ExecutionSort, JobPages, JobQuery, Store,
};
use crate::time::Timestamp;

/// The action of the audit entry that a job begins with; again, when a job of the same id follows.
const CREATED: &str = "created";

/// The action of the audit entry that a job ends with.
const DELETED: &str = "deleted";

/// How long after a job was made its first record may be made and still count as at once.
const SLACK: Duration = Duration::from_mins(1);

/// How many rows one query reads.
const PAGE: usize = 500;

/// What to look at.
#[derive(Debug, Clone, Default)]
pub struct VerifyOptions {
    /// One job; all without it.
    pub job_id: Option<JobId>,
    /// Occurrences due since.
    pub since: Option<Timestamp>,
    /// Occurrences due before.
    pub until: Option<Timestamp>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct VerifyReport {
    /// Jobs looked at.
    pub jobs: u64,
    /// Jobs whose history is not kept in full, by their own policy, and that prove nothing.
    pub jobs_not_kept: u64,
    /// Occurrences accounted for.
    pub occurrences: u64,
    /// Occurrences that started.
    pub started: u64,
    /// Occurrences that were skipped, or coalesced into another, each with its reason.
    pub skipped: u64,
    /// Attempts that ended as lost.
    pub lost: u64,
    /// Attempts beyond the first.
    pub retries: u64,
    /// Everything that does not fit.
    pub problems: Vec<Problem>,
}

impl VerifyReport {
    /// Whether everything is accounted for.
    pub fn is_whole(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Something that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Which job.
    pub job_id: JobId,
    /// Its name.
    pub job_name: String,
    /// In which way.
    pub kind: ProblemKind,
    /// The occurrence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Timestamp>,
    /// The execution.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_id: Option<ExecutionId>,
    /// In words.
    pub detail: String,
}

/// In which way something does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// An occurrence started twice.
    Duplicate,
    /// An occurrence that was due has no record.
    Hole,
    /// A record stands for another number of occurrences than the schedule says.
    Miscounted,
    /// An execution is recorded as running, and its node is gone.
    Stuck,
    /// A lost attempt should have been retried, and no retry is there.
    RetryMissing,
}

/// Replays the history of one job or of all. `progress` hears how many jobs are done.
///
/// Cost: one pass over the records in the period, page by page.
///
/// # Errors
///
/// The store's own.
pub async fn verify(
    store: &dyn Store,
    options: &VerifyOptions,
    mut progress: impl FnMut(u64),
) -> Result<VerifyReport> {
    let mut report = VerifyReport::default();
    let around = surroundings(store).await?;
    if let Some(id) = &options.job_id {
        let job = store.get_job(id).await?.ok_or_else(|| crate::Error::not_found("job", id))?;
        verify_job(store, &job, options, &around, &mut report).await?;
        return Ok(report);
    }
    let mut pages = JobPages::new(store, JobQuery::default());
    loop {
        let page = pages.next().await?;
        if page.is_empty() {
            return Ok(report);
        }
        for job in page {
            verify_job(store, &job, options, &around, &mut report).await?;
            progress(report.jobs);
        }
    }
}

async fn surroundings(store: &dyn Store) -> Result<Surroundings> {
    let now = store.now().await?;
    let nodes = store.list_nodes().await?;
    let alive = nodes.into_iter().filter(|n| !n.dead && n.lease_until >= now).map(|n| n.id).collect();
    let query = ExecutionQuery { sort: ExecutionSort::Oldest, limit: 1, ..ExecutionQuery::default() };
    let oldest = store.list_executions(&query).await?.items.pop();
    Ok(Surroundings { now, alive, history_from: oldest.map_or(Timestamp::MIN, |e| e.created_at) })
}

/// What must be known besides a job and its records.
struct Surroundings {
    now: Timestamp,
    alive: Vec<NodeId>,
    /// When the oldest execution that is still kept was made: for jobs made before that, the first
    /// records may have been removed by the retention.
    history_from: Timestamp,
}

async fn verify_job(
    store: &dyn Store,
    job: &Job,
    options: &VerifyOptions,
    around: &Surroundings,
    report: &mut VerifyReport,
) -> Result<()> {
    report.jobs += 1;
    if job.definition.history.keep != Keep::All {
        report.jobs_not_kept += 1;
        return Ok(());
    }
    let mut chain = Chain::new(job, moves(store, job).await?, report);
    if options.since.is_none() {
        chain.begin(around);
    }
    let query = ExecutionQuery {
        job_id: Some(job.id.clone()),
        trigger: Some(Trigger::Schedule),
        since: options.since,
        until: options.until,
        sort: ExecutionSort::DueAt,
        ..ExecutionQuery::default()
    };
    let mut pages = ExecutionPages::new(store, query);
    loop {
        let page = pages.next().await?;
        if page.is_empty() {
            break;
        }
        for execution in &page {
            chain.add(execution, around);
        }
    }
    // An edit or a claim during the walk has moved the end: only the job as it was read counts.
    if options.until.is_none() {
        chain.end(around.now);
    }
    Ok(())
}

/// The audit entries of a job that say where its next occurrence went, oldest first.
async fn moves(store: &dyn Store, job: &Job) -> Result<Vec<AuditEntry>> {
    let mut query = AuditQuery { job_id: Some(job.id.clone()), limit: PAGE, ..AuditQuery::default() };
    let mut all = Vec::new();
    loop {
        let page = store.list_audit(&query).await?;
        let n = page.len();
        all.extend(page);
        if n < PAGE {
            all.reverse();
            return Ok(all);
        }
        query.offset += PAGE as u64;
    }
}

/// The records of one job, joined one by one.
struct Chain<'a> {
    job: &'a Job,
    schedule: Option<&'a CompiledSchedule>,
    /// What was done to the job, oldest first, from what is not accounted for on.
    moves: VecDeque<AuditEntry>,
    /// The last version that is known. What was claimed from a later one came during the walk.
    newest: i64,
    /// Whether it is known where the job was before; not of the first record of a period.
    begun: bool,
    /// What the next record must be for; `None` while that is not known.
    expected: Option<Timestamp>,
    /// Up to where the last record stands.
    covered: Option<Timestamp>,
    /// From which version that was made. An edit may set the job back to what is covered.
    covering: i64,
    /// The occurrence being looked at: its last attempt so far.
    current: Option<Execution>,
    report: &'a mut VerifyReport,
}

impl<'a> Chain<'a> {
    fn new(job: &'a Job, moves: Vec<AuditEntry>, report: &'a mut VerifyReport) -> Self {
        Self {
            job,
            schedule: job.definition.compiled().ok(),
            newest: moves.iter().map(|entry| entry.version).max().unwrap_or(0).max(job.version),
            moves: moves.into(),
            begun: false,
            expected: None,
            covered: None,
            covering: 0,
            current: None,
            report,
        }
    }

    fn add(&mut self, execution: &Execution, around: &Surroundings) {
        if execution.version > self.newest {
            return;
        }
        self.check_owner(execution, around);
        if execution.status == Status::Lost {
            self.report.lost += 1;
        }
        match self.current.replace(execution.clone()) {
            Some(before) if before.due_at == execution.due_at => {
                self.report.retries += 1;
                if execution.attempt != before.attempt + 1 || execution.root_id != before.root_id {
                    let detail =
                        format!("attempt {} comes after attempt {}", execution.attempt, before.attempt);
                    self.problem(ProblemKind::Duplicate, execution, detail);
                }
            }
            before => {
                self.check_retried(before.as_ref());
                self.join(execution);
            }
        }
    }

    /// Starts from the job's first occurrence, if its first records must still be there.
    fn begin(&mut self, around: &Surroundings) {
        if let Some(entry) = self.moves.pop_front_if(|entry| entry.action == CREATED)
            && entry.at.saturating_add(SLACK) >= around.history_from
        {
            self.begun = true;
            self.expected = entry.due_after;
        }
    }

    /// Whether the last attempt at an occurrence was rightly the last.
    fn check_retried(&mut self, last: Option<&Execution>) {
        let Some(last) = last else { return };
        let policy = &self.job.definition.retry;
        let retries = policy.explicit && policy.on_lost && last.crashes + 1 < policy.crash_limit;
        if last.status == Status::Lost && retries && !last.cancel_requested && self.is_current(last) {
            let detail = format!("attempt {} was lost, and there is no attempt after it", last.attempt);
            self.problem(ProblemKind::RetryMissing, last, detail);
        }
    }

    /// Joins the first record of an occurrence to the chain.
    fn join(&mut self, execution: &Execution) {
        let skipped = execution.status == Status::Skipped;
        self.report.occurrences += execution.n_occurrences;
        if skipped {
            self.report.skipped += execution.n_occurrences;
        } else {
            self.report.started += 1;
            self.report.skipped += execution.n_occurrences.saturating_sub(1);
        }
        let is_covered = self.covered.is_some_and(|covered| execution.due_at <= covered);
        if is_covered && execution.version == self.covering {
            // What was skipped between occurrences that coalesced has a record of its own.
            if !skipped {
                let detail = "it lies in a period that another execution stands for".to_owned();
                self.problem(ProblemKind::Duplicate, execution, detail);
            }
            return;
        }
        self.move_up_to(execution);
        if let Some(expected) = self.expected.filter(|expected| *expected != execution.due_at) {
            self.hole(expected, execution.due_at);
        }
        self.begun = true;
        self.covered = Some(execution.last_due_at());
        self.covering = execution.version;
        self.expected = execution.next_due_at;
        self.check_schedule(execution);
    }

    /// Applies what was done to the job before a record was made. Versions tell the order, not times: a
    /// claim and an edit may share an instant. Only where the job was deleted and made again they begin anew.
    fn move_up_to(&mut self, execution: &Execution) {
        let made = self.moves.iter().rposition(|entry| {
            let fits = entry.due_after == Some(execution.due_at) || self.expected != Some(execution.due_at);
            let before = entry.at < execution.created_at || entry.at == execution.created_at && fits;
            entry.action == CREATED && before
        });
        let before = made.map_or(0, |place| place + 1);
        for entry in self.moves.drain(..before).collect::<Vec<_>>() {
            self.move_by(&entry);
        }
        let of_this_life = |entry: &mut AuditEntry| {
            entry.version <= execution.version && entry.action != DELETED && entry.action != CREATED
        };
        while let Some(entry) = self.moves.pop_front_if(of_this_life) {
            self.move_by(&entry);
        }
    }

    /// Applies one entry: the job must be where the records have left it, and goes on from where it was put.
    /// One that no longer fires is expected nowhere until it does again.
    fn move_by(&mut self, entry: &AuditEntry) {
        if !self.begun {
            return;
        }
        if let (Some(expected), Some(found)) = (self.expected, entry.due_before)
            && found > expected
        {
            self.hole(expected, found);
        }
        // Where it was set back to what has its record, it moves on without another.
        self.expected = entry.due_after.filter(|due| self.covered.is_none_or(|covered| *due > covered));
    }

    /// Whether a record was made from the definition that the job still has.
    fn is_current(&self, execution: &Execution) -> bool {
        execution.version == self.job.version && execution.created_at >= self.job.created_at
    }

    fn check_schedule(&mut self, execution: &Execution) {
        let Some(schedule) = self.schedule.filter(|_| self.is_current(execution)) else { return };
        if schedule.from_completion().is_some() {
            return;
        }
        let next = schedule.next_after(execution.last_due_at(), execution.due_at);
        if next != execution.next_due_at {
            let detail = format!(
                "the schedule says {} comes next, the record {}",
                show(next),
                show(execution.next_due_at)
            );
            self.problem(ProblemKind::Hole, execution, detail);
        }
        // The first counts also beside the grid: a due time that was given with the job.
        let second = Timestamp::from_millis(execution.due_at.as_millis() + 1);
        let after = schedule.count_until(second, execution.last_due_at(), execution.due_at, 10_000);
        // What was skipped in between has records of its own, so fewer is right, and more is not.
        if after.exact && execution.n_occurrences > after.n + 1 {
            let detail =
                format!("it stands for {} occurrences; there were {}", execution.n_occurrences, after.n + 1);
            self.problem(ProblemKind::Miscounted, execution, detail);
        }
    }

    fn check_owner(&mut self, execution: &Execution, around: &Surroundings) {
        let gone = execution.node_id.as_ref().is_none_or(|node| !around.alive.contains(node));
        if execution.status == Status::Running && gone {
            let node = execution.node_id.as_ref().map_or("nobody", |n| n.as_str());
            let detail = format!("recorded as running on {node}, which is gone; any node will reap it");
            self.problem(ProblemKind::Stuck, execution, detail);
        }
    }

    /// Joins the last record to the job's next occurrence.
    fn end(mut self, now: Timestamp) {
        let last = self.current.take();
        self.check_retried(last.as_ref());
        for entry in std::mem::take(&mut self.moves) {
            self.move_by(&entry);
        }
        let Some(expected) = self.expected else { return };
        let Some(due) = self.job.due else {
            // A manual job has none; one that was still to come from an earlier schedule is dropped.
            let is_manual = self.schedule.is_some_and(CompiledSchedule::is_manual);
            if self.job.ended.is_none() && self.job.fault.is_none() && !is_manual && expected <= now {
                let detail = "the job has no next occurrence and no reason for it".to_owned();
                self.problem_at(ProblemKind::Hole, Some(expected), None, detail);
            }
            return;
        };
        // One that does not count may be moved by edits, which then say only that it does not.
        if self.job.is_scheduled() && due.due_at > expected && expected <= now {
            self.hole(expected, due.due_at);
        }
    }

    fn hole(&mut self, from: Timestamp, to: Timestamp) {
        let detail = format!("no record from {from} up to {to}");
        self.problem_at(ProblemKind::Hole, Some(from), None, detail);
    }

    fn problem(&mut self, kind: ProblemKind, execution: &Execution, detail: String) {
        self.problem_at(kind, Some(execution.due_at), Some(execution.id), detail);
    }

    fn problem_at(
        &mut self,
        kind: ProblemKind,
        due_at: Option<Timestamp>,
        execution_id: Option<ExecutionId>,
        detail: String,
    ) {
        self.report.problems.push(Problem {
            job_id: self.job.id.clone(),
            job_name: self.job.definition.name.clone(),
            kind,
            due_at,
            execution_id,
            detail,
        });
    }
}

fn show(t: Option<Timestamp>) -> String {
    t.map_or_else(|| "nothing".to_owned(), |t| t.to_string())
}

#[cfg(test)]
mod random_tests;
#[cfg(test)]
mod tests;
