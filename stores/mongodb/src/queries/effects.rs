//! What the end of an execution means for its job: once, however often it is tried.
//!
//! The mark is the place that the execution holds in the job's document: the update that writes the
//! effect gives it back, and finds the document only while it is held.

use std::collections::HashMap;
use std::time::Instant;

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use serde_json::{Value, json};
use unified_scheduler_core::Timestamp;
use unified_scheduler_core::id::{ExecutionId, JobId};
use unified_scheduler_core::job::Due;
use unified_scheduler_core::store::{AuditEntry, Change, Completion, FailureCount};

use super::ops::{Deed, Ops, carry_out};
use super::read;
use crate::db::{Db, Durability};
use crate::error::Step;
use crate::ids::{inner_key, job_filter, job_id, object_id};
use crate::jobs::JobRow;
use crate::legacy::{OURS, ours};
use crate::value::{date, int, n, text, time};

/// What one end means.
#[derive(Debug, Clone)]
pub(crate) struct Effect {
    pub(crate) key: ObjectId,
    pub(crate) id: ExecutionId,
    pub(crate) job_id: JobId,
    status: String,
    started_at: Option<Timestamp>,
    failures: FailureCount,
    set_aside: Option<String>,
    next: Option<Due>,
}

impl Effect {
    pub(crate) fn of(completion: &Completion) -> Self {
        Self {
            key: object_id(&completion.execution_id),
            id: completion.execution_id,
            job_id: completion.job_id.clone(),
            status: completion.status.as_str().to_owned(),
            started_at: Some(completion.started_at),
            failures: completion.effect.failures,
            set_aside: completion.effect.set_aside.clone(),
            next: completion.next,
        }
    }

    /// From an execution that has ended.
    pub(crate) fn read(doc: &Document) -> Option<Self> {
        let own = doc.get_document(OURS).ok()?;
        let effect = own.get_document("effect").cloned().unwrap_or_default();
        let failures = match text(&effect, "failures") {
            Some("reset") => FailureCount::Reset,
            Some("increment") => FailureCount::Increment {
                pause_after: int(effect.get("pause_after")).and_then(|n| u32::try_from(n).ok()),
            },
            _ => FailureCount::Keep,
        };
        let due_at = time(effect.get("due"));
        Some(Self {
            key: doc.get("_id")?.as_object_id()?,
            id: text(own, "id")?.parse().ok()?,
            job_id: JobId::from(text(doc, "job_id")?),
            status: text(doc, "status")?.to_owned(),
            started_at: time(doc.get("started_at")),
            failures,
            set_aside: text(&effect, "set_aside").map(str::to_owned),
            next: due_at.map(|due_at| Due { due_at, fire_at: time(effect.get("fire")).unwrap_or(due_at) }),
        })
    }

    /// What stands of it in the execution, for whoever has to write it in place of its node.
    pub(crate) fn to_bson(&self) -> Option<Bson> {
        let mut doc = Document::new();
        match self.failures {
            FailureCount::Keep => {}
            FailureCount::Reset => drop(doc.insert("failures", "reset")),
            FailureCount::Increment { pause_after } => {
                doc.insert("failures", "increment");
                if let Some(most) = pause_after {
                    doc.insert("pause_after", n(most));
                }
            }
        }
        if let Some(reason) = &self.set_aside {
            doc.insert("set_aside", reason);
        }
        if let Some(due) = self.next {
            doc.insert("due", date(due.due_at));
            doc.insert("fire", date(due.fire_at));
        }
        (!doc.is_empty()).then_some(Bson::Document(doc))
    }

    /// Whether it takes no more than one blind update.
    fn is_plain(&self) -> bool {
        let pauses = matches!(self.failures, FailureCount::Increment { pause_after: Some(_) });
        !pauses && self.set_aside.is_none() && self.next.is_none()
    }

    fn filter(&self) -> Document {
        let mut filter = job_filter(&self.job_id);
        filter.insert(ours!("slots.e"), inner_key(self.key));
        filter
    }

