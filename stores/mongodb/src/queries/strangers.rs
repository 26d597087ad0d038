//! Jobs that other programs made or edited: found within seconds, and entered into our indexes.
//!
//! One question, every few seconds, each part of it served by an index: documents without our
//! sub-document; jobs that others switched on; jobs whose `nextRunAt` has come and is not what we wrote;
//! and jobs that were set aside, whose definition may have been mended.

use bson::{Bson, Document, doc};
use unified_scheduler_core::Timestamp;

use super::ops::{Deed, carry_out};
use crate::db::{Db, Durability};
use crate::error::Step;
use crate::jobs::{JobRow, update};
use crate::legacy::ours;
use crate::value::{date, n};

/// Documents that one look takes, of each kind.
const PAGE: usize = 500;

/// Looks for what others wrote. Answers whether there was anything.
pub(crate) async fn look(db: &Db, now: Timestamp) -> Step<bool> {
    let mut any = false;
    for _ in 0..20 {
        let found = db.aggregate(&db.names.jobs, pipeline(db, now), 4 * PAGE).await?;
        let read_at = std::time::Instant::now();
        if found.iter().any(is_creation) {
            super::create::redo(db).await?;
        }
        let of_job = |doc: &Document| {
            let id = crate::ids::job_id(doc.get("_id")?);
            Deed::of(db.names.of_job(&id), doc)
        };
        let deeds: Vec<Deed> = found.iter().filter_map(of_job).collect();
        if !deeds.is_empty() {
            carry_out(db, &deeds, read_at).await?;
        }
        let page = found.len() >= PAGE;
        let rows: Vec<JobRow> = found
            .into_iter()
            .filter(|doc| of_job(doc).is_none() && !is_creation(doc))
            .map(|doc| JobRow::read(doc, &db.cache, now))
            .filter(|row| row.stale)
            .collect();
        if rows.is_empty() {
            break;
        }
        any = true;
        adopt(db, rows, now).await?;
        if !page {
            break;
        }
    }
    Ok(any)
}

/// Whether it is a creation of several jobs that is still to be carried out.
fn is_creation(doc: &Document) -> bool {
    crate::value::text(doc, "_id").is_some_and(|id| id.starts_with("create:"))
}

fn pipeline(db: &Db, now: Timestamp) -> Vec<Document> {
    let jobs = &db.names.jobs;
    let limit = doc! { "$limit": n(PAGE) };
    let union = |filter: Document| {
        let pipeline = vec![doc! { "$match": filter }, limit.clone()];
        doc! { "$unionWith": { "coll": jobs, "pipeline": pipeline } }
    };
    let ours_null = |path: &str| doc! { "$ifNull": [path, Bson::Null] };
    let handler = doc! { "$ifNull": ["$templateType", "$template_type", "$template"] };
    let edited = doc! { "$or": [
        { "$ne": [ours_null("$nextRunAt"), ours_null(concat!("$", ours!("next")))] },
        { "$ne": [handler, ours_null(concat!("$", ours!("handler")))] },
    ] };
    vec![
        doc! { "$match": { ours!("v"): Bson::Null } },
        limit.clone(),
        union(doc! { "enabled": true, ours!("enabled"): false }),
        union(doc! { "enabled": true, "nextRunAt": { "$lte": date(now) }, "$expr": edited }),
        union(doc! { ours!("fault"): { "$exists": true } }),
        // What somebody left behind who died, before anybody else met it.
        union(doc! { ours!("ops.token"): { "$exists": true } }),
        doc! { "$unionWith": { "coll": &db.names.statics, "pipeline": [
            { "$match": { ours!("ops.token"): { "$exists": true } } }, limit.clone(),
        ] } },
        doc! { "$unionWith": { "coll": &db.names.meta, "pipeline": [
            { "$match": { "_id": { "$gte": "create:", "$lt": "create;" } } }, { "$limit": 1 },
            { "$project": { "jobs": [] } },
        ] } },
    ]
}

/// Writes our sub-document as the rest of the document says. Whoever changes it meanwhile wins; then it
/// is found again.
pub(crate) async fn adopt(db: &Db, rows: Vec<JobRow>, now: Timestamp) -> Step<()> {
    let (mut dynamic, mut statics) = (Vec::new(), Vec::new());
    for row in rows {
        let (mut set, unset) = row.write(false)?;
        if row.unreadable {
            set.insert("lastStatus", "failed");
            let why = row.job.fault.as_deref().unwrap_or_default();
            tracing::error!(job_id = %row.id(), why, "a job is set aside");
        }
        tracing::debug!(job_id = %row.id(), due = ?row.job.due, at = %now, "took over what another program wrote");
        let statement = update(row.guard(), set, unset);
        if crate::ids::is_static(row.id()) { statics.push(statement) } else { dynamic.push(statement) }
    }
    for (collection, statements) in [(&db.names.jobs, dynamic), (&db.names.statics, statics)] {
        if !statements.is_empty() {
            db.update(collection, statements, Durability::Full).await?;
        }
    }
    Ok(())
}
