//! Documents of jobs as jobs, and jobs as what is written into their documents.

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use unified_scheduler_core::execution::Status;
use unified_scheduler_core::id::JobId;
use unified_scheduler_core::job::{Definition, Due, EndReason, Job};
use unified_scheduler_core::{Error, Timestamp};

use crate::cache::Cache;
use crate::error::Step;
use crate::ids;
use crate::legacy::{self, FORMAT, OURS, Prints, ours};
use crate::value::{count, date, date_or_null, int, n, text, text_or_null, time};

/// An execution that occupies a place of its job: one that runs, or is about to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) execution: ObjectId,
    pub(crate) epoch: i64,
}

impl Slot {
    pub(crate) fn to_bson(self) -> Bson {
        Bson::Document(doc! { "e": ids::inner_key(self.execution), "p": self.epoch })
    }

    fn read(value: &Bson) -> Option<Self> {
        let doc = value.as_document()?;
        Some(Self { execution: ids::read_inner_key(doc.get("e")?)?, epoch: int(doc.get("p"))? })
    }
}

/// A job as its document says it is, and what is needed to change it.
#[derive(Debug)]
pub(crate) struct JobRow {
    pub(crate) key: Bson,
    pub(crate) job: Job,
    /// The number of changes that our software made; every one makes it larger.
    pub(crate) rev: i64,
    /// Every execution that runs is here; one that is here may have ended.
    pub(crate) slots: Vec<Slot>,
    /// Every occurrence that waits because of a policy is here; one that is here may have started.
    pub(crate) queued: Vec<ObjectId>,
    /// What was decided and is still to be carried out.
    pub(crate) ops: Option<Document>,
    /// Whether our sub-document has to be brought in line with what others wrote.
    pub(crate) stale: bool,
    /// Why the document can't be read; the job's fault says so too.
    pub(crate) unreadable: bool,
    /// Whether a newer version of this software wrote it, which is then not ours to change.
    pub(crate) newer: bool,
    /// The fields by which an update makes sure that nobody has changed the document since.
    guard: Document,
    /// The top of the document without our sub-document.
    top: Document,
}

/// What our sub-document says, before it is held against the rest.
struct Own {
    due: Option<Due>,
    fault: Option<String>,
    next: Option<Timestamp>,
    is_current: bool,
}

