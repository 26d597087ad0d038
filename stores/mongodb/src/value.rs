//! JSON as BSON and back, and small readers of fields.

use bson::{Bson, DateTime, Document};
use serde_json::{Map, Value};
use unified_scheduler_core::Timestamp;

/// An instant as a date.
pub(crate) fn date(t: Timestamp) -> Bson {
    Bson::DateTime(DateTime::from_millis(t.as_millis()))
}

/// An instant as a date, or null.
pub(crate) fn date_or_null(t: Option<Timestamp>) -> Bson {
    t.map_or(Bson::Null, date)
}

/// A date as an instant.
pub(crate) fn time(value: Option<&Bson>) -> Option<Timestamp> {
    match value {
        Some(Bson::DateTime(t)) => Some(Timestamp::from_millis(t.timestamp_millis())),
        _ => None,
    }
}

/// A whole number, whatever its type.
pub(crate) fn int(value: Option<&Bson>) -> Option<i64> {
    match value? {
        Bson::Int32(n) => Some(i64::from(*n)),
        Bson::Int64(n) => Some(*n),
        // Up to 2^53 a double holds every whole number exactly.
        Bson::Double(n) if n.fract() == 0.0 && n.abs() < 9e15 => format!("{n:.0}").parse().ok(),
        _ => None,
    }
}

/// A count; nonsense is none.
pub(crate) fn count<T: TryFrom<i64> + Default>(value: Option<&Bson>) -> T {
    int(value).and_then(|n| T::try_from(n).ok()).unwrap_or_default()
}

/// A count as BSON.
pub(crate) fn n(count: impl TryInto<i64>) -> Bson {
    Bson::Int64(count.try_into().unwrap_or(i64::MAX))
}

/// A text, or null.
pub(crate) fn text_or_null(text: Option<&str>) -> Bson {
    text.map_or(Bson::Null, |text| Bson::String(text.to_owned()))
}

/// A text field.
pub(crate) fn text<'a>(doc: &'a Document, key: &str) -> Option<&'a str> {
    doc.get(key).and_then(Bson::as_str)
}

/// What a value of JSON may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Types {
    /// Only what every reader of JSON knows: text, numbers, flags, null, lists, objects.
    Plain,
    /// Also what extended JSON says: a `$date` becomes a date again, an `$oid` an `ObjectId`.
    Extended,
}

/// Objects and lists in one another, at most; the server takes 100 levels, the fields above included.
const DEPTH: usize = 60;

/// The value as BSON, and whether it comes back from there as it was.
pub(crate) fn to_bson(value: &Value, types: Types) -> (Bson, bool) {
    let mut exact = true;
    let bson = convert(value, types, DEPTH, &mut exact);
    (bson, exact)
}

/// An object as a document, with what extended JSON says in it.
pub(crate) fn to_document(map: &Map<String, Value>, types: Types) -> Document {
    let mut exact = true;
    map.iter().map(|(key, value)| (key.clone(), convert(value, types, DEPTH, &mut exact))).collect()
}

fn convert(value: &Value, types: Types, depth: usize, exact: &mut bool) -> Bson {
    match value {
        Value::Null => Bson::Null,
        Value::Bool(b) => Bson::Boolean(*b),
        Value::String(text) => Bson::String(text.clone()),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(n), _) => i32::try_from(n).map_or(Bson::Int64(n), Bson::Int32),
            (None, Some(f)) => {
                *exact &= number.is_f64();
                Bson::Double(f)
            }
            (None, None) => Bson::Null,
        },
        Value::Array(_) | Value::Object(_) if depth == 0 => {
            *exact = false;
            Bson::String(value.to_string())
        }
        Value::Array(list) => Bson::Array(list.iter().map(|v| convert(v, types, depth - 1, exact)).collect()),
        Value::Object(map) => {
            if types == Types::Extended
                && let Some(special) = special(map, value)
            {
                return special;
            }
            let fields = map.iter().map(|(key, value)| {
                let key = match types {
                    Types::Plain => plain_key(key, exact),
                    Types::Extended => key.replace('\0', "\u{fffd}"),
                };
                (key, convert(value, types, depth - 1, exact))
            });
            Bson::Document(fields.collect())
        }
    }
}

/// A key that servers of every version store and every reader can address.
fn plain_key(key: &str, exact: &mut bool) -> String {
    if key.starts_with('$') || key.contains(['.', '\0']) {
        *exact = false;
        return key.replace('$', "\u{ff04}").replace('.', "\u{ff0e}").replace('\0', "\u{fffd}");
    }
    key.to_owned()
}

