//! The claim: pending executions first, then due jobs.
//!
//! Two questions: is the node alive, and what is there (one pipeline over all collections, each part of it
//! served by an index). Then three writes for any number of jobs: every job is moved on, by a
//! compare-and-set that embeds its executions; these are inserted; they are taken out again.

use std::collections::{BTreeSet, HashSet};
use std::time::Instant;

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use unified_scheduler_core::Timestamp;
use unified_scheduler_core::execution::Execution;
use unified_scheduler_core::id::JobId;
use unified_scheduler_core::job::{EndReason, Job};
use unified_scheduler_core::schedule::Calendars;
use unified_scheduler_core::store::{
    ClaimBatch, ClaimOutcome, ClaimRequest, Claimed, Disposition, NextDue, Planner,
};

use super::calendars::Known;
use super::ops::{Deed, Ops, carry_out, won};
use super::places::{self, Open};
use super::{effects, nodes, pending, strangers};
use crate::db::{Db, Durability};
use crate::error::Step;
use crate::ids::{inner_keys, is_static, object_id};
use crate::jobs::{JobRow, Slot, update};
use crate::legacy::{FORMAT, OURS, ours};
use crate::value::{count, date, n, text, time};

/// What one question found.
struct Found {
    pending: Vec<Document>,
    due: Vec<Document>,
    next_at: Option<Timestamp>,
    calendars: i64,
}

/// Claims after this long make sure that the node still holds its lease.
const SLOW: std::time::Duration = std::time::Duration::from_secs(2);

/// Claims for a node that held its lease at `now`.
pub(crate) async fn claim(
    db: &Db,
    known: &Known,
    request: ClaimRequest<'_>,
    planner: &dyn Planner,
    now: Timestamp,
) -> Step<ClaimOutcome> {
    let begun = Instant::now();
    let handlers: Vec<&str> = request.handlers.iter().map(String::as_str).collect();
    let found = look(db, &handlers, request.limit, now).await?;
    let mut batch = ClaimBatch { now, next_at: found.next_at, ..ClaimBatch::default() };
    let changed = pending::take(db, &request, &handlers, found.pending, &mut batch).await?;
    let room = request.limit.saturating_sub(batch.claimed.len());
    let mut due = found.due;
    batch.more |= due.len() > room;
    due.truncate(room);
    refresh(db, &mut due, &changed).await?;
    if !due.is_empty() {
        let calendars = known.at(db, found.calendars).await?;
        let firing = Firing { db, request, planner, calendars: &calendars };
        firing.fire(due, &mut batch).await?;
    }
    if begun.elapsed() > SLOW && nodes::lease(db, request.node).await?.0.is_none() {
        return Ok(ClaimOutcome::Refused);
    }
    Ok(ClaimOutcome::Claimed(Box::new(batch)))
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

async fn look(db: &Db, handlers: &[&str], limit: usize, now: Timestamp) -> Step<Found> {
    let handler = doc! { "$in": handlers.to_vec() };
    let page = limit.saturating_add(1);
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
        let due = doc! {
            ours!("handler"): handler.clone(), ours!("fire"): { "$lte": date(now) },
            // What a newer version wrote is not ours to run, and must not hide others.
            ours!("v"): { "$lte": FORMAT },
        };
        let stages = vec![
            doc! { "$match": due },
            doc! { "$sort": { ours!("priority"): -1, ours!("fire"): 1 } },
            doc! { "$limit": n(page) },
            tagged("due"),
        ];
        pipeline.push(union(collection, stages));
        let not_yet = doc! { ours!("handler"): handler.clone(), ours!("fire"): later.clone() };
        pipeline.push(union(collection, next(ours!("fire"), not_yet)));
    }
    let version = vec![doc! { "$match": { "_id": "calendars" } }, tagged("calendars")];
    pipeline.push(union(&db.names.meta, version));
    let mut found = Found { pending: Vec::new(), due: Vec::new(), next_at: None, calendars: 0 };
    for mut doc in db.aggregate(&db.names.executions, pipeline, page.saturating_mul(3)).await? {
        let inner = match doc.remove("doc") {
            Some(Bson::Document(inner)) => inner,
            _ => Document::new(),
        };
        match text(&doc, "kind") {
            Some("pending") => found.pending.push(inner),
            Some("due") => found.due.push(inner),
            Some("calendars") => found.calendars = count(inner.get("n")),
            _ => found.next_at = found.next_at.into_iter().chain(time(doc.get("at"))).min(),
        }
    }
    found.due.sort_by_key(order);
    Ok(found)
}

/// By priority, then time.
fn order(doc: &Document) -> (i64, Option<Timestamp>) {
    let own = doc.get_document(OURS).ok();
    let priority: i64 = count(own.and_then(|own| own.get("priority")));
    (-priority, own.and_then(|own| time(own.get("fire"))))
}

