//! Taking pending executions: the first half of a claim.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Instant;

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use unified_scheduler_core::execution::Execution;
use unified_scheduler_core::id::JobId;
use unified_scheduler_core::store::{ClaimBatch, ClaimRequest, Claimed};

use super::ops::{Deed, Ops, carry_out};
use super::{look, ops, places, read};
use crate::db::{Db, Durability};
use crate::error::Step;
use crate::ids::{inner_key, inner_keys, object_id};
use crate::jobs::{JobRow, Slot};
use crate::legacy::ours;
use crate::rows;

/// How many pages of executions that can't start one claim looks at.
const PAGES: usize = 20;

/// How many more executions of one job may start, and which of its own do.
struct Room {
    row: JobRow,
    open: places::Open,
    left: u32,
    starts: Vec<Execution>,
}

impl Room {
    fn holds(&self, execution: &Execution) -> bool {
        let key = object_id(&execution.id);
        self.row.slots.iter().any(|slot| slot.execution == key)
    }
}

/// Takes pending executions, by priority, then time. Those of a job that runs as often as it may are
/// passed over, and hide nobody. Answers the jobs whose documents it has changed.
pub(crate) async fn take(
    db: &Db,
    request: &ClaimRequest<'_>,
    handlers: &[&str],
    first: Vec<Document>,
    batch: &mut ClaimBatch,
) -> Step<BTreeSet<JobId>> {
    let page = request.limit.saturating_add(1);
    let mut rooms: HashMap<JobId, Room> = HashMap::new();
    let mut closed: BTreeSet<JobId> = BTreeSet::new();
    let mut seen: Vec<ObjectId> = Vec::new();
    let mut taken = 0;
    let mut found = first;
    let mut asked = page;
    for _ in 0..PAGES {
        let full = found.len() == asked;
        let executions = rows::executions(&found);
        seen.extend(rows::keys(&found));
        enter(db, &executions, &mut rooms, &mut closed, batch).await?;
        for execution in executions {
            let Some(room) = rooms.get_mut(&execution.job_id) else { continue };
            if room.holds(&execution) {
                // Somebody has started it since it was found.
                continue;
            }
            if room.left == 0 {
                batch.blocked = true;
                closed.insert(execution.job_id.clone());
            } else if taken == request.limit {
                batch.more = true;
            } else {
                room.left -= 1;
                taken += 1;
                room.starts.push(execution);
            }
        }
        if !full || batch.more {
            break;
        }
        let others: Vec<&str> = closed.iter().map(JobId::as_str).collect();
        let except = doc! { "job_id": { "$nin": others }, "_id": { "$nin": seen.clone() } };
        asked = page.max(100);
        let stages = look::startable(handlers, batch.now, except, asked);
        let next = db.aggregate(&db.names.executions, stages, asked).await?;
        found = next
            .into_iter()
            .filter_map(|mut doc| match doc.remove("doc") {
                Some(Bson::Document(inner)) => Some(inner),
                _ => None,
            })
            .collect();
        if found.is_empty() {
            break;
        }
    }
    start(db, request, rooms, batch).await
}

/// Finds out how much room there is in the jobs of these executions.
async fn enter(
    db: &Db,
    executions: &[Execution],
    rooms: &mut HashMap<JobId, Room>,
    closed: &mut BTreeSet<JobId>,
    batch: &mut ClaimBatch,
) -> Step<()> {
    let mut ids: Vec<JobId> = executions
        .iter()
        .map(|e| e.job_id.clone())
        .filter(|id| !rooms.contains_key(id) && !closed.contains(id))
        .collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() {
        return Ok(());
    }
    let mut rows: Vec<JobRow> = read::jobs(db, &ids, batch.now).await?.into_values().collect();
    let (mut open, changed) = places::tidy(db, &rows).await?;
    if changed {
        rows = read::jobs(db, &ids, batch.now).await?.into_values().collect();
        (open, _) = places::tidy(db, &rows).await?;
    }
    for row in rows {
        let open = open.remove(row.id()).unwrap_or_default();
        // A place is taken, too, by what is about to run.
        let taken = u32::try_from(row.slots.len()).unwrap_or(u32::MAX);
        let most = row.job.definition.overlap.max_running();
        let left = if row.job.fault.is_some() { 0 } else { most.saturating_sub(taken) };
        rooms.insert(row.id().clone(), Room { row, open, left, starts: Vec::new() });
    }
    closed.extend(ids.into_iter().filter(|id| !rooms.contains_key(id)));
    Ok(())
}

