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
use super::exclusion::{Calendar, Exclusions};
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
        unknown_keys(map, &KEYS, &mut reader.faults);
        let schedule = Self {
            recurrence: reader.recurrence(),
            start: reader.optional("start", INSTANT),
            end: reader.optional("end", INSTANT),
            limit: reader.optional("limit", "a whole number"),
            jitter: reader.duration("jitter_seconds").unwrap_or_default(),
            exclude: exclusions(reader.value("exclude"), &mut reader.faults),
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

fn exclusions(value: Option<&Value>, faults: &mut Vec<Fault>) -> Exclusions {
    let Some(value) = value else { return Exclusions::default() };
    let Value::Object(map) = value else {
        faults.push(Fault::new("exclude", format!("{} is not a JSON object", shown(value))));
        return Exclusions::default();
    };
    let mut reader = Lists { map, faults: Vec::new() };
    reader.unknown_keys(&["dates", "weekdays", "windows", "timezone", "calendars"]);
    let exclusions = Exclusions {
        dates: reader.items("dates"),
        weekdays: reader.items("weekdays"),
        windows: reader.items("windows"),
        timezone: reader.text("timezone"),
        calendars: reader.items("calendars"),
    };
    faults.extend(reader.faults.into_iter().map(|fault| fault.under("exclude")));
    exclusions
}

impl Calendar {
    /// Reads the document of a calendar. What it means is checked by [`Calendar::faults`].
    ///
    /// # Errors
    ///
    /// Everything that can't be read.
    pub fn from_document(document: &Value) -> Result<Self, Vec<Fault>> {
        let Value::Object(map) = document else {
            return Err(vec![Fault::new("", "a calendar is a JSON object")]);
        };
        let mut reader = Lists { map, faults: Vec::new() };
        reader.unknown_keys(&["name", "description", "dates", "weekdays", "windows", "timezone"]);
        let calendar = Self {
            name: reader.text("name").unwrap_or_default(),
            description: reader.text("description").unwrap_or_default(),
            dates: reader.items("dates"),
            weekdays: reader.items("weekdays"),
            windows: reader.items("windows"),
            timezone: reader.text("timezone"),
        };
        if reader.faults.is_empty() { Ok(calendar) } else { Err(reader.faults) }
    }
}

/// Reads lists item by item, so that each fault has its place.
struct Lists<'a> {
    map: &'a Map<String, Value>,
    faults: Vec<Fault>,
}

impl Lists<'_> {
    fn unknown_keys(&mut self, known: &[&str]) {
        unknown_keys(self.map, known, &mut self.faults);
    }

    fn text(&mut self, key: &str) -> Option<String> {
        let value = self.map.get(key).filter(|value| !value.is_null())?;
        if value.is_string() {
            return value.as_str().map(str::to_owned);
        }
        self.faults.push(Fault::new(key, format!("{} is not a text", shown(value))));
        None
    }

    fn items<T: DeserializeOwned>(&mut self, key: &str) -> Vec<T> {
        let Some(value) = self.map.get(key).filter(|value| !value.is_null()) else { return Vec::new() };
        let Value::Array(items) = value else {
            self.faults.push(Fault::new(key, format!("{} is not a list", shown(value))));
            return Vec::new();
        };
        let mut read = Vec::new();
        for (i, item) in items.iter().enumerate() {
            match serde_json::from_value(item.clone()) {
                Ok(item) => read.push(item),
                Err(error) => self.faults.push(Fault::new(format!("{key}[{i}]"), error.to_string())),
            }
        }
        read
    }
}

fn unknown_keys(map: &Map<String, Value>, known: &[&str], faults: &mut Vec<Fault>) {
    for (key, value) in map {
        if !known.contains(&key.as_str()) && !value.is_null() {
            let shown: String = key.chars().take(64).collect();
            faults.push(
                Fault::new(shown, "there is no such key").help(format!("known are {}", known.join(", "))),
            );
        }
    }
}