impl JobRow {
    /// Reads a document. It never fails: a job that can't be read has that as its fault.
    pub(crate) fn read(mut doc: Document, cache: &Cache, now: Timestamp) -> Self {
        let key = doc.get("_id").cloned().unwrap_or(Bson::Null);
        let id = ids::job_id(&key);
        let empty = Document::new();
        let adopted = doc.get_document(OURS).is_ok_and(|ours| ours.contains_key("v"));
        let own = doc.get_document(OURS).unwrap_or(&empty);
        let misplaced = doc.contains_key(OURS) && doc.get_document(OURS).is_err();
        let prints = Prints::of(&doc);
        let stored = Own {
            due: time(own.get("due"))
                .map(|due_at| Due { due_at, fire_at: time(own.get("fire_at")).unwrap_or(due_at) }),
            fault: text(own, "fault").map(str::to_owned),
            next: time(own.get("next")),
            is_current: Prints::read(own.get("print")) == Some(prints),
        };
        let read = definition(&doc, &id, own, &stored, cache);
        let next = time(doc.get("nextRunAt"));
        let enabled = legacy::is_enabled(&doc);
        let moved = !adopted || next != stored.next;
        let (definition, foreign, unreadable) = match read {
            Ok((definition, foreign)) => (definition, foreign, None),
            Err(why) => (stand_in(&doc, &id, own, now), None, Some(why)),
        };
        let mut job = Job {
            id,
            enabled,
            version: legacy::version(&doc),
            due: stored.due,
            ended: end_reason(own),
            fault: stored.fault.filter(|_| stored.is_current || !adopted),
            skip_next: count(own.get("skip")),
            n_fired: count(own.get("fired")),
            failures_in_row: count(own.get("failures")),
            created_at: instant(&doc, &["createdAt", "created_at"]).unwrap_or(Timestamp::EPOCH),
            updated_at: Timestamp::EPOCH,
            created_by: ["created_by", "createdBy"].iter().find_map(|key| text(&doc, key)).map(str::to_owned),
            last_run_at: instant(&doc, &["lastRunAt", "last_run_at", "lastRun", "last_run"]),
            last_status: ["lastStatus", "last_status"]
                .iter()
                .find_map(|key| text(&doc, key))
                .and_then(|status| status.parse::<Status>().ok()),
            last_execution_id: text(own, "last").and_then(|id| id.parse().ok()),
            definition,
        };
        job.updated_at = instant(&doc, &["updatedAt", "updated_at"]).unwrap_or(job.created_at);
        if let Some(why) = &unreadable {
            job.fault = Some(format!("the stored definition can't be read: {why}"));
        }
        let mut warned = false;
        if moved && unreadable.is_none() {
            let said = match &foreign {
                Some(document) => document.due_at(now),
                None => next,
            };
            job.due = said.map(|at| Due { due_at: at, fire_at: at });
            // A time that has passed and that the old engine never followed is as good as none.
            warned = enabled
                && foreign.as_ref().is_some_and(|document| {
                    document.next_run_at.is_none() && said.is_some() && said != document.next_run_hint
                });
            if job.due.is_none() && enabled {
                // One that says nothing runs at its next time, never at once.
                let schedule = job.definition.compiled().ok();
                let at = schedule.and_then(|schedule| schedule.next_after(now, now));
                job.due = at.map(|at| Due { due_at: at, fire_at: at });
                warned = at.is_some();
            }
            if job.due.is_some() {
                job.ended = None;
            }
        }
        if warned {
            tracing::warn!(job_id = %job.id, "the job had no next due time; it runs at its next regular one");
        }
        let same = text(own, "handler") == Some(job.definition.handler.as_str())
            && own.get("enabled").and_then(Bson::as_bool) == Some(enabled);
        let newer = int(own.get("v")).is_some_and(|v| v > i64::from(FORMAT));
        let guard = guard(&doc, &key, adopted, misplaced);
        Self {
            rev: count(own.get("rev")),
            slots: list(own, "slots").iter().filter_map(Slot::read).collect(),
            queued: list(own, "queued").iter().filter_map(ids::read_inner_key).collect(),
            ops: own.get_document("ops").ok().cloned(),
            newer,
            stale: (moved || !same || !stored.is_current || needs_fault(own, &job)) && !newer,
            unreadable: unreadable.is_some(),
            guard,
            key,
            job,
            top: {
                doc.remove(OURS);
                doc
            },
        }
    }

    pub(crate) fn id(&self) -> &JobId {
        &self.job.id
    }

    /// The update that makes these changes, as long as the document is as it was read.
    pub(crate) fn update(&self, mut set: Document, mut unset: Document) -> Document {
        // Then something stands in the place of our sub-document that is none.
        if self.guard.contains_key(OURS) {
            // Where there is no document nothing can be set in it.
            let is_ours = |key: &str| key.starts_with(ours!(""));
            let own = set.iter().filter_map(|(key, value)| Some((key.strip_prefix(ours!(""))?, value)));
            let own: Document = own.map(|(key, value)| (key.to_owned(), value.clone())).collect();
            set = set.into_iter().filter(|(key, _)| !is_ours(key)).collect();
            unset = unset.into_iter().filter(|(key, _)| !is_ours(key)).collect();
            set.insert(OURS, own);
        }
        update(self.guard.clone(), set, unset)
    }

