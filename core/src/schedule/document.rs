//! The JSON form of a schedule, read leniently where the existing backend's documents need it and
//! strictly elsewhere; every fault at once.
//!
//! Keys of other types are ignored, because the backend's page fills all of them whatever the type. A
//! cron document without a `dialect` is one of those, and so in the croniter dialect; we always write
//! the dialect.

use std::time::Duration;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::cron::{Cron, Dialect, Fold, Gap};
use super::exclusion::Exclusions;
use super::{Recurrence, Schedule};
use crate::error::{Error, Fault};

const KEYS: [&str; 15] = [
    "type",
    "interval_seconds",
    "anchor",
    "from_completion",
    "expression",
    "timezone",
    "dialect",
    "gap",
    "overlap",
    "at",
    "start",
    "end",
    "limit",
    "jitter_seconds",
    "exclude",
];

impl Schedule {
    /// Reads a document. It is not compiled yet: [`Schedule::compile`] checks what it means.
    ///
    /// # Errors
    ///
    /// Everything that can't be read.
    pub fn from_document(document: &Value) -> Result<Self, Vec<Fault>> {
        let Value::Object(map) = document else {
            return Err(vec![
                Fault::new("", "a schedule is a JSON object").help("such as {\"type\": \"manual\"}"),
            ]);
        };
        let mut reader = Reader { map, faults: Vec::new() };
        reader.unknown_keys();
        let schedule = Self {
            recurrence: reader.recurrence(),
            start: reader.optional("start", INSTANT),
            end: reader.optional("end", INSTANT),
            limit: reader.optional("limit", "a whole number"),
            jitter: reader.duration("jitter_seconds").unwrap_or_default(),
            exclude: reader.exclusions(),
        };
        if reader.faults.is_empty() { Ok(schedule) } else { Err(reader.faults) }
    }

    /// The document; [`Schedule::from_document`] reads the same schedule back.
    pub fn to_document(&self) -> Value {
        let mut map = Map::new();
        let mut put = |key: &str, value: Value| map.insert(key.to_owned(), value);
        match &self.recurrence {
            Recurrence::Interval { every, anchor, from_completion } => {
                put("type", json!("interval"));
                put("interval_seconds", seconds(*every));
                if let Some(anchor) = anchor {
                    put("anchor", json!(anchor));
                }
                if *from_completion {
                    put("from_completion", json!(true));
                }
            }
            Recurrence::Cron(cron) => {
                put("type", json!("cron"));
                put("expression", json!(cron.expression));
                put("timezone", json!(cron.timezone));
                put("dialect", json!(cron.dialect));
                put("gap", json!(cron.gap));
                put("overlap", json!(cron.overlap));
            }
            Recurrence::Once { at } => {
                put("type", json!("once"));
                put("at", json!(at));
            }
            Recurrence::Manual => {
                put("type", json!("manual"));
            }
        }
        if let Some(start) = self.start {
            put("start", json!(start));
        }
        if let Some(end) = self.end {
            put("end", json!(end));
        }
        if let Some(limit) = self.limit {
            put("limit", json!(limit));
        }
        if !self.jitter.is_zero() {
            put("jitter_seconds", seconds(self.jitter));
        }
        if self.exclude != Exclusions::default() {
            put("exclude", json!(self.exclude));
        }
        Value::Object(map)
    }
}

impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_document().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Schedule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let document = Value::deserialize(deserializer)?;
        Self::from_document(&document)
            .map_err(|faults| D::Error::custom(Error::faults_of("the schedule can't be read", faults)))
    }
}

const INSTANT: &str = "an instant with an offset, such as 2026-01-02T03:04:05Z";

struct Reader<'a> {
    map: &'a Map<String, Value>,
    faults: Vec<Fault>,
}

impl<'a> Reader<'a> {
    fn unknown_keys(&mut self) {
        for (key, value) in self.map {
            if !KEYS.contains(&key.as_str()) && !value.is_null() {
                let shown: String = key.chars().take(64).collect();
                let help = format!("a schedule has {}", KEYS.join(", "));
                self.faults.push(Fault::new(shown, "there is no such key").help(help));
            }
        }
    }

