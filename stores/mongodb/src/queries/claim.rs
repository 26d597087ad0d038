//! The claim: pending executions first, then due jobs.
//!
//! One question: is the node alive, and what is there (one pipeline over all collections, each part of it
//! served by an index). Then three writes for any number of jobs: every job is moved on, by a
//! compare-and-set that embeds its executions; these are inserted; they are taken out again.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Instant;

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use unified_scheduler_core::execution::Execution;
use unified_scheduler_core::id::JobId;
use unified_scheduler_core::job::{EndReason, Job};
use unified_scheduler_core::schedule::Calendars;
use unified_scheduler_core::store::{
    ClaimBatch, ClaimOutcome, ClaimRequest, Claimed, Disposition, NextDue, Planner,
};
use unified_scheduler_core::{Error, Timestamp};

use super::calendars::Known;
use super::look::{Found, Look, look};
use super::ops::{self, Deed, Ops, carry_out};
use super::places::{self, Open};
use super::{effects, nodes, pending, strangers};
use crate::db::{Db, Durability, at_once, parts};
use crate::error::Step;
use crate::ids::{inner_keys, is_static, object_id};
use crate::jobs::{JobRow, Slot};
use crate::legacy::ours;
use crate::value::date;

/// Claims after this long make sure that the node still holds its lease.
const SLOW: std::time::Duration = std::time::Duration::from_secs(2);

/// From here on a claim that others win costs more than to leave them their share unasked.
const LARGE: usize = 100;

/// Claims, and with `scan` also takes over what other programs wrote. The flag says whether everything is
/// as it was.
pub(crate) async fn claim(
    db: &Db,
    known: &Known,
    request: ClaimRequest<'_>,
    planner: &dyn Planner,
    scan: bool,
) -> Step<(ClaimOutcome, bool)> {
    let begun = Instant::now();
    let handlers: Vec<&str> = request.handlers.iter().map(String::as_str).collect();
    let epoch = request.node.epoch.0;
    let mut share = db.seen.sharing.next(epoch, &db.seen.living());
    let mut found = look(db, &handlers, request.limit, Look { scan, share }).await?;
    let now = found.board.now;
    if found.board.lease(request.node).is_none_or(|until| until <= now) {
        return Ok((ClaimOutcome::Refused, false));
    }
    let mut quiet = !found.leftovers.runs_elsewhere(&found.board, request.node);
    if strangers::take_over(db, std::mem::take(&mut found.leftovers), now).await? {
        // Something of it may be due.
        quiet = false;
        found = look(db, &handlers, request.limit, Look::default()).await?;
    } else if share.is_some() && found.due.is_empty() {
        // Others are slow, or gone: what is theirs is anybody's.
        found = look(db, &handlers, request.limit, Look::default()).await?;
        if found.due.len() > request.limit {
            db.seen.sharing.help_out();
        }
    } else if request.limit >= LARGE
        && found.due.len() > request.limit
        && let Some(likely) = db.seen.sharing.likely(epoch, &db.seen.living())
        && found.keep(likely)
    {
        // More than one claim takes, so all nodes that live are likely to have seen the same.
        db.seen.sharing.contend();
        share = Some(likely);
    }
    let mut batch = ClaimBatch { now, next_at: found.next_at, ..ClaimBatch::default() };
    quiet &= found.pending.is_empty() && found.due.is_empty();
    let changed =
        pending::take(db, &request, &handlers, std::mem::take(&mut found.pending), &mut batch).await?;
    let room = request.limit.saturating_sub(batch.claimed.len());
    // Beside a share there may be more.
    batch.more |= found.due.len() > room || (share.is_some() && !found.due.is_empty());
    found.due.truncate(room);
    refresh(db, &mut found.due, &changed).await?;
    if fire(db, known, request, planner, found, &mut batch).await? {
        // Others had them all. Again at once, and only what they leave to this node: after a wait it would
        // lose to them again.
        let share = db.seen.sharing.next(epoch, &db.seen.living());
        let mut found = look(db, &handlers, room, Look { scan: false, share }).await?;
        if found.board.lease(request.node).is_none_or(|until| until <= found.board.now) {
            return Ok((ClaimOutcome::Refused, false));
        }
        batch.now = found.board.now;
        found.due.truncate(room);
        fire(db, known, request, planner, found, &mut batch).await?;
    }
    if begun.elapsed() > SLOW && nodes::lease(db, request.node).await?.0.is_none() {
        return Ok((ClaimOutcome::Refused, false));
    }
    Ok((ClaimOutcome::Claimed(Box::new(batch)), quiet))
}

