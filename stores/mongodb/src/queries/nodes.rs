//! Nodes and their leases.

use bson::{Bson, Document, doc};
use mongodb::options::{FindOptions, ReturnDocument};
use unified_scheduler_core::id::{Epoch, ExecutionId, NodeId};
use unified_scheduler_core::store::{
    HeartbeatOutcome, HeartbeatRequest, JoinRequest, Joined, Node, NodeInfo, NodeRef,
};
use unified_scheduler_core::{Error, Timestamp};

use super::places::id_of;
use crate::db::{Db, Durability};
use crate::error::{DUPLICATE_KEY, Fail, Step};
use crate::ids::holding;
use crate::legacy::ours;
use crate::value::{count, time, to_bson, to_json};

/// How long a dead node is still shown.
const SHOWN: std::time::Duration = std::time::Duration::from_hours(24);

/// Until when the node holds its lease, `None` when this epoch is dead; and the store's clock.
pub(crate) async fn lease(db: &Db, node: &NodeRef) -> Step<(Option<Timestamp>, Timestamp)> {
    let living = doc! { "_id": node.id.as_str(), "epoch": node.epoch.0, "dead": false };
    if let Some(clock) = &db.clock {
        let found = db.find_one(&db.names.nodes, living).await?;
        return Ok((found.and_then(|doc| time(doc.get("lease_until"))), clock.now()));
    }
    let pipeline = vec![doc! { "$match": living }, doc! { "$project": { "lease_until": 1, "now": "$$NOW" } }];
    let found = db.aggregate(&db.names.nodes, pipeline, 1).await?;
    match found.first() {
        Some(doc) => Ok((time(doc.get("lease_until")), time(doc.get("now")).unwrap_or_default())),
        None => Ok((None, db.now().await?)),
    }
}

fn told(info: &NodeInfo) -> Step<Bson> {
    Ok(to_bson(&serde_json::to_value(info)?, crate::value::Types::Plain).0)
}

fn plus(now: &Bson, ttl: std::time::Duration) -> Bson {
    let millis = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
    match now {
        Bson::DateTime(t) => {
            crate::value::date(Timestamp::from_millis(t.timestamp_millis().saturating_add(millis)))
        }
        now => Bson::Document(doc! { "$add": [now.clone(), millis] }),
    }
}

pub(crate) async fn join(db: &Db, request: JoinRequest) -> Step<Joined> {
    let epoch = next_epoch(db).await?;
    let now = db.now_in_command();
    let fields = doc! {
        "epoch": epoch, "dead": false, "died_at": Bson::Null, "joined_at": now.clone(), "seen_at": now.clone(),
        "lease_until": plus(&now, request.ttl), "info": { "$literal": told(&request.info)? },
    };
    // Of two that join with one id at once, the later epoch stays.
    let filter = doc! { "_id": request.id.as_str(), "epoch": { "$lt": epoch } };
    let nodes = db.collection(&db.names.nodes);
    let joined = nodes
        .find_one_and_update(filter, vec![doc! { "$set": fields }])
        .upsert(true)
        .return_document(ReturnDocument::After)
        .await;
    let joined = match joined.map_err(Fail::from) {
        Err(fail) if fail.code() == Some(DUPLICATE_KEY) => None,
        other => other?,
    };
    let seen = joined.as_ref().and_then(|doc| time(doc.get("joined_at")));
    let now = match seen {
        Some(now) => now,
        None => db.now().await?,
    };
    Ok(Joined { epoch: Epoch(epoch), now })
}

async fn next_epoch(db: &Db) -> Step<i64> {
    for _ in 0..5 {
        let meta = db.collection(&db.names.meta);
        let counted = meta
            .find_one_and_update(doc! { "_id": "epoch" }, doc! { "$inc": { "n": 1_i64 } })
            .upsert(true)
            .return_document(ReturnDocument::After)
            .await;
        match counted.map_err(Fail::from) {
            Err(fail) if fail.code() == Some(DUPLICATE_KEY) => {}
            other => return Ok(count(other?.as_ref().and_then(|doc| doc.get("n")))),
        }
    }
    Err(Error::unavailable("others gave out epochs at the same time, again and again").into())
}

pub(crate) async fn heartbeat(db: &Db, request: HeartbeatRequest) -> Step<HeartbeatOutcome> {
    let HeartbeatRequest { node, ttl, info } = request;
    let now = db.now_in_command();
    let set = doc! {
        "seen_at": now.clone(), "lease_until": plus(&now, ttl), "info": { "$literal": told(&info)? },
    };
    let living = doc! { "_id": node.id.as_str(), "epoch": node.epoch.0, "dead": false };
    let nodes = db.collection(&db.names.nodes);
    let renewed = nodes
        .find_one_and_update(living, vec![doc! { "$set": set }])
        .return_document(ReturnDocument::After)
        .await?;
    let Some(renewed) = renewed else { return Ok(HeartbeatOutcome::Refused) };
    let now = time(renewed.get("seen_at")).unwrap_or_default();
    let News { cancel, n_running, overdue } = news(db, &node, now).await?;
    Ok(HeartbeatOutcome::Renewed { now, cancel, n_running, overdue })
}

/// What a heartbeat tells its node.
struct News {
    /// Executions of this node that somebody asked to cancel.
    cancel: Vec<ExecutionId>,
    n_running: u64,
    /// Whether there is something to reap.
    overdue: bool,
}

