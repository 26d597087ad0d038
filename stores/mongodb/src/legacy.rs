//! The fields of a job's document that are not ours: which they are, what we write into them, and whether
//! somebody else has written since.

use bson::{Bson, Document, doc};
use serde_json::{Map, Value, json};
use unified_scheduler_core::job::{Job, JobDefinition};
use unified_scheduler_core::schedule::Schedule;
use unified_scheduler_core::{Timestamp, document};

use crate::value::{Fingerprint, Types, count, to_bson, to_document, to_map};

/// The sub-document that is ours, in jobs and executions.
pub(crate) const OURS: &str = "unified_scheduler";

/// The path of a field of ours.
macro_rules! ours {
    ($field:literal) => {
        concat!("unified_scheduler.", $field)
    };
}
pub(crate) use ours;

/// The version of the form of our sub-documents.
pub(crate) const FORMAT: i32 = 1;

const SCHEDULE: &[&str] = &[
    "schedule",
    "scheduleType",
    "schedule_type",
    "intervalSeconds",
    "interval_seconds",
    "interval",
    "cronExpression",
    "cron_expression",
    "timezone",
];
const RETRY: &[&str] = &["retry_policy", "retry_config", "retry_count", "retry_delay"];
const REST: &[&str] =
    &["templateType", "template_type", "template", "timeout_seconds", "timeout", "notifications"];

/// Fields with a meaning, in any spelling, beside those above.
const KNOWN: &[&str] = &[
    "_id",
    "name",
    "description",
    "parameters",
    "enabled",
    "isEnabled",
    "created_by",
    "createdBy",
    "createdAt",
    "created_at",
    "updatedAt",
    "updated_at",
    "version",
    "lastRunAt",
    "last_run_at",
    "lastRun",
    "last_run",
    "lastStatus",
    "last_status",
    "last_run_status",
    "nextRunAt",
    "next_run_at",
    "nextRun",
    "next_run",
    OURS,
];

/// Fields that change as the job runs: no part of what it is.
const VOLATILE: &[&str] =
    &["enabled", "isEnabled", "updatedAt", "version", "lastRunAt", "lastStatus", "nextRunAt", OURS];

/// Fingerprints of three parts of a document's legacy fields, by which a stranger's edit is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Prints {
    schedule: i64,
    retry: i64,
    rest: i64,
}

impl Prints {
    pub(crate) fn of(doc: &Document) -> Self {
        let print = |fields: &[&str]| {
            let mut print = Fingerprint::default();
            for key in fields {
                if let Some(value) = doc.get(key) {
                    print.field(key, value);
                }
            }
            print.finish()
        };
        Self { schedule: print(SCHEDULE), retry: print(RETRY), rest: print(REST) }
    }

    pub(crate) fn to_bson(self) -> Bson {
        Bson::Array([self.schedule, self.retry, self.rest].map(Bson::Int64).to_vec())
    }

    pub(crate) fn read(value: Option<&Bson>) -> Option<Self> {
        let [schedule, retry, rest] = &value?.as_array()?[..] else { return None };
        let number = |value: &Bson| crate::value::int(Some(value));
        Some(Self { schedule: number(schedule)?, retry: number(retry)?, rest: number(rest)? })
    }
}

/// The fingerprint of everything that a definition is made from.
pub(crate) fn print_of_definition(doc: &Document) -> i64 {
    let mut print = Fingerprint::default();
    for (key, value) in doc.iter().filter(|(key, _)| !VOLATILE.contains(&key.as_str())) {
        print.field(key, value);
    }
    if let Ok(ours) = doc.get_document(OURS) {
        for key in ["definition", "print"] {
            print.field(key, ours.get(key).unwrap_or(&Bson::Null));
        }
    }
    print.finish()
}

/// The fields that nobody knows.
pub(crate) fn unknown(doc: &Document) -> impl Iterator<Item = (&String, &Bson)> {
    doc.iter().filter(|(key, _)| {
        let key = key.as_str();
        ![SCHEDULE, RETRY, REST, KNOWN].iter().any(|fields| fields.contains(&key))
    })
}