/// A value cut for messages.
fn shown(value: &Value) -> String {
    format!("`{}`", value.to_string().chars().take(64).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Exclusions;

    fn faults(document: &Value) -> Vec<(String, String)> {
        let faults = Schedule::from_document(document).unwrap_err();
        faults.into_iter().map(|fault| (fault.field, fault.message)).collect()
    }

    #[test]
    fn every_schedule_survives_its_document() {
        let at = "2026-01-02T03:04:05.678Z".parse().unwrap();
        let exclude: Exclusions =
            serde_json::from_value(json!({"dates": ["2026-12-24"], "calendars": ["holidays"]})).unwrap();
        let schedules = [
            Schedule::every(Duration::from_millis(1500)).anchored_at(at),
            Schedule::new(Recurrence::Interval {
                every: Duration::from_mins(1),
                anchor: None,
                from_completion: true,
            }),
            Schedule::cron_in("0 3 * * *", "Europe/Berlin").starting(at).limit(3),
            Schedule::once(at).jitter(Duration::from_millis(1)),
            Schedule::manual().until(at).excluding(exclude),
        ];
        for schedule in schedules {
            assert_eq!(Schedule::from_document(&schedule.to_document()).unwrap(), schedule);
            let text = serde_json::to_string(&schedule).unwrap();
            assert_eq!(serde_json::from_str::<Schedule>(&text).unwrap(), schedule, "{text}");
        }
    }

    #[test]
    fn documents_of_the_existing_backend_are_read() {
        let document =
            json!({"type": "interval", "interval_seconds": 60, "expression": "", "timezone": "UTC"});
        assert_eq!(Schedule::from_document(&document).unwrap(), Schedule::every(Duration::from_mins(1)));
        let document =
            json!({"type": "cron", "interval_seconds": null, "expression": "0 3 * * *", "timezone": "UTC"});
        let Recurrence::Cron(cron) = Schedule::from_document(&document).unwrap().recurrence else { panic!() };
        assert_eq!(cron, Cron { dialect: Dialect::Croniter, ..Cron::new("0 3 * * *", "UTC") });
    }

    #[test]
    fn we_always_write_the_dialect() {
        assert_eq!(
            Schedule::cron("0 3 * * *").to_document(),
            json!({"type": "cron", "expression": "0 3 * * *", "timezone": "UTC", "dialect": "standard",
                "gap": "shift", "overlap": "first"})
        );
        assert_eq!(
            Schedule::every(Duration::from_mins(5)).to_document(),
            json!({"type": "interval", "interval_seconds": 300})
        );
    }

    #[test]
    fn all_faults_of_a_document_are_told_with_their_fields() {
        let document = json!({"type": "cron", "expression": 5, "gap": "jump", "start": "tomorrow", "limit": -1,
            "jitter_seconds": -2, "exclude": {"dates": ["2026-01-01", "2026-02-30"], "weekdays": ["SAT", 5], "windows": "night", "days": []}, "cron": "x", "nothing": null});
        let fields: Vec<String> = faults(&document).into_iter().map(|(field, _)| field).collect();
        assert_eq!(
            fields,
            [
                "cron",
                "expression",
                "gap",
                "start",
                "limit",
                "jitter_seconds",
                "exclude.days",
                "exclude.dates[1]",
                "exclude.weekdays[1]",
                "exclude.windows"
            ]
        );
        assert_eq!(faults(&json!({}))[0], ("type".into(), "the type is missing".into()));
        assert_eq!(faults(&json!({"type": "hourly"}))[0].1, "there is no type `\"hourly\"`");
        assert_eq!(faults(&json!([]))[0].0, "");
        assert_eq!(faults(&json!({"type": "interval"}))[0].0, "interval_seconds");
        assert_eq!(faults(&json!({"type": "once"}))[0].0, "at");
        assert_eq!(faults(&json!({"type": "cron"}))[0].0, "expression");
    }

    #[test]
    fn a_calendar_is_read_with_the_places_of_its_faults() {
        let good =
            json!({"name": "holidays", "dates": ["2026-12-24"], "weekdays": ["sunday"], "timezone": null});
        let calendar = Calendar::from_document(&good).unwrap();
        assert_eq!(serde_json::from_value::<Calendar>(json!(calendar)).unwrap(), calendar);
        let bad = json!({"name": 5, "windows": [{"from": "25:00", "to": "06:00"}], "color": "red"});
        let faults = Calendar::from_document(&bad).unwrap_err();
        let fields: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, ["color", "name", "windows[0]"]);
        assert!(faults[2].message.starts_with("`25:00` is not a time of the day"), "{}", faults[2].message);
    }

    #[test]
    fn seconds_may_have_three_decimals_and_no_more() {
        for (value, millis) in
            [(json!(0.1), 100), (json!(0.001), 1), (json!(300.25), 300_250), (json!(1e3), 1_000_000)]
        {
            let document = json!({"type": "interval", "interval_seconds": value});
            assert_eq!(
                Schedule::from_document(&document).unwrap(),
                Schedule::every(Duration::from_millis(millis))
            );
        }
        for value in [json!(-1), json!(0.0005), json!(1.00001), json!(1e300), json!("60"), json!(true)] {
            let document = json!({"type": "interval", "interval_seconds": value});
            assert_eq!(faults(&document)[0].0, "interval_seconds", "{value}");
        }
    }
}
