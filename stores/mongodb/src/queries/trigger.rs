//! Manual triggers and cancellations.

use std::time::Instant;

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use unified_scheduler_core::Error;
use unified_scheduler_core::execution::{Execution, Status};
use unified_scheduler_core::id::ExecutionId;
use unified_scheduler_core::store::{CancelOutcome, NewExecution, TriggerOutcome, TriggerRequest};

use super::ops::{Deed, Ops, cancelled, carry_out, redo};
use super::{places, read};
use crate::db::{Db, Durability, at_most};
use crate::error::Step;
use crate::ids::object_id;
use crate::jobs::JobRow;
use crate::legacy::{OURS, ours};
use crate::rows;
use crate::value::{date, n, text};

pub(crate) async fn trigger(db: &Db, request: &TriggerRequest) -> Step<TriggerOutcome> {
    let new = &request.execution;
    let key = request.idempotency_key.as_deref();
    for _ in 0..50 {
        if let Some(seen) = seen(db, new, key).await? {
            return Ok(TriggerOutcome::Exists(Box::new(seen)));
        }
        let now = db.now().await?;
        let Some(row) = read::job(db, &new.job_id, now).await? else { return Ok(TriggerOutcome::NotFound) };
        if request.unless_open
            && let Some(open) = first_open(db, &row).await?
        {
            // A repeat of this call may have made it just now.
            if seen_again(db, new, key).await? {
                continue;
            }
            return Ok(TriggerOutcome::Busy(open));
        }
        let execution = new.clone().into_execution(&row.job, now);
        let mut ops = Ops::new(ObjectId::new());
        ops.insert(&execution, key);
        if let Some(failed) = embed(db, &row, ops).await? {
            if failed {
                continue;
            }
            return Ok(TriggerOutcome::Created(Box::new(execution)));
        }
    }
    Err(crate::jobs::too_busy(&new.job_id).into())
}

/// Embeds something in the job's document and carries it out: `None` when others were first, else whether
/// an execution did not come to be.
async fn embed(db: &Db, row: &JobRow, ops: Ops) -> Step<Option<bool>> {
    let (mut set, unset) = if row.stale { row.write(false)? } else { (Document::new(), Document::new()) };
    set.insert(ours!("rev"), row.rev + 1);
    set.insert(ours!("ops"), ops.to_bson());
    let collection = db.names.of_job(row.id());
    let read_at = Instant::now();
    let written = db.update(collection, vec![row.update(set, unset)], Durability::Full).await?;
    if written.n == 0 {
        return Ok(None);
    }
    let deed = Deed { collection: collection.to_owned(), key: row.key.clone(), ops };
    Ok(Some(!carry_out(db, &[deed], read_at).await?.is_empty()))
}

async fn seen_again(db: &Db, new: &NewExecution, key: Option<&str>) -> Step<bool> {
    Ok(seen(db, new, key).await?.is_some())
}

/// The execution that this request made before: by its id, its key, or its occurrence.
async fn seen(db: &Db, new: &NewExecution, key: Option<&str>) -> Step<Option<Execution>> {
    let job = new.job_id.as_str();
    let mut ways = vec![
        doc! { "_id": object_id(&new.id) },
        doc! {
            "job_id": job, "scheduled_for": date(new.due_at), "attempt": n(new.attempt),
            ours!("nonce"): &new.nonce,
        },
    ];
    ways.extend(key.map(|key| doc! { "job_id": job, ours!("key"): key }));
    let found = db.find(&db.names.executions, doc! { "$or": ways }, at_most(3)).await?;
    let by_id = found.iter().find(|doc| doc.get("_id") == Some(&Bson::ObjectId(object_id(&new.id))));
    if let Some(doc) = by_id {
        let seen = rows::execution(doc)?;
        if seen.job_id != new.job_id {
            return Err(Error::conflict("another job has this execution id")
                .during("trigger")
                .with("execution_id", new.id)
                .into());
        }
        return Ok(Some(seen));
    }
    let has_key = |doc: &&Document| {
        let own = doc.get_document(OURS).ok();
        key.is_some() && own.and_then(|own| text(own, "key")) == key
    };
    let doc = found.iter().find(has_key).or_else(|| found.first());
    Ok(doc.map(rows::execution).transpose()?)
}

/// An open execution of the job.
async fn first_open(db: &Db, row: &JobRow) -> Step<Option<ExecutionId>> {
    let (open, _) = places::tidy(db, std::slice::from_ref(row)).await?;
    if let Some((_, id)) = open.get(row.id()).and_then(|open| open.running.first()) {
        return Ok(Some(*id));
    }
    let pending = doc! { "job_id": row.id().as_str(), "status": "pending" };
    let found = db.find(&db.names.executions, pending, at_most(1)).await?;
    Ok(found.first().and_then(places::id_of))
}

pub(crate) async fn cancel(db: &Db, id: &ExecutionId, actor: &str) -> Step<CancelOutcome> {
    let key = object_id(id);
    for round in 0..20 {
        let found = db.find_one(&db.names.executions, doc! { "_id": key }).await?;
        let Some(doc) = found else {
            // It may be embedded still.
            if round == 0 {
                redo(db).await?;
                continue;
            }
            return Ok(CancelOutcome::NotFound);
        };
        let execution = rows::execution(&doc)?;
        let (q, set, outcome) = match execution.status {
            Status::Pending => {
                let set = cancelled(&format!("cancelled by {actor}"), db.now().await?);
                (doc! { "_id": key, "status": "pending" }, set, CancelOutcome::Cancelled)
            }
            Status::Running => {
                let set = doc! { ours!("cancel"): true };
                (doc! { "_id": key, "status": "running" }, set, CancelOutcome::Requested)
            }
            ended => return Ok(CancelOutcome::Ended(ended)),
        };
        let statement = doc! { "q": q, "u": { "$set": set } };
        if db.update(&db.names.executions, vec![statement], Durability::Full).await?.n == 1 {
            return Ok(outcome);
        }
    }
    Err(Error::unavailable("others changed the execution at the same time, again and again").into())
}