/// All of it in one question.
async fn news(db: &Db, node: &NodeRef, now: Timestamp) -> Step<News> {
    let mut asked = crate::rows::owned_by(node);
    asked.insert(ours!("cancel"), true);
    let exists = |field: &str| doc! { "$match": { field: { "$exists": true } } };
    let mark = |kind: &str| doc! { "$project": { "_id": 0, "kind": kind } };
    let one = doc! { "$limit": 1 };
    let epochs = vec![
        doc! { "$match": { "status": "running", ours!("epoch"): { "$exists": true } } },
        doc! { "$group": { "_id": concat!("$", ours!("epoch")), "n": { "$sum": 1 } } },
        doc! { "$project": { "_id": 0, "kind": "runs", "epoch": "$_id", "n": 1 } },
    ];
    let late = vec![
        doc! { "$match": { "dead": false, "lease_until": { "$lte": crate::value::date(now) } } },
        one.clone(),
        mark("late"),
    ];
    let living = vec![
        doc! { "$match": { "dead": false } },
        doc! { "$project": { "_id": 0, "kind": "lives", "epoch": "$epoch" } },
    ];
    let union = |collection: &str, pipeline: Vec<Document>| {
        doc! { "$unionWith": { "coll": collection, "pipeline": pipeline } }
    };
    let mut pipeline = vec![
        doc! { "$match": asked },
        doc! { "$project": { "kind": "cancel", ours!("id"): 1 } },
        union(&db.names.executions, epochs),
        union(&db.names.executions, vec![exists(ours!("after")), one.clone(), mark("late")]),
        union(&db.names.nodes, late),
        union(&db.names.nodes, living),
    ];
    for collection in db.names.of_jobs() {
        pipeline.push(union(collection, vec![exists(ours!("ops.token")), one.clone(), mark("left")]));
    }
    let (mut cancel, mut runs, mut lives, mut overdue) = (Vec::new(), Vec::new(), Vec::new(), false);
    let mut n_running = 0;
    for doc in db.aggregate(&db.names.executions, pipeline, 1000).await? {
        match crate::value::text(&doc, "kind") {
            Some("cancel") => {
                let held = || doc.get("_id").and_then(Bson::as_object_id).map(holding);
                cancel.extend(id_of(&doc).or_else(held));
            }
            Some("runs") => {
                let epoch = count::<i64>(doc.get("epoch"));
                if epoch == node.epoch.0 {
                    n_running = count(doc.get("n"));
                }
                runs.push(epoch);
            }
            Some("lives") => lives.push(count::<i64>(doc.get("epoch"))),
            Some("late") => overdue = true,
            // Somebody may be just at it; when not, the next reaping does it.
            _ => tracing::trace!("something is embedded"),
        }
    }
    overdue |= runs.iter().any(|epoch| !lives.contains(epoch));
    Ok(News { cancel, n_running, overdue })
}

pub(crate) async fn leave(db: &Db, node: &NodeRef) -> Step<()> {
    let q = doc! { "_id": node.id.as_str(), "epoch": node.epoch.0, "dead": false };
    let u = vec![doc! { "$set": { "dead": true, "died_at": db.now_in_command() } }];
    db.update(&db.names.nodes, vec![doc! { "q": q, "u": u }], Durability::Full).await?;
    Ok(())
}

/// Marks those dead whose lease ran out more than `grace` ago, and forgets those long dead.
pub(crate) async fn bury(db: &Db, grace: std::time::Duration, now: Timestamp) -> Step<Vec<NodeRef>> {
    let nodes = db.collection(&db.names.nodes);
    let limit = crate::value::date(now.saturating_sub(grace));
    let filter = doc! { "dead": false, "lease_until": { "$lt": limit } };
    let mut dead = Vec::new();
    loop {
        let set = doc! { "$set": { "dead": true, "died_at": crate::value::date(now) } };
        let Some(doc) = nodes.find_one_and_update(filter.clone(), set).await? else { break };
        dead.push(reference(&doc));
    }
    let long_ago = crate::value::date(now.saturating_sub(SHOWN));
    db.delete(&db.names.nodes, doc! { "dead": true, "died_at": { "$lt": long_ago } }).await?;
    Ok(dead)
}

fn reference(doc: &Document) -> NodeRef {
    let id = crate::value::text(doc, "_id").unwrap_or_default();
    NodeRef { id: NodeId::from(id), epoch: Epoch(count(doc.get("epoch"))) }
}

/// The epochs that are not dead.
pub(crate) async fn living(db: &Db) -> Step<Vec<i64>> {
    let docs = db.find(&db.names.nodes, doc! { "dead": false }, FindOptions::default()).await?;
    Ok(docs.iter().map(|doc| count(doc.get("epoch"))).collect())
}

pub(crate) async fn list(db: &Db) -> Step<Vec<Node>> {
    let now = db.now().await?;
    let long_ago = crate::value::date(now.saturating_sub(SHOWN));
    let shown = doc! { "$or": [{ "dead": false }, { "died_at": { "$gte": long_ago } }] };
    let options = FindOptions::builder().sort(doc! { "_id": 1 }).build();
    let docs = db.find(&db.names.nodes, shown, options).await?;
    Ok(docs.iter().map(node).collect())
}

fn node(doc: &Document) -> Node {
    let NodeRef { id, epoch } = reference(doc);
    let at = |key: &str| time(doc.get(key)).unwrap_or_default();
    Node {
        id,
        epoch,
        dead: doc.get_bool("dead").unwrap_or(true),
        joined_at: at("joined_at"),
        seen_at: at("seen_at"),
        lease_until: at("lease_until"),
        info: doc.get("info").and_then(|info| serde_json::from_value(to_json(info)).ok()).unwrap_or_default(),
    }
}