    /// One statement for ends that mean the same, each of another job. The id of the last execution is
    /// what the claim has noted as the one that runs; where that is another, the statement passes it over.
    fn statement_for(group: &[&Self]) -> Document {
        let all = |value: fn(&Self) -> Bson| group.iter().map(|effect| value(effect)).collect::<Vec<_>>();
        let slots = all(|effect| inner_key(effect.key));
        let mut statement = group.first().map(|effect| effect.statement()).unwrap_or_default();
        statement.insert(
            "q",
            doc! {
                "_id": { "$in": all(|effect| crate::ids::job_key(&effect.job_id)) },
                ours!("slots.e"): { "$in": slots.clone() },
                ours!("run"): { "$in": all(|effect| Bson::String(effect.id.to_string())) },
            },
        );
        if let Ok(u) = statement.get_document_mut("u") {
            u.insert("$pull", doc! { ours!("slots"): { "e": { "$in": slots } } });
            u.insert("$rename", doc! { ours!("run"): ours!("last") });
            if let Ok(set) = u.get_document_mut("$set") {
                set.remove(ours!("last"));
            }
        }
        statement.insert("multi", true);
        statement
    }

    fn statement(&self) -> Document {
        let mut set = doc! { "lastStatus": &self.status, ours!("last"): self.id.to_string() };
        if let Some(at) = self.started_at {
            set.insert("lastRunAt", date(at));
        }
        let mut inc = doc! { ours!("rev"): 1_i64 };
        match self.failures {
            FailureCount::Keep => {}
            FailureCount::Reset => drop(set.insert(ours!("failures"), 0_i64)),
            FailureCount::Increment { .. } => drop(inc.insert(ours!("failures"), 1_i64)),
        }
        doc! {
            "q": self.filter(),
            "u": { "$pull": { ours!("slots"): { "e": inner_key(self.key) } }, "$set": set, "$inc": inc },
        }
    }
}

/// Writes what these ends mean for their jobs, in order. Answers those that made their job pause.
pub(crate) async fn apply(db: &Db, effects: &[Effect], now: Timestamp) -> Step<HashMap<ObjectId, bool>> {
    let mut paused = HashMap::new();
    for collection in db.names.of_jobs() {
        let of_here = |e: &&Effect| e.is_plain() && db.names.of_job(&e.job_id) == collection;
        let plain: Vec<&Effect> = effects.iter().filter(of_here).collect();
        apply_plain(db, collection, &plain).await?;
    }
    for effect in effects.iter().filter(|e| !e.is_plain()) {
        paused.insert(effect.key, apply_one(db, effect, now).await?);
    }
    Ok(paused)
}

/// Those that take no more than one blind update each. Ends of one claim mean mostly the same for their
/// jobs, so one statement writes what is the same for many; what it does not find is tried one by one.
async fn apply_plain(db: &Db, collection: &str, effects: &[&Effect]) -> Step<()> {
    let mut of_job: HashMap<&JobId, u32> = HashMap::new();
    for effect in effects {
        *of_job.entry(&effect.job_id).or_default() += 1;
    }
    let mut alike: HashMap<_, Vec<&Effect>> = HashMap::new();
    let mut singly: Vec<&Effect> = Vec::new();
    for effect in effects {
        if of_job.get(&effect.job_id) == Some(&1) {
            let counts = matches!(effect.failures, FailureCount::Increment { .. });
            let keeps = matches!(effect.failures, FailureCount::Keep);
            let kind = (effect.status.as_str(), effect.started_at, counts, keeps);
            alike.entry(kind).or_default().push(effect);
        } else {
            // Each counts for itself, in order.
            singly.push(effect);
        }
    }
    let mut statements = Vec::new();
    let mut wanted = 0;
    let mut grouped: Vec<&Effect> = Vec::new();
    for group in alike.into_values() {
        if group.len() < 3 {
            singly.extend(group);
            continue;
        }
        wanted += group.len() as u64;
        statements.push(Effect::statement_for(&group));
        grouped.extend(group);
    }
    if !statements.is_empty() && db.update(collection, statements, Durability::Full).await?.n < wanted {
        singly.extend(grouped);
    }
    if !singly.is_empty() {
        let statements = singly.iter().map(|effect| effect.statement()).collect();
        db.update(collection, statements, Durability::Full).await?;
    }
    Ok(())
}

