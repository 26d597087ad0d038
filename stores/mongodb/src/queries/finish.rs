//! What is still to be done after an execution has ended: its next attempt, the executions of other jobs
//! that follow, what it means for its job, and its removal where nothing is to be kept.
//!
//! The end itself is one update of the execution, which says there what follows from it. Whoever finds
//! that there does it, in this order, each step at most once: what follows is inserted under ids made
//! before, the effect on the job is marked by the place that it gives back, and the note is removed last.

use std::collections::HashSet;
use std::time::Instant;

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use unified_scheduler_core::id::JobId;

use super::effects::{self, Effect};
use super::places::state;
use crate::db::{Db, Durability, still_fresh};
use crate::error::Step;
use crate::ids::taken_out;
use crate::legacy::{OURS, ours};
use crate::value::text;

/// Does what is left for these executions, which have ended.
pub(crate) async fn settle(db: &Db, ended: Vec<Document>) -> Step<()> {
    if ended.is_empty() {
        return Ok(());
    }
    follow(db, &ended, Instant::now()).await?;
    let effects: Vec<Effect> = ended.iter().filter_map(Effect::read).collect();
    let now = db.now().await?;
    effects::apply(db, &effects, now).await?;
    tidy_up(db, &ended).await
}

/// Does what every execution notes that has ended.
pub(crate) async fn redo(db: &Db) -> Step<()> {
    loop {
        let mut options = state();
        options.limit = Some(500);
        let filter = doc! { ours!("after"): { "$exists": true } };
        let found = db.find(&db.names.executions, filter, options).await?;
        let last = found.len() < 500;
        settle(db, found).await?;
        if last {
            return Ok(());
        }
    }
}

fn after(doc: &Document) -> Option<&Document> {
    doc.get_document(OURS).ok()?.get_document("after").ok()
}

/// Inserts what follows. Nothing does from an execution that somebody called off, but for other jobs.
pub(crate) async fn follow(db: &Db, ended: &[Document], read_at: Instant) -> Step<bool> {
    let mut docs = Vec::new();
    for doc in ended {
        let Some(after) = after(doc) else { continue };
        let called_off =
            doc.get_document(OURS).is_ok_and(|own| own.get("cancel").and_then(Bson::as_bool) == Some(true));
        if let Ok(retry) = after.get_document("retry")
            && !called_off
        {
            docs.push(taken_out(retry));
        }
        let chained = after.get_array("chained").map_or(&[][..], Vec::as_slice);
        docs.extend(chained.iter().filter_map(Bson::as_document).map(taken_out));
    }
    if docs.is_empty() {
        return Ok(false);
    }
    still_fresh(read_at)?;
    let followers: Vec<(ObjectId, JobId)> = docs
        .iter()
        .filter_map(|doc| Some((doc.get("_id")?.as_object_id()?, JobId::from(text(doc, "job_id")?))))
        .collect();
    db.insert(&db.names.executions, docs, Durability::Full).await?;
    // A job that was removed meanwhile has cancelled what waited; what came later must not wait for ever.
    let ids: HashSet<JobId> = followers.iter().map(|(_, id)| id.clone()).collect();
    let ids: Vec<JobId> = ids.into_iter().collect();
    let there: HashSet<JobId> = effects::existing(db, &ids).await?.into_iter().collect();
    let lost: Vec<ObjectId> =
        followers.iter().filter(|(_, id)| !there.contains(id)).map(|(key, _)| *key).collect();
    if !lost.is_empty() {
        let filter = doc! { "_id": { "$in": lost }, "status": "pending" };
        db.delete(&db.names.executions, filter).await?;
    }
    Ok(true)
}

/// Removes the notes, and the executions that are not to be kept.
pub(crate) async fn tidy_up(db: &Db, ended: &[Document]) -> Step<()> {
    let (mut drop, mut keep) = (Vec::new(), Vec::new());
    for doc in ended {
        if let (Some(after), Some(key)) = (after(doc), doc.get("_id")) {
            if after.contains_key("drop") { drop.push(key.clone()) } else { keep.push(key.clone()) }
        }
    }
    if !drop.is_empty() {
        let filter = doc! { "_id": { "$in": drop }, ours!("after.drop"): true };
        db.delete(&db.names.executions, filter).await?;
    }
    if !keep.is_empty() {
        let q = doc! { "_id": { "$in": keep } };
        let u = doc! { "$unset": { ours!("after"): true } };
        db.update(&db.names.executions, vec![doc! { "q": q, "u": u, "multi": true }], Durability::Light)
            .await?;
    }
    Ok(())
}
