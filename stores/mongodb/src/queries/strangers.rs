//! Jobs that other programs made or edited: found within seconds, and entered into our indexes.
//!
//! One question, every few seconds, each part of it served by an index: documents without our
//! sub-document; jobs that others switched on; jobs whose `nextRunAt` has come and is not what we wrote;
//! and jobs that were set aside, whose definition may have been mended.

use bson::{Bson, Document, doc};
use unified_scheduler_core::Timestamp;
use unified_scheduler_core::store::NodeRef;

use super::board::{self, Board};
use super::ops::{Deed, carry_out};
use crate::db::{Db, Durability};
use crate::error::Step;
use crate::jobs::JobRow;
use crate::legacy::ours;
use crate::value::{count, date, n, text};

/// Documents that one look takes, of each kind.
const PAGE: usize = 500;

/// What a look found that nobody of ours has dealt with.
#[derive(Debug, Default)]
pub(crate) struct Leftovers {
    /// Documents of jobs.
    docs: Vec<Document>,
    creations: bool,
    /// The epochs under which something runs.
    running: Vec<i64>,
}

impl Leftovers {
    /// Takes in one answer to [`questions`].
    pub(crate) fn enter(&mut self, answer: &Document, doc: Document) {
        match text(answer, "kind") {
            Some("job") => self.docs.push(doc),
            Some("creation") => self.creations = true,
            Some("runs") => self.running.push(count(answer.get("epoch"))),
            _ => {}
        }
    }

    /// Whether something runs that this node or somebody else must be told of.
    pub(crate) fn runs_elsewhere(&self, board: &Board, node: &NodeRef) -> bool {
        let living = board.living();
        self.running.iter().any(|epoch| *epoch == node.epoch.0 || !living.contains(epoch))
    }
}

/// Looks for what others wrote. Answers whether there was anything.
pub(crate) async fn look(db: &Db, now: Timestamp) -> Step<bool> {
    let mut any = false;
    for _ in 0..20 {
        // No document has this `_id`: only the other collections are asked.
        let mut pipeline = vec![doc! { "$match": { "_id": Bson::Null } }];
        pipeline.extend(questions(db, now));
        let mut left = Leftovers::default();
        for mut answer in db.aggregate(&db.names.meta, pipeline, 4 * PAGE).await? {
            let doc = match answer.remove("doc") {
                Some(Bson::Document(doc)) => doc,
                _ => Document::new(),
            };
            left.enter(&answer, doc);
        }
        let page = left.docs.len() >= PAGE;
        let found = take_over(db, left, now).await?;
        any |= found;
        if !found || !page {
            break;
        }
    }
    Ok(any)
}

/// Carries out what somebody left behind who died, and takes over what other programs wrote. Answers
/// whether there was anything.
pub(crate) async fn take_over(db: &Db, left: Leftovers, now: Timestamp) -> Step<bool> {
    let read_at = std::time::Instant::now();
    if left.creations {
        super::create::redo(db).await?;
    }
    let (mut deeds, mut rows) = (Vec::new(), Vec::new());
    for doc in left.docs {
        let Some(key) = doc.get("_id") else { continue };
        match Deed::of(db.names.of_job(&crate::ids::job_id(key)), &doc) {
            Some(deed) => deeds.push(deed),
            None => rows.push(JobRow::read(doc, &db.cache, now)),
        }
    }
    rows.retain(|row| row.stale);
    let any = left.creations || !deeds.is_empty() || !rows.is_empty();
    if !deeds.is_empty() {
        carry_out(db, &deeds, read_at).await?;
    }
    if !rows.is_empty() {
        adopt(db, rows, now).await?;
        if !db.seen.strangers() {
            board::note_strangers(db).await?;
        }
    }
    Ok(any)
}

/// The stages that ask for it, each part served by an index.
pub(crate) fn questions(db: &Db, now: Timestamp) -> Vec<Document> {
    let limit = doc! { "$limit": n(PAGE) };
    let union = |collection: &str, pipeline: Vec<Document>| {
        doc! { "$unionWith": { "coll": collection, "pipeline": pipeline } }
    };
    let job = doc! { "$replaceWith": { "kind": "job", "doc": "$$ROOT" } };
    let of_jobs = |filter: Document| vec![doc! { "$match": filter }, limit.clone(), job.clone()];
    let ours_null = |path: &str| doc! { "$ifNull": [path, Bson::Null] };
    let handler = doc! { "$ifNull": ["$templateType", "$template_type", "$template"] };
    let edited = doc! { "$or": [
        { "$ne": [ours_null("$nextRunAt"), ours_null(concat!("$", ours!("next")))] },
        { "$ne": [handler, ours_null(concat!("$", ours!("handler")))] },
    ] };
    let embedded = || doc! { ours!("ops.token"): { "$exists": true } };
    let creations = vec![
        doc! { "$match": { "_id": { "$gte": "create:", "$lt": "create;" } } },
        doc! { "$limit": 1 },
        doc! { "$project": { "_id": 0, "kind": "creation" } },
    ];
    let jobs = &db.names.jobs;
    vec![
        union(jobs, of_jobs(doc! { ours!("v"): Bson::Null })),
        union(jobs, of_jobs(doc! { "enabled": true, ours!("enabled"): false })),
        union(jobs, of_jobs(doc! { "enabled": true, "nextRunAt": { "$lte": date(now) }, "$expr": edited })),
        union(jobs, of_jobs(doc! { ours!("fault"): { "$exists": true } })),
        // What somebody left behind who died, before anybody else met it.
        union(jobs, of_jobs(embedded())),
        union(&db.names.statics, of_jobs(embedded())),
        union(&db.names.meta, creations),
        union(&db.names.executions, super::nodes::runs()),
    ]
}

/// Writes our sub-document as the rest of the document says. Whoever changes it meanwhile wins; then it
/// is found again.
pub(crate) async fn adopt(db: &Db, rows: Vec<JobRow>, now: Timestamp) -> Step<()> {
    let (mut dynamic, mut statics) = (Vec::new(), Vec::new());
    let mut ids = [Vec::new(), Vec::new()];
    for row in rows {
        let (mut set, unset) = row.write(false)?;
        if row.unreadable {
            set.insert("lastStatus", "failed");
            let why = row.job.fault.as_deref().unwrap_or_default();
            tracing::error!(job_id = %row.id(), why, "a job is set aside");
        }
        tracing::debug!(job_id = %row.id(), due = ?row.job.due, at = %now, "took over what another program wrote");
        let statement = row.update(set, unset);
        // One that only looks like a job in code is where it was found.
        let is_static = crate::ids::is_static(row.id()) && !row.unreadable;
        if is_static { &mut statics } else { &mut dynamic }.push(statement);
        ids[usize::from(is_static)].push(row.id().clone());
    }
    let names = &db.names;
    for ((collection, statements), ids) in
        [(&names.jobs, dynamic), (&names.statics, statics)].into_iter().zip(ids)
    {
        if statements.is_empty() {
            continue;
        }
        let written = db.update_leniently(collection, statements, Durability::Full).await?;
        for (i, error) in written.refused {
            tracing::error!(job_id = ?ids.get(i), %error, "a job of another program can't be taken over");
        }
    }
    Ok(())
}
