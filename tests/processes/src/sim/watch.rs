//! Rows seen as they change: an end is final, and nothing goes back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use unified_scheduler::{Execution, ExecutionId, JobId, Status};
use unified_scheduler_tests::witness::{Seen, edge_fault};

use super::cluster::Cluster;
use crate::{Failure, health};

/// How often to look.
const EVERY: Duration = Duration::from_millis(300);

/// What a crash of the server may take back: what it had not told anybody to be durable.
const FRESH: Duration = Duration::from_secs(2);

/// Watches until every node has stopped.
///
/// # Errors
///
/// When the store can't be asked.
pub(super) async fn rows(cluster: Arc<Cluster>) -> Result<(), Failure> {
    let mut known: BTreeMap<ExecutionId, (Execution, Instant)> = BTreeMap::new();
    let mut crashed_at = None;
    let mut crowded: Vec<(JobId, Vec<ExecutionId>)> = Vec::new();
    loop {
        let last = cluster.is_stopped();
        let rows = cluster.ask(|store| async move { health::executions(&*store, &[], None).await }).await?;
        let now = cluster.crashed_at();
        if now != crashed_at {
            crashed_at = now;
            known.retain(|_, (_, seen)| now.is_none_or(|at| *seen + FRESH < at));
        }
        compare(&cluster, &mut known, rows);
        crowded = crowds(&cluster, crowded).await?;
        if last {
            return Ok(());
        }
        tokio::time::sleep(EVERY).await;
    }
}

fn compare(cluster: &Cluster, known: &mut BTreeMap<ExecutionId, (Execution, Instant)>, rows: Vec<Execution>) {
    let now = Instant::now();
    let mut left: BTreeMap<ExecutionId, (Execution, Instant)> = std::mem::take(known);
    for row in rows {
        match left.remove(&row.id) {
            Some((before, since)) if before == row => known.insert(row.id, (row, since)),
            Some((before, _)) => {
                if let Some(fault) = edge_fault(&before, &row, Seen::Some) {
                    cluster.wrong(fault);
                }
                known.insert(row.id, (row, now))
            }
            None => known.insert(row.id, (row, now)),
        };
    }
    for (gone, _) in left.into_values() {
        cluster.wrong(format!("I8 {} is gone, and was {gone:?}", gone.id));
    }
}

/// Jobs of which more runs than may; told when the same is so at two looks, for one is not of one instant.
async fn crowds(
    cluster: &Cluster,
    before: Vec<(JobId, Vec<ExecutionId>)>,
) -> Result<Vec<(JobId, Vec<ExecutionId>)>, Failure> {
    let running = cluster
        .ask(|store| async move { health::executions(&*store, &[Status::Running], None).await })
        .await?;
    let mut of_job: BTreeMap<JobId, Vec<ExecutionId>> = BTreeMap::new();
    for row in running {
        of_job.entry(row.job_id).or_default().push(row.id);
    }
    let mut crowded = Vec::new();
    for (id, running) in of_job.into_iter().filter(|(_, running)| running.len() > 1) {
        let asked = cluster.ask(|store| {
            let id = id.clone();
            async move { store.get_job(&id).await }
        });
        let Some(job) = asked.await? else { continue };
        let most = usize::try_from(job.definition.overlap.max_running()).unwrap_or(usize::MAX);
        if running.len() > most {
            crowded.push((id, running));
        }
    }
    for same in crowded.iter().filter(|now| before.contains(now)) {
        cluster.wrong(format!("I13 more than allowed run of {}: {:?}", same.0, same.1));
    }
    Ok(crowded)
}