fn special(map: &Map<String, Value>, value: &Value) -> Option<Bson> {
    let known =
        ["$date", "$oid", "$numberDecimal", "$numberLong", "$numberInt", "$numberDouble", "$binary", "$uuid"];
    let key = map.keys().next().filter(|_| map.len() == 1)?;
    let parsed = known.contains(&key.as_str()).then(|| Bson::try_from(value.clone()))?;
    parsed.ok().filter(|bson| !matches!(bson, Bson::Document(_)))
}

/// BSON as JSON: what JSON does not have as extended JSON.
pub(crate) fn to_json(value: &Bson) -> Value {
    match value {
        Bson::String(text) => Value::String(text.clone()),
        Bson::Document(doc) => Value::Object(to_map(doc)),
        Bson::Array(list) => Value::Array(list.iter().map(to_json).collect()),
        Bson::Double(f) if !f.is_finite() => Value::Null,
        other => other.clone().into_relaxed_extjson(),
    }
}

/// A document as an object.
pub(crate) fn to_map(doc: &Document) -> Map<String, Value> {
    doc.iter().map(|(key, value)| (key.clone(), to_json(value))).collect()
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo): small, and the same on every machine and in every version.
#[derive(Debug, Clone)]
pub(crate) struct Fingerprint(u64);

impl Default for Fingerprint {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fingerprint {
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// A field: its name, its type and its value. Whole numbers of every type are the same.
    pub(crate) fn field(&mut self, key: &str, value: &Bson) {
        self.bytes(key.as_bytes());
        if let Some(n) = int(Some(value)) {
            self.bytes(&[0x12]);
            self.bytes(&n.to_le_bytes());
            return;
        }
        self.bytes(&[0, value.element_type() as u8]);
        match value {
            Bson::String(text) => self.bytes(text.as_bytes()),
            Bson::Boolean(b) => self.bytes(&[u8::from(*b)]),
            Bson::Double(f) => self.bytes(&f.to_le_bytes()),
            Bson::DateTime(t) => self.bytes(&t.timestamp_millis().to_le_bytes()),
            Bson::ObjectId(oid) => self.bytes(&oid.bytes()),
            Bson::Document(doc) => doc.iter().for_each(|(key, value)| self.field(key, value)),
            Bson::Array(list) => list.iter().for_each(|value| self.field("", value)),
            Bson::Null => {}
            other => self.bytes(other.to_string().as_bytes()),
        }
        self.bytes(&[0xff]);
    }

    pub(crate) fn finish(&self) -> i64 {
        self.0.cast_signed()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_comes_back_from_bson_or_is_known_not_to() {
        let value = json!({"a": [1, 2.5, -3.0, null, true, "x"], "b": {"c": 5_000_000_000_i64}});
        let (bson, exact) = to_bson(&value, Types::Plain);
        assert!(exact);
        assert_eq!(to_json(&bson), value);
        for odd in [json!({"$oid": "x"}), json!({"a.b": 1}), json!(u64::MAX)] {
            assert!(!to_bson(&odd, Types::Plain).1, "{odd}");
        }
    }

    #[test]
    fn extended_json_keeps_the_types_it_names_and_operators_stay_operators() {
        let value = json!({"at": {"$lt": {"$date": "2026-01-02T03:04:05.678Z"}}, "id": {"$oid": "64b0c0ffee64b0c0ffee64b0"}});
        let (bson, _) = to_bson(&value, Types::Extended);
        let doc = bson.as_document().unwrap();
        assert!(matches!(doc.get_document("at").unwrap().get("$lt"), Some(Bson::DateTime(_))));
        assert!(matches!(doc.get("id"), Some(Bson::ObjectId(_))));
        assert_eq!(to_json(&bson), value);
    }

    #[test]
    fn a_fingerprint_tells_values_and_types_but_not_the_width_of_numbers() {
        let of = |value: Bson| {
            let mut print = Fingerprint::default();
            print.field("a", &value);
            print.finish()
        };
        assert_eq!(of(Bson::Int32(5)), of(Bson::Double(5.0)));
        assert_ne!(of(Bson::Int32(5)), of(Bson::String("5".into())));
        assert_ne!(of(Bson::Null), of(Bson::Boolean(false)));
    }
}
