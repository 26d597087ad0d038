//! Finding dead nodes, and ending what they left.

use bson::{Bson, Document, doc};
use unified_scheduler_core::id::JobId;
use unified_scheduler_core::store::{Completion, NodeRef, Planner, ReapRequest, Reaped};

use super::complete::end;
use super::{nodes, ops, places, read};
use crate::db::Db;
use crate::error::Step;
use crate::jobs::JobRow;
use crate::legacy::ours;
use crate::rows;
use crate::value::int;

pub(crate) async fn reap(db: &Db, request: ReapRequest, planner: &dyn Planner) -> Step<(Reaped, bool)> {
    let now = db.now().await?;
    let mut reaped = Reaped { nodes: nodes::bury(db, request.grace, now).await?, ..Reaped::default() };
    ops::redo(db).await?;
    let living = nodes::living(db).await?;
    let running = doc! { "status": "running", ours!("epoch"): { "$exists": true } };
    let dead: Vec<i64> = dead(&db.distinct(&db.names.executions, ours!("epoch"), running).await?, &living);
    let mut hint = false;
    if !dead.is_empty() {
        let mut options = places::state();
        options.sort = Some(doc! { "_id": 1 });
        options.limit = Some(i64::try_from(request.limit.saturating_add(1)).unwrap_or(i64::MAX));
        let left = doc! { "status": "running", ours!("epoch"): { "$in": dead } };
        let mut docs = db.find(&db.names.executions, left, options).await?;
        reaped.more = docs.len() > request.limit;
        docs.truncate(request.limit);
        hint = end_all(db, &docs, planner, now, &mut reaped).await?;
    }
    if !reaped.more {
        free_places(db, &living, now).await?;
    }
    Ok((reaped, hint))
}

fn dead(epochs: &[Bson], living: &[i64]) -> Vec<i64> {
    epochs.iter().filter_map(|epoch| int(Some(epoch))).filter(|epoch| !living.contains(epoch)).collect()
}

async fn end_all(
    db: &Db,
    docs: &[Document],
    planner: &dyn Planner,
    now: unified_scheduler_core::Timestamp,
    reaped: &mut Reaped,
) -> Step<bool> {
    let executions = rows::executions(docs);
    let mut ids: Vec<JobId> = executions.iter().map(|e| e.job_id.clone()).collect();
    ids.sort_unstable();
    ids.dedup();
    let jobs = read::jobs(db, &ids, now).await?;
    let lost: Vec<(NodeRef, Completion)> = executions
        .iter()
        .filter_map(|execution| {
            let owner = NodeRef { id: execution.node_id.clone()?, epoch: execution.epoch };
            let job = jobs.get(&execution.job_id).filter(|row| !row.unreadable).map(|row| &row.job);
            Some((owner, planner.lost(job, execution, now)))
        })
        .collect();
    if lost.is_empty() {
        return Ok(false);
    }
    let ends: Vec<(&NodeRef, &Completion)> = lost.iter().map(|(owner, end)| (owner, end)).collect();
    let ended = end(db, &ends, now, true).await?;
    let ours = rows::keys(&ended.docs);
    for execution in executions {
        if !ours.contains(&crate::ids::object_id(&execution.id)) {
            continue;
        }
        let mut ended = execution;
        if let Some((_, completion)) = lost.iter().find(|(_, end)| end.execution_id == ended.id) {
            completion.apply_to(&mut ended);
        }
        reaped.ended.push(ended);
    }
    Ok(ended.hint)
}

/// Gives back the places that dead nodes hold still for what has ended.
async fn free_places(db: &Db, living: &[i64], now: unified_scheduler_core::Timestamp) -> Step<()> {
    const PAGE: usize = 200;
    for collection in db.names.of_jobs() {
        let held = doc! { ours!("slots.p"): { "$exists": true } };
        let dead = dead(&db.distinct(collection, ours!("slots.p"), held).await?, living);
        if dead.is_empty() {
            continue;
        }
        let filter = doc! { ours!("slots.p"): { "$in": dead } };
        let docs = db.find(collection, filter, crate::db::at_most(PAGE)).await?;
        let rows: Vec<JobRow> = docs
            .into_iter()
            .map(|doc| JobRow::read(doc, &db.cache, now))
            .filter(|row| row.ops.is_none())
            .collect();
        places::tidy(db, &rows).await?;
    }
    Ok(())
}
