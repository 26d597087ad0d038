//! Nodes: their leases, which stand on the board, and what they tell of themselves.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bson::{Bson, Document, doc};
use mongodb::options::{FindOptions, ReturnDocument};
use unified_scheduler_core::Timestamp;
use unified_scheduler_core::id::{Epoch, ExecutionId, NodeId};
use unified_scheduler_core::store::{
    HeartbeatOutcome, HeartbeatRequest, JoinRequest, Joined, Node, NodeInfo, NodeRef,
};

use super::board::{self, Board, Entry};
use super::places::id_of;
use crate::db::{Db, Durability};
use crate::error::{DUPLICATE_KEY, Fail, Step};
use crate::ids::holding;
use crate::legacy::ours;
use crate::value::{count, date, time, to_bson, to_json};

/// How long a dead node is still shown.
const SHOWN: Duration = Duration::from_hours(24);

/// What this process knows of the nodes that beat through it.
#[derive(Debug, Default)]
pub(crate) struct Beating {
    of: Mutex<HashMap<i64, Known>>,
}

#[derive(Debug, Default)]
struct Known {
    /// What it told of itself last.
    told: Option<NodeInfo>,
    /// Nothing of it runs, nothing is to be reaped, and the board has changed so often: as long as it has
    /// not changed again, a heartbeat has nothing to ask for.
    quiet_at: Option<i64>,
    /// How many claims it has begun, and how many of them have no answer yet.
    n_claims: u64,
    n_open: u32,
    /// Until when a claim that got no answer may still commit.
    doubt_until: Option<Instant>,
}

/// How long that may take. A claim that commits later still is found by the next look for leftovers.
const DOUBT: Duration = Duration::from_secs(60);

impl Beating {
    fn lock(&self) -> MutexGuard<'_, HashMap<i64, Known>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a node of this epoch beats through this process.
    pub(crate) fn has(&self, epoch: i64) -> bool {
        self.lock().contains_key(&epoch)
    }

    /// A claim begins: from here on something may run under this epoch.
    pub(crate) fn claim(&self, node: &NodeRef) -> Claiming<'_> {
        let mut of = self.lock();
        let known = of.entry(node.epoch.0).or_default();
        known.n_claims += 1;
        known.n_open += 1;
        let quiet_at = known.quiet_at.take();
        Claiming { beating: self, epoch: node.epoch.0, number: known.n_claims, quiet_at, answer: None }
    }

    /// Whether a heartbeat has nothing to ask for, and how many claims had begun.
    fn quiet_at(&self, node: &NodeRef) -> (Option<i64>, u64) {
        self.lock().get(&node.epoch.0).map_or((None, 0), |known| (known.quiet_at, known.n_claims))
    }

    /// There was nothing, unless a claim was under way meanwhile.
    fn calm(&self, node: &NodeRef, changes: i64, n_claims: u64) {
        if let Some(known) = self.lock().get_mut(&node.epoch.0) {
            let doubt = known.doubt_until.is_some_and(|until| Instant::now() < until);
            let still = known.n_claims == n_claims && known.n_open == 0 && !doubt;
            known.quiet_at = still.then_some(changes);
        }
    }
}

/// A claim under way.
#[derive(Debug)]
pub(crate) struct Claiming<'a> {
    beating: &'a Beating,
    epoch: i64,
    number: u64,
    quiet_at: Option<i64>,
    answer: Option<Answer>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Nothing,
    Something,
}

impl Claiming<'_> {
    /// It is over; whether it left everything as it was.
    pub(crate) fn answered(mut self, nothing: bool) {
        self.answer = Some(if nothing { Answer::Nothing } else { Answer::Something });
    }
}

impl Drop for Claiming<'_> {
    fn drop(&mut self) {
        let mut of = self.beating.lock();
        let Some(known) = of.get_mut(&self.epoch) else { return };
        known.n_open = known.n_open.saturating_sub(1);
        match self.answer {
            None => known.doubt_until = Some(Instant::now() + DOUBT),
            Some(Answer::Nothing) if known.n_claims == self.number => known.quiet_at = self.quiet_at,
            Some(_) => {}
        }
    }
}

