//! What a verb does to more than one document: embedded in the job's document by the update that decides
//! it, carried out, and taken out again.
//!
//! The update is a compare-and-set, so one of many wins, and from then on what it says is true; every
//! step of carrying it out can be repeated by anybody, and changes nothing the second time: executions
//! and audit entries are inserted under ids that were made before, executions are started and cancelled
//! only from the state they were in. A reader that finds something embedded carries it out first. A
//! process that was stopped in the middle leaves nothing but that.
//!
//! (A redo log of one record for each job; after Gray and Reuter, "Transaction Processing", 1993, ch. 9.)

use std::collections::HashSet;
use std::time::Instant;

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use unified_scheduler_core::Timestamp;
use unified_scheduler_core::execution::{Execution, Status};
use unified_scheduler_core::id::JobId;
use unified_scheduler_core::store::{AuditEntry, NodeRef};

use crate::db::{Db, Durability, at_most, only, still_fresh};
use crate::error::Step;
use crate::ids::{inner_key, inner_keys, job_id, put_in, read_inner_key, taken_out};
use crate::jobs::update;
use crate::legacy::{OURS, ours};
use crate::rows::{self, End, end_fields};
use crate::value::{date, text_or_null};

/// What is still to be done.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ops(Document);

impl Ops {
    pub(crate) fn new(token: ObjectId) -> Self {
        Self(doc! { "token": inner_key(token) })
    }

    /// Whether there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.len() <= 1
    }

    fn push(&mut self, list: &str, value: impl Into<Bson>) {
        match self.0.get_array_mut(list) {
            Ok(found) => found.push(value.into()),
            Err(_) => drop(self.0.insert(list, vec![value.into()])),
        }
    }

    /// Inserts an execution.
    pub(crate) fn insert(&mut self, execution: &Execution, key: Option<&str>) {
        self.push("insert", put_in(rows::document(execution, key)));
    }

    /// Makes a pending execution running.
    pub(crate) fn start(&mut self, id: ObjectId, node: &NodeRef, now: Timestamp) {
        self.push(
            "start",
            doc! { "e": inner_key(id), "node": node.id.as_str(), "p": node.epoch.0, "at": date(now) },
        );
    }

    /// Asks running executions to stop.
    pub(crate) fn cancel(&mut self, ids: &[ObjectId]) {
        self.0.insert("cancel", inner_keys(ids));
    }

    /// Enters something into the audit.
    pub(crate) fn audit(&mut self, entry: &AuditEntry) {
        self.push("audit", put_in(audit_document(entry)));
    }

    /// Gives what waits to whoever runs the job from now on.
    pub(crate) fn repoint(&mut self, handler: &str, priority: i32) {
        self.0.insert("repoint", doc! { "handler": handler, "priority": priority });
    }

    /// Cancels what waits, and removes the job.
    pub(crate) fn remove(&mut self, why: &str, now: Timestamp) {
        self.0.insert("remove", doc! { "why": why, "at": date(now) });
    }

    pub(crate) fn to_bson(&self) -> Bson {
        Bson::Document(self.0.clone())
    }

    fn list(&self, key: &str) -> &[Bson] {
        self.0.get_array(key).map_or(&[], Vec::as_slice)
    }

    fn docs(&self, key: &str) -> impl Iterator<Item = &Document> {
        self.list(key).iter().filter_map(Bson::as_document)
    }

    /// By which the one who made it is known.
    pub(crate) fn token_if_any(&self) -> Option<Bson> {
        self.0.get("token").cloned()
    }

    fn token(&self) -> Bson {
        self.0.get("token").cloned().unwrap_or(Bson::Null)
    }
}

/// The document of an audit entry.
pub(crate) fn audit_document(entry: &AuditEntry) -> Document {
    doc! {
        "_id": ObjectId::new(),
        "at": date(entry.at),
        "job_id": entry.job_id.as_str(),
        "job_name": &entry.job_name,
        "action": &entry.action,
        "actor": &entry.actor,
        "version": entry.version,
        "due_before": crate::value::date_or_null(entry.due_before),
        "due_after": crate::value::date_or_null(entry.due_after),
        "detail": text_or_null((!entry.detail.is_null()).then(|| entry.detail.to_string()).as_deref()),
    }
}

/// Something embedded in the document of a job.
#[derive(Debug)]
pub(crate) struct Deed {
    pub(crate) collection: String,
    pub(crate) key: Bson,
    pub(crate) ops: Ops,
}

impl Deed {
    /// What is embedded in this document.
    pub(crate) fn of(collection: &str, doc: &Document) -> Option<Self> {
        let ops = doc.get_document(OURS).ok()?.get_document("ops").ok()?.clone();
        Some(Self { collection: collection.to_owned(), key: doc.get("_id")?.clone(), ops: Ops(ops) })
    }

    fn job(&self) -> JobId {
        job_id(&self.key)
    }

