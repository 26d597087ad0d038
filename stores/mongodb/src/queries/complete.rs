//! Ends of executions, and what running ones report.
//!
//! Two round trips for a plain batch beside the look at the node: one update of each execution, only while
//! it is owned, and one of each job.

use std::collections::HashMap;
use std::time::Instant;

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use unified_scheduler_core::execution::{Execution, JobResult};
use unified_scheduler_core::id::JobId;
use unified_scheduler_core::job::Job;
use unified_scheduler_core::store::{
    CompleteOutcome, CompleteRequest, Completion, NewExecution, NodeRef, Report,
};
use unified_scheduler_core::{Error, Timestamp};

use super::effects::{self, Effect};
use super::places::state;
use super::{finish, logs, nodes, read};
use crate::db::{Db, Durability, at_once, only, parts};
use crate::error::Step;
use crate::ids::{inner_key, object_id, put_in};
use crate::legacy::{OURS, ours};
use crate::rows::{self, End, end_of_running};

pub(crate) async fn complete(db: &Db, request: CompleteRequest<'_>) -> Step<(Vec<CompleteOutcome>, bool)> {
    let CompleteRequest { node, completions } = request;
    Completion::check(completions)?;
    if completions.is_empty() {
        return Ok((Vec::new(), false));
    }
    let (alive, now) = nodes::lease(db, node).await?;
    if alive.is_none() {
        return earlier(db, node, completions, false, &Ended::default())
            .await
            .map(|outcomes| (outcomes, false));
    }
    let parts = parts_by_job(db, completions).into_iter().map(async |part| {
        let owned: Vec<(&NodeRef, &Completion)> = part.into_iter().map(|c| (node, c)).collect();
        end(db, &owned, now, false).await
    });
    let ended = at_once(parts).await?.into_iter().fold(Ended::nothing(), Ended::and);
    let outcomes = if ended.all {
        let paused = |c: &Completion| ended.paused.get(&object_id(&c.execution_id)).copied().unwrap_or(false);
        completions.iter().map(|c| CompleteOutcome::Applied { paused: paused(c) }).collect()
    } else {
        earlier(db, node, completions, true, &ended).await?
    };
    Ok((outcomes, ended.hint))
}

/// The ends in parts that can be written at once: those of one job count in order, so they stay together.
fn parts_by_job<'a>(db: &Db, completions: &'a [Completion]) -> Vec<Vec<&'a Completion>> {
    let mut by_job: HashMap<&JobId, Vec<&Completion>> = HashMap::with_capacity(completions.len());
    for completion in completions {
        by_job.entry(&completion.job_id).or_default().push(completion);
    }
    let parts = parts(db, by_job.into_values().collect()).into_iter();
    parts.map(|part: Vec<Vec<&Completion>>| part.into_iter().flatten().collect()).collect()
}

/// What an attempt to end executions came to.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    /// Whether all were ended by it.
    all: bool,
    /// Those that made their job pause.
    paused: HashMap<ObjectId, bool>,
    /// Those that this attempt ended, where not all were.
    pub(crate) docs: Vec<Document>,
    /// Whether something new waits, or is due.
    pub(crate) hint: bool,
}

impl Ended {
    fn nothing() -> Self {
        Self { all: true, ..Self::default() }
    }

    /// Both attempts as one.
    fn and(mut self, other: Self) -> Self {
        self.all &= other.all;
        self.hint |= other.hint;
        self.paused.extend(other.paused);
        self.docs.extend(other.docs);
        self
    }
}

