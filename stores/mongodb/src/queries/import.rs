//! Rows of another store.

use bson::{Document, doc};
use mongodb::options::FindOptions;
use unified_scheduler_core::store::{AuditEntry, Import, Imported};

use super::history::entry;
use super::{logs, ops};
use crate::db::{Db, Durability};
use crate::error::Step;
use crate::ids::{is_static, object_id};
use crate::jobs::JobRow;
use crate::rows;

pub(crate) async fn import(db: &Db, import: &Import) -> Step<Imported> {
    ops::redo(db).await?;
    Ok(Imported {
        jobs: jobs(db, import).await?,
        executions: executions(db, import).await?,
        audit: audit(db, &import.audit).await?,
    })
}

async fn jobs(db: &Db, import: &Import) -> Step<u64> {
    let (mut dynamic, mut statics) = (Vec::new(), Vec::new());
    for job in &import.jobs {
        let docs = if is_static(&job.id) { &mut statics } else { &mut dynamic };
        docs.push(JobRow::fresh(job)?);
    }
    let mut added = 0;
    for (collection, docs) in [(&db.names.jobs, dynamic), (&db.names.statics, statics)] {
        added += db.insert(collection, docs, Durability::Full).await?.n;
    }
    Ok(added)
}

async fn executions(db: &Db, import: &Import) -> Step<u64> {
    let docs = import.executions.iter().map(|(execution, _)| rows::document(execution, None)).collect();
    let added = db.insert(&db.names.executions, docs, Durability::Full).await?.n;
    let mut lines: Vec<Document> = Vec::new();
    for (execution, logged) in import.executions.iter().filter(|(_, logged)| !logged.is_empty()) {
        // Those that are there already are passed over.
        lines.push(doc! { "q": { "_id": object_id(&execution.id) }, "u": logs::append(logged, 0) });
    }
    db.update(&db.names.executions, lines, Durability::Full).await?;
    Ok(added)
}

async fn audit(db: &Db, entries: &[AuditEntry]) -> Step<u64> {
    let mut jobs: Vec<&str> = entries.iter().map(|entry| entry.job_id.as_str()).collect();
    jobs.sort_unstable();
    jobs.dedup();
    let filter = doc! { "job_id": { "$in": jobs } };
    let known: Vec<AuditEntry> =
        db.find(&db.names.audit, filter, FindOptions::default()).await?.iter().map(entry).collect();
    let new = entries.iter().filter(|entry| !known.contains(entry)).map(ops::audit_document).collect();
    Ok(db.insert(&db.names.audit, new, Durability::Full).await?.n)
}
