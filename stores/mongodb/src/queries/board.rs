//! The board: one document that says which nodes live, in which epoch, and until when.
//!
//! It is the truth about leases. A heartbeat is one update of it, whose answer shows everybody else's
//! lease as well, so that an idle node needs no second question. What nodes tell of themselves stands in
//! documents of their own, which are for show.

use bson::{Bson, Document, doc};
use mongodb::options::ReturnDocument;
use unified_scheduler_core::id::{Epoch, NodeId};
use unified_scheduler_core::store::NodeRef;
use unified_scheduler_core::{Error, Timestamp};

use crate::db::Db;
use crate::error::{DUPLICATE_KEY, Fail, Step};
use crate::value::{count, date, text, time};

/// The `_id` of its document in the collection of all sorts.
pub(crate) const BOARD: &str = "board";

/// A node that lives.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) node: NodeRef,
    pub(crate) seen_at: Timestamp,
    pub(crate) until: Timestamp,
}

/// The board as it was at some instant.
#[derive(Debug, Clone, Default)]
pub(crate) struct Board {
    /// The store's clock at that instant.
    pub(crate) now: Timestamp,
    pub(crate) entries: Vec<Entry>,
    /// How often a node has come or gone.
    pub(crate) changes: i64,
    /// Whether other programs are known to write jobs here.
    pub(crate) strangers: bool,
}

impl Board {
    /// From a document that says `now`, too.
    pub(crate) fn read(doc: &Document) -> Self {
        let entries = doc.get_array("nodes").map_or(&[][..], Vec::as_slice);
        let entries = entries.iter().filter_map(Bson::as_document).filter_map(|entry| {
            Some(Entry {
                node: NodeRef {
                    id: NodeId::from(text(entry, "id")?),
                    epoch: Epoch(count(entry.get("epoch"))),
                },
                seen_at: time(entry.get("seen_at"))?,
                until: time(entry.get("until"))?,
            })
        });
        Self {
            now: time(doc.get("now")).unwrap_or_default(),
            entries: entries.collect(),
            changes: count(doc.get("changes")),
            strangers: doc.get("strangers").is_some_and(|value| *value != Bson::Null),
        }
    }

    /// Until when this node holds its lease; `None` when its epoch is dead.
    pub(crate) fn lease(&self, node: &NodeRef) -> Option<Timestamp> {
        self.entries.iter().find(|entry| entry.node == *node).map(|entry| entry.until)
    }

    /// The epochs that are not dead.
    pub(crate) fn living(&self) -> Vec<i64> {
        self.entries.iter().map(|entry| entry.node.epoch.0).collect()
    }
}

/// The stages that read the board, and the store's clock, from the collection of all sorts.
pub(crate) fn stages(db: &Db) -> Vec<Document> {
    vec![
        doc! { "$match": { "_id": BOARD } },
        doc! { "$project": { "nodes": 1, "changes": 1, "strangers": 1, "now": db.now_in_command() } },
    ]
}

/// The board now.
pub(crate) async fn read(db: &Db) -> Step<Board> {
    let found = db.aggregate(&db.names.meta, stages(db), 1).await?;
    match found.first() {
        Some(doc) => Ok(Board::read(doc)),
        None => Ok(Board { now: db.now().await?, ..Board::default() }),
    }
}

/// `ttl` after now.
fn until(now: &Bson, ttl: std::time::Duration) -> Bson {
    let millis = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
    match now {
        Bson::DateTime(t) => date(Timestamp::from_millis(t.timestamp_millis().saturating_add(millis))),
        now => Bson::Document(doc! { "$add": [now.clone(), millis] }),
    }
}

fn entry(id: Bson, epoch: impl Into<Bson>, now: &Bson, ttl: std::time::Duration) -> Document {
    doc! { "id": id, "epoch": epoch.into(), "seen_at": now.clone(), "until": until(now, ttl) }
}

fn nodes() -> Document {
    doc! { "$ifNull": ["$nodes", []] }
}

fn one_more() -> Document {
    doc! { "$add": [{ "$ifNull": ["$changes", 0_i64] }, 1_i64] }
}

fn all_but(what: Document) -> Document {
    doc! { "$filter": { "input": nodes(), "as": "it", "cond": { "$not": [what] } } }
}