    fn filter(&self) -> Document {
        doc! { "_id": self.key.clone(), ours!("ops.token"): self.ops.token() }
    }
}

/// Carries out what was decided, and takes it out of the documents. Answers the executions that did not
/// come to be, or did not start: their occurrence had one already, or somebody cancelled them first.
pub(crate) async fn carry_out(db: &Db, deeds: &[Deed], read_at: Instant) -> Step<HashSet<ObjectId>> {
    still_fresh(read_at)?;
    let mut failed = insert(db, deeds).await?;
    failed.extend(start(db, deeds).await?);
    for deed in deeds {
        if !deed.ops.list("cancel").is_empty() {
            let keys: Vec<ObjectId> = deed.ops.list("cancel").iter().filter_map(read_inner_key).collect();
            let q = doc! { "_id": { "$in": keys }, "status": "running" };
            let u = doc! { "$set": { ours!("cancel"): true } };
            db.update(&db.names.executions, vec![doc! { "q": q, "u": u, "multi": true }], Durability::Full)
                .await?;
        }
        change_waiting(db, deed).await?;
    }
    let audit: Vec<Document> = deeds.iter().flat_map(|deed| deed.ops.docs("audit").map(taken_out)).collect();
    if !audit.is_empty() {
        db.insert(&db.names.audit, audit, Durability::Full).await?;
    }
    take_out(db, deeds, &failed).await?;
    Ok(failed)
}

async fn insert(db: &Db, deeds: &[Deed]) -> Step<HashSet<ObjectId>> {
    let docs: Vec<Document> = deeds.iter().flat_map(|deed| deed.ops.docs("insert").map(taken_out)).collect();
    if docs.is_empty() {
        return Ok(HashSet::new());
    }
    let keys = rows::keys(&docs);
    let written = db.insert(&db.names.executions, docs, Durability::Full).await?;
    if !written.duplicates {
        return Ok(HashSet::new());
    }
    let filter = doc! { "_id": { "$in": keys.clone() } };
    let there = db.find(&db.names.executions, filter, only(doc! { "_id": 1 })).await?;
    let there: HashSet<ObjectId> = rows::keys(&there).into_iter().collect();
    Ok(keys.into_iter().filter(|key| !there.contains(key)).collect())
}

async fn start(db: &Db, deeds: &[Deed]) -> Step<HashSet<ObjectId>> {
    let mut updates = Vec::new();
    let mut owners = Vec::new();
    for (deed, start) in deeds.iter().flat_map(|deed| deed.ops.docs("start").map(move |start| (deed, start)))
    {
        let field = |key: &str| start.get(key).cloned().unwrap_or(Bson::Null);
        let Some(id) = read_inner_key(&field("e")) else { continue };
        owners.push((id, deed.ops.token()));
        updates.push(doc! {
            "q": { "_id": id, "status": "pending" },
            "u": {
                "$set": {
                    "status": "running", "started_at": field("at"), "execution_host": field("node"),
                    "worker_id": field("node"), ours!("node"): field("node"), ours!("epoch"): field("p"),
                    ours!("token"): deed.ops.token(),
                },
                "$inc": { ours!("claim"): 1_i64 },
            },
        });
    }
    if updates.is_empty() {
        return Ok(HashSet::new());
    }
    let wanted = updates.len();
    let written = db.update(&db.names.executions, updates, Durability::Full).await?;
    if written.n == wanted as u64 {
        return Ok(HashSet::new());
    }
    let mut failed = HashSet::new();
    let ids: Vec<ObjectId> = owners.iter().map(|(id, _)| *id).collect();
    let filter = doc! { "_id": { "$in": ids } };
    let fields = only(doc! { "status": 1, ours!("token"): 1 });
    let found = db.find(&db.names.executions, filter, fields).await?;
    for (id, token) in owners {
        let doc = found.iter().find(|doc| doc.get("_id") == Some(&Bson::ObjectId(id)));
        let by = doc.and_then(|doc| doc.get_document(OURS).ok()?.get("token"));
        if by != Some(&token) {
            failed.insert(id);
        }
    }
    Ok(failed)
}

/// Of the jobs with these keys, those that an update with this token has changed, and of these executions
/// those that came to be by it. Others may have carried out what it embedded, and changed the job again
/// since; then the executions are there.
pub(crate) async fn won(
    db: &Db,
    token: ObjectId,
    keys: Vec<Bson>,
    executions: Document,
) -> Step<(Vec<Bson>, HashSet<ObjectId>)> {
    let filter = doc! { "_id": { "$in": keys }, ours!("token"): inner_key(token) };
    let mut won = Vec::new();
    for collection in db.names.of_jobs() {
        let docs = db.find(collection, filter.clone(), only(doc! { "_id": 1 })).await?;
        won.extend(docs.into_iter().filter_map(|mut doc| doc.remove("_id")));
    }
    let there = db.find(&db.names.executions, executions, only(doc! { "_id": 1 })).await?;
    Ok((won, rows::keys(&there).into_iter().collect()))
}