/// What our sub-document keeps of a definition, as text: all but what is at the top in any case.
pub(crate) fn kept(definition: &JobDefinition, doc: &Document) -> Result<String, serde_json::Error> {
    let mut kept = definition.clone();
    kept.name = String::new();
    kept.description = String::new();
    kept.parameters = Map::new();
    kept.extra.retain(|key, _| !doc.contains_key(key));
    serde_json::to_string(&kept)
}

/// The definition, where nobody else has touched the fields it is written in.
pub(crate) fn own_definition(doc: &Document, kept: &str) -> Result<JobDefinition, String> {
    let mut definition: JobDefinition = serde_json::from_str(kept).map_err(|e| e.to_string())?;
    doc.get("name").and_then(Bson::as_str).ok_or("name: is no text")?.clone_into(&mut definition.name);
    let description = doc.get("description").and_then(Bson::as_str).unwrap_or_default();
    description.clone_into(&mut definition.description);
    if let Some(parameters) = doc.get("parameters").and_then(Bson::as_document) {
        definition.parameters = to_map(parameters);
    }
    for (key, value) in unknown(doc) {
        definition.extra.insert(key.clone(), crate::value::to_json(value));
    }
    Ok(definition)
}

/// The document as somebody else wrote it, or edited it: what it says now, and from our sub-document what
/// it has no words for.
pub(crate) fn foreign(doc: &Document) -> Result<document::Document, String> {
    let mut map = to_map(doc);
    map.remove(OURS);
    for (key, value) in SCHEDULE.iter().filter_map(|key| Some((key, doc.get(key)?))) {
        // JSON has no word for these, and nothing at all would be the default.
        map.insert((*key).to_owned(), with_no_numbers(value));
    }
    if let Ok(ours) = doc.get_document(OURS) {
        overlay(&mut map, doc, ours);
    }
    // What a flag is not, is not on.
    for key in ["enabled", "isEnabled"] {
        if map.get(key).is_some_and(|value| !value.is_boolean()) {
            map.remove(key);
        }
    }
    document::read(&Value::Object(map)).map_err(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        faults.join("; ")
    })
}

/// As JSON, in which what is no number, or infinite, is a text.
fn with_no_numbers(value: &Bson) -> Value {
    match value {
        Bson::Double(f) if !f.is_finite() => Value::String(f.to_string()),
        Bson::Document(doc) => doc.iter().map(|(key, value)| (key.clone(), with_no_numbers(value))).collect(),
        other => crate::value::to_json(other),
    }
}

