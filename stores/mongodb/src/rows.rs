//! Documents of executions as executions, and executions as documents.

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use serde_json::{Value, json};
use unified_scheduler_core::execution::{Execution, Failure, JobResult, Progress, Status, Trigger};
use unified_scheduler_core::id::{Epoch, ExecutionId, JobId, NodeId};
use unified_scheduler_core::store::{Completion, NodeRef};
use unified_scheduler_core::{Error, Result, Timestamp};

use crate::ids::{holding, object_id};
use crate::legacy::{FORMAT, OURS};
use crate::value::{
    Types, count, date, date_or_null, int, n, text, text_or_null, time, to_bson, to_json, to_map,
};

/// The bytes of what a handler answers that are kept, at most; the server takes 16 MB for a document.
const LARGEST_RESULT: usize = 8 << 20;

/// The document of an execution. `key` is the caller's idempotency key.
pub(crate) fn document(e: &Execution, key: Option<&str>) -> Document {
    let mut own = doc! {
        "v": FORMAT,
        "id": e.id.to_string(),
        "trigger": e.trigger.as_str(),
        "reason": text_or_null(e.reason.as_deref()),
        "covers": date_or_null(e.covers_until),
        "n": n(e.n_occurrences),
        "next": date_or_null(e.next_due_at),
        "version": e.version,
        "retries": n(e.retries),
        "crashes": n(e.crashes),
        "nonce": &e.nonce,
        "handler": &e.handler,
        "priority": e.priority,
        "created": date(e.created_at),
        "run_at": date(e.run_at),
        "claim": n(e.claim),
    };
    if e.root_id != e.id {
        own.insert("root", e.root_id.to_string());
    }
    if let Some(node) = &e.node_id {
        own.insert("node", node.as_str());
        own.insert("epoch", e.epoch.0);
    }
    if e.cancel_requested {
        own.insert("cancel", true);
    }
    if let Some(parameters) = &e.parameters {
        own.insert("parameters", parameters.to_string());
    }
    if let Some(key) = key {
        own.insert("key", key);
    }
    // What indexes are over comes first: the server finds a field by going through those before it.
    let mut doc = doc! {
        "_id": object_id(&e.id),
        "job_id": e.job_id.as_str(),
        "status": e.status.as_str(),
        OURS: own,
        "job_name": &e.job_name,
        "template_type": &e.handler,
        "triggered_by": &e.triggered_by,
        "started_at": date_or_null(e.started_at),
        "completed_at": date_or_null(e.ended_at),
        "duration_seconds": e.duration.map_or(Bson::Null, |d| Bson::Double(d.as_secs_f64())),
        "result": {},
        "error": Bson::Null,
        "logs": [],
        "execution_host": text_or_null(e.node_id.as_ref().map(NodeId::as_str)),
        "worker_id": text_or_null(e.node_id.as_ref().map(NodeId::as_str)),
        "scheduled_for": date(e.due_at),
        "attempt": n(e.attempt),
    };
    if e.status.is_final() {
        for (field, value) in end_fields(End::of(e)) {
            match field.strip_prefix("unified_scheduler.") {
                Some(field) => {
                    if let Ok(own) = doc.get_document_mut(OURS) {
                        own.insert(field, value);
                    }
                }
                None => drop(doc.insert(field, value)),
            }
        }
    }
    doc
}

/// What an end says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End<'a> {
    status: Status,
    reason: Option<&'a str>,
    started_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    duration: Option<std::time::Duration>,
    result: Option<&'a JobResult>,
    error: Option<&'a Failure>,
}

impl<'a> End<'a> {
    pub(crate) fn of(e: &'a Execution) -> Self {
        Self {
            status: e.status,
            reason: e.reason.as_deref(),
            started_at: e.started_at,
            ended_at: e.ended_at,
            duration: e.duration,
            result: e.result.as_ref(),
            error: e.error.as_ref(),
        }
    }

    /// Of one that never started.
    pub(crate) fn cancelled(result: &'a JobResult, now: Timestamp) -> Self {
        Self {
            status: Status::Cancelled,
            reason: None,
            started_at: None,
            ended_at: Some(now),
            duration: None,
            result: Some(result),
            error: None,
        }
    }

    pub(crate) fn by(c: &'a Completion) -> Self {
        Self {
            status: c.status,
            reason: c.reason.as_deref(),
            started_at: Some(c.started_at),
            ended_at: Some(c.ended_at),
            duration: c.duration,
            result: c.result.as_ref(),
            error: c.error.as_ref(),
        }
    }
}

/// The fields of an execution that runs which its end writes: when it started stands there already.
pub(crate) fn end_of_running(e: End<'_>) -> Document {
    let mut set = end_fields(e);
    set.remove("started_at");
    if set.get("error") == Some(&Bson::Null) {
        set.remove("error");
    }
    set
}