/// Ends executions, each only while its owner owns it, with all that follows.
///
/// With `tell`, those that this attempt ended are told in any case.
pub(crate) async fn end(
    db: &Db,
    ends: &[(&NodeRef, &Completion)],
    now: Timestamp,
    tell: bool,
) -> Step<Ended> {
    let jobs = jobs_of_followers(db, ends, now).await?;
    let token = ObjectId::new();
    let mut rich = false;
    let mut updates = Vec::with_capacity(ends.len());
    let mut alike: HashMap<(&NodeRef, u32), Vec<&Completion>> = HashMap::new();
    for (owner, completion) in ends {
        let after = after(completion, &jobs, now);
        rich |= after.is_some();
        if after.is_none() && is_small(completion) {
            alike.entry((owner, completion.claim)).or_default().push(completion);
        } else {
            updates.push(statement(owner, completion, after, token));
        }
    }
    for ((owner, claim), group) in alike {
        updates.push(statement_for(owner, claim, &group, token));
    }
    let wanted = ends.len();
    let sent = Instant::now();
    let written = db.update(&db.names.executions, updates, Durability::Next).await?;
    let mut ended = Ended { all: written.n == wanted as u64, ..Ended::default() };
    let effects: Vec<Effect>;
    if ended.all && !rich && !tell {
        effects = ends.iter().map(|(_, completion)| Effect::of(completion)).collect();
    } else {
        let read_at = Instant::now();
        let keys: Vec<ObjectId> = ends.iter().map(|(_, c)| object_id(&c.execution_id)).collect();
        let filter = doc! { "_id": { "$in": keys.clone() }, ours!("by"): inner_key(token) };
        let mut docs = db.find(&db.names.executions, filter, state()).await?;
        docs.sort_by_key(|doc| keys.iter().position(|key| doc.get("_id") == Some(&Bson::ObjectId(*key))));
        ended.hint = finish::follow(db, &docs, read_at).await?;
        effects = docs.iter().filter_map(Effect::read).collect();
        ended.docs = docs;
    }
    ended.hint |= ends.iter().any(|(_, completion)| completion.next.is_some());
    ended.paused = effects::apply(db, &effects, now).await?;
    if db.must_look_again(sent) {
        let keys: Vec<ObjectId> = ends.iter().map(|(_, c)| object_id(&c.execution_id)).collect();
        let by_us = doc! { "_id": { "$in": keys }, ours!("by"): inner_key(token) };
        let there = db.find(&db.names.executions, by_us, only(doc! { "_id": 1 })).await?;
        if (there.len() as u64) < written.n {
            return Err(
                Error::unavailable("the server may have lost the ends; they are written again").into()
            );
        }
    }
    finish::tidy_up(db, &ended.docs).await?;
    Ok(ended)
}

/// The jobs from which what follows takes its name, handler and priority.
async fn jobs_of_followers(
    db: &Db,
    ends: &[(&NodeRef, &Completion)],
    now: Timestamp,
) -> Step<HashMap<JobId, Job>> {
    let mut ids: Vec<JobId> = ends
        .iter()
        .flat_map(|(_, c)| c.retry.iter().chain(&c.chained))
        .map(|new| new.job_id.clone())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    let rows = read::jobs(db, &ids, now).await?;
    Ok(rows.into_iter().map(|(id, row)| (id, row.job)).collect())
}

/// What the execution notes to be done after it.
fn after(completion: &Completion, jobs: &HashMap<JobId, Job>, now: Timestamp) -> Option<Document> {
    let row = |new: &NewExecution, chained: bool| {
        let job = jobs.get(&new.job_id).filter(|job| job.enabled || !chained)?;
        Some(put_in(rows::document(&new.clone().into_execution(job, now), None)))
    };
    let mut after = Document::new();
    if let Some(retry) = completion.retry.as_ref().and_then(|new| row(new, false)) {
        after.insert("retry", retry);
    }
    let chained: Vec<Document> = completion.chained.iter().filter_map(|new| row(new, true)).collect();
    if !chained.is_empty() {
        after.insert("chained", chained);
    }
    if !completion.keeps_row() {
        after.insert("drop", true);
    }
    (!after.is_empty()).then_some(after)
}

/// Whether many of these fit into one statement.
fn is_small(completion: &Completion) -> bool {
    let small = |result: &JobResult| {
        let size = result.message.len()
            + result.errors.iter().chain(&result.warnings).map(String::len).sum::<usize>();
        size < 1000 && (result.details.is_null() || result.details.to_string().len() < 1000)
    };
    completion.logs.is_empty() && completion.error.is_none() && completion.result.as_ref().is_none_or(small)
}

/// The fields that an end writes: those at the top, and ours.
fn fields(completion: &Completion, token: ObjectId) -> (Document, Document) {
    let (mut top, mut own) = (Document::new(), doc! { "by": inner_key(token) });
    for (field, value) in end_of_running(End::by(completion)) {
        match field.strip_prefix(ours!("")) {
            Some(field) => drop(own.insert(field, value)),
            None => drop(top.insert(field, value)),
        }
    }
    if let Some(effect) = Effect::of(completion).to_bson() {
        own.insert("effect", effect);
    }
    (top, own)
}

