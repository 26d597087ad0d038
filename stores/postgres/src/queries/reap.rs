//! Finding dead nodes, and ending what they left.

use sqlx::Row as _;
use unified_scheduler_core::Timestamp;
use unified_scheduler_core::execution::Execution;
use unified_scheduler_core::id::{Epoch, NodeId};
use unified_scheduler_core::store::{Completion, NodeRef, Planner, ReapRequest};
use uuid::Uuid;

use super::complete::{End, end_all};
use super::jobs;
use super::nodes::{dead_owners, now};
use crate::error::Step;
use crate::rows::{execution_columns, readable, size};
use crate::session::{Session, millis, params};

/// Marks those dead whose lease has run out.
pub(crate) async fn mark_dead(session: &mut Session, request: ReapRequest) -> Step<Vec<NodeRef>> {
    const SQL: &str = concat!(
        "WITH clock AS MATERIALIZED (SELECT ",
        now!("$1"),
        " AS now)
        UPDATE @nodes SET dead_at = (SELECT now FROM clock)
        WHERE dead_at IS NULL AND lease_until < (SELECT now FROM clock) - $2 RETURNING id, epoch"
    );
    let now = session.shared.fixed_now();
    let rows = session.all(SQL, params![now, millis(request.grace)]).await?;
    let node = |row: &sqlx::postgres::PgRow| -> Step<NodeRef> {
        Ok(NodeRef { id: NodeId::from(row.try_get::<&str, _>(0)?), epoch: Epoch(row.try_get(1)?) })
    };
    rows.iter().map(node).collect()
}

/// What dead epochs left running, by id, after `after`: how many rows there are, the last of them, and those that
/// can be read.
pub(crate) async fn orphans(
    session: &mut Session,
    after: Uuid,
    limit: usize,
) -> Step<(usize, Uuid, Vec<Execution>)> {
    const SQL: &str = concat!(
        "WITH RECURSIVE ",
        dead_owners!(),
        " SELECT ",
        execution_columns!(),
        " FROM dead_owners d, LATERAL (
            SELECT * FROM @executions e
            WHERE e.status = 'running' AND e.node_id = d.node_id AND e.epoch = d.epoch AND e.id > $1
            ORDER BY e.id LIMIT $2) e
        ORDER BY e.id LIMIT $2"
    );
    let rows = session.all(SQL, params![after, size(limit)]).await?;
    let last = rows.last().map(|row| row.try_get(0)).transpose()?.unwrap_or(after);
    Ok((rows.len(), last, readable(&rows)?))
}

/// An orphan, and how it ends.
#[derive(Debug)]
pub(crate) struct Lost {
    pub(crate) execution: Execution,
    owner: NodeRef,
    completion: Completion,
}

/// Asks the planner how they end.
pub(crate) async fn plan(
    session: &mut Session,
    orphans: Vec<Execution>,
    planner: &dyn Planner,
    now: Timestamp,
) -> Step<Vec<Lost>> {
    let ids: Vec<_> = orphans.iter().map(|execution| &execution.job_id).collect();
    let jobs = jobs::read_all(session, &ids).await?;
    let lost = |execution: Execution| {
        let completion = planner.lost(jobs.get(&execution.job_id), &execution, now);
        let owner = NodeRef { id: execution.node_id.clone()?, epoch: execution.epoch };
        Some(Lost { execution, owner, completion })
    };
    Ok(orphans.into_iter().filter_map(lost).collect())
}

/// Ends them, each only if it still runs under that dead epoch; answers those ended here, as they are now.
pub(crate) async fn end(session: &mut Session, lost: &[Lost]) -> Step<Vec<Execution>> {
    let ends: Vec<End<'_>> =
        lost.iter().map(|lost| End { owner: &lost.owner, completion: &lost.completion }).collect();
    let ended = end_all(session, &ends, false).await?;
    let mut now_ended = Vec::with_capacity(ended.len());
    for Lost { execution, completion, .. } in lost {
        if ended.contains_key(&execution.id) {
            let mut execution = execution.clone();
            completion.apply_to(&mut execution);
            now_ended.push(execution);
        }
    }
    Ok(now_ended)
}
