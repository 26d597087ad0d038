//! Values as people type them: durations (`1h30m`), instants, parameters (`k=v`).

use std::time::Duration;

use chrono::{Local, LocalResult, NaiveDate, NaiveDateTime, TimeZone as _};
use serde_json::{Map, Value};
use unified_scheduler::Timestamp;

use crate::exit::Failure;

const UNITS: [(&str, u64); 6] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];

/// Reads `90s`, `5m`, `1h30m`, `250ms`, `1.5s`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let help = "write it as 250ms, 90s, 5m, 1h30m or 2d";
    let text = text.trim();
    if text.starts_with('-') {
        return Err(format!("`{text}` is negative; {help}"));
    }
    let mut rest = text;
    let mut millis = 0_u64;
    if text.is_empty() {
        return Err(format!("it is empty; {help}"));
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        let unit = unit.trim();
        if number.is_empty() {
            return Err(format!("`{text}` is not a duration; {help}"));
        }
        if unit.is_empty() {
            return Err(format!("`{text}` has a number without a unit; {help}"));
        }
        let Some((_, size)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(format!("`{unit}` is no unit of time; there are ms, s, m, h, d and w"));
        };
        let part = parts(number, *size).ok_or_else(|| {
            format!("`{number}{unit}` is not a whole number of milliseconds, or too long; {help}")
        })?;
        millis = millis.checked_add(part).ok_or_else(|| format!("`{text}` is too long"))?;
        rest = next.trim_start();
    }
    Ok(Duration::from_millis(millis))
}

/// A decimal number of units in milliseconds, exactly.
fn parts(number: &str, size: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    if fraction.is_empty() {
        return whole.checked_mul(size).filter(|_| !number.ends_with('.'));
    }
    let scale = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let millis = fraction.parse::<u64>().ok()?.checked_mul(size)?;
    whole.checked_mul(size)?.checked_add(millis / scale).filter(|_| millis % scale == 0)
}

/// An instant that may be counted from now, which only the store knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    At(Timestamp),
    In(Duration),
    Ago(Duration),
}

impl When {
    pub(crate) fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(t) => t,
            Self::In(duration) => now.saturating_add(duration),
            Self::Ago(duration) => now.saturating_sub(duration),
        }
    }
}

/// Reads `2026-01-02T03:04:05Z`, `2026-01-02 03:04` (local time), `2026-01-02`, `now`, `+5m`, `-1h`.
pub(crate) fn when(text: &str) -> Result<When, String> {
    let text = text.trim();
    if text == "now" {
        return Ok(When::In(Duration::ZERO));
    }
    if let Some(rest) = text.strip_prefix('+') {
        return duration(rest).map(When::In);
    }
    if let Some(rest) = text.strip_prefix('-') {
        return duration(rest).map(When::Ago);
    }
    // `chrono` wants seconds in RFC 3339; people leave them out.
    if let Ok(t) = text.replacen(' ', "T", 1).parse::<Timestamp>() {
        return Ok(When::At(t));
    }
    for format in ["%Y-%m-%dT%H:%M%:z", "%Y-%m-%d %H:%M%:z"] {
        if let Ok(t) = chrono::DateTime::parse_from_str(&text.replace('Z', "+00:00"), format) {
            return Ok(When::At(t.to_utc().into()));
        }
    }
    local(text).ok_or_else(|| {
        format!(
            "`{text}` is not an instant; write it as 2026-01-02T03:04:05Z, as 2026-01-02T03:04 (local time), \
             or from now as +5m"
        )
    })?
}

/// Local time, where that is one instant.
fn local(text: &str) -> Option<Result<When, String>> {
    let forms = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];
    let civil =
        forms.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok()).or_else(|| {
            NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().and_then(|date| date.and_hms_opt(0, 0, 0))
        })?;
    Some(match Local.from_local_datetime(&civil) {
        LocalResult::Single(t) => Ok(When::At(t.to_utc().into())),
        LocalResult::Ambiguous(a, b) => {
            Err(format!("the clock shows `{text}` twice; write {} or {}", a.to_rfc3339(), b.to_rfc3339()))
        }
        LocalResult::None => Err(format!("the clock never shows `{text}`; write it with an offset")),
    })
}

/// Parameters from `--parameters` (JSON, or `@FILE`) and from `--param k=v`, which win. A value that is
/// JSON is taken as such; else it is text.
pub(crate) fn parameters(
    whole: Option<&str>,
    single: &[String],
) -> Result<Option<Map<String, Value>>, Failure> {
    if whole.is_none() && single.is_empty() {
        return Ok(None);
    }
    let mut map = Map::new();
    if let Some(text) = whole {
        let text = match text.strip_prefix('@') {
            Some(path) => crate::import::read_text(path)?,
            None => text.to_owned(),
        };
        map = serde_json::from_str(&text)
            .map_err(|e| Failure::input(format!("--parameters is not a JSON object: {e}")))?;
    }
    for pair in single {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| Failure::input(format!("--param `{pair}` has no `=`; write name=value")))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
        map.insert(key.trim().to_owned(), value);
    }
    Ok(Some(map))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, millis) in [
            ("250ms", 250),
            ("90s", 90_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1.5s", 1500),
            ("0s", 0),
            ("2d", 172_800_000),
            ("1h 5m", 3_900_000),
            (".5s", 500),
        ] {
            assert_eq!(duration(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
        for text in ["", "5", "m", "5x", "-5m", "1.0001s", "5.s", "99999999999999999999s", "999999999999w"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn instants_are_read_with_and_without_an_offset() {
        let t: Timestamp = "2026-01-02T03:04:00Z".parse().unwrap();
        for text in
            ["2026-01-02T03:04:00Z", "2026-01-02 03:04:00Z", "2026-01-02T03:04Z", "2026-01-02 04:04+01:00"]
        {
            assert_eq!(when(text).unwrap(), When::At(t), "{text}");
        }
        assert_eq!(when("+5m").unwrap().resolve(t).to_string(), "2026-01-02T03:09:00.000Z");
        assert_eq!(when("-1h").unwrap().resolve(t).to_string(), "2026-01-02T02:04:00.000Z");
        assert!(matches!(when("2026-01-02").unwrap(), When::At(_)));
        assert!(when("tomorrow").is_err() && when("2026-13-01T00:00:00Z").is_err());
    }

    #[test]
    fn a_parameter_is_json_where_it_reads_as_such() {
        let map = parameters(
            Some(r#"{"a": 1, "b": 2}"#),
            &["b=3".into(), "c=x y".into(), "d=[1]".into(), "e=a=b".into()],
        );
        assert_eq!(
            Value::Object(map.unwrap().unwrap()),
            json!({"a": 1, "b": 3, "c": "x y", "d": [1], "e": "a=b"})
        );
        assert!(parameters(Some("[]"), &[]).is_err() && parameters(None, &["a".into()]).is_err());
    }
}