    /// The `$set` and `$unset` that write what `self.job` is now, with all that our sub-document repeats.
    /// Legacy fields are left alone but for the due time, unless `definition` says that they changed.
    pub(crate) fn write(&self, edited: bool) -> Step<(Document, Document)> {
        let job = &self.job;
        let mut top = self.top.clone();
        let mut set = Document::new();
        if edited {
            for (field, value) in legacy::fields(&job.definition) {
                if top.get(&field) != Some(&value) {
                    set.insert(field.clone(), value.clone());
                    top.insert(field, value);
                }
            }
            for (key, value) in &job.definition.extra {
                if let Some(stored) = top.get(key)
                    && crate::value::to_json(stored) != *value
                {
                    set.insert(key, crate::value::to_bson(value, crate::value::Types::Extended).0);
                }
            }
        }
        let mut unset = Document::new();
        self.write_state(&mut set, &mut unset);
        if !self.unreadable {
            set.insert(ours!("definition"), legacy::kept(&job.definition, &top)?);
        }
        set.insert(ours!("print"), Prints::of(&top).to_bson());
        set.insert(ours!("v"), FORMAT);
        set.insert(ours!("share"), ids::share(&job.id));
        set.insert(ours!("handler"), &job.definition.handler);
        set.insert(ours!("priority"), job.definition.priority);
        set.insert(ours!("enabled"), job.enabled);
        set.insert(ours!("origin"), job.definition.origin.as_str());
        set.insert(ours!("tags"), job.definition.tags.clone());
        set.insert(ours!("failures"), n(job.failures_in_row));
        let history = job.definition.history;
        let retains = history.max_age.is_some() || history.max_count.is_some();
        put(&mut set, &mut unset, ours!("retains"), retains.then_some(Bson::Boolean(true)));
        put(&mut set, &mut unset, ours!("fault"), job.fault.clone().map(Bson::String));
        Ok((set, unset))
    }

    /// The part of [`Self::write`] that a claim changes.
    pub(crate) fn write_state(&self, set: &mut Document, unset: &mut Document) {
        let job = &self.job;
        let next = legacy::next_run_at(job);
        set.insert("nextRunAt", date_or_null(next));
        set.insert(ours!("next"), date_or_null(next));
        set.insert(ours!("due"), date_or_null(job.due.map(|due| due.due_at)));
        set.insert(ours!("fire_at"), date_or_null(job.due.map(|due| due.fire_at)));
        let fire = job.due.filter(|_| job.is_scheduled()).map(|due| date(due.fire_at));
        put(set, unset, ours!("fire"), fire);
        set.insert(ours!("ended"), text_or_null(job.ended.map(EndReason::as_str)));
        set.insert(ours!("skip"), n(job.skip_next));
        set.insert(ours!("fired"), n(job.n_fired));
        set.insert(ours!("rev"), self.rev + 1);
    }

    /// The document of a new job.
    pub(crate) fn fresh(job: &Job) -> Step<Document> {
        let key = ids::job_key(&job.id);
        let mut row = Self {
            key: key.clone(),
            job: job.clone(),
            rev: 0,
            slots: Vec::new(),
            queued: Vec::new(),
            ops: None,
            stale: false,
            unreadable: false,
            newer: false,
            guard: Document::new(),
            top: Document::new(),
        };
        let (set, _) = row.write(true)?;
        row.top = Document::new();
        // What indexes are over comes first: the server finds a field by going through those before it.
        let mut doc = doc! { "_id": key, "enabled": job.enabled };
        let first = [ours!("rev"), ours!("handler"), ours!("priority"), ours!("fire"), ours!("due")];
        let own =
            |(key, value): (&str, &Bson)| Some((key.strip_prefix(ours!(""))?.to_owned(), value.clone()));
        let mut ours: Document = first.iter().filter_map(|key| own((key, set.get(key)?))).collect();
        ours.extend(
            set.iter().filter(|(key, _)| !first.contains(&key.as_str())).filter_map(|(k, v)| own((k, v))),
        );
        if let Some(id) = &job.last_execution_id {
            ours.insert("last", id.to_string());
        }
        doc.insert("nextRunAt", set.get("nextRunAt").cloned().unwrap_or(Bson::Null));
        doc.insert(OURS, ours);
        doc.extend(set.into_iter().filter(|(key, _)| !key.starts_with(ours!(""))));
        doc.insert("created_by", text_or_null(job.created_by.as_deref()));
        doc.insert("createdAt", date(job.created_at));
        doc.insert("updatedAt", date(job.updated_at));
        doc.insert("lastRunAt", date_or_null(job.last_run_at));
        doc.insert("lastStatus", text_or_null(job.last_status.map(Status::as_str)));
        doc.insert("version", job.version);
        Ok(doc)
    }
}

