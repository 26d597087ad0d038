//! Executions: one, a page of them, those of a node; and their removal.

use std::collections::HashMap;

use bson::{Document, doc};
use mongodb::options::FindOptions;
use unified_scheduler_core::Error;
use unified_scheduler_core::execution::{Execution, Status};
use unified_scheduler_core::id::{ExecutionId, JobId};
use unified_scheduler_core::store::{Claimed, ExecutionQuery, ExecutionSort, NodeRef, Page};

use super::{nodes, ops, read};
use crate::db::Db;
use crate::error::Step;
use crate::ids::object_id;
use crate::legacy::ours;
use crate::rows;
use crate::value::date;

/// A day, by which the clocks of those who make ids may be off.
const SKEW: std::time::Duration = std::time::Duration::from_hours(24);

async fn one(db: &Db, id: &ExecutionId) -> Step<Option<Execution>> {
    let found = db.find(&db.names.executions, doc! { "_id": object_id(id) }, no_logs()).await?;
    let read = found.first().map(crate::rows::execution).transpose()?;
    Ok(read.filter(|execution| execution.id == *id))
}

pub(crate) async fn get(db: &Db, id: &ExecutionId) -> Step<Option<Execution>> {
    if let Some(found) = one(db, id).await? {
        return Ok(Some(found));
    }
    // It may be embedded in its job still.
    ops::redo(db).await?;
    one(db, id).await
}

pub(crate) async fn owned(db: &Db, node: &NodeRef) -> Step<Vec<Claimed>> {
    let (alive, now) = nodes::lease(db, node).await?;
    if alive.is_none() {
        return Ok(Vec::new());
    }
    ops::redo(db).await?;
    let docs = db.find(&db.names.executions, rows::owned_by(node), no_logs()).await?;
    let executions = rows::executions(&docs);
    let mut ids: Vec<JobId> = executions.iter().map(|e| e.job_id.clone()).collect();
    ids.sort_unstable();
    ids.dedup();
    let jobs: HashMap<JobId, _> = read::jobs(db, &ids, now).await?;
    let claimed = executions.into_iter().map(|execution| match jobs.get(&execution.job_id) {
        Some(row) => Claimed { job: row.job.clone(), execution },
        None => Claimed::of_deleted_job(execution),
    });
    Ok(claimed.collect())
}

fn no_logs() -> FindOptions {
    FindOptions::builder().projection(doc! { "logs": 0 }).build()
}

pub(crate) async fn list(db: &Db, query: &ExecutionQuery) -> Step<Page<Execution>> {
    let by_due = query.sort == ExecutionSort::DueAt;
    if by_due && query.job_id.is_none() {
        return Err(Error::invalid("only executions of one job can be sorted by due time").into());
    }
    ops::redo(db).await?;
    let all = filter(query);
    let total = if query.count {
        Some(db.collection(&db.names.executions).count_documents(all.clone()).await?)
    } else {
        None
    };
    if query.limit == 0 {
        return Ok(Page { items: Vec::new(), total });
    }
    let mut wanted = vec![all];
    if let Some(after) = query.after {
        wanted.push(if by_due { after_due(db, &after).await? } else { after_id(query, &after) });
    }
    let sort = match query.sort {
        ExecutionSort::Newest => doc! { "_id": -1 },
        ExecutionSort::Oldest => doc! { "_id": 1 },
        ExecutionSort::DueAt => doc! { "scheduled_for": 1, "attempt": 1, ours!("nonce"): 1 },
    };
    let mut options = no_logs();
    options.sort = Some(sort);
    options.skip = Some(query.offset);
    options.limit = Some(i64::try_from(query.limit).unwrap_or(i64::MAX));
    let docs = db.find(&db.names.executions, doc! { "$and": wanted }, options).await?;
    Ok(Page { items: rows::executions(&docs), total })
}

fn after_id(query: &ExecutionQuery, after: &ExecutionId) -> Document {
    let side = if query.sort == ExecutionSort::Newest { "$lt" } else { "$gt" };
    doc! { "_id": { side: object_id(after) } }
}

async fn after_due(db: &Db, after: &ExecutionId) -> Step<Document> {
    let last = one(db, after).await?.ok_or_else(|| Error::not_found("execution", after))?;
    let (at, attempt) = (date(last.due_at), i64::from(last.attempt));
    Ok(doc! { "$or": [
        { "scheduled_for": { "$gt": at.clone() } },
        { "scheduled_for": at.clone(), "attempt": { "$gt": attempt } },
        { "scheduled_for": at, "attempt": attempt, ours!("nonce"): { "$gt": &last.nonce } },
    ] })
}

fn filter(query: &ExecutionQuery) -> Document {
    let mut parts = vec![Document::new()];
    if let Some(job) = &query.job_id {
        parts.push(doc! { "job_id": job.as_str() });
    }
    match &query.statuses[..] {
        [] => {}
        [one] => parts.push(doc! { "status": one.as_str() }),
        many => {
            let words: Vec<&str> = many.iter().map(|status| Status::as_str(*status)).collect();
            parts.push(doc! { "status": { "$in": words } });
        }
    }
    if let Some(trigger) = query.trigger {
        parts.push(doc! { ours!("trigger"): trigger.as_str() });
    }
    if let Some(node) = &query.node_id {
        parts.push(doc! { ours!("node"): node.as_str() });
    }
    if let Some(root) = &query.root_id {
        // A first attempt does not repeat its own id.
        parts.push(doc! { "$or": [{ "_id": object_id(root) }, { ours!("root"): root.to_string() }] });
    }
    if query.sort == ExecutionSort::DueAt {
        // Only ours have one; and so the index over it can be used.
        let mut range = doc! { "$gte": date(query.since.unwrap_or(unified_scheduler_core::Timestamp::MIN)) };
        if let Some(until) = query.until {
            range.insert("$lt", date(until));
        }
        parts.push(doc! { "scheduled_for": range });
    } else {
        parts.extend(made(query));
    }
    doc! { "$and": parts }
}

/// When they were made: ours say so, of others it is known when they started. The ids, which are in an
/// index, follow from the clock of whoever made them.
fn made(query: &ExecutionQuery) -> Vec<Document> {
    let mut range = Document::new();
    let mut ids = Document::new();
    if let Some(since) = query.since {
        range.insert("$gte", date(since));
        ids.insert("$gte", object_id(&ExecutionId::lower_bound(since.saturating_sub(SKEW))));
    }
    if let Some(until) = query.until {
        range.insert("$lt", date(until));
        ids.insert("$lt", object_id(&ExecutionId::lower_bound(until.saturating_add(SKEW))));
    }
    if range.is_empty() {
        return Vec::new();
    }
    let theirs = doc! { ours!("created"): { "$exists": false }, "started_at": range.clone() };
    vec![doc! { "_id": ids }, doc! { "$or": [{ ours!("created"): range }, theirs] }]
}

pub(crate) async fn delete(db: &Db, ids: &[ExecutionId]) -> Step<u64> {
    if ids.is_empty() {
        return Ok(0);
    }
    ops::redo(db).await?;
    let keys: Vec<_> = ids.iter().map(object_id).collect();
    let filter = doc! {
        "_id": { "$in": keys }, "status": { "$nin": ["pending", "running"] },
        ours!("after"): { "$exists": false },
    };
    db.delete(&db.names.executions, filter).await
}
