//! People who edit, trigger and cancel while nodes claim, each with jobs of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use unified_scheduler::store::ExecutionQuery;
use unified_scheduler::{Error, ErrorKind, Execution, ExecutionId, JobId, Status, Timestamp};
use unified_scheduler_tests::edits::Edit;
use unified_scheduler_tests::jobs;

use super::QUICKER;
use super::cluster::{Cluster, N_JOBS, Node};
use crate::Failure;

/// How many people there are.
const N_PEOPLE: u64 = 3;
/// How long they wait for an answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// A time in which nobody can have claimed for a job: it had been disabled, and nobody had begun to enable it.
#[derive(Debug, Clone)]
pub(super) struct Window {
    pub(super) job: JobId,
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
}

/// What one of them remembers.
#[derive(Default)]
struct Memory {
    disabled: BTreeMap<JobId, Timestamp>,
    /// Somebody has begun to enable them, and does not know what came of it.
    unsure: BTreeSet<JobId>,
    keys: BTreeMap<(JobId, String), ExecutionId>,
    windows: Vec<Window>,
}

/// Edits until the storm is over.
///
/// # Errors
///
/// When the store itself can't be asked.
pub(super) async fn edit(cluster: Arc<Cluster>) -> Result<Vec<Window>, Failure> {
    let mut people = tokio::task::JoinSet::new();
    for person in 0..N_PEOPLE {
        people.spawn(be(Arc::clone(&cluster), person));
    }
    let mut windows = Vec::new();
    while let Some(person) = people.join_next().await {
        windows.extend(person??);
    }
    Ok(windows)
}

async fn be(cluster: Arc<Cluster>, person: u64) -> Result<Vec<Window>, Failure> {
    let mut memory = Memory::default();
    while cluster.is_stormy() {
        let wait = cluster.draw(|r| r.between(Duration::from_millis(10), Duration::from_millis(150)));
        tokio::time::sleep(wait).await;
        let nodes = cluster.nodes();
        if nodes.is_empty() {
            continue;
        }
        let (_, node) = cluster.draw(|r| r.pick(&nodes));
        let id = jobs::id(cluster.draw(|r| r.within(0..N_JOBS / N_PEOPLE)) * N_PEOPLE + person);
        act(&cluster, &node, id, &mut memory).await?;
    }
    let now = cluster.now().await?;
    for (job, from) in std::mem::take(&mut memory.disabled) {
        memory.windows.push(Window { job, from, to: now });
    }
    Ok(memory.windows)
}

async fn act(cluster: &Cluster, node: &Node, id: JobId, memory: &mut Memory) -> Result<(), Failure> {
    let now = cluster.now().await?;
    let edit = cluster.draw(|r| Edit::draw(r, now)).quicker(QUICKER, now);
    let enables = matches!(edit, Edit::Enable | Edit::EnableWithMissed);
    if enables && let Some(from) = memory.disabled.remove(&id) {
        memory.windows.push(Window { job: id.clone(), from, to: now });
    }
    let jobs = node.scheduler.jobs().by("operator");
    let made = async {
        match &edit {
            Edit::Cancel => cancel(cluster, node).await,
            edit => edit.make(&jobs, &id).await,
        }
    };
    let made = tokio::time::timeout(PATIENCE, made).await;
    cluster.count(edit.name());
    match made {
        Ok(Ok(execution)) => {
            if let (Edit::Trigger(options), Some(execution)) = (&edit, execution) {
                same_for_the_same_key(cluster, memory, (id, options.idempotency_key.clone()), &execution);
            } else if matches!(edit, Edit::Disable) && !memory.unsure.contains(&id) {
                memory.disabled.insert(id, cluster.now().await?);
            }
        }
        Ok(Err(error)) if !may_be(&error) => cluster.wrong(format!("{} of {id}: {error}", edit.name())),
        unsure => {
            if enables {
                memory.unsure.insert(id);
            }
            if unsure.is_err() {
                cluster.count("edits without an answer");
            }
        }
    }
    Ok(())
}

/// What may go wrong with an edit in a storm, and while its node is ended.
fn may_be(error: &Error) -> bool {
    use ErrorKind::{Conflict, NotFound, Stopped, Unavailable};
    matches!(error.kind(), Unavailable | NotFound | Conflict | Stopped)
}

/// An idempotency key stands for one execution, whatever became of the call that made it.
fn same_for_the_same_key(
    cluster: &Cluster,
    memory: &mut Memory,
    (job, key): (JobId, Option<String>),
    execution: &Execution,
) {
    let Some(key) = key else { return };
    let before = memory.keys.insert((job.clone(), key), execution.id);
    if before.is_some_and(|before| before != execution.id) {
        cluster.wrong(format!("I19 of {job}: the same key gave {before:?} and {}", execution.id));
    }
}

/// Cancels something that is open.
async fn cancel(cluster: &Cluster, node: &Node) -> unified_scheduler::Result<Option<Execution>> {
    let statuses = vec![Status::Pending, Status::Running];
    let query = ExecutionQuery { statuses, limit: 20, ..ExecutionQuery::default() };
    let open = node.scheduler.executions(&query).await?.items;
    if open.is_empty() {
        return Ok(None);
    }
    let id = cluster.draw(|r| r.pick(&open)).id;
    // Whatever the answer is, it is one.
    let _ = node.scheduler.cancel(&id, "operator").await?;
    Ok(None)
}