/// Until when the node holds its lease, `None` when this epoch is dead; and the store's clock.
pub(crate) async fn lease(db: &Db, node: &NodeRef) -> Step<(Option<Timestamp>, Timestamp)> {
    let board = board::read(db).await?;
    Ok((board.lease(node), board.now))
}

fn told(info: &NodeInfo) -> Step<Bson> {
    Ok(to_bson(&serde_json::to_value(info)?, crate::value::Types::Plain).0)
}

pub(crate) async fn join(db: &Db, request: JoinRequest) -> Step<Joined> {
    let node = board::enter(db, &request.id, request.ttl).await?;
    let epoch = node.epoch.0;
    let fields = doc! {
        "epoch": epoch, "dead": false, "died_at": Bson::Null, "joined_at": db.now_in_command(),
        "info": { "$literal": told(&request.info)? },
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
    db.beating.lock().insert(epoch, Known { told: Some(request.info), ..Known::default() });
    Ok(Joined { epoch: Epoch(epoch), now })
}

pub(crate) async fn heartbeat(db: &Db, request: HeartbeatRequest) -> Step<HeartbeatOutcome> {
    let HeartbeatRequest { node, ttl, info } = request;
    let asked = Instant::now();
    let Some(board) = board::renew(db, &node, ttl).await? else {
        db.beating.lock().remove(&node.epoch.0);
        return Ok(HeartbeatOutcome::Refused);
    };
    db.saw(&board, asked);
    tell(db, &node, info).await?;
    let now = board.now;
    let late = board.entries.iter().any(|entry| entry.until <= now);
    let (quiet_at, n_claims) = db.beating.quiet_at(&node);
    if quiet_at == Some(board.changes) {
        return Ok(HeartbeatOutcome::Renewed { now, cancel: Vec::new(), n_running: 0, overdue: late });
    }
    let News { cancel, n_running, overdue } = news(db, &node, &board).await?;
    if n_running == 0 && !overdue {
        db.beating.calm(&node, board.changes, n_claims);
    }
    Ok(HeartbeatOutcome::Renewed { now, cancel, n_running, overdue: overdue || late })
}

/// Writes what a node tells of itself, where that is something new.
async fn tell(db: &Db, node: &NodeRef, info: NodeInfo) -> Step<()> {
    let epoch = node.epoch.0;
    let known = db.beating.lock().get(&epoch).and_then(|known| known.told.clone());
    if known.is_some_and(|known| same(&known, &info)) {
        return Ok(());
    }
    let q = doc! { "_id": node.id.as_str(), "epoch": epoch };
    let u = vec![doc! { "$set": { "info": { "$literal": told(&info)? } } }];
    db.update(&db.names.nodes, vec![doc! { "q": q, "u": u }], Durability::Light).await?;
    db.beating.lock().entry(epoch).or_default().told = Some(info);
    Ok(())
}

/// Whether there is nothing new in it: two clocks are never read at the same instant.
fn same(known: &NodeInfo, info: &NodeInfo) -> bool {
    let near = known.clock_skew_ms.abs_diff(info.clock_skew_ms) < 100;
    near && NodeInfo { clock_skew_ms: info.clock_skew_ms, ..known.clone() } == *info
}

/// What a heartbeat tells its node.
struct News {
    /// Executions of this node that somebody asked to cancel.
    cancel: Vec<ExecutionId>,
    n_running: u64,
    /// Whether there is something to reap.
    overdue: bool,
}

/// The stages that count, on executions, what runs in each epoch.
pub(crate) fn runs() -> Vec<Document> {
    vec![
        doc! { "$match": { "status": "running", ours!("epoch"): { "$exists": true } } },
        doc! { "$group": { "_id": concat!("$", ours!("epoch")), "n": { "$sum": 1 } } },
        doc! { "$project": { "_id": 0, "kind": "runs", "epoch": "$_id", "n": 1 } },
    ]
}

/// All of it in one question.
async fn news(db: &Db, node: &NodeRef, board: &Board) -> Step<News> {
    let mut asked = crate::rows::owned_by(node);
    asked.insert(ours!("cancel"), true);
    let union = |collection: &str, pipeline: Vec<Document>| {
        doc! { "$unionWith": { "coll": collection, "pipeline": pipeline } }
    };
    let unfinished = vec![
        doc! { "$match": { ours!("after"): { "$exists": true } } },
        doc! { "$limit": 1 },
        doc! { "$project": { "_id": 0, "kind": "late" } },
    ];
    let pipeline = vec![
        doc! { "$match": asked },
        doc! { "$project": { "kind": "cancel", ours!("id"): 1 } },
        union(&db.names.executions, runs()),
        union(&db.names.executions, unfinished),
    ];
    let (mut cancel, mut overdue) = (Vec::new(), false);
    let lives = board.living();
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
                overdue |= !lives.contains(&epoch);
            }
            _ => overdue = true,
        }
    }
    Ok(News { cancel, n_running, overdue })
}