fn overlay(map: &mut Map<String, Value>, doc: &Document, ours: &Document) {
    let kept = ours.get("definition").and_then(Bson::as_str);
    let Some(Ok(Value::Object(kept))) = kept.map(serde_json::from_str::<Value>) else { return };
    let (before, now) = (Prints::read(ours.get("print")), Prints::of(doc));
    let same = |part: fn(&Prints) -> i64| before.as_ref().is_some_and(|before| part(before) == part(&now));
    let mut fields = vec!["misfire", "overlap", "history", "chains", "pause_after_failures", "priority"];
    fields.extend(["tags", "origin"]);
    if same(|p| p.schedule) {
        fields.push("schedule");
    }
    if same(|p| p.retry) {
        fields.push("retry_policy");
    }
    for field in fields {
        match kept.get(field) {
            Some(value) => drop(map.insert(field.to_owned(), value.clone())),
            None => drop(map.remove(field)),
        }
    }
    // Ours, even where none of the fields above stands in it.
    map.entry("chains").or_insert_with(|| json!([]));
    if let Some(Value::Object(extra)) = kept.get("extra") {
        for (key, value) in extra {
            map.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
}

/// The fields in which the existing backend looks for a definition.
pub(crate) fn fields(definition: &JobDefinition) -> Document {
    let retry = &definition.retry;
    let seconds = |duration: std::time::Duration| match duration.subsec_nanos() {
        0 => crate::value::n(duration.as_secs()),
        _ => Bson::Double(duration.as_secs_f64()),
    };
    doc! {
        "name": &definition.name,
        "description": &definition.description,
        "template_type": &definition.handler,
        "parameters": to_document(&definition.parameters, Types::Extended),
        "schedule": schedule(&definition.schedule),
        "timeout_seconds": seconds(definition.timeout),
        "retry_policy": { "max_retries": retry.max_retries, "retry_delay_seconds": seconds(retry.delay) },
        "notifications": {
            "on_success": definition.notifications.on_success.clone(),
            "on_failure": definition.notifications.on_failure.clone(),
        },
    }
}

/// The four fields that the existing backend knows of a schedule.
fn four(schedule: &Schedule) -> Value {
    let full = schedule.to_document();
    let field = |name: &str| full.get(name).cloned().unwrap_or_default();
    let zone = full.get("timezone").cloned().unwrap_or_else(|| json!("UTC"));
    json!({
        "type": field("type"), "interval_seconds": field("interval_seconds"),
        "expression": field("expression"), "timezone": zone,
    })
}

fn schedule(schedule: &Schedule) -> Bson {
    let mut document = schedule.to_document();
    let four = four(schedule);
    if let (Some(document), Value::Object(four)) = (document.as_object_mut(), four) {
        if is_known(schedule) {
            *document = four;
        } else {
            document.extend(four);
        }
    }
    to_bson(&document, Types::Plain).0
}

/// Whether the existing backend would run this schedule as it is meant.
fn is_known(schedule: &Schedule) -> bool {
    let four = four(schedule);
    let whole = four.get("interval_seconds").is_none_or(|seconds| seconds.is_null() || seconds.is_u64());
    let known = four.get("type").is_some_and(|kind| kind == "interval" || kind == "cron");
    known && whole && Schedule::from_document(&four).is_ok_and(|read| read == *schedule)
}

/// The due time as the existing backend sees it. A schedule that it does not know it would run hourly, and
/// a job that is set aside it would run: both have none.
pub(crate) fn next_run_at(job: &Job) -> Option<Timestamp> {
    let due = job.due.filter(|_| job.fault.is_none())?;
    is_known(&job.definition.schedule).then_some(due.due_at)
}

/// Whether the schedule of the job counts, as the document says.
pub(crate) fn is_enabled(doc: &Document) -> bool {
    let flag = |key: &str| doc.get(key).filter(|value| !matches!(value, Bson::Null));
    flag("enabled").or_else(|| flag("isEnabled")).and_then(Bson::as_bool).unwrap_or(false)
}

/// The version of the document; one that has none is at its first.
pub(crate) fn version(doc: &Document) -> i64 {
    count::<i64>(doc.get("version")).max(1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_backend_is_told_only_of_schedules_that_it_knows() {
        let day = Duration::from_secs(86_400);
        assert!(is_known(&Schedule::every(day)));
        assert!(!is_known(&Schedule::every(Duration::from_millis(1500))));
        assert!(!is_known(&Schedule::every(day).limit(3)));
        assert!(!is_known(&Schedule::manual()));
        assert!(!is_known(&Schedule::once(Timestamp::EPOCH)));
        let old = json!({"type": "cron", "expression": "0 3 * * *", "timezone": "UTC"});
        assert!(is_known(&Schedule::from_document(&old).unwrap()));
    }

    #[test]
    fn an_edit_of_one_part_leaves_the_fingerprints_of_the_others() {
        let mut doc =
            doc! { "schedule": { "type": "interval" }, "retry_policy": { "max_retries": 3 }, "x": 1 };
        let before = Prints::of(&doc);
        assert_eq!(Prints::read(Some(&before.to_bson())), Some(before));
        doc.insert("x", 2);
        assert_eq!(Prints::of(&doc), before);
        doc.insert("retry_policy", doc! { "max_retries": 4 });
        let after = Prints::of(&doc);
        assert_eq!((after.schedule, after.rest), (before.schedule, before.rest));
        assert_ne!(after.retry, before.retry);
    }
}
