//! Exclusion calendars.

use std::sync::{Arc, Mutex, PoisonError};

use bson::doc;
use mongodb::options::FindOptions;
use unified_scheduler_core::schedule::{Calendar, Calendars};

use crate::db::{Db, Durability};
use crate::error::Step;
use crate::value::text;

/// The calendars as a planner takes them, as they were at some version.
#[derive(Debug, Default)]
pub(crate) struct Known {
    at: Mutex<(i64, Arc<Calendars>)>,
}

impl Known {
    /// The calendars at `version`, read again where that is another.
    pub(crate) async fn at(&self, db: &Db, version: i64) -> Step<Arc<Calendars>> {
        {
            let known = self.at.lock().unwrap_or_else(PoisonError::into_inner);
            if known.0 == version {
                return Ok(Arc::clone(&known.1));
            }
        }
        let mut read = Calendars::new();
        for calendar in list(db).await? {
            // One that can't be read is to the planner as if it were not there.
            if let Err(faults) = read.insert(&calendar) {
                tracing::warn!(calendar = %calendar.name, ?faults, "a calendar can't be used");
            }
        }
        let read = Arc::new(read);
        *self.at.lock().unwrap_or_else(PoisonError::into_inner) = (version, Arc::clone(&read));
        Ok(read)
    }
}

pub(crate) async fn put(db: &Db, calendar: &Calendar) -> Step<()> {
    let q = doc! { "_id": &calendar.name };
    let u = doc! { "$set": { "definition": serde_json::to_string(calendar)? } };
    let statement = doc! { "q": q, "u": u, "upsert": true };
    db.update(&db.names.calendars, vec![statement], Durability::Full).await?;
    changed(db).await
}

pub(crate) async fn delete(db: &Db, name: &str) -> Step<bool> {
    let gone = db.delete(&db.names.calendars, doc! { "_id": name }).await? > 0;
    if gone {
        changed(db).await?;
    }
    Ok(gone)
}

async fn changed(db: &Db) -> Step<()> {
    let statement = doc! { "q": { "_id": "calendars" }, "u": { "$inc": { "n": 1_i64 } }, "upsert": true };
    db.update(&db.names.meta, vec![statement], Durability::Full).await?;
    Ok(())
}

pub(crate) async fn list(db: &Db) -> Step<Vec<Calendar>> {
    let options = FindOptions::builder().sort(doc! { "_id": 1 }).build();
    let docs = db.find(&db.names.calendars, doc! {}, options).await?;
    let read = docs.iter().filter_map(|doc| {
        let read = serde_json::from_str(text(doc, "definition")?);
        if let Err(error) = &read {
            tracing::warn!(calendar = ?doc.get("_id"), %error, "a calendar can't be read");
        }
        read.ok()
    });
    Ok(read.collect())
}