/// One statement for many ends: the server looks up what it writes by the `_id`, which spares it two
/// fifths of the work for each.
fn statement_for(owner: &NodeRef, claim: u32, group: &[&Completion], token: ObjectId) -> Document {
    let keys: Vec<ObjectId> = group.iter().map(|c| object_id(&c.execution_id)).collect();
    let (tops, owns): (Vec<Document>, Vec<Document>) = group.iter().map(|c| fields(c, token)).unzip();
    let of_this = |values: Vec<Document>| {
        let which = doc! { "$indexOfArray": [{ "$literal": keys.clone() }, "$_id"] };
        doc! { "$arrayElemAt": [{ "$literal": values }, which] }
    };
    let own = doc! { "$mergeObjects": [format!("${OURS}"), of_this(owns)] };
    let whole = doc! { "$mergeObjects": ["$$ROOT", of_this(tops), { OURS: own }] };
    let mut q = doc! { "_id": { "$in": keys.clone() } };
    q.extend(rows::owned_by(owner));
    q.insert(ours!("claim"), i64::from(claim));
    doc! { "q": q, "u": [{ "$replaceWith": whole }], "multi": true }
}

fn statement(owner: &NodeRef, completion: &Completion, after: Option<Document>, token: ObjectId) -> Document {
    let mut q = doc! { "_id": object_id(&completion.execution_id) };
    q.extend(rows::owned_by(owner));
    q.insert(ours!("claim"), i64::from(completion.claim));
    let mut set = end_of_running(End::by(completion));
    set.insert(ours!("by"), inner_key(token));
    if let Some(effect) = Effect::of(completion).to_bson() {
        set.insert(ours!("effect"), effect);
    }
    if let Some(after) = after {
        set.insert(ours!("after"), after);
    }
    if completion.logs.is_empty() {
        return doc! { "q": q, "u": { "$set": set } };
    }
    // In a pipeline a text that begins with `$` would be the path of a field.
    let literal: Document =
        set.into_iter().map(|(k, v)| (k, Bson::Document(doc! { "$literal": v }))).collect();
    let mut stages = vec![doc! { "$set": literal }];
    stages.extend(logs::append(&completion.logs, completion.first_line));
    doc! { "q": q, "u": stages }
}

/// The outcomes where not all were ended: by what is stored.
async fn earlier(
    db: &Db,
    node: &NodeRef,
    completions: &[Completion],
    alive: bool,
    now: &Ended,
) -> Step<Vec<CompleteOutcome>> {
    let keys: Vec<ObjectId> = completions.iter().map(|c| object_id(&c.execution_id)).collect();
    let filter = doc! { "_id": { "$in": keys } };
    let docs = db.find(&db.names.executions, filter, state()).await?;
    // One of them may have been ended by an attempt that got no further.
    let half_done = docs.iter().filter(|doc| doc.get_document(OURS).is_ok_and(|own| own.contains_key("by")));
    let repeats: Vec<Document> = half_done
        .filter(|doc| rows::execution(doc).is_ok_and(|e| completions.iter().any(|c| c.is_repeat(&e, node))))
        .cloned()
        .collect();
    finish::settle(db, repeats).await?;
    let stored: HashMap<_, Execution> = rows::executions(&docs).into_iter().map(|e| (e.id, e)).collect();
    let dropped = rows::keys(&now.docs);
    let outcome = |c: &Completion| {
        let key = object_id(&c.execution_id);
        let paused = now.paused.get(&key).copied().unwrap_or(false);
        let applied = match stored.get(&c.execution_id) {
            Some(execution) => c.is_repeat(execution, node),
            // What a live node ran can have gone only by its own completion, so this is its repeat.
            None => dropped.contains(&key) || (alive && !c.keeps_row()),
        };
        if applied { CompleteOutcome::Applied { paused } } else { CompleteOutcome::Refused }
    };
    Ok(completions.iter().map(outcome).collect())
}

/// Writes log lines and progress of what runs.
pub(crate) async fn report(db: &Db, node: &NodeRef, reports: &[Report]) -> Step<usize> {
    if reports.is_empty() || nodes::lease(db, node).await?.0.is_none() {
        return Ok(0);
    }
    let mut updates = Vec::with_capacity(reports.len());
    for report in reports {
        let mut q = doc! { "_id": object_id(&report.execution_id) };
        q.extend(rows::owned_by(node));
        q.insert(ours!("claim"), i64::from(report.claim));
        let mut stages = Vec::new();
        if !report.logs.is_empty() {
            stages.extend(logs::append(&report.logs, report.first_line));
        }
        if let Some(progress) = &report.progress {
            let (progress, _) =
                crate::value::to_bson(&serde_json::to_value(progress)?, crate::value::Types::Plain);
            stages.push(doc! { "$set": { ours!("progress"): { "$literal": progress } } });
        }
        if stages.is_empty() {
            stages.push(doc! { "$set": { "status": "running" } });
        }
        updates.push(doc! { "q": q, "u": stages });
    }
    let written = db.update(&db.names.executions, updates, Durability::Full).await?;
    Ok(usize::try_from(written.n).unwrap_or(usize::MAX))
}