/// Reads again the due jobs whose pending executions this claim has just started.
async fn refresh(db: &Db, due: &mut [Document], changed: &BTreeSet<JobId>) -> Step<()> {
    let again: Vec<JobId> = due
        .iter()
        .filter_map(|doc| doc.get("_id").map(crate::ids::job_id))
        .filter(|id| changed.contains(id))
        .collect();
    if again.is_empty() {
        return Ok(());
    }
    for (_, fresh) in super::read::documents(db, &again).await? {
        if let Some(stale) = due.iter_mut().find(|doc| doc.get("_id") == fresh.get("_id")) {
            *stale = fresh;
        }
    }
    Ok(())
}

/// The second half of a claim.
struct Firing<'a> {
    db: &'a Db,
    request: ClaimRequest<'a>,
    planner: &'a dyn Planner,
    calendars: &'a Calendars,
}

/// One job that is to be moved on.
struct Move {
    statics: bool,
    key: Bson,
    /// As the claim read it.
    before: Job,
    /// As it will be.
    after: Job,
    ops: Ops,
    records: Vec<(Execution, bool)>,
    cancel: Vec<unified_scheduler_core::ExecutionId>,
    set_aside: Option<String>,
    ended: Option<EndReason>,
    free: u32,
}

impl Firing<'_> {
    async fn fire(&self, due: Vec<Document>, batch: &mut ClaimBatch) -> Step<()> {
        let now = batch.now;
        let rows = self.readable(due, batch).await?;
        let (open, changed) = places::tidy(self.db, &rows).await?;
        if changed {
            // Something had ended without telling its job; the next claim sees it as it is.
            batch.more = true;
            return Ok(());
        }
        let token = ObjectId::new();
        let mut moves = Vec::with_capacity(rows.len());
        let (mut dynamic, mut statics) = (Vec::new(), Vec::new());
        let none = Open::default();
        for row in rows {
            let open = open.get(row.id()).unwrap_or(&none);
            let (step, statement) = self.plan(row, open, token, now)?;
            if step.statics { &mut statics } else { &mut dynamic }.push(statement);
            moves.push(step);
        }
        let read_at = Instant::now();
        let won = self.write(&mut moves, dynamic, statics, token).await?;
        batch.more |= !won;
        let deeds: Vec<Deed> = moves.iter().filter(|m| !m.ops.is_empty()).map(|m| self.deed(m)).collect();
        let failed =
            if deeds.is_empty() { HashSet::new() } else { carry_out(self.db, &deeds, read_at).await? };
        for moved in moves {
            Self::tell(moved, &failed, batch);
        }
        Ok(())
    }

    fn deed(&self, moved: &Move) -> Deed {
        let names = &self.db.names;
        let collection = if moved.statics { &names.statics } else { &names.jobs };
        Deed { collection: collection.clone(), key: moved.key.clone(), ops: moved.ops.clone() }
    }

    /// The jobs that are really due. What is embedded in others is carried out, and what strangers moved is
    /// put where it belongs.
    async fn readable(&self, due: Vec<Document>, batch: &mut ClaimBatch) -> Step<Vec<JobRow>> {
        let read_at = Instant::now();
        let (mut rows, mut deeds, mut stale) = (Vec::new(), Vec::new(), Vec::new());
        for doc in due {
            let id = doc.get("_id").map_or_else(|| "".into(), crate::ids::job_id);
            if let Some(deed) = Deed::of(self.db.names.of_job(&id), &doc) {
                deeds.push(deed);
                continue;
            }
            let row = JobRow::read(doc, &self.db.cache, batch.now);
            if row.newer {
                continue;
            }
            let job = &row.job;
            let is_due = job.enabled && job.due.is_some_and(|due| due.fire_at <= batch.now);
            let is_ours = self.request.handlers.contains(&job.definition.handler);
            if row.unreadable || (is_due && is_ours && job.fault.is_none()) {
                rows.push(row);
            } else {
                stale.push(row);
            }
        }
        batch.more |= !deeds.is_empty() || !stale.is_empty();
        if !deeds.is_empty() {
            carry_out(self.db, &deeds, read_at).await?;
        }
        strangers::adopt(self.db, stale, batch.now).await?;
        Ok(rows)
    }

    fn plan(&self, mut row: JobRow, open: &Open, token: ObjectId, now: Timestamp) -> Step<(Move, Document)> {
        let before = row.job.clone();
        let mut moved = Move {
            statics: is_static(row.id()),
            key: row.key.clone(),
            after: before.clone(),
            ops: Ops::new(token),
            records: Vec::new(),
            cancel: Vec::new(),
            set_aside: None,
            ended: None,
            free: 0,
            before,
        };
        let plan = if row.unreadable {
            None
        } else {
            Some(self.planner.plan(&row.job, open.live(), now, self.calendars))
        };
        let reason = match &plan {
            None => row.job.fault.take(),
            Some(plan) => match &plan.next {
                NextDue::SetAside(reason) => Some(reason.clone()),
                _ => None,
            },
        };
        let mut slots: Vec<Slot> = row.slots.clone();
        let mut queued = open.queued.clone();
        if let Some(reason) = reason {
            effects::set_aside(&mut row, &reason, now, &mut moved.ops);
            moved.set_aside = Some(reason);
        } else if let Some(plan) = plan {
            let (due, ended) = plan.next.parts();
            (row.job.due, row.job.ended) = (due, ended);
            (row.job.skip_next, row.job.n_fired) = (plan.skip_next, plan.n_fired);
            moved.ended = ended;
            if plan.cancel_running {
                let keys: Vec<ObjectId> = open.running.iter().map(|(key, _)| *key).collect();
                moved.ops.cancel(&keys);
                moved.cancel = open.running.iter().map(|(_, id)| *id).collect();
            }
            for record in plan.records {
                let starts = record.disposition == Disposition::Start;
                let execution = record.into_execution(&moved.before, now, self.request.node);
                let key = object_id(&execution.id);
                if starts {
                    slots.push(Slot { execution: key, epoch: self.request.node.epoch.0 });
                } else if !execution.status.is_final() {
                    queued.push(key);
                }
                moved.ops.insert(&execution, None);
                moved.records.push((execution, starts));
            }
        }
        let running = u32::try_from(slots.len()).unwrap_or(u32::MAX);
        moved.free = row.job.definition.overlap.max_running().saturating_sub(running);
        let statement = statement(&row, &moved, &slots, &queued, now)?;
        moved.after = row.job;
        Ok((moved, statement))
    }

    /// Moves the jobs on. Keeps those that nobody else has changed meanwhile; whether that is all of them.
    async fn write(
        &self,
        moves: &mut Vec<Move>,
        dynamic: Vec<Document>,
        statics: Vec<Document>,
        token: ObjectId,
    ) -> Step<bool> {
        let names = &self.db.names;
        let wanted = (dynamic.len() + statics.len()) as u64;
        let mut n = 0;
        for (collection, statements) in [(&names.jobs, dynamic), (&names.statics, statics)] {
            if !statements.is_empty() {
                n += self.db.update(collection, statements, Durability::Full).await?.n;
            }
        }
        if n == wanted {
            return Ok(true);
        }
        let keys: Vec<Bson> = moves.iter().map(|moved| moved.key.clone()).collect();
        let records = moves.iter().flat_map(|moved| &moved.records);
        let ids: Vec<ObjectId> = records.map(|(execution, _)| object_id(&execution.id)).collect();
        let (won, there) = won(self.db, token, keys, doc! { "_id": { "$in": ids } }).await?;
        moves.retain_mut(|moved| {
            if won.contains(&moved.key) {
                return true;
            }
            // Somebody else may have carried it out already; then its executions are there.
            moved.records.retain(|(execution, _)| there.contains(&object_id(&execution.id)));
            moved.ops = Ops::new(token);
            !moved.records.is_empty()
        });
        Ok(false)
    }

    /// Enters what became of one job into the answer.
    fn tell(moved: Move, failed: &HashSet<ObjectId>, batch: &mut ClaimBatch) {
        let id = &moved.before.id;
        if let Some(reason) = moved.set_aside {
            batch.set_aside.push((id.clone(), reason));
            return;
        }
        batch.ended.extend(moved.ended.map(|reason| (id.clone(), reason)));
        batch.cancel.extend(moved.cancel);
        for (execution, starts) in moved.records {
            if failed.contains(&object_id(&execution.id)) {
                // It has its record already, because an edit set the job back: it does not fire again.
                tracing::debug!(job_id = %id, due_at = %execution.due_at, "occurrence was recorded before");
            } else if starts {
                batch.claimed.push(Claimed { execution, job: moved.before.clone() });
            } else if execution.status.is_final() {
                batch.skipped.push(execution);
            } else {
                batch.queued.push(execution);
                batch.more |= moved.free > 0;
                batch.blocked |= moved.free == 0;
            }
        }
        if let Some(due) = moved.after.due.filter(|_| moved.after.is_scheduled()) {
            if due.fire_at <= batch.now {
                batch.more = true;
            } else {
                batch.next_at = batch.next_at.into_iter().chain([due.fire_at]).min();
            }
        }
    }
}

/// The update that moves a job on, and embeds what is to be inserted.
fn statement(
    row: &JobRow,
    moved: &Move,
    slots: &[Slot],
    queued: &[ObjectId],
    now: Timestamp,
) -> Step<Document> {
    let (mut set, mut unset) = (Document::new(), Document::new());
    if row.stale || moved.set_aside.is_some() {
        (set, unset) = row.write(false)?;
    } else {
        row.write_state(&mut set, &mut unset);
    }
    if moved.set_aside.is_some() {
        set.insert("version", row.job.version);
        set.insert("updatedAt", date(now));
        set.insert("lastStatus", "failed");
    }
    set.insert(ours!("slots"), slots.iter().map(|slot| slot.to_bson()).collect::<Vec<_>>());
    set.insert(ours!("queued"), inner_keys(queued));
    if let Some(token) = moved.ops.token_if_any() {
        set.insert(ours!("token"), token);
    }
    if moved.ops.is_empty() {
        unset.insert(ours!("ops"), true);
    } else {
        set.insert(ours!("ops"), moved.ops.to_bson());
    }
    Ok(update(row.guard(), set, unset))
}