    fn recurrence(&mut self) -> Recurrence {
        match self.map.get("type").and_then(Value::as_str) {
            Some("interval") => {
                let every = self.duration("interval_seconds");
                if every.is_none() && self.value("interval_seconds").is_none() {
                    self.missing("interval_seconds", "an interval", "such as 300");
                }
                Recurrence::Interval {
                    every: every.unwrap_or_default(),
                    anchor: self.optional("anchor", INSTANT),
                    from_completion: self.optional("from_completion", "true or false").unwrap_or(false),
                }
            }
            Some("cron") => Recurrence::Cron(self.cron()),
            Some("once") => {
                if self.value("at").is_none() {
                    self.missing("at", "a single due time", "such as 2026-01-02T03:04:05Z");
                }
                Recurrence::Once { at: self.optional("at", INSTANT).unwrap_or_default() }
            }
            Some("manual") => Recurrence::Manual,
            _ => {
                let message = match self.value("type") {
                    None => "the type is missing".to_owned(),
                    Some(other) => format!("there is no type {}", shown(other)),
                };
                self.faults.push(Fault::new("type", message).help("use interval, cron, once or manual"));
                Recurrence::Manual
            }
        }
    }

    fn cron(&mut self) -> Cron {
        if self.value("expression").is_none() {
            self.missing("expression", "a cron schedule", "such as `0 3 * * *`");
        }
        Cron {
            expression: self.optional("expression", "a text").unwrap_or_default(),
            timezone: self.optional("timezone", "a text").unwrap_or_else(|| "UTC".to_owned()),
            dialect: self.optional("dialect", "standard or croniter").unwrap_or(Dialect::Croniter),
            gap: self.optional("gap", "shift, skip or after").unwrap_or(Gap::Shift),
            overlap: self.optional("overlap", "first, second or both").unwrap_or(Fold::First),
        }
    }

    fn exclusions(&mut self) -> Exclusions {
        let Some(value) = self.value("exclude") else { return Exclusions::default() };
        serde_json::from_value(value.clone())
            .map_err(|error| self.faults.push(Fault::new("exclude", error.to_string())))
            .unwrap_or_default()
    }

    fn value(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    fn missing(&mut self, key: &str, what: &str, help: &str) {
        self.faults.push(Fault::new(key, format!("{what} needs `{key}`")).help(help));
    }

    fn optional<T: DeserializeOwned>(&mut self, key: &str, what: &str) -> Option<T> {
        let value = self.value(key)?;
        if let Ok(read) = serde_json::from_value(value.clone()) {
            return Some(read);
        }
        let message = format!("{} is not {what}", shown(value));
        self.faults.push(Fault::new(key, message));
        None
    }

    /// Seconds, with up to three decimals.
    fn duration(&mut self, key: &str) -> Option<Duration> {
        let value = self.value(key)?;
        let read = match value.as_u64() {
            Some(whole) => Ok(Duration::from_secs(whole)),
            None => value.as_f64().ok_or("is not a number of seconds").and_then(fraction),
        };
        read.map_err(|what| {
            let message = format!("{} {what}", shown(value));
            self.faults.push(Fault::new(key, message).help("use seconds, such as 300 or 0.5"));
        })
        .ok()
    }
}

fn fraction(seconds: f64) -> Result<Duration, &'static str> {
    if seconds < 0.0 {
        return Err("is negative");
    }
    let exact = Duration::try_from_secs_f64(seconds).map_err(|_| "is too long")?;
    // Binary fractions are off by a little; by more, it is not milliseconds that were meant.
    let millis = (exact + Duration::from_micros(500)).as_millis();
    let rounded = u64::try_from(millis).map(Duration::from_millis).map_err(|_| "is too long")?;
    if exact.abs_diff(rounded) > Duration::from_micros(1) {
        return Err("is not a whole number of milliseconds");
    }
    Ok(rounded)
}

fn seconds(duration: Duration) -> Value {
    if duration.subsec_nanos() == 0 { json!(duration.as_secs()) } else { json!(duration.as_secs_f64()) }
}

/// A value cut for messages.
fn shown(value: &Value) -> String {
    format!("`{}`", value.to_string().chars().take(64).collect::<String>())
}
