//! The places of a job that its executions take: how many run, on any node.
//!
//! An execution starts only by an update of its job's document that gives it a place there, so that two
//! nodes can't start more than there are places. Every running execution has one; one whose execution has
//! ended, or never came to be, is given back by whoever meets it.

use std::collections::HashMap;

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use unified_scheduler_core::id::{ExecutionId, JobId};
use unified_scheduler_core::store::Live;

use super::finish;
use crate::db::{Db, Durability, only};
use crate::error::Step;
use crate::ids::inner_keys;
use crate::jobs::JobRow;
use crate::legacy::{OURS, ours};
use crate::value::text;

/// What is open of a job.
#[derive(Debug, Clone, Default)]
pub(crate) struct Open {
    /// What runs.
    pub(crate) running: Vec<(ObjectId, ExecutionId)>,
    /// What waits because of a policy.
    pub(crate) queued: Vec<ObjectId>,
}

impl Open {
    pub(crate) fn live(&self) -> Live {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Live { running: count(self.running.len()), queued: count(self.queued.len()) }
    }
}

/// The fields of an execution by which it is told whether it is open, and what its end means for its job.
pub(crate) fn state() -> mongodb::options::FindOptions {
    only(doc! { "logs": 0, "result": 0, "error": 0, ours!("result"): 0, ours!("error"): 0 })
}

/// Finds out what is really open of these jobs, and gives back the places of what is not. The flag says
/// whether a place was given back, in which case the documents have changed.
pub(crate) async fn tidy(db: &Db, rows: &[JobRow]) -> Step<(HashMap<JobId, Open>, bool)> {
    let ids: Vec<ObjectId> = rows
        .iter()
        .flat_map(|row| row.slots.iter().map(|slot| slot.execution).chain(row.queued.iter().copied()))
        .collect();
    if ids.is_empty() {
        return Ok((HashMap::new(), false));
    }
    let filter = doc! { "_id": { "$in": ids } };
    let found = db.find(&db.names.executions, filter, state()).await?;
    let found: HashMap<ObjectId, &Document> =
        found.iter().filter_map(|doc| Some((doc.get("_id")?.as_object_id()?, doc))).collect();
    let mut open = HashMap::new();
    let mut ended = Vec::new();
    let mut leaks = Vec::new();
    for row in rows {
        let mut of_job = Open::default();
        let mut lost = Vec::new();
        for slot in &row.slots {
            let doc = found.get(&slot.execution);
            match doc.and_then(|doc| text(doc, "status")) {
                Some("running") => {
                    let id = doc.and_then(|doc| id_of(doc));
                    of_job.running.extend(id.map(|id| (slot.execution, id)));
                }
                Some("pending") | None => lost.push(slot.execution),
                Some(_) => ended.extend(doc.map(|doc| (*doc).clone())),
            }
        }
        for id in &row.queued {
            if found.get(id).and_then(|doc| text(doc, "status")) == Some("pending") {
                of_job.queued.push(*id);
            }
        }
        if !lost.is_empty() {
            leaks.push((row, lost));
        }
        open.insert(row.id().clone(), of_job);
    }
    let changed = !ended.is_empty() || !leaks.is_empty();
    finish::settle(db, ended).await?;
    for (row, lost) in leaks {
        let q = doc! { "_id": row.key.clone(), ours!("rev"): row.rev, ours!("ops"): Bson::Null };
        let lost = doc! { "e": { "$in": inner_keys(&lost) } };
        let u = doc! { "$pull": { ours!("slots"): lost }, "$inc": { ours!("rev"): 1_i64 } };
        db.update(db.names.of_job(row.id()), vec![doc! { "q": q, "u": u }], Durability::Full).await?;
    }
    Ok((open, changed))
}

/// The id of one of our executions.
pub(crate) fn id_of(doc: &Document) -> Option<ExecutionId> {
    text(doc.get_document(OURS).ok()?, "id")?.parse().ok()
}
