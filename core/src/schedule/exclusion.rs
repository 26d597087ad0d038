//! What keeps an occurrence from running: dates, weekdays and windows of the day, and the shared
//! calendars that hold such lists under a name.
//!
//! Exclusions never move a due time; they only say that it is left out, and why.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, de::Error as _};

use super::civil::{DAY, date_of, day_of};
use super::zone::Zone;
use crate::error::Fault;
use crate::time::Timestamp;

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Weekday {
    Sunday,
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
}

impl Weekday {
    /// Sunday to Saturday.
    pub const ALL: [Weekday; 7] = [
        Self::Sunday,
        Self::Monday,
        Self::Tuesday,
        Self::Wednesday,
        Self::Thursday,
        Self::Friday,
        Self::Saturday,
    ];

    /// Its name in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sunday => "sunday",
            Self::Monday => "monday",
            Self::Tuesday => "tuesday",
            Self::Wednesday => "wednesday",
            Self::Thursday => "thursday",
            Self::Friday => "friday",
            Self::Saturday => "saturday",
        }
    }
}

impl fmt::Display for Weekday {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Weekday {
    type Err = Fault;

    /// A name, full or three letters, in any case.
    fn from_str(text: &str) -> Result<Self, Fault> {
        let lower = text.to_ascii_lowercase();
        Self::ALL
            .into_iter()
            .find(|day| day.as_str() == lower || day.as_str()[..3] == *lower)
            .ok_or_else(|| bad(text, "a weekday", "use a name such as `saturday`"))
    }
}

/// One day or several in a row, both ends included: `2026-12-24` or `2026-12-24/2026-12-31`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DateRange {
    /// Days since 1970-01-01.
    first: i64,
    last: i64,
}

impl FromStr for DateRange {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let (first, last) = text.split_once('/').unwrap_or((text, text));
        let help = "write `2026-12-24` or `2026-12-24/2026-12-31`";
        let read = |part| date(part).ok_or_else(|| bad(text, "a date or a range of dates", help));
        let range = Self { first: read(first)?, last: read(last)? };
        if range.last < range.first {
            return Err(Fault::new("", format!("the range `{text}` ends before it begins")));
        }
        Ok(range)
    }
}

impl fmt::Display for DateRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, date) = date_of(self.first);
        write!(f, "{year:04}-{month:02}-{date:02}")?;
        if self.last > self.first {
            let (year, month, date) = date_of(self.last);
            write!(f, "/{year:04}-{month:02}-{date:02}")?;
        }
        Ok(())
    }
}

/// A time of the day, to the second: `22:00` or `22:00:30`; `24:00` is the end of the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeOfDay(i64);

impl FromStr for TimeOfDay {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        time(text)
            .map(Self)
            .ok_or_else(|| bad(text, "a time of the day", "write it as `22:00` or `22:00:30`"))
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 3600, self.0 / 60 % 60)?;
        if self.0 % 60 != 0 {
            write!(f, ":{:02}", self.0 % 60)?;
        }
        Ok(())
    }
}

/// Part of each day, from `from` until just before `to`; it may run past midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Its first second.
    pub from: TimeOfDay,
    /// The first second that is no longer in it.
    pub to: TimeOfDay,
}

impl Window {
    fn contains(self, second: i64) -> bool {
        if self.from < self.to {
            (self.from.0..self.to.0).contains(&second)
        } else {
            second >= self.from.0 || second < self.to.0
        }
    }
}

/// Text forms in JSON.
macro_rules! as_text {
    ($($name:ty),*) => {$(
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(|fault: Fault| D::Error::custom(fault))
            }
        }
    )*};
}
as_text!(DateRange, TimeOfDay, Weekday);

/// When a schedule's occurrences are left out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Exclusions {
    /// Local dates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dates: Vec<DateRange>,
    /// Local weekdays.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub weekdays: Vec<Weekday>,
    /// Parts of each local day.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Window>,
    /// The zone of the above; without one, that of the schedule, else UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// Names of shared calendars.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calendars: Vec<String>,
}

impl Exclusions {
    /// Whether nothing is excluded.
    pub fn is_empty(&self) -> bool {
        self.dates.is_empty()
            && self.weekdays.is_empty()
            && self.windows.is_empty()
            && self.calendars.is_empty()
    }

    pub(super) fn compile(&self) -> Result<CompiledExclusions, Vec<Fault>> {
        let list = Listed { dates: &self.dates, weekdays: &self.weekdays, windows: &self.windows };
        list.compile(self.timezone.as_deref())
    }
}

/// A named list of exclusions that schedules share.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Calendar {
    /// The name that schedules call it by.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Local dates.
    pub dates: Vec<DateRange>,
    /// Local weekdays.
    pub weekdays: Vec<Weekday>,
    /// Parts of each local day.
    pub windows: Vec<Window>,
    /// The zone of the above; without one, that of each schedule, else UTC.
    pub timezone: Option<String>,
}

impl Calendar {
    /// What is wrong with it; empty when it can be stored.
    pub fn faults(&self) -> Vec<Fault> {
        self.compile().err().unwrap_or_default()
    }

