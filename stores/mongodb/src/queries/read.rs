//! Jobs by their ids, read after what is embedded in them has been carried out.

use std::collections::HashMap;
use std::time::Instant;

use bson::{Bson, Document, doc};
use mongodb::options::FindOptions;
use unified_scheduler_core::Timestamp;
use unified_scheduler_core::id::JobId;

use super::ops::{Deed, carry_out};
use super::places;
use crate::db::Db;
use crate::error::Step;
use crate::ids::{is_static, job_filter, job_key};
use crate::jobs::JobRow;

/// One job, with nothing embedded and no place taken by what has ended; `None` when there is none.
pub(crate) async fn job(db: &Db, id: &JobId, now: Timestamp) -> Step<Option<JobRow>> {
    let collection = db.names.of_job(id);
    for _ in 0..20 {
        let read_at = Instant::now();
        let Some(doc) = db.find_one(collection, job_filter(id)).await? else {
            // Of several made at once, it may still have to be written.
            if super::create::redo(db).await? {
                continue;
            }
            return Ok(None);
        };
        if let Some(deed) = Deed::of(collection, &doc) {
            carry_out(db, &[deed], read_at).await?;
            continue;
        }
        let row = JobRow::read(doc, &db.cache, now);
        if row.slots.is_empty() || !places::tidy(db, std::slice::from_ref(&row)).await?.1 {
            return Ok(Some(row));
        }
    }
    Err(crate::jobs::too_busy(id).into())
}

/// Documents of jobs, by the collection they are in.
pub(crate) async fn documents(db: &Db, ids: &[JobId]) -> Step<Vec<(&'static str, Document)>> {
    let mut found = Vec::new();
    for statics in [false, true] {
        let keys: Vec<Bson> = ids.iter().filter(|id| is_static(id) == statics).flat_map(keys).collect();
        if keys.is_empty() {
            continue;
        }
        let collection = if statics { &db.names.statics } else { &db.names.jobs };
        let filter = doc! { "_id": { "$in": keys } };
        let docs = db.find(collection, filter, FindOptions::default()).await?;
        found.extend(docs.into_iter().map(|doc| (if statics { "static" } else { "dynamic" }, doc)));
    }
    Ok(found)
}

fn keys(id: &JobId) -> Vec<Bson> {
    let number = id.as_str().parse::<i64>().ok().map(Bson::Int64);
    std::iter::once(job_key(id)).chain(number).collect()
}

/// Jobs as they are now, those that are there; what is embedded is carried out first.
pub(crate) async fn jobs(db: &Db, ids: &[JobId], now: Timestamp) -> Step<HashMap<JobId, JobRow>> {
    let mut rows = HashMap::new();
    let mut left = ids.to_vec();
    for _ in 0..20 {
        if left.is_empty() {
            return Ok(rows);
        }
        let read_at = Instant::now();
        let mut deeds = Vec::new();
        for (kind, doc) in documents(db, &left).await? {
            let collection = if kind == "static" { &db.names.statics } else { &db.names.jobs };
            if let Some(deed) = Deed::of(collection, &doc) {
                deeds.push(deed);
                continue;
            }
            let row = JobRow::read(doc, &db.cache, now);
            rows.insert(row.id().clone(), row);
        }
        left = deeds.iter().map(|deed| crate::ids::job_id(&deed.key)).collect();
        if !deeds.is_empty() {
            carry_out(db, &deeds, read_at).await?;
        }
    }
    Ok(rows)
}
