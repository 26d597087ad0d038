//! The question of a claim: everything that it has to know, at once, each part served by an index.

use std::time::{Duration, Instant};

use bson::{Bson, Document, doc};
use unified_scheduler_core::Timestamp;

use super::board::{self, Board};
use super::strangers::{self, Leftovers};
use crate::db::Db;
use crate::error::Step;
use crate::legacy::{FORMAT, OURS, ours};
use crate::sharing::Share;
use crate::value::{count, date, n, text, time};

/// What one question found.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) board: Board,
    pub(crate) pending: Vec<Document>,
    pub(crate) due: Vec<Document>,
    pub(crate) next_at: Option<Timestamp>,
    pub(crate) calendars: i64,
    pub(crate) leftovers: Leftovers,
}

/// What a look is for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Look {
    /// Also what other programs wrote.
    pub(crate) scan: bool,
    /// Of what is due, only this.
    pub(crate) share: Option<Share>,
}

impl Found {
    /// Leaves what is due to others, except for this share; where there is nothing of it, all stays.
    pub(crate) fn keep(&mut self, share: Share) -> bool {
        let is_ours =
            |doc: &Document| doc.get_document(OURS).is_ok_and(|own| share.has(count(own.get("share"))));
        let some = self.due.iter().any(is_ours);
        if some {
            self.due.retain(is_ours);
        }
        some
    }
}

fn tagged(kind: &str) -> Document {
    doc! { "$replaceWith": { "kind": kind, "doc": "$$ROOT" } }
}

/// The stages that find pending executions that may start now.
pub(crate) fn startable(handlers: &[&str], now: Timestamp, except: Document, limit: usize) -> Vec<Document> {
    let mut wanted = doc! {
        "status": "pending", ours!("handler"): { "$in": handlers.to_vec() },
        ours!("run_at"): { "$lte": date(now) },
    };
    wanted.extend(except);
    vec![
        doc! { "$match": wanted },
        doc! { "$sort": { ours!("priority"): -1, ours!("run_at"): 1, "_id": 1 } },
        doc! { "$limit": n(limit) },
        tagged("pending"),
    ]
}

/// How far ahead is looked, because the clock that is asked with is not quite the store's.
const AHEAD: Duration = Duration::from_millis(20);

/// Everything that a claim has to know, in one question. What is due by the store's clock is told by the
/// clock in the answer.
pub(crate) async fn look(db: &Db, handlers: &[&str], limit: usize, how: Look) -> Step<Found> {
    let asked = Instant::now();
    let about = db.about_now().await?;
    let now = if db.clock.is_some() { about } else { about.saturating_add(AHEAD) };
    let page = limit.saturating_add(1);
    let pipeline = questions(db, handlers, page, now, how);
    let mut found = Found::default();
    for mut doc in db.aggregate(&db.names.executions, pipeline, page.saturating_mul(3)).await? {
        let inner = match doc.remove("doc") {
            Some(Bson::Document(inner)) => inner,
            _ => Document::new(),
        };
        match text(&doc, "kind") {
            Some("board") => found.board = Board::read(&inner),
            Some("pending") => found.pending.push(inner),
            Some("due") => found.due.push(inner),
            Some("calendars") => found.calendars = count(inner.get("n")),
            Some("next") => found.next_at = found.next_at.into_iter().chain(time(doc.get("at"))).min(),
            _ => found.leftovers.enter(&doc, inner),
        }
    }
    if found.board.now == Timestamp::default() {
        // Nobody has ever joined.
        found.board.now = db.now().await?;
    }
    db.saw(&found.board, asked);
    found.due.sort_by_key(order);
    let now = found.board.now;
    let mut put_off = |field: &str, docs: &mut Vec<Document>| {
        let at = |doc: &Document| doc.get_document(OURS).ok().and_then(|own| time(own.get(field)));
        docs.retain(|doc| {
            let early = at(doc).filter(|at| *at > now);
            found.next_at = found.next_at.into_iter().chain(early).min();
            early.is_none()
        });
    };
    put_off("run_at", &mut found.pending);
    put_off("fire", &mut found.due);
    Ok(found)
}

fn questions(db: &Db, handlers: &[&str], page: usize, now: Timestamp, how: Look) -> Vec<Document> {
    let handler = doc! { "$in": handlers.to_vec() };
    let next = |path: &str, filter: Document| {
        vec![
            doc! { "$match": filter },
            doc! { "$sort": { path: 1 } },
            doc! { "$limit": 1 },
            doc! { "$project": { "_id": 0, "kind": "next", "at": format!("${path}") } },
        ]
    };
    let union = |collection: &str, pipeline: Vec<Document>| {
        doc! { "$unionWith": { "coll": collection, "pipeline": pipeline } }
    };
    let later = doc! { "$gt": date(now) };
    let mut pipeline = startable(handlers, now, Document::new(), page);
    let waiting =
        doc! { "status": "pending", ours!("handler"): handler.clone(), ours!("run_at"): later.clone() };
    pipeline.push(union(&db.names.executions, next(ours!("run_at"), waiting)));
    for collection in db.names.of_jobs() {
        let mut due = doc! {
            ours!("handler"): handler.clone(), ours!("fire"): { "$lte": date(now) },
            // What a newer version wrote is not ours to run, and must not hide others.
            ours!("v"): { "$lte": FORMAT },
        };
        if let Some(share) = how.share {
            // The index has it, so that others' jobs are passed over without being read.
            due.insert(ours!("share"), share.condition());
        }
        let mut stages =
            vec![doc! { "$match": due }, doc! { "$sort": { ours!("priority"): -1, ours!("fire"): 1 } }];
        stages.extend([doc! { "$limit": n(page) }, tagged("due")]);
        pipeline.push(union(collection, stages));
        let not_yet = doc! { ours!("handler"): handler.clone(), ours!("fire"): later.clone() };
        pipeline.push(union(collection, next(ours!("fire"), not_yet)));
    }
    let version = vec![doc! { "$match": { "_id": "calendars" } }, tagged("calendars")];
    pipeline.push(union(&db.names.meta, version));
    let mut board = board::stages(db);
    board.push(tagged("board"));
    pipeline.push(union(&db.names.meta, board));
    if how.scan {
        pipeline.extend(strangers::questions(db, now));
    }
    pipeline
}

/// By priority, then time.
fn order(doc: &Document) -> (i64, Option<Timestamp>) {
    let own = doc.get_document(OURS).ok();
    let priority: i64 = count(own.and_then(|own| own.get("priority")));
    (-priority, own.and_then(|own| time(own.get("fire"))))
}
