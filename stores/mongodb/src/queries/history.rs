//! What was: the audit, retention, counts.

use std::collections::BTreeMap;

use bson::{Bson, Document, doc};
use mongodb::options::FindOptions;
use unified_scheduler_core::execution::Status;
use unified_scheduler_core::id::{ExecutionId, JobId};
use unified_scheduler_core::store::{AuditEntry, AuditQuery, Counts, PruneRequest};
use unified_scheduler_core::{Error, Timestamp};

use super::ops;
use crate::db::Db;
use crate::error::Step;
use crate::ids::object_id;
use crate::jobs::JobRow;
use crate::legacy::ours;
use crate::rows;
use crate::value::{count, date, text, time};

pub(crate) async fn audit(db: &Db, query: &AuditQuery) -> Step<Vec<AuditEntry>> {
    if query.limit == 0 {
        return Ok(Vec::new());
    }
    ops::redo(db).await?;
    let mut filter = Document::new();
    if let Some(id) = &query.job_id {
        filter.insert("job_id", id.as_str());
    }
    if let Some(since) = query.since {
        filter.insert("at", doc! { "$gte": date(since) });
    }
    let options = FindOptions::builder()
        .sort(doc! { "at": -1, "_id": -1 })
        .skip(query.offset)
        .limit(i64::try_from(query.limit).unwrap_or(i64::MAX))
        .build();
    let docs = db.find(&db.names.audit, filter, options).await?;
    Ok(docs.iter().map(entry).collect())
}

/// The entry that a document of the audit holds.
pub(crate) fn entry(doc: &Document) -> AuditEntry {
    let word = |key: &str| text(doc, key).unwrap_or_default().to_owned();
    AuditEntry {
        at: time(doc.get("at")).unwrap_or_default(),
        job_id: JobId::from(word("job_id")),
        job_name: word("job_name"),
        action: word("action"),
        actor: word("actor"),
        version: count(doc.get("version")),
        due_before: time(doc.get("due_before")),
        due_after: time(doc.get("due_after")),
        detail: text(doc, "detail").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default(),
    }
}

fn ended() -> Document {
    doc! { "status": { "$nin": ["pending", "running"] }, ours!("after"): { "$exists": false } }
}

pub(crate) async fn prune(db: &Db, request: PruneRequest) -> Step<u64> {
    if request.limit == 0 {
        return Ok(0);
    }
    ops::redo(db).await?;
    let now = db.now().await?;
    let retaining = retaining(db, now).await?;
    let mut gone = 0;
    if let Some(max_age) = request.max_age {
        let own: Vec<&str> = retaining
            .iter()
            .filter(|row| row.job.definition.history.max_age.is_some())
            .map(|row| row.job.id.as_str())
            .collect();
        let before = now.saturating_sub(max_age);
        let mut filter = ended();
        // What ended by then was made by then, which its key says: the end needs no index of its own.
        filter.insert("_id", doc! { "$lt": object_id(&ExecutionId::lower_bound(before)) });
        filter.insert("completed_at", doc! { "$lt": date(before) });
        filter.insert("job_id", doc! { "$nin": own });
        gone += remove(db, filter, doc! { "_id": 1 }, 0, request.limit).await?;
    }
    for row in retaining {
        let history = row.job.definition.history;
        let mut of_job = ended();
        of_job.insert("job_id", row.job.id.as_str());
        if let Some(max_age) = history.max_age {
            let mut old = of_job.clone();
            old.insert("completed_at", doc! { "$lt": date(now.saturating_sub(max_age)) });
            gone += remove(db, old, doc! { "_id": 1 }, 0, left(request.limit, gone)).await?;
        }
        if let Some(max_count) = history.max_count {
            let newest_first = doc! { "_id": -1 };
            let most = left(request.limit, gone);
            gone += remove(db, of_job, newest_first, u64::from(max_count), most).await?;
        }
    }
    Ok(gone)
}

fn left(limit: usize, gone: u64) -> usize {
    limit.saturating_sub(usize::try_from(gone).unwrap_or(usize::MAX))
}

