//! Writing jobs as documents.

use chrono::SecondsFormat;
use serde_json::{Map, Value, json};

use crate::job::Job;
use crate::time::Timestamp;

/// The job as the API, `--json` and the host's own code are shown it: its definition, what the
/// scheduler knows of it, and the names by which older readers look for either.
pub fn write(job: &Job) -> Value {
    let mut map = definition(job);
    let schedule = map.get("schedule").cloned().unwrap_or_default();
    let of_schedule = |field: &str| schedule.get(field).cloned().unwrap_or_default();
    let next = instant(job.due.map(|due| due.due_at));
    let last = instant(job.last_run_at);
    let status = json!(job.last_status);
    let created = instant(Some(job.created_at));
    let updated = instant(Some(job.updated_at));
    for (key, value) in [
        ("_id", json!(job.id)),
        ("createdAt", created.clone()),
        ("created_at", created),
        ("created_by", json!(job.created_by)),
        ("cron_expression", of_schedule("expression")),
        ("enabled", json!(job.enabled)),
        ("ended", json!(job.ended)),
        ("execution_count", json!(job.n_fired)),
        ("failures_in_row", json!(job.failures_in_row)),
        ("fault", json!(job.fault)),
        ("id", json!(job.id)),
        ("interval_seconds", of_schedule("interval_seconds")),
        ("lastRunAt", last.clone()),
        ("lastStatus", status.clone()),
        ("last_execution_id", json!(job.last_execution_id)),
        ("last_run_at", last),
        ("last_run_status", status.clone()),
        ("last_status", status),
        ("nextRunAt", next.clone()),
        ("next_run_at", next),
        ("schedule_type", of_schedule("type")),
        ("skip_next", json!(job.skip_next)),
        ("updatedAt", updated.clone()),
        ("updated_at", updated),
        ("version", json!(job.version)),
    ] {
        map.insert(key.to_owned(), value);
    }
    for (key, value) in &job.definition.extra {
        map.entry(key.clone()).or_insert_with(|| value.clone());
    }
    put_extra(&mut map, job);
    Value::Object(map)
}

/// The job as import reads it: [`super::read`] gives the same definition. Its next due time goes along
/// as one that counts only while it lies in the future, so that restoring an old export fires nothing.
pub fn export(job: &Job) -> Value {
    let mut map = definition(job);
    map.insert("id".to_owned(), json!(job.id));
    // One that has fired for the last time must not fire again where it is restored.
    map.insert("enabled".to_owned(), json!(job.enabled && job.ended.is_none()));
    map.insert("created_at".to_owned(), instant(Some(job.created_at)));
    map.insert("updated_at".to_owned(), instant(Some(job.updated_at)));
    if let Some(user) = &job.created_by {
        map.insert("created_by".to_owned(), json!(user));
    }
    if let Some(due) = job.due {
        map.insert("next_run_at".to_owned(), instant(Some(due.due_at)));
    }
    put_extra(&mut map, job);
    Value::Object(map)
}

/// The fields that we do not know, in an object of their own, since nothing keeps their names from
/// being ours.
fn put_extra(map: &mut Map<String, Value>, job: &Job) {
    if !job.definition.extra.is_empty() {
        map.insert("extra".to_owned(), json!(job.definition.extra));
    }
}

fn definition(job: &Job) -> Map<String, Value> {
    let mut definition = job.definition.to_owned();
    definition.extra = Map::new();
    // A definition is text, numbers and maps with text keys, all of which JSON has.
    let document = serde_json::to_value(&definition).expect("a definition is JSON");
    let Value::Object(mut map) = document else { return Map::new() };
    for (key, empty) in [("description", json!("")), ("tags", json!([])), ("chains", json!([]))] {
        map.entry(key).or_insert(empty);
    }
    map
}

/// With `+00:00`, which every reader of the older API takes for UTC.
fn instant(t: Option<Timestamp>) -> Value {
    t.map_or(Value::Null, |t| json!(t.to_datetime().to_rfc3339_opts(SecondsFormat::Millis, false)))
}