    fn compile(&self) -> Result<CompiledExclusions, Vec<Fault>> {
        let list = Listed { dates: &self.dates, weekdays: &self.weekdays, windows: &self.windows };
        let compiled = list.compile(self.timezone.as_deref());
        if !self.name.trim().is_empty() {
            return compiled;
        }
        let mut faults = vec![Fault::new("name", "the calendar has no name")];
        faults.extend(compiled.err().unwrap_or_default());
        Err(faults)
    }
}

/// Compiled calendars by name.
#[derive(Debug, Clone, Default)]
pub struct Calendars(HashMap<String, CompiledExclusions>);

impl Calendars {
    /// No calendars.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a calendar, or replaces the one of that name.
    ///
    /// # Errors
    ///
    /// What is wrong with the calendar, which is then not added.
    pub fn insert(&mut self, calendar: &Calendar) -> Result<(), Vec<Fault>> {
        self.0.insert(calendar.name.clone(), calendar.compile()?);
        Ok(())
    }

    /// Removes the calendar of that name; whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        self.0.remove(name).is_some()
    }

    /// Whether there is a calendar of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn excludes(&self, name: &str, t: Timestamp, zone: &Zone) -> bool {
        self.0.get(name).is_some_and(|calendar| calendar.reason(t, zone).is_some())
    }
}

struct Listed<'a> {
    dates: &'a [DateRange],
    weekdays: &'a [Weekday],
    windows: &'a [Window],
}

impl Listed<'_> {
    fn compile(&self, timezone: Option<&str>) -> Result<CompiledExclusions, Vec<Fault>> {
        let mut faults = Vec::new();
        for (i, window) in self.windows.iter().enumerate() {
            if window.from == window.to {
                let field = format!("windows[{i}]");
                let help = "write `00:00` to `24:00` for the whole day";
                faults.push(Fault::new(field, "the window begins when it ends").help(help));
            }
        }
        if Weekday::ALL.iter().all(|day| self.weekdays.contains(day)) {
            faults.push(Fault::new("weekdays", "every weekday is excluded").help("disable the job instead"));
        }
        let zone = timezone.map(|name| Zone::find(name, "timezone")).transpose();
        let zone = zone.map_err(|fault| faults.push(fault)).unwrap_or_default();
        if !faults.is_empty() {
            return Err(faults);
        }
        let (weekdays, windows) = (self.weekdays.to_vec(), self.windows.to_vec());
        Ok(CompiledExclusions { dates: merged(self.dates), weekdays, windows, zone })
    }
}

/// Ranges sorted, those that meet made one, so that one look finds the only one that may hold a day.
fn merged(ranges: &[DateRange]) -> Vec<DateRange> {
    let mut sorted = ranges.to_vec();
    sorted.sort_by_key(|range| range.first);
    let mut merged: Vec<DateRange> = Vec::new();
    for range in sorted {
        match merged.last_mut() {
            Some(last) if range.first <= last.last + 1 => last.last = last.last.max(range.last),
            _ => merged.push(range),
        }
    }
    merged
}

/// Exclusions ready to be asked.
#[derive(Debug, Clone)]
pub(super) struct CompiledExclusions {
    dates: Vec<DateRange>,
    weekdays: Vec<Weekday>,
    windows: Vec<Window>,
    zone: Option<Zone>,
}

impl CompiledExclusions {
    pub(super) fn zone(&self) -> Option<&Zone> {
        self.zone.as_ref()
    }

    /// Why `t` is left out, if it is; `zone` holds when there is none of its own.
    pub(super) fn reason(&self, t: Timestamp, zone: &Zone) -> Option<String> {
        if self.dates.is_empty() && self.weekdays.is_empty() && self.windows.is_empty() {
            return None;
        }
        let second = t.as_millis().div_euclid(1000);
        let local = second + self.zone.as_ref().unwrap_or(zone).offset_at(second);
        let (day, time) = (local.div_euclid(DAY), local.rem_euclid(DAY));
        let i = self.dates.partition_point(|range| range.last < day);
        if let Some(range) = self.dates.get(i).filter(|range| range.first <= day) {
            return Some(format!("date {range}"));
        }
        // 1970-01-01 was a Thursday.
        let weekday = (day + 4).rem_euclid(7);
        let weekday = Weekday::ALL.into_iter().zip(0i64..).find(|(_, n)| *n == weekday).map(|(day, _)| day);
        if let Some(weekday) = weekday.filter(|day| self.weekdays.contains(day)) {
            return Some(format!("weekday {weekday}"));
        }
        let window = self.windows.iter().find(|window| window.contains(time))?;
        Some(format!("window {} to {}", window.from, window.to))
    }
}

fn bad(text: &str, what: &str, help: &str) -> Fault {
    let shown: String = text.chars().take(64).collect();
    Fault::new("", format!("`{shown}` is not {what}")).help(help)
}

