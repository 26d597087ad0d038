//! Whether a cluster is well: what must be so, some time after the last fault.

use std::collections::BTreeMap;
use std::time::Duration;

use unified_scheduler::store::{ExecutionPages, ExecutionQuery, ExecutionSort, JobPages, JobQuery, Store};
use unified_scheduler::{Epoch, Execution, JobId, NodeId, Result, Status};

/// A node's name, and who it is as a member.
pub type Member = (String, Option<(NodeId, Epoch)>);

/// What is not well, in words; nothing, when all of these nodes are members, nothing runs that no node owns,
/// and nothing that may start waits for longer than `overdue`.
///
/// # Errors
///
/// The store's own.
pub async fn ill(store: &dyn Store, members: &[Member], overdue: Duration) -> Result<String> {
    let nodes = store.list_nodes().await?;
    let now = store.now().await?;
    let alive: Vec<_> = nodes
        .into_iter()
        .filter(|node| !node.dead && node.lease_until > now)
        .map(|node| (node.id, node.epoch))
        .collect();
    let outside = members.iter().find(|(_, id)| id.as_ref().is_none_or(|id| !alive.contains(id)));
    if let Some((name, _)) = outside {
        return Ok(format!("{name} is no member"));
    }
    let open = executions(store, &[Status::Pending, Status::Running], None).await?;
    let mut running: BTreeMap<&JobId, u32> = BTreeMap::new();
    for row in open.iter().filter(|row| row.status == Status::Running) {
        if !alive.iter().any(|(id, epoch)| row.node_id.as_ref() == Some(id) && row.epoch == *epoch) {
            return Ok(format!("{} of {} runs nowhere", row.id, row.job_name));
        }
        *running.entry(&row.job_id).or_default() += 1;
    }
    let mut pages = JobPages::new(store, JobQuery::default());
    let mut jobs = BTreeMap::new();
    loop {
        let page = pages.next().await?;
        if page.is_empty() {
            break;
        }
        jobs.extend(page.into_iter().map(|job| (job.id.clone(), job)));
    }
    for row in open.iter().filter(|row| row.status == Status::Pending && now.since(row.run_at) > overdue) {
        let running = running.get(&row.job_id).copied().unwrap_or(0);
        let may_start = jobs
            .get(&row.job_id)
            .is_some_and(|job| job.fault.is_none() && running < job.definition.overlap.max_running());
        if may_start {
            return Ok(format!("{} of {} waits since {}", row.id, row.job_name, row.run_at));
        }
    }
    let late = jobs.values().filter(|job| job.enabled && job.fault.is_none()).find_map(|job| {
        let due = job.due.filter(|due| now.since(due.fire_at) > overdue)?;
        Some(format!("{} is due since {}", job.definition.name, due.fire_at))
    });
    Ok(late.unwrap_or_default())
}

/// All executions in some states, or in any when none is named, of one node or of all, the oldest first.
///
/// # Errors
///
/// The store's own.
pub async fn executions(
    store: &dyn Store,
    statuses: &[Status],
    node: Option<&NodeId>,
) -> Result<Vec<Execution>> {
    let query = ExecutionQuery {
        statuses: statuses.to_vec(),
        node_id: node.cloned(),
        sort: ExecutionSort::Oldest,
        ..ExecutionQuery::default()
    };
    let mut pages = ExecutionPages::new(store, query);
    let mut all = Vec::new();
    loop {
        let page = pages.next().await?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}