/// One that may pause the job, set it aside, or make it due.
async fn apply_one(db: &Db, effect: &Effect, now: Timestamp) -> Step<bool> {
    let collection = db.names.of_job(&effect.job_id);
    for _ in 0..50 {
        let read_at = Instant::now();
        let Some(doc) = db.find_one(collection, effect.filter()).await? else { return Ok(false) };
        if let Some(deed) = Deed::of(collection, &doc) {
            carry_out(db, &[deed], read_at).await?;
            continue;
        }
        let mut row = JobRow::read(doc, &db.cache, now);
        let token = ObjectId::new();
        let mut ops = Ops::new(token);
        let pauses = change(&mut row, effect, now, &mut ops);
        let (mut set, mut unset) = row.write(false)?;
        set.insert("enabled", row.job.enabled);
        set.insert("version", row.job.version);
        set.insert("updatedAt", date(row.job.updated_at));
        set.insert("lastStatus", &effect.status);
        set.insert(ours!("last"), effect.id.to_string());
        if let Some(at) = effect.started_at {
            set.insert("lastRunAt", date(at));
        }
        let left = row.slots.iter().filter(|slot| slot.execution != effect.key);
        set.insert(ours!("slots"), left.map(|slot| slot.to_bson()).collect::<Vec<_>>());
        if ops.is_empty() {
            unset.insert(ours!("ops"), true);
        } else {
            set.insert(ours!("ops"), ops.to_bson());
        }
        let statement = row.update(set, unset);
        if db.update(collection, vec![statement], Durability::Full).await?.n == 1 {
            if !ops.is_empty() {
                let deed = Deed { collection: collection.to_owned(), key: row.key.clone(), ops };
                carry_out(db, &[deed], Instant::now()).await?;
            }
            return Ok(pauses);
        }
    }
    Err(crate::jobs::too_busy(&effect.job_id).into())
}

/// Applies the effect to the job; whether that pauses it.
fn change(row: &mut JobRow, effect: &Effect, now: Timestamp, ops: &mut Ops) -> bool {
    let job = &mut row.job;
    if job.due.is_none() && job.ended.is_none() {
        job.due = effect.next;
    }
    let mut pauses = false;
    match effect.failures {
        FailureCount::Keep => {}
        FailureCount::Reset => job.failures_in_row = 0,
        FailureCount::Increment { pause_after } => {
            job.failures_in_row = job.failures_in_row.saturating_add(1);
            if job.enabled && pause_after.is_some_and(|most| job.failures_in_row >= most) {
                job.enabled = false;
                pauses = true;
                let detail = json!({ "execution_id": effect.id, "failures": pause_after });
                scheduler_changed(row, "paused", now, detail, ops);
            }
        }
    }
    if let Some(reason) = &effect.set_aside {
        set_aside(row, reason, now, ops);
    }
    pauses
}

/// Sets the job aside, as the scheduler does.
pub(crate) fn set_aside(row: &mut JobRow, reason: &str, now: Timestamp, ops: &mut Ops) {
    row.job.fault = Some(reason.to_owned());
    scheduler_changed(row, "set_aside", now, json!({ "reason": reason }), ops);
}

fn scheduler_changed(row: &mut JobRow, action: &str, now: Timestamp, detail: Value, ops: &mut Ops) {
    let job = &mut row.job;
    job.version += 1;
    job.updated_at = now;
    let change = Change { actor: "scheduler", action, due_before: job.due_at() };
    ops.audit(&AuditEntry::of(job, now, change, detail));
}

/// The jobs of these ids that are there.
pub(crate) async fn existing(db: &Db, ids: &[JobId]) -> Step<Vec<JobId>> {
    let found = read::documents(db, ids).await?;
    Ok(found.iter().filter_map(|(_, doc)| doc.get("_id").map(job_id)).collect())
}
