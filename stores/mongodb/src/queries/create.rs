//! Creating jobs: one by its insertion; several, all or none, by one document that holds them all, which is
//! carried out like anything embedded.

use std::collections::HashMap;

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use mongodb::options::{FindOptions, ReturnDocument};
use serde_json::Value;
use unified_scheduler_core::id::JobId;
use unified_scheduler_core::job::Job;
use unified_scheduler_core::store::{AuditEntry, Change, CreateJobs, CreateOutcome};
use unified_scheduler_core::{Error, Timestamp};

use super::ops::{Deed, Ops, carry_out};
use super::read;
use crate::db::{Db, Durability, at_most, only};
use crate::error::{DUPLICATE_KEY, Fail, Step};
use crate::ids::{is_static, job_id};
use crate::jobs::JobRow;
use crate::legacy::OURS;

/// The bytes of jobs that one step creates, at most; the server takes 16 MB for a document.
const BYTES: usize = 10 << 20;

pub(crate) async fn create(db: &Db, request: &CreateJobs) -> Step<CreateOutcome> {
    if request.unique_names || request.jobs.len() > 1 {
        let lock = Lock::take(db).await?;
        let outcome = create_locked(db, request).await;
        lock.give_back(db).await;
        return outcome;
    }
    create_locked(db, request).await
}

async fn create_locked(db: &Db, request: &CreateJobs) -> Step<CreateOutcome> {
    loop {
        // Where somebody else was faster, what they stored says whether it is in the way.
        if let Some(outcome) = try_to_create(db, request).await? {
            return Ok(outcome);
        }
    }
}

/// `None` where the one job that was to be stored has come to be meanwhile.
async fn try_to_create(db: &Db, request: &CreateJobs) -> Step<Option<CreateOutcome>> {
    redo(db).await?;
    let now = db.now().await?;
    let ids: Vec<JobId> = request.jobs.iter().map(|job| job.id.clone()).collect();
    let stored = read::jobs(db, &ids, now).await?;
    let names = if request.unique_names { names(db, request).await? } else { HashMap::new() };
    let holder = |name: &str, id: &JobId| names.get(name)?.iter().find(|other| *other != id).cloned();
    let conflicts = request.conflicts(|id| stored.get(id).map(|row| &row.job), holder);
    if !conflicts.is_empty() {
        return Ok(Some(CreateOutcome::Refused(conflicts)));
    }
    let missing = request.missing(|id| stored.contains_key(id));
    let written = write(db, &missing, &request.actor, now).await?;
    Ok(written.then_some(CreateOutcome::Created))
}

/// Who has these names.
async fn names(db: &Db, request: &CreateJobs) -> Step<HashMap<String, Vec<JobId>>> {
    let wanted: Vec<&str> = request.jobs.iter().map(|job| job.definition.name.as_str()).collect();
    let mut names: HashMap<String, Vec<JobId>> = HashMap::new();
    for collection in db.names.of_jobs() {
        let filter = doc! { "name": { "$in": wanted.clone() } };
        for doc in db.find(collection, filter, only(doc! { "name": 1 })).await? {
            if let (Some(name), Some(key)) = (crate::value::text(&doc, "name"), doc.get("_id")) {
                names.entry(name.to_owned()).or_default().push(job_id(key));
            }
        }
    }
    Ok(names)
}

/// Another job of this name.
pub(crate) async fn holder(db: &Db, name: &str, except: &JobId) -> Step<Option<JobId>> {
    for collection in db.names.of_jobs() {
        let mut options = at_most(2);
        options.projection = Some(doc! { "_id": 1 });
        for doc in db.find(collection, doc! { "name": name }, options).await? {
            let other = doc.get("_id").map(job_id).filter(|id| id != except);
            if other.is_some() {
                return Ok(other);
            }
        }
    }
    Ok(None)
}

/// Whether they are stored; a single one may have been by somebody else.
async fn write(db: &Db, jobs: &[&Job], actor: &str, now: Timestamp) -> Step<bool> {
    let mut docs = Vec::with_capacity(jobs.len());
    for job in jobs {
        let mut doc = JobRow::fresh(job)?;
        let change = Change { actor, action: "created", due_before: None };
        let mut ops = Ops::new(ObjectId::new());
        ops.audit(&AuditEntry::of(job, now, change, Value::Null));
        if let Ok(own) = doc.get_document_mut(OURS) {
            own.insert("ops", ops.to_bson());
        }
        // As it will be read; so its first claim need not parse it.
        drop(JobRow::read(doc.clone(), &db.cache, now));
        docs.push(doc);
    }
    match &docs[..] {
        [] => Ok(true),
        [doc] => {
            let collection = db.names.of_job(&jobs[0].id);
            insert(db, collection, vec![doc.clone()]).await
        }
        _ => {
            let mut page = Vec::new();
            let mut size = 0;
            for doc in docs {
                let bytes = doc.to_vec()?.len();
                if !page.is_empty() && size + bytes > BYTES {
                    commit(db, std::mem::take(&mut page)).await?;
                    size = 0;
                }
                page.push(Bson::Document(doc));
                size += bytes;
            }
            commit(db, page).await?;
            Ok(true)
        }
    }
}