/// The fields of an execution that its end writes.
pub(crate) fn end_fields(e: End<'_>) -> Document {
    let mut set = doc! {
        "status": e.status.as_str(),
        "started_at": date_or_null(e.started_at),
        "completed_at": date_or_null(e.ended_at),
        "duration_seconds": e.duration.map_or(Bson::Null, |d| Bson::Double(d.as_secs_f64())),
        "unified_scheduler.reason": text_or_null(e.reason),
    };
    if e.reason.is_some() {
        set.insert("failure_kind", text_or_null(e.reason));
    }
    if let Some(duration) = e.duration {
        set.insert("unified_scheduler.nanos", n(duration.as_nanos().try_into().unwrap_or(i64::MAX)));
    }
    let result = e.result.cloned().unwrap_or_default();
    let (shown, exact) = shown_result(&result, e);
    set.insert("result", shown);
    if e.result.is_some() {
        // The eight fields hold all of it, or the whole stands beside them as text.
        let whole = if exact { Bson::Boolean(true) } else { Bson::String(json!(result).to_string()) };
        set.insert("unified_scheduler.result", whole);
    }
    let first = result.errors.first().cloned();
    let error = e.error.map(|error| error.message.clone()).or(first);
    set.insert("error", text_or_null(error.as_deref()));
    if let Some(error) = e.error {
        set.insert("unified_scheduler.error", to_bson(&json!(error), Types::Plain).0);
    }
    set
}

/// The eight fields that the existing backend's page shows, and whether the answer comes back from them.
fn shown_result(result: &JobResult, e: End<'_>) -> (Document, bool) {
    let (details, mut exact) = to_bson(&result.details, Types::Plain);
    let size = result.details.to_string().len();
    let details = match details {
        _ if size > LARGEST_RESULT => {
            exact = true;
            Bson::String(format!("the details had {size} bytes; at most {LARGEST_RESULT} are kept"))
        }
        Bson::Null => {
            exact = exact && result.details.is_null();
            Bson::Document(doc! {})
        }
        details => {
            // An empty object stands for none.
            exact = exact && details != Bson::Document(doc! {});
            details
        }
    };
    let shown = doc! {
        "status": e.status.as_str(),
        "message": &result.message,
        "details": details,
        "records_processed": result.records_processed,
        "records_affected": result.records_affected,
        "errors": result.errors.clone(),
        "warnings": result.warnings.clone(),
        "duration_seconds": e.duration.map_or(0.0, |d| d.as_secs_f64()),
    };
    (shown, exact)
}

/// The execution in a document, ours or the existing backend's.
///
/// # Errors
///
/// [`unified_scheduler_core::ErrorKind::Corrupt`] for one of a newer version.
pub(crate) fn execution(doc: &Document) -> Result<Execution> {
    match doc.get_document(OURS) {
        Ok(own) if own.contains_key("id") => ours(doc, own),
        _ => foreign(doc),
    }
}

/// The executions in documents; one that can't be read is passed over.
pub(crate) fn executions(docs: &[Document]) -> Vec<Execution> {
    let read = docs.iter().map(|doc| (doc, execution(doc)));
    read.filter_map(|(doc, read)| match read {
        Ok(execution) => Some(execution),
        Err(error) => {
            tracing::warn!(id = ?doc.get("_id"), %error, "an execution can't be read and is passed over");
            None
        }
    })
    .collect()
}

fn ours(doc: &Document, own: &Document) -> Result<Execution> {
    let corrupt = |field: &str| Error::corrupt(format!("an execution's field `{field}` can't be read"));
    if int(own.get("v")).is_none_or(|v| v > i64::from(FORMAT)) {
        return Err(Error::corrupt("a newer version of this software wrote the execution"));
    }
    let id: ExecutionId = text(own, "id").and_then(|id| id.parse().ok()).ok_or_else(|| corrupt("id"))?;
    let needed = |value: Option<Timestamp>, field: &str| value.ok_or_else(|| corrupt(field));
    let word =
        |doc: &Document, field: &str| text(doc, field).map(str::to_owned).ok_or_else(|| corrupt(field));
    let nanos = int(own.get("nanos")).and_then(|n| u64::try_from(n).ok());
    Ok(Execution {
        id,
        job_id: JobId::from(word(doc, "job_id")?),
        job_name: word(doc, "job_name")?,
        handler: word(own, "handler")?,
        status: word(doc, "status")?.parse().map_err(|_| corrupt("status"))?,
        reason: text(own, "reason").map(str::to_owned),
        trigger: word(own, "trigger")?.parse().map_err(|_| corrupt("trigger"))?,
        triggered_by: text(doc, "triggered_by").unwrap_or_default().to_owned(),
        due_at: needed(time(doc.get("scheduled_for")), "scheduled_for")?,
        covers_until: time(own.get("covers")),
        n_occurrences: count(own.get("n")),
        next_due_at: time(own.get("next")),
        version: count(own.get("version")),
        attempt: count(doc.get("attempt")),
        retries: count(own.get("retries")),
        crashes: count(own.get("crashes")),
        root_id: text(own, "root").and_then(|id| id.parse().ok()).unwrap_or(id),
        nonce: text(own, "nonce").unwrap_or_default().to_owned(),
        parameters: text(own, "parameters").and_then(|text| serde_json::from_str(text).ok()),
        priority: count(own.get("priority")),
        created_at: needed(time(own.get("created")), "created")?,
        run_at: needed(time(own.get("run_at")), "run_at")?,
        started_at: time(doc.get("started_at")),
        ended_at: time(doc.get("completed_at")),
        duration: nanos.map(std::time::Duration::from_nanos),
        node_id: text(own, "node").map(NodeId::from),
        epoch: Epoch(count(own.get("epoch"))),
        claim: count(own.get("claim")),
        cancel_requested: own.get("cancel").and_then(Bson::as_bool).unwrap_or(false),
        progress: own.get("progress").and_then(|p| serde_json::from_value::<Progress>(to_json(p)).ok()),
        result: result(doc, own),
        error: own.get("error").and_then(|e| serde_json::from_value::<Failure>(to_json(e)).ok()),
    })
}