async fn change(
    db: &Db,
    filter: Document,
    stages: Vec<Document>,
    shown: ReturnDocument,
) -> Step<Option<Document>> {
    let upsert = filter.len() == 1;
    for _ in 0..5 {
        let meta = db.collection(&db.names.meta);
        let changed = meta
            .find_one_and_update(filter.clone(), stages.clone())
            .upsert(upsert)
            .return_document(shown.clone())
            .await;
        match changed.map_err(Fail::from) {
            // Two made the document at once.
            Err(fail) if fail.code() == Some(DUPLICATE_KEY) => {}
            other => return other,
        }
    }
    Err(Error::unavailable("others made the board at the same time, again and again").into())
}

/// Enters a node in a new epoch, larger than all before. An earlier epoch of the same node is dead then.
pub(crate) async fn enter(db: &Db, id: &NodeId, ttl: std::time::Duration) -> Step<NodeRef> {
    let now = db.now_in_command();
    let id_text = Bson::Document(doc! { "$literal": id.as_str() });
    let others = all_but(doc! { "$eq": ["$$it.id", id_text.clone()] });
    let stages = vec![
        doc! { "$set": { "epoch": { "$add": [{ "$ifNull": ["$epoch", 0_i64] }, 1_i64] } } },
        doc! { "$set": {
            "nodes": { "$concatArrays": [others, [entry(id_text, "$epoch", &now, ttl)]] },
            "changes": one_more(), "now": now,
        } },
    ];
    let board = change(db, doc! { "_id": BOARD }, stages, ReturnDocument::After).await?;
    let epoch = count(board.as_ref().and_then(|doc| doc.get("epoch")));
    Ok(NodeRef { id: id.clone(), epoch: Epoch(epoch) })
}

/// Renews the lease of a node; `None` when its epoch is dead.
pub(crate) async fn renew(db: &Db, node: &NodeRef, ttl: std::time::Duration) -> Step<Option<Board>> {
    let now = db.now_in_command();
    let id = Bson::Document(doc! { "$literal": node.id.as_str() });
    let renewed = doc! { "$cond": [
        { "$eq": ["$$it.epoch", node.epoch.0] }, entry(id, node.epoch.0, &now, ttl), "$$it",
    ] };
    let map = doc! { "$map": { "input": nodes(), "as": "it", "in": renewed } };
    let stages = vec![doc! { "$set": { "nodes": map, "now": now } }];
    let board = change(db, there(node), stages, ReturnDocument::After).await?;
    Ok(board.as_ref().map(Board::read))
}

fn there(node: &NodeRef) -> Document {
    doc! {
        "_id": BOARD,
        "nodes": { "$elemMatch": { "id": node.id.as_str(), "epoch": node.epoch.0 } },
    }
}

/// Takes a node off, which is dead from then on. Answers what stood there.
pub(crate) async fn take_off(db: &Db, node: &NodeRef) -> Step<Vec<Entry>> {
    let stages = vec![doc! { "$set": {
        "nodes": all_but(doc! { "$eq": ["$$it.epoch", node.epoch.0] }), "changes": one_more(),
    } }];
    let before = change(db, there(node), stages, ReturnDocument::Before).await?;
    let before = before.as_ref().map(Board::read).unwrap_or_default();
    Ok(before.entries.into_iter().filter(|entry| entry.node == *node).collect())
}

/// Takes everybody off whose lease ended before `limit`. Answers who that was.
pub(crate) async fn bury(db: &Db, limit: Timestamp) -> Step<Vec<Entry>> {
    let overdue = doc! { "$lt": ["$$it.until", date(limit)] };
    let filter = doc! { "_id": BOARD, "nodes.until": { "$lt": date(limit) } };
    let stages = vec![doc! { "$set": { "nodes": all_but(overdue), "changes": one_more() } }];
    let before = change(db, filter, stages, ReturnDocument::Before).await?;
    let before = before.as_ref().map(Board::read).unwrap_or_default();
    Ok(before.entries.into_iter().filter(|entry| entry.until < limit).collect())
}

/// Notes that other programs write jobs here.
pub(crate) async fn note_strangers(db: &Db) -> Step<()> {
    let stages = vec![doc! { "$set": { "strangers": { "$ifNull": ["$strangers", db.now_in_command()] } } }];
    change(db, doc! { "_id": BOARD }, stages, ReturnDocument::After).await?;
    Ok(())
}