async fn start(
    db: &Db,
    request: &ClaimRequest<'_>,
    rooms: HashMap<JobId, Room>,
    batch: &mut ClaimBatch,
) -> Step<BTreeSet<JobId>> {
    let rooms: Vec<Room> = rooms.into_values().filter(|room| !room.starts.is_empty()).collect();
    if rooms.is_empty() {
        return Ok(BTreeSet::new());
    }
    let token = ObjectId::new();
    let mut deeds = Vec::with_capacity(rooms.len());
    let mut statements: HashMap<&str, Vec<Document>> = HashMap::new();
    for room in &rooms {
        let mut ops = Ops::new(token);
        let mut slots = room.row.slots.clone();
        let keys: Vec<ObjectId> = room.starts.iter().map(|e| object_id(&e.id)).collect();
        for key in &keys {
            ops.start(*key, request.node, batch.now);
            slots.push(Slot { execution: *key, epoch: request.node.epoch.0 });
        }
        let (mut set, unset) = if room.row.stale { room.row.write(false)? } else { Default::default() };
        let queued: Vec<ObjectId> =
            room.open.queued.iter().copied().filter(|key| !keys.contains(key)).collect();
        set.insert(ours!("rev"), room.row.rev + 1);
        set.insert(ours!("slots"), slots.iter().map(|slot| slot.to_bson()).collect::<Vec<_>>());
        set.insert(ours!("queued"), inner_keys(&queued));
        set.insert(ours!("token"), inner_key(token));
        if let Some(last) = room.starts.last() {
            set.insert(ours!("run"), last.id.to_string());
        }
        set.insert(ours!("ops"), ops.to_bson());
        let collection = db.names.of_job(room.row.id());
        statements.entry(collection).or_default().push(room.row.update(set, unset));
        deeds.push(Deed { collection: collection.to_owned(), key: room.row.key.clone(), ops });
    }
    let read_at = Instant::now();
    let mut failed: HashSet<ObjectId> = HashSet::new();
    let mut n = 0;
    for (collection, statements) in statements {
        n += db.update(collection, statements, Durability::Full).await?.n;
    }
    if n < deeds.len() as u64 {
        batch.more = true;
        let keys: Vec<Bson> = deeds.iter().map(|deed| deed.key.clone()).collect();
        let starts = rooms.iter().flat_map(|room| &room.starts);
        let ids: Vec<ObjectId> = starts.map(|e| object_id(&e.id)).collect();
        let started = doc! { "_id": { "$in": ids }, ours!("token"): inner_key(token) };
        let (won, there) = ops::won(db, token, keys, started).await?;
        let (still, gone): (Vec<Deed>, Vec<Deed>) = deeds.into_iter().partition(|d| won.contains(&d.key));
        deeds = still;
        // Somebody else has carried these out; what of them started is ours.
        let others = rooms.iter().filter(|room| gone.iter().any(|deed| deed.key == room.row.key));
        let not_started = others.flat_map(|room| &room.starts).map(|e| object_id(&e.id));
        failed.extend(not_started.filter(|key| !there.contains(key)));
    }
    failed.extend(carry_out(db, &deeds, read_at).await?);
    let mut changed = BTreeSet::new();
    let mut claimed = Vec::new();
    for room in rooms {
        changed.insert(room.row.id().clone());
        for mut execution in room.starts {
            if failed.contains(&object_id(&execution.id)) {
                continue;
            }
            execution.own(request.node, batch.now);
            claimed.push(Claimed { execution, job: room.row.job.clone() });
        }
    }
    claimed.sort_by_key(|c| (-c.execution.priority, c.execution.run_at, c.execution.id));
    batch.claimed.extend(claimed);
    Ok(changed)
}