/// The jobs that say themselves how long their history is kept.
async fn retaining(db: &Db, now: Timestamp) -> Step<Vec<JobRow>> {
    let mut rows = Vec::new();
    for collection in db.names.of_jobs() {
        let docs = db.find(collection, doc! { ours!("retains"): true }, FindOptions::default()).await?;
        rows.extend(docs.into_iter().map(|doc| JobRow::read(doc, &db.cache, now)));
    }
    Ok(rows)
}

async fn remove(db: &Db, filter: Document, sort: Document, skip: u64, limit: usize) -> Step<u64> {
    const STEP: usize = 500;
    let mut gone = 0;
    loop {
        let page = left(limit, gone).min(STEP);
        if page == 0 {
            return Ok(gone);
        }
        let options = FindOptions::builder()
            .sort(sort.clone())
            .skip(skip)
            .limit(i64::try_from(page).unwrap_or(i64::MAX))
            .projection(doc! { "_id": 1 })
            .build();
        let keys = rows::keys(&db.find(&db.names.executions, filter.clone(), options).await?);
        if keys.is_empty() {
            return Ok(gone);
        }
        let mut doomed = ended();
        doomed.insert("_id", doc! { "$in": keys.clone() });
        gone += db.delete(&db.names.executions, doomed).await?;
        if keys.len() < page {
            return Ok(gone);
        }
    }
}

pub(crate) async fn counts(db: &Db) -> Step<Counts> {
    ops::redo(db).await?;
    let now = db.now().await?;
    let mut counts = Counts::default();
    let on = doc! { "$or": [{ "enabled": true }, { "enabled": Bson::Null, "isEnabled": true }] };
    for name in db.names.of_jobs() {
        let jobs = db.collection(name);
        counts.jobs += jobs.count_documents(doc! {}).await?;
        counts.enabled += jobs.count_documents(on.clone()).await?;
        counts.faulty += jobs.count_documents(doc! { ours!("fault"): { "$exists": true } }).await?;
        let first = oldest(db, name, ours!("fire"), doc! {}).await?;
        counts.oldest_due = counts.oldest_due.into_iter().chain(first).min();
    }
    let waiting = oldest(db, &db.names.executions, ours!("run_at"), doc! { "status": "pending" }).await?;
    counts.oldest_due = counts.oldest_due.into_iter().chain(waiting).min().filter(|at| *at <= now);
    let groups = vec![doc! { "$group": { "_id": "$status", "n": { "$sum": 1 } } }];
    let mut executions: BTreeMap<Status, u64> = BTreeMap::new();
    for doc in db.aggregate(&db.names.executions, groups, 50).await? {
        // What nobody knows counts as bad.
        let status = text(&doc, "_id").and_then(|s| s.parse().ok()).unwrap_or(Status::Failed);
        *executions.entry(status).or_default() += count::<u64>(doc.get("n"));
    }
    counts.executions = executions;
    Ok(counts)
}

/// The earliest time in this field; handler by handler, as the indexes go.
async fn oldest(db: &Db, collection: &str, field: &str, mut filter: Document) -> Step<Option<Timestamp>> {
    let mut any = filter.clone();
    any.insert(field, doc! { "$exists": true });
    let handlers = db.distinct(collection, ours!("handler"), any).await?;
    if handlers.is_empty() {
        return Ok(None);
    }
    filter.insert(ours!("handler"), doc! { "$in": handlers });
    filter.insert(field, doc! { "$gte": date(Timestamp::MIN) });
    let (_, last) = field.split_once('.').ok_or_else(|| Error::internal("a field of ours has a path"))?;
    let options =
        FindOptions::builder().sort(doc! { field: 1 }).limit(1).projection(doc! { field: 1 }).build();
    let found = db.find(collection, filter, options).await?;
    let own = found.first().and_then(|doc| doc.get_document(crate::legacy::OURS).ok());
    Ok(own.and_then(|own| time(own.get(last))))
}
