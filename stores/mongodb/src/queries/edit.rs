//! Editing and removing jobs.

use std::time::Instant;

use bson::doc;
use bson::oid::ObjectId;
use serde_json::Value;
use unified_scheduler_core::Error;
use unified_scheduler_core::id::JobId;
use unified_scheduler_core::store::{AuditEntry, Change, UpdateJob, UpdateOutcome};

use super::create::{Lock, holder};
use super::ops::{Deed, Ops, carry_out};
use super::read;
use crate::db::{Db, Durability};
use crate::error::Step;
use crate::legacy::ours;
use crate::value::date;

pub(crate) async fn update(db: &Db, request: &UpdateJob) -> Step<UpdateOutcome> {
    if !request.unique_name {
        return update_locked(db, request).await;
    }
    let lock = Lock::take(db).await?;
    let outcome = update_locked(db, request).await;
    lock.give_back(db).await;
    outcome
}

async fn update_locked(db: &Db, request: &UpdateJob) -> Step<UpdateOutcome> {
    for _ in 0..50 {
        let now = db.now().await?;
        let Some(mut row) = read::job(db, &request.id, now).await? else {
            return Ok(UpdateOutcome::NotFound);
        };
        if row.job.version != request.expected_version {
            return Ok(UpdateOutcome::Stale(Box::new(row.job)));
        }
        if row.newer {
            let why = "a newer version of this software wrote the job; edit it with that";
            return Err(Error::unsupported(why).with("job", &request.id).into());
        }
        if let Some(name) = request.name_to_check(&row.job)
            && let Some(other) = holder(db, name, &request.id).await?
        {
            return Ok(UpdateOutcome::NameTaken(other));
        }
        let before = row.job.clone();
        request.apply(&mut row.job, now);
        let job = &row.job;
        let mut ops = Ops::new(ObjectId::new());
        let change = Change { actor: &request.actor, action: &request.action, due_before: before.due_at() };
        ops.audit(&AuditEntry::of(job, now, change, Value::Null));
        let (old, new) = (&before.definition, &job.definition);
        if (&old.handler, old.priority) != (&new.handler, new.priority) {
            ops.repoint(&new.handler, new.priority);
        }
        let edited = request.definition.is_some();
        row.unreadable &= !edited;
        let (mut set, unset) = row.write(edited)?;
        set.insert("enabled", row.job.enabled);
        set.insert("version", row.job.version);
        set.insert("updatedAt", date(row.job.updated_at));
        set.insert(ours!("ops"), ops.to_bson());
        let collection = db.names.of_job(&request.id);
        let read_at = Instant::now();
        let statement = row.update(set, unset);
        if db.update(collection, vec![statement], Durability::Full).await?.n == 1 {
            let deed = Deed { collection: collection.to_owned(), key: row.key.clone(), ops };
            carry_out(db, &[deed], read_at).await?;
            return Ok(UpdateOutcome::Updated(Box::new(row.job)));
        }
    }
    Err(crate::jobs::too_busy(&request.id).into())
}

pub(crate) async fn delete(db: &Db, id: &JobId, actor: &str) -> Step<bool> {
    for _ in 0..50 {
        let now = db.now().await?;
        let Some(row) = read::job(db, id, now).await? else { return Ok(false) };
        let mut gone = row.job.clone();
        let due_before = gone.due.take().map(|due| due.due_at);
        let mut ops = Ops::new(ObjectId::new());
        let change = Change { actor, action: "deleted", due_before };
        ops.audit(&AuditEntry::of(&gone, now, change, Value::Null));
        ops.remove(&format!("its job was deleted by {actor}"), now);
        // Until the document is gone, nobody is to run it, the existing backend included.
        let set = doc! {
            "enabled": false, ours!("enabled"): false, ours!("rev"): row.rev + 1, ours!("ops"): ops.to_bson(),
        };
        let collection = db.names.of_job(id);
        let read_at = Instant::now();
        let statement = row.update(set, doc! { ours!("fire"): true });
        if db.update(collection, vec![statement], Durability::Full).await?.n == 1 {
            let deed = Deed { collection: collection.to_owned(), key: row.key.clone(), ops };
            carry_out(db, &[deed], read_at).await?;
            return Ok(true);
        }
    }
    Err(crate::jobs::too_busy(id).into())
}