/// Changes what waits of a job that was edited or removed.
async fn change_waiting(db: &Db, deed: &Deed) -> Step<()> {
    let waiting = doc! { "job_id": deed.job().as_str(), "status": "pending" };
    if let Ok(to) = deed.ops.0.get_document("repoint") {
        let handler = to.get("handler").cloned().unwrap_or(Bson::Null);
        let set = doc! {
            "template_type": handler.clone(), ours!("handler"): handler,
            ours!("priority"): to.get("priority").cloned().unwrap_or(Bson::Int32(0)),
        };
        let u = doc! { "q": waiting.clone(), "u": { "$set": set }, "multi": true };
        db.update(&db.names.executions, vec![u], Durability::Full).await?;
    }
    if let Ok(removal) = deed.ops.0.get_document("remove") {
        let why = crate::value::text(removal, "why").unwrap_or_default();
        let at = crate::value::time(removal.get("at")).unwrap_or_default();
        let u = doc! { "q": waiting, "u": { "$set": cancelled(why, at) }, "multi": true };
        db.update(&db.names.executions, vec![u], Durability::Full).await?;
    }
    Ok(())
}

/// The fields of a pending execution that was called off.
pub(crate) fn cancelled(why: &str, now: Timestamp) -> Document {
    let result = unified_scheduler_core::JobResult { message: why.to_owned(), ..Default::default() };
    let mut set = end_fields(End::cancelled(&result, now));
    // It never started.
    set.remove("started_at");
    debug_assert!(set.get("status") == Some(&Bson::String(Status::Cancelled.as_str().to_owned())));
    set
}

async fn take_out(db: &Db, deeds: &[Deed], failed: &HashSet<ObjectId>) -> Step<()> {
    let gone = doc! { ours!("ops"): true };
    for collection in db.names.of_jobs() {
        let mut updates = Vec::new();
        // All that carry the token of one call, in one statement.
        let mut plain: Vec<&Deed> = Vec::new();
        for deed in deeds.iter().filter(|deed| deed.collection == collection) {
            if deed.ops.0.contains_key("remove") {
                db.delete(collection, deed.filter()).await?;
                continue;
            }
            let lost: Vec<ObjectId> = deed.executions().filter(|id| failed.contains(id)).collect();
            if lost.is_empty() {
                plain.push(deed);
                continue;
            }
            updates.push(doc! {
                "q": deed.filter(),
                "u": {
                    "$unset": gone.clone(),
                    "$pull": { ours!("slots"): { "e": { "$in": inner_keys(&lost) }, "p": deed.epoch() } },
                    "$inc": { ours!("rev"): 1_i64 },
                },
            });
        }
        while let Some(first) = plain.first() {
            let token = first.ops.token();
            let (same, rest): (Vec<&Deed>, Vec<&Deed>) =
                plain.into_iter().partition(|deed| deed.ops.token() == token);
            plain = rest;
            let keys: Vec<Bson> = same.iter().map(|deed| deed.key.clone()).collect();
            let q = doc! { "_id": { "$in": keys }, ours!("ops.token"): token };
            let mut statement = update(q, Document::new(), gone.clone());
            if let Ok(u) = statement.get_document_mut("u") {
                u.remove("$set");
            }
            statement.insert("multi", true);
            updates.push(statement);
        }
        if !updates.is_empty() {
            // Lost in a failover, it is done once more.
            db.update(collection, updates, Durability::Light).await?;
        }
    }
    Ok(())
}

impl Deed {
    /// The epoch of the node whose executions these are.
    fn epoch(&self) -> Bson {
        let started = self.ops.docs("start").find_map(|doc| doc.get("p").cloned());
        let inserted =
            || self.ops.docs("insert").find_map(|doc| doc.get_document(OURS).ok()?.get("epoch").cloned());
        started.or_else(inserted).unwrap_or(Bson::Null)
    }

    fn executions(&self) -> impl Iterator<Item = ObjectId> {
        let inserted = self.ops.docs("insert").filter_map(|doc| read_inner_key(doc.get("_id")?));
        inserted.chain(self.ops.docs("start").filter_map(|doc| read_inner_key(doc.get("e")?)))
    }
}

/// Carries out whatever is embedded anywhere.
pub(crate) async fn redo(db: &Db) -> Step<()> {
    const PAGE: usize = 500;
    super::create::redo(db).await?;
    for collection in db.names.of_jobs() {
        loop {
            let read_at = Instant::now();
            let filter = doc! { ours!("ops.token"): { "$exists": true } };
            let found = db.find(collection, filter, at_most(PAGE)).await?;
            let deeds: Vec<Deed> = found.iter().filter_map(|doc| Deed::of(collection, doc)).collect();
            if deeds.is_empty() {
                break;
            }
            carry_out(db, &deeds, read_at).await?;
            if found.len() < PAGE {
                break;
            }
        }
    }
    super::finish::redo(db).await
}