/// One update of a job's document.
pub(crate) fn update(filter: Document, set: Document, unset: Document) -> Document {
    let mut change = doc! { "$set": set };
    if !unset.is_empty() {
        change.insert("$unset", unset);
    }
    doc! { "q": filter, "u": change }
}

fn put(set: &mut Document, unset: &mut Document, key: &str, value: Option<Bson>) {
    match value {
        Some(value) => drop(set.insert(key, value)),
        None => drop(unset.insert(key, true)),
    }
}

fn list<'a>(own: &'a Document, key: &str) -> &'a [Bson] {
    own.get_array(key).map_or(&[], Vec::as_slice)
}

fn end_reason(own: &Document) -> Option<EndReason> {
    text(own, "ended").map(|reason| match reason {
        "limit" => EndReason::Limit,
        _ => EndReason::Exhausted,
    })
}

/// Whether the stored fault and the one that was found while reading differ.
fn needs_fault(own: &Document, job: &Job) -> bool {
    text(own, "fault") != job.fault.as_deref()
}

fn guard(doc: &Document, key: &Bson, adopted: bool, misplaced: bool) -> Document {
    let field = |key: &str| doc.get(key).cloned().unwrap_or(Bson::Null);
    let mut guard = doc! { "_id": key.clone() };
    match doc.get_document(OURS).ok().and_then(|own| own.get("rev")) {
        Some(rev) if adopted => guard.insert(ours!("rev"), rev.clone()),
        None if adopted => guard.insert(ours!("rev"), Bson::Null),
        _ if misplaced => guard.insert(OURS, field(OURS)),
        _ => guard.insert(ours!("v"), Bson::Null),
    };
    for name in ["enabled", "nextRunAt", "version"] {
        guard.insert(name, field(name));
    }
    guard
}

type Read = (Definition, Option<unified_scheduler_core::document::Document>);

fn definition(
    doc: &Document,
    id: &JobId,
    own: &Document,
    stored: &Own,
    cache: &Cache,
) -> Result<Read, String> {
    if int(own.get("v")).is_some_and(|v| v > i64::from(FORMAT)) {
        return Err("a newer version of this software wrote it".to_owned());
    }
    // A job registered in code stands elsewhere, and was written by us.
    let misplaced = ids::is_static(id) && !own.contains_key("definition");
    if misplaced || doc.get("_id").is_some_and(|key| !ids::is_usable(key)) {
        return Err(
            "its `_id` is none that a job can be found by; use an ObjectId, a text or a number".to_owned()
        );
    }
    if let Some(kept) = text(own, "definition").filter(|_| stored.is_current) {
        let print = legacy::print_of_definition(doc);
        if let Some(known) = cache.get(id, print) {
            return Ok((known, None));
        }
        let definition = Definition::new(id.clone(), legacy::own_definition(doc, kept)?);
        cache.put(id, print, &definition);
        return Ok((definition, None));
    }
    let document = legacy::foreign(doc)?;
    for warning in &document.warnings {
        tracing::debug!(job_id = %id, %warning, "a document of another program");
    }
    let definition = Definition::new(id.clone(), document.definition.clone());
    let faults = definition.compiled().err().map(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        format!("schedule: {}", faults.join("; "))
    });
    faults.map_or(Ok((definition, Some(document))), Err)
}

/// What stands for a definition that can't be read.
fn stand_in(doc: &Document, id: &JobId, own: &Document, now: Timestamp) -> Definition {
    let handler = ["templateType", "template_type", "template"].iter().find_map(|key| text(doc, key));
    let handler = handler.or_else(|| text(own, "handler")).unwrap_or_default();
    Job::unreadable(id.clone(), text(doc, "name").unwrap_or_default(), handler, "", now).definition
}

/// The first of the fields that holds an instant, as a date or as a text.
fn instant(doc: &Document, fields: &[&str]) -> Option<Timestamp> {
    fields.iter().find_map(|key| match doc.get(key)? {
        Bson::String(text) => {
            text.parse().ok().or_else(|| format!("{}Z", text.replace(' ', "T")).parse().ok())
        }
        value => time(Some(value)),
    })
}

/// A job that changed while it was being changed, too often.
pub(crate) fn too_busy(id: &JobId) -> Error {
    Error::unavailable("others changed the job at the same time, again and again").with("job", id)
}