/// Moves due jobs on. Whether all of them went to others.
async fn fire(
    db: &Db,
    known: &Known,
    request: ClaimRequest<'_>,
    planner: &dyn Planner,
    found: Found,
    batch: &mut ClaimBatch,
) -> Step<bool> {
    if found.due.is_empty() {
        return Ok(false);
    }
    let calendars = known.at(db, found.calendars).await?;
    Firing { db, request, planner, calendars: &calendars }.fire(found.due, batch).await
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
    /// When it fires next, if it does.
    fires: Option<Timestamp>,
    ops: Ops,
    records: Vec<(Execution, bool)>,
    cancel: Vec<unified_scheduler_core::ExecutionId>,
    set_aside: Option<String>,
    ended: Option<EndReason>,
    free: u32,
}

/// How much of what a claim wanted to move on it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Won {
    All,
    Some,
    /// Others had it all.
    Nothing,
}

impl Firing<'_> {
    async fn fire(&self, due: Vec<Document>, batch: &mut ClaimBatch) -> Step<bool> {
        let now = batch.now;
        let rows = self.readable(due, batch).await?;
        let (open, changed) = places::tidy(self.db, &rows).await?;
        if changed {
            // Something had ended without telling its job; the next claim sees it as it is.
            batch.more = true;
            return Ok(false);
        }
        let mut lost = !rows.is_empty();
        let parts = parts(self.db, rows).into_iter().map(|rows| self.fire_part(rows, &open, now));
        for (moves, failed, won) in at_once(parts).await? {
            batch.more |= won != Won::All;
            lost &= won == Won::Nothing;
            for moved in moves {
                Self::tell(moved, &failed, batch);
            }
        }
        Ok(lost)
    }

    /// Moves one part of the jobs on. Also tells which executions did not come to be, and how much of
    /// them nobody else has changed.
    async fn fire_part(
        &self,
        rows: Vec<JobRow>,
        open: &HashMap<JobId, Open>,
        now: Timestamp,
    ) -> Step<(Vec<Move>, HashSet<ObjectId>, Won)> {
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
        let sent = Instant::now();
        let won = self.write(&mut moves, dynamic, statics, token).await?;
        let with_ops = moves.iter_mut().filter(|moved| !moved.ops.is_empty());
        let deeds: Vec<Deed> = with_ops.map(|moved| self.deed(moved)).collect();
        let failed = if deeds.is_empty() { HashSet::new() } else { carry_out(self.db, &deeds, sent).await? };
        if !deeds.is_empty() && self.db.must_look_again(sent) {
            let keys: Vec<Bson> = deeds.iter().map(|deed| deed.key.clone()).collect();
            let (still, _) = ops::won(self.db, token, keys, doc! { "_id": Bson::Null }).await?;
            if still.len() < deeds.len() {
                let why = "the server may have lost a part of the claim; what is claimed is looked for again";
                return Err(Error::unavailable(why).into());
            }
        }
        Ok((moves, failed, won))
    }

    fn deed(&self, moved: &mut Move) -> Deed {
        let names = &self.db.names;
        let collection = if moved.statics { &names.statics } else { &names.jobs };
        Deed { collection: collection.clone(), key: moved.key.clone(), ops: std::mem::take(&mut moved.ops) }
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
            fires: None,
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
        moved.fires = row.job.due.filter(|_| row.job.is_scheduled()).map(|due| due.fire_at);
        Ok((moved, statement))
    }

    /// Moves the jobs on. Keeps those that nobody else has changed meanwhile; how much of them that is.
    async fn write(
        &self,
        moves: &mut Vec<Move>,
        dynamic: Vec<Document>,
        statics: Vec<Document>,
        token: ObjectId,
    ) -> Step<Won> {
        let names = &self.db.names;
        let wanted = (dynamic.len() + statics.len()) as u64;
        // What is not inserted after that has started nothing, and is done again where it is lost.
        let how = if moves.iter().any(|moved| !moved.records.is_empty()) {
            Durability::Next
        } else {
            Durability::Full
        };
        let (mut n, mut n_refused) = (0, 0);
        for (collection, statements) in [(&names.jobs, dynamic), (&names.statics, statics)] {
            if !statements.is_empty() {
                let written = self.db.update_leniently(collection, statements, how).await?;
                for (_, error) in &written.refused {
                    tracing::error!(%error, collection, "a due job can't be moved on");
                }
                n += written.n;
                n_refused += written.refused.len();
            }
        }
        if n == wanted {
            return Ok(Won::All);
        }
        self.db.seen.sharing.contend();
        if n == 0 && n_refused == 0 {
            moves.clear();
            return Ok(Won::Nothing);
        }
        let keys: Vec<Bson> = moves.iter().map(|moved| moved.key.clone()).collect();
        let records = moves.iter().flat_map(|moved| &moved.records);
        let ids: Vec<ObjectId> = records.map(|(execution, _)| object_id(&execution.id)).collect();
        let (won, there) = ops::won(self.db, token, keys, doc! { "_id": { "$in": ids } }).await?;
        moves.retain_mut(|moved| {
            if won.contains(&moved.key) {
                return true;
            }
            // Somebody else may have carried it out already; then its executions are there.
            moved.records.retain(|(execution, _)| there.contains(&object_id(&execution.id)));
            moved.ops = Ops::new(token);
            !moved.records.is_empty()
        });
        Ok(Won::Some)
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
        if let Some(at) = moved.fires {
            if at <= batch.now {
                batch.more = true;
            } else {
                batch.next_at = batch.next_at.into_iter().chain([at]).min();
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
        leave_out(row, &moved.before, &mut set);
    }
    if moved.set_aside.is_some() {
        set.insert("version", row.job.version);
        set.insert("updatedAt", date(now));
        set.insert("lastStatus", "failed");
    }
    set.insert(ours!("slots"), slots.iter().map(|slot| slot.to_bson()).collect::<Vec<_>>());
    if !(queued.is_empty() && row.queued.is_empty()) {
        set.insert(ours!("queued"), inner_keys(queued));
    }
    let started = moved.records.iter().rev().find(|(_, starts)| *starts);
    if let Some((execution, _)) = started {
        set.insert(ours!("run"), execution.id.to_string());
    }
    if let Some(token) = moved.ops.token_if_any() {
        set.insert(ours!("token"), token);
    }
    if moved.ops.is_empty() {
        unset.insert(ours!("ops"), true);
    } else {
        set.insert(ours!("ops"), moved.ops.to_bson());
    }
    Ok(row.update(set, unset))
}

/// Takes out what stands in the document as it is: the guard says so, and every field costs.
fn leave_out(row: &JobRow, before: &Job, set: &mut Document) {
    if before.ended == row.job.ended {
        set.remove(ours!("ended"));
    }
    if before.skip_next == row.job.skip_next {
        set.remove(ours!("skip"));
    }
    if crate::legacy::next_run_at(before) == crate::legacy::next_run_at(&row.job) {
        set.remove("nextRunAt");
        set.remove(ours!("next"));
    }
}