/// Days since 1970-01-01 of `YYYY-MM-DD`.
fn date(text: &str) -> Option<i64> {
    let shape = text.bytes().map(|b| if b.is_ascii_digit() { b'0' } else { b }).eq(*b"0000-00-00");
    let part = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    if !shape {
        return None;
    }
    let (year, month, date) = (part(0..4)?, part(5..7)?, part(8..10)?);
    let day = day_of(year, month, date);
    ((1..=12).contains(&month) && year > 0 && date_of(day) == (year, month, date)).then_some(day)
}

/// Seconds of the day of `HH:MM` or `HH:MM:SS`.
fn time(text: &str) -> Option<i64> {
    let part = |text: &str| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<i64>().ok().filter(|_| digits)
    };
    let mut parts = text.split(':');
    let (hour, minute) = (part(parts.next()?)?, part(parts.next()?)?);
    let second = parts.next().map_or(Some(0), part)?;
    let time = hour * 3600 + minute * 60 + second;
    (parts.next().is_none() && minute < 60 && second < 60 && time <= DAY).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn reason(json: &str, t: &str) -> Option<String> {
        let exclusions: Exclusions = serde_json::from_str(json).unwrap();
        exclusions.compile().unwrap().reason(at(t), &Zone::utc())
    }

    #[test]
    fn dates_and_ranges_of_dates_are_left_out_with_both_ends() {
        let json = r#"{"dates": ["2026-12-24/2026-12-26", "2026-12-26/2026-12-31", "2026-02-01"]}"#;
        assert_eq!(reason(json, "2026-12-23T23:59:59Z"), None);
        assert_eq!(reason(json, "2026-12-24T00:00:00Z").unwrap(), "date 2026-12-24/2026-12-31");
        assert_eq!(reason(json, "2026-12-31T23:59:59.999Z").unwrap(), "date 2026-12-24/2026-12-31");
        assert_eq!(reason(json, "2027-01-01T00:00:00Z"), None);
        assert_eq!(reason(json, "2026-02-01T12:00:00Z").unwrap(), "date 2026-02-01");
    }

    #[test]
    fn exclusions_hold_in_their_zone() {
        let json = r#"{"weekdays": ["saturday"], "timezone": "Asia/Tokyo"}"#;
        assert_eq!(reason(json, "2026-01-02T15:00:00Z").unwrap(), "weekday saturday");
        assert_eq!(reason(json, "2026-01-03T15:00:00Z"), None);
    }

    #[test]
    fn a_window_may_run_past_midnight() {
        let json = r#"{"windows": [{"from": "22:00", "to": "06:00"}, {"from": "12:00", "to": "12:00:30"}]}"#;
        for (time, out) in [
            ("21:59:59", false),
            ("22:00:00", true),
            ("00:00:00", true),
            ("05:59:59", true),
            ("06:00:00", false),
        ] {
            assert_eq!(reason(json, &format!("2026-01-02T{time}Z")).is_some(), out, "{time}");
        }
        assert_eq!(reason(json, "2026-01-02T12:00:29Z").unwrap(), "window 12:00 to 12:00:30");
        assert_eq!(reason(json, "2026-01-02T12:00:30Z"), None);
    }

    #[test]
    fn what_is_no_date_time_or_weekday_is_refused() {
        for text in [
            "2026-02-29",
            "2026-13-01",
            "2026-1-01",
            "26-01-01",
            "2026-01-02/2026-01-01",
            "",
            "/",
            "2026-01-0é",
        ] {
            assert!(text.parse::<DateRange>().is_err(), "{text}");
        }
        for text in ["24:01", "7:00", "12:60", "12", "12:00:60", "12:00:00:00", "+1:00"] {
            assert!(text.parse::<TimeOfDay>().is_err(), "{text}");
        }
        assert_eq!("24:00".parse::<TimeOfDay>().unwrap().to_string(), "24:00");
        assert_eq!("SAT".parse::<Weekday>().unwrap(), Weekday::Saturday);
        assert!("someday".parse::<Weekday>().is_err());
    }

    #[test]
    fn a_calendar_is_checked_before_it_is_added() {
        let mut calendar = Calendar { timezone: Some("Europe/Berln".into()), ..Calendar::default() };
        calendar.windows.push(Window { from: "08:00".parse().unwrap(), to: "08:00".parse().unwrap() });
        let faults = calendar.faults();
        let fields: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, ["name", "windows[0]", "timezone"]);
        assert_eq!(faults[2].help, "did you mean `Europe/Berlin`?");
        let mut calendars = Calendars::new();
        assert!(calendars.insert(&calendar).is_err() && !calendars.contains(""));
    }

    #[test]
    fn a_calendar_survives_json() {
        let json = r#"{"name": "holidays", "description": "closed", "dates": ["2026-12-24/2026-12-31"],
            "weekdays": ["sunday"], "windows": [{"from": "22:00", "to": "06:00"}], "timezone": null}"#;
        let calendar: Calendar = serde_json::from_str(json).unwrap();
        let again: Calendar = serde_json::from_str(&serde_json::to_string(&calendar).unwrap()).unwrap();
        assert_eq!(calendar, again);
    }
}