/// The step that creates several at once.
async fn commit(db: &Db, jobs: Vec<Bson>) -> Step<()> {
    let id = format!("create:{}", ObjectId::new());
    db.insert(&db.names.meta, vec![doc! { "_id": id, "jobs": jobs }], Durability::Full).await?;
    redo(db).await?;
    Ok(())
}

/// Inserts the jobs of creations that were committed. Answers whether there were any.
pub(crate) async fn redo(db: &Db) -> Step<bool> {
    let filter = doc! { "_id": { "$gte": "create:", "$lt": "create;" } };
    let found = db.find(&db.names.meta, filter, FindOptions::default()).await?;
    for creation in &found {
        let jobs = creation.get_array("jobs").map_or(&[][..], Vec::as_slice);
        let of = |statics: bool| -> Vec<Document> {
            let docs = jobs.iter().filter_map(Bson::as_document);
            docs.filter(|doc| doc.get("_id").is_some_and(|key| is_static(&job_id(key)) == statics))
                .cloned()
                .collect()
        };
        insert(db, &db.names.jobs, of(false)).await?;
        insert(db, &db.names.statics, of(true)).await?;
        let id = creation.get("_id").cloned().unwrap_or(Bson::Null);
        db.delete(&db.names.meta, doc! { "_id": id }).await?;
    }
    Ok(!found.is_empty())
}

/// Inserts documents of jobs, those that are not there, and enters that into the audit. `false` where the
/// only one of them was there.
async fn insert(db: &Db, collection: &str, docs: Vec<Document>) -> Step<bool> {
    if docs.is_empty() {
        return Ok(true);
    }
    let read_at = std::time::Instant::now();
    let deeds: Vec<Deed> = docs.iter().filter_map(|doc| Deed::of(collection, doc)).collect();
    let one = docs.len() == 1;
    let written = db.insert(collection, docs, Durability::Full).await?;
    if written.duplicates && one {
        return Ok(false);
    }
    carry_out(db, &deeds, read_at).await?;
    Ok(true)
}

/// The right to give names, for a while: nobody else gives one meanwhile.
pub(crate) struct Lock {
    token: ObjectId,
}

/// How long the right lasts when its holder dies.
const LASTS_MS: i64 = 10_000;

impl Lock {
    pub(crate) async fn take(db: &Db) -> Step<Self> {
        let token = ObjectId::new();
        let begun = std::time::Instant::now();
        let mut wait = 2;
        loop {
            let free = doc! { "$lt": [{ "$ifNull": ["$until", bson::DateTime::from_millis(0)] }, "$$NOW"] };
            let until = doc! { "$add": ["$$NOW", LASTS_MS] };
            let take = vec![
                doc! { "$set": { "free": free } },
                doc! { "$set": {
                    "token": { "$cond": ["$free", token, "$token"] },
                    "until": { "$cond": ["$free", until, "$until"] },
                } },
            ];
            let meta = db.collection(&db.names.meta);
            let answer = meta
                .find_one_and_update(doc! { "_id": "names" }, take)
                .upsert(true)
                .return_document(ReturnDocument::After)
                .await;
            match answer.map_err(Fail::from) {
                Ok(Some(lock)) if lock.get("token") == Some(&Bson::ObjectId(token)) => {
                    return Ok(Self { token });
                }
                Ok(_) => {}
                // Two made the document at once.
                Err(fail) if fail.code() == Some(DUPLICATE_KEY) => {}
                Err(fail) => return Err(fail),
            }
            if begun.elapsed() > db.deadline {
                return Err(Error::unavailable("another process gives names, and does not end").into());
            }
            tokio::time::sleep(std::time::Duration::from_millis(wait)).await;
            wait = (wait * 2).min(50);
        }
    }

    pub(crate) async fn give_back(self, db: &Db) {
        let held = doc! { "_id": "names", "token": self.token };
        if let Err(error) = db.delete(&db.names.meta, held).await {
            tracing::debug!(?error, "the right to give names ends by itself");
        }
    }
}