pub(crate) async fn leave(db: &Db, node: &NodeRef) -> Step<()> {
    let gone = board::take_off(db, node).await?;
    db.beating.lock().remove(&node.epoch.0);
    mark_dead(db, &gone, db.now_in_command()).await
}

async fn mark_dead(db: &Db, gone: &[Entry], at: Bson) -> Step<()> {
    let statement = |entry: &Entry| {
        let Entry { node, seen_at, until } = entry;
        let q = doc! { "_id": node.id.as_str(), "epoch": node.epoch.0, "dead": false };
        let set = doc! {
            "dead": true, "died_at": at.clone(), "seen_at": date(*seen_at), "lease_until": date(*until),
        };
        doc! { "q": q, "u": [{ "$set": set }] }
    };
    if !gone.is_empty() {
        db.update(&db.names.nodes, gone.iter().map(statement).collect(), Durability::Full).await?;
    }
    Ok(())
}

/// Marks those dead whose lease ran out more than `grace` ago, and forgets those long dead.
pub(crate) async fn bury(db: &Db, grace: Duration, now: Timestamp) -> Step<Vec<NodeRef>> {
    let dead = board::bury(db, now.saturating_sub(grace)).await?;
    mark_dead(db, &dead, date(now)).await?;
    let long_ago = date(now.saturating_sub(SHOWN));
    db.delete(&db.names.nodes, doc! { "dead": true, "died_at": { "$lt": long_ago } }).await?;
    Ok(dead.into_iter().map(|entry| entry.node).collect())
}

/// The epochs that are not dead.
pub(crate) async fn living(db: &Db) -> Step<Vec<i64>> {
    Ok(board::read(db).await?.living())
}

pub(crate) async fn list(db: &Db) -> Step<Vec<Node>> {
    let board = board::read(db).await?;
    let long_ago = date(board.now.saturating_sub(SHOWN));
    let shown = doc! { "$or": [{ "dead": false }, { "died_at": { "$gte": long_ago } }] };
    let options = FindOptions::builder().sort(doc! { "_id": 1 }).build();
    let docs = db.find(&db.names.nodes, shown, options).await?;
    Ok(docs.iter().map(|doc| node(doc, &board)).collect())
}

fn node(doc: &Document, board: &Board) -> Node {
    let id = NodeId::from(crate::value::text(doc, "_id").unwrap_or_default());
    let epoch = Epoch(count(doc.get("epoch")));
    let joined_at = time(doc.get("joined_at")).unwrap_or_default();
    let entry = board.entries.iter().find(|entry| entry.node.epoch == epoch);
    let at = |field: &str| time(doc.get(field)).unwrap_or(joined_at);
    Node {
        id,
        epoch,
        dead: entry.is_none(),
        joined_at,
        seen_at: entry.map_or_else(|| at("seen_at"), |entry| entry.seen_at),
        lease_until: entry.map_or_else(|| at("lease_until"), |entry| entry.until),
        info: doc.get("info").and_then(|info| serde_json::from_value(to_json(info)).ok()).unwrap_or_default(),
    }
}