fn result(doc: &Document, own: &Document) -> Option<JobResult> {
    if let Bson::String(whole) = own.get("result")? {
        return serde_json::from_str(whole).ok();
    }
    let mut map = to_map(doc.get_document("result").ok()?);
    if map.get("details").is_some_and(|details| *details == json!({})) {
        map.insert("details".to_owned(), Value::Null);
    }
    serde_json::from_value(Value::Object(map)).ok()
}

/// An execution that the existing backend made.
fn foreign(doc: &Document) -> Result<Execution> {
    let key = doc.get("_id").and_then(Bson::as_object_id);
    let key = key.ok_or_else(|| Error::corrupt("an execution of another program has no `ObjectId`"))?;
    let id = holding(key);
    let word = |names: [&str; 2]| names.iter().find_map(|name| text(doc, name));
    let at = |names: [&str; 2]| names.iter().find_map(|name| time(doc.get(name)));
    let said = text(doc, "status").unwrap_or("unknown");
    let status = said.parse::<Status>();
    let created_at = Timestamp::from_millis(key.timestamp().timestamp_millis());
    let started_at = at(["started_at", "startedAt"]);
    let triggered_by = word(["triggered_by", "triggeredBy"]).unwrap_or("scheduler");
    let seconds = ["duration_seconds", "durationSeconds"].iter().find_map(|name| doc.get(name)?.as_f64());
    let mut result = doc.get_document("result").ok().filter(|result| !result.is_empty()).map(to_map);
    if let Some(map) = &mut result {
        map.retain(|_, value| !value.is_null());
    }
    Ok(Execution {
        id,
        job_id: JobId::from(word(["job_id", "jobId"]).unwrap_or_default()),
        job_name: word(["job_name", "jobName"]).unwrap_or_default().to_owned(),
        handler: word(["template_type", "templateType"]).unwrap_or_default().to_owned(),
        reason: status.is_err().then(|| said.to_owned()),
        // What nobody knows counts as bad.
        status: status.unwrap_or(Status::Failed),
        trigger: if triggered_by == "scheduler" { Trigger::Schedule } else { Trigger::Manual },
        triggered_by: triggered_by.to_owned(),
        due_at: started_at.unwrap_or(created_at),
        covers_until: None,
        n_occurrences: 1,
        next_due_at: None,
        version: 1,
        attempt: 1,
        retries: 0,
        crashes: 0,
        root_id: id,
        nonce: id.to_string(),
        parameters: None,
        priority: 0,
        created_at: started_at.unwrap_or(created_at),
        run_at: started_at.unwrap_or(created_at),
        started_at,
        ended_at: at(["completed_at", "completedAt"]),
        duration: seconds.and_then(|s| std::time::Duration::try_from_secs_f64(s).ok()),
        node_id: word(["execution_host", "executionHost"]).map(NodeId::from),
        epoch: Epoch(0),
        claim: 0,
        cancel_requested: false,
        progress: None,
        result: result.and_then(|map| serde_json::from_value(Value::Object(map)).ok()),
        error: text(doc, "error").map(|message| Failure {
            kind: "error".to_owned(),
            message: message.to_owned(),
            trace: None,
        }),
    })
}

/// Finds an execution only while it runs under this node and epoch.
pub(crate) fn owned_by(node: &NodeRef) -> Document {
    doc! {
        "status": "running",
        "unified_scheduler.epoch": node.epoch.0,
        "unified_scheduler.node": node.id.as_str(),
    }
}

/// The `_id`s of documents.
pub(crate) fn keys(docs: &[Document]) -> Vec<ObjectId> {
    docs.iter().filter_map(|doc| doc.get("_id")?.as_object_id()).collect()
}
