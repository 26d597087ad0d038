//! Reading the fields of one object of a document: every fault is kept, with the path of its field.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, NaiveDateTime};
use serde_json::{Map, Number, Value};

use crate::error::Fault;
use crate::seconds;
use crate::time::Timestamp;

/// One object being read. What is wrong gathers in `faults`, what should only be seen in `warnings`.
pub(super) struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: String,
    taken: BTreeSet<&'a str>,
    pub(super) faults: Vec<Fault>,
    pub(super) warnings: Vec<String>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(map: &'a Map<String, Value>, path: impl Into<String>) -> Self {
        Self { map, path: path.into(), taken: BTreeSet::new(), faults: Vec::new(), warnings: Vec::new() }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.map.get(name).is_some_and(|v| !v.is_null())
    }

    /// The first of `names` that is there and not null, with the name it stands under. All of them
    /// count as known from now on.
    pub(super) fn take(&mut self, names: &[&str]) -> Option<(&'a str, &'a Value)> {
        let mut found = None;
        for name in names {
            if let Some((key, value)) = self.map.get_key_value(*name) {
                self.taken.insert(key);
                if found.is_none() && !value.is_null() {
                    found = Some((key.as_str(), value));
                }
            }
        }
        found
    }

    /// The path of one of the object's fields.
    pub(super) fn path_of(&self, name: &str) -> String {
        match (self.path.is_empty(), name.is_empty()) {
            (true, _) => name.to_owned(),
            (_, true) => self.path.clone(),
            _ => format!("{}.{name}", self.path),
        }
    }

    pub(super) fn fault(&mut self, name: &str, message: impl Into<String>, help: &str) {
        self.faults.push(Fault::new(self.path_of(name), message).help(help));
    }

    /// One field, as `read` understands it; a fault that says what was expected where it does not.
    pub(super) fn get<T>(
        &mut self,
        names: &[&str],
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Option<T> {
        let (name, value) = self.take(names)?;
        let found = read(value);
        if found.is_none() {
            self.fault(name, format!("is {}", shown(value)), &format!("give {expected}"));
        }
        found
    }

    pub(super) fn text(&mut self, names: &[&str]) -> Option<String> {
        self.get(names, "a text", |v| v.as_str().map(str::to_owned))
    }

    pub(super) fn flag(&mut self, names: &[&str]) -> Option<bool> {
        self.get(names, "true or false", Value::as_bool)
    }

    pub(super) fn integer<T: TryFrom<i64>>(&mut self, names: &[&str], expected: &str) -> Option<T> {
        self.get(names, expected, |v| integer(v).and_then(|n| T::try_from(n).ok()))
    }

    pub(super) fn seconds(&mut self, names: &[&str]) -> Option<Duration> {
        self.get(names, "a number of seconds, from 0 to 10 years", |v| {
            v.as_f64().and_then(seconds::from_number)
        })
    }

    /// A list of texts; a single text is a list of one.
    pub(super) fn texts(&mut self, names: &[&str]) -> Option<Vec<String>> {
        self.get(names, "a list of texts", texts)
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&mut self, names: &[&str], choices: &[(&str, T)]) -> Option<T> {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        self.get(names, &format!("one of {}", words.join(", ")), |v| {
            let word = v.as_str()?;
            choices.iter().find(|(known, _)| *known == word).map(|(_, choice)| *choice)
        })
    }

    pub(super) fn object(&mut self, names: &[&str]) -> Option<(&'a str, &'a Map<String, Value>)> {
        let (name, value) = self.take(names)?;
        let Value::Object(map) = value else {
            self.fault(name, format!("is {}", shown(value)), "give an object");
            return None;
        };
        Some((name, map))
    }

    /// A field that only tells what was. Where it can't be read there is a warning and no fault: it is to
    /// keep no job from running.
    pub(super) fn told<T>(
        &mut self,
        names: &[&str],
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Option<T> {
        let (name, value) = self.take(names)?;
        let found = read(value);
        if found.is_none() {
            let path = self.path_of(name);
            self.warnings.push(format!("{path}: {} is not {expected}, and is left out", shown(value)));
        }
        found
    }

    pub(super) fn instant(&mut self, names: &[&str]) -> Option<Timestamp> {
        self.told(names, "an instant", instant)
    }

    /// The fields that nobody asked for.
    pub(super) fn unknown(&self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.map.iter().filter(|(name, _)| !self.taken.contains(name.as_str()))
    }

    /// Makes a fault of every field that nobody asked for.
    pub(super) fn refuse_unknown(&mut self, known: &str) {
        let unknown: Vec<&String> = self.unknown().map(|(name, _)| name).collect();
        for name in unknown {
            self.fault(name, "is not a field of this object", &format!("there are {known}"));
        }
    }

    /// Takes over what was found in an object inside this one.
    pub(super) fn absorb(&mut self, child: Fields<'_>) {
        self.faults.extend(child.faults);
        self.warnings.extend(child.warnings);
    }
}

/// A value as a message shows it, cut short; never more than its beginning, since it may be anything.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) if text.chars().count() <= 40 => format!("`{text}`"),
        Value::String(text) => format!("`{}…`", text.chars().take(40).collect::<String>()),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// A whole number, also where a program that knows only doubles wrote it.
pub(super) fn integer(value: &Value) -> Option<i64> {
    if let Some(n) = value.as_i64() {
        return Some(n);
    }
    let n = value.as_f64()?;
    // Up to 2^53 an f64 holds every whole number exactly.
    if n.fract() != 0.0 || n.abs() > 9_007_199_254_740_992.0 {
        return None;
    }
    format!("{n:.0}").parse().ok()
}

fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(list) => list.iter().map(|v| v.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

/// An instant: RFC 3339, ISO 8601 without an offset (UTC: the older programs wrote no other),
/// milliseconds since the epoch, or the `$date` of extended JSON around any of them.
pub(super) fn instant(value: &Value) -> Option<Timestamp> {
    match value {
        Value::Object(map) if map.len() == 1 => instant(map.get("$date")?),
        Value::String(text) => text.parse().ok().or_else(|| iso8601(text)),
        _ => integer(value).map(Timestamp::from_millis),
    }
}

fn iso8601(text: &str) -> Option<Timestamp> {
    let naive = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"];
    naive
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
        .map(|t| t.and_utc())
        .or_else(|| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%z").ok().map(|t| t.to_utc()))
        .map(Timestamp::from)
}

/// An id: a text, the `$oid` of extended JSON, or a whole number.
pub(super) fn id(value: &Value) -> Option<String> {
    let text = match value {
        Value::Object(map) if map.len() == 1 => map.get("$oid")?.as_str()?.to_owned(),
        Value::String(text) => text.clone(),
        _ => integer(value)?.to_string(),
    };
    let fits = !text.is_empty() && text.len() <= 200 && !text.chars().any(char::is_control);
    fits.then_some(text)
}

/// The same value, the numbers of MongoDB's extended JSON (v2, canonical mode) as plain numbers. Dates
/// and object ids stay as they are: where a template's filters hold them, the form is what they mean.
pub(super) fn with_plain_numbers(value: &Value) -> Value {
    match value {
        Value::Object(map) => plain_number(map).map_or_else(
            || Value::Object(map.iter().map(|(k, v)| (k.clone(), with_plain_numbers(v))).collect()),
            Value::Number,
        ),
        Value::Array(list) => Value::Array(list.iter().map(with_plain_numbers).collect()),
        _ => value.clone(),
    }
}

fn plain_number(map: &Map<String, Value>) -> Option<Number> {
    if map.len() != 1 {
        return None;
    }
    let (kind, value) = map.iter().next()?;
    let text = value.as_str()?;
    match kind.as_str() {
        "$numberInt" | "$numberLong" => text.parse::<i64>().ok().map(Number::from),
        "$numberDouble" => text.parse::<f64>().ok().and_then(Number::from_f64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_instant_is_read_in_every_form_that_was_ever_written() {
        let t = Timestamp::from_millis(1_767_323_045_678);
        for form in [
            json!("2026-01-02T03:04:05.678Z"),
            json!("2026-01-02T05:04:05.678+02:00"),
            json!("2026-01-02T03:04:05.678+0000"),
            json!("2026-01-02T03:04:05.678000"),
            json!("2026-01-02 03:04:05.678"),
            json!(1_767_323_045_678_i64),
            json!(1_767_323_045_678.0),
            json!({"$date": "2026-01-02T03:04:05.678Z"}),
            json!({"$date": 1_767_323_045_678_i64}),
            with_plain_numbers(&json!({"$date": {"$numberLong": "1767323045678"}})),
        ] {
            assert_eq!(instant(&form), Some(t), "{form}");
        }
        for form in [json!("yesterday"), json!({}), json!({"date": 1}), json!([1]), json!(true)] {
            assert_eq!(instant(&form), None, "{form}");
        }
    }

    #[test]
    fn only_what_is_exactly_a_number_of_extended_json_becomes_one() {
        let value = json!({
            "a": [{"$numberInt": "1"}, {"$numberLong": "2"}, {"$numberDouble": "1.5"}],
            "nan": {"$numberDouble": "NaN"}, "two": {"$numberInt": "1", "x": 1}, "when": {"$date": "x"},
        });
        let plain = with_plain_numbers(&value);
        assert_eq!(plain["a"], json!([1, 2, 1.5]));
        for kept in ["nan", "two", "when"] {
            assert_eq!(plain[kept], value[kept]);
        }
    }

    #[test]
    fn an_id_is_short_and_printable() {
        assert_eq!(id(&json!({"$oid": "64b0c0ffee"})).as_deref(), Some("64b0c0ffee"));
        assert_eq!(id(&json!(7)).as_deref(), Some("7"));
        for bad in [json!(""), json!("a\nb"), json!("x".repeat(201)), json!({"$oid": 1}), json!(null)] {
            assert_eq!(id(&bad), None, "{bad}");
        }
    }
}
