//! Reading the schedule of a job: our own form, and every way in which older programs stored one.

use serde_json::{Map, Value, json};

use super::fields::{Fields, instant, shown};
use crate::error::Fault;
use crate::schedule::Schedule;

/// What a period that is missing or null means in the documents of older programs.
const DEFAULT_INTERVAL: u64 = 3600;
const FLAT: [(&str, &[&str]); 4] = [
    ("type", &["scheduleType", "schedule_type"]),
    ("interval_seconds", &["intervalSeconds", "interval_seconds", "interval"]),
    ("expression", &["cronExpression", "cron_expression"]),
    ("timezone", &["timezone"]),
];

/// Where the fields of a schedule stand in the document it was read from.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// The path under which the whole schedule stands; empty when its fields stand beside the job's.
    parent: String,
    /// Fields of ours that have another name there; an empty one is the parent itself.
    fields: Vec<(&'static str, String)>,
}

impl Names {
    fn nested(parent: &str) -> Self {
        Self { parent: parent.to_owned(), fields: Vec::new() }
    }

    /// The fault, at the place where its field stands in the document.
    pub(super) fn in_document(&self, mut fault: Fault) -> Fault {
        if let Some((_, name)) = self.fields.iter().find(|(ours, _)| *ours == fault.field) {
            fault.field.clone_from(name);
        }
        if self.parent.is_empty() { fault } else { fault.under(&self.parent) }
    }
}

/// The schedule of the job: from its `schedule`, or from the flat fields where it has none.
///
/// An older program ran one that says nothing at all each hour.
pub(super) fn schedule(top: &mut Fields<'_>, foreign: bool) -> (Option<Schedule>, Names) {
    let stored = top.take(&["schedule"]);
    // Taken in any case, so that what `schedule` overrules is not mistaken for unknown.
    let flat: Vec<_> = FLAT.iter().map(|(ours, names)| (*ours, top.take(names))).collect();
    let (document, names) = match stored {
        Some((name, Value::String(expression))) => {
            let mut names = Names::nested(name);
            names.fields.push(("expression", String::new()));
            (json!({"type": "cron", "expression": expression}), names)
        }
        Some((name, Value::Object(map))) if !map.is_empty() => nested(top, name, map),
        Some((name, value)) if !value.is_object() => {
            let help = "give an object with `type`, or a cron expression as text";
            top.fault(name, format!("is {}", shown(value)), help);
            return (None, Names::default());
        }
        _ if !foreign && flat.iter().all(|(_, found)| found.is_none()) => {
            let help = "give one, such as {\"type\": \"interval\", \"interval_seconds\": 300}";
            top.fault("schedule", "is missing", help);
            return (None, Names::default());
        }
        _ => flattened(top, flat),
    };
    match Schedule::from_document(&document) {
        Ok(schedule) => (Some(schedule), names),
        Err(faults) => {
            top.faults.extend(faults.into_iter().map(|fault| names.in_document(fault)));
            (None, names)
        }
    }
}

fn nested(top: &mut Fields<'_>, name: &str, map: &Map<String, Value>) -> (Value, Names) {
    let mut names = Names::nested(name);
    let mut map = map.clone();
    if let Some(value) = map.remove("value")
        && map.get("expression").is_none_or(Value::is_null)
    {
        map.insert("expression".to_owned(), value);
        names.fields.push(("expression", "value".to_owned()));
    }
    for key in ["anchor", "at", "start", "end"] {
        if let Some(value) = map.get_mut(key)
            && let Some(t) = instant(value)
        {
            *value = json!(t);
        }
    }
    with_defaults(top, &mut map, name);
    (Value::Object(map), names)
}

fn flattened(top: &mut Fields<'_>, flat: Vec<(&'static str, Option<(&str, &Value)>)>) -> (Value, Names) {
    let mut names = Names::default();
    let mut map = Map::new();
    for (ours, found) in flat {
        if let Some((name, value)) = found {
            map.insert(ours.to_owned(), value.clone());
            names.fields.push((ours, name.to_owned()));
        }
    }
    with_defaults(top, &mut map, "schedule");
    (Value::Object(map), names)
}

fn with_defaults(top: &mut Fields<'_>, map: &mut Map<String, Value>, path: &str) {
    let absent = |map: &Map<String, Value>, key: &str| map.get(key).is_none_or(Value::is_null);
    if absent(map, "type") {
        map.insert("type".to_owned(), json!("interval"));
    }
    if map.get("type").is_some_and(|kind| kind == "interval") && absent(map, "interval_seconds") {
        map.insert("interval_seconds".to_owned(), json!(DEFAULT_INTERVAL));
        top.warnings.push(format!("{path}: names no period; it is taken as {DEFAULT_INTERVAL} seconds"));
    }
}
