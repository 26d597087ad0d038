//! Instants: UTC, in whole milliseconds.
//!
//! A due time is half of the key of an occurrence, so it must come back from every store exactly as
//! it went in. Milliseconds are what the coarsest of them (BSON dates) keep.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};

/// A UTC instant in whole milliseconds since 1970-01-01T00:00:00Z.
///
/// Written in JSON as RFC 3339 with three decimals (`2026-01-02T03:04:05.678Z`); read from that, from
/// any other RFC 3339 text with an offset, or from an integer of milliseconds.
///
/// ```
/// use unified_scheduler_core::Timestamp;
///
/// let t: Timestamp = "2026-01-02T03:04:05.678Z".parse()?;
/// assert_eq!(t.as_millis(), 1_767_323_045_678);
/// assert_eq!(t.to_string(), "2026-01-02T03:04:05.678Z");
/// # Ok::<(), unified_scheduler_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Timestamp = Timestamp(0);
    /// The last instant that a schedule may name: the end of the year 9999, in UTC.
    pub const MAX: Timestamp = Timestamp(253_402_300_799_999);
    /// The first instant that a schedule may name: the start of the year 1.
    pub const MIN: Timestamp = Timestamp(-62_135_596_800_000);

    /// From milliseconds since the epoch; values outside [`Self::MIN`]..=[`Self::MAX`] are clamped.
    pub const fn from_millis(millis: i64) -> Self {
        if millis > Self::MAX.0 {
            Self::MAX
        } else if millis < Self::MIN.0 {
            Self::MIN
        } else {
            Self(millis)
        }
    }

    /// From whole seconds since the epoch, clamped like [`Self::from_millis`].
    pub const fn from_secs(secs: i64) -> Self {
        Self::from_millis(secs.saturating_mul(1000))
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// This instant plus `duration`, which is cut to whole milliseconds; ends at [`Self::MAX`].
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.0.saturating_add(millis))
    }

    /// This instant minus `duration`, which is cut to whole milliseconds; ends at [`Self::MIN`].
    #[must_use]
    pub fn saturating_sub(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.0.saturating_sub(millis))
    }

    /// How long after `earlier` this is; zero when it is not after.
    pub fn since(self, earlier: Timestamp) -> Duration {
        u64::try_from(self.0.saturating_sub(earlier.0)).map_or(Duration::ZERO, Duration::from_millis)
    }

    /// As a `chrono` instant.
    pub fn to_datetime(self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.0).unwrap_or(DateTime::UNIX_EPOCH)
    }
}

impl From<DateTime<Utc>> for Timestamp {
    /// Cuts to whole milliseconds, towards the past.
    fn from(value: DateTime<Utc>) -> Self {
        Self::from_millis(value.timestamp_millis())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_datetime().to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl FromStr for Timestamp {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        DateTime::parse_from_rfc3339(text).map(|t| Self::from(t.with_timezone(&Utc))).map_err(|e| {
            Error::invalid(format!(
                "`{text}` is not an instant with an offset, such as 2026-01-02T03:04:05Z: {e}"
            ))
        })
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Millis(i64),
            Text(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Millis(millis) => Ok(Self::from_millis(millis)),
            Form::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_survives_json_to_the_millisecond() {
        let t = Timestamp::from_millis(1_767_323_045_678);
        let text = serde_json::to_string(&t).unwrap();
        assert_eq!(text, "\"2026-01-02T03:04:05.678Z\"");
        assert_eq!(serde_json::from_str::<Timestamp>(&text).unwrap(), t);
        assert_eq!(serde_json::from_str::<Timestamp>("1767323045678").unwrap(), t);
    }

    #[test]
    fn an_instant_without_an_offset_is_refused() {
        assert!("2026-01-02T03:04:05".parse::<Timestamp>().is_err());
    }

    #[test]
    fn arithmetic_stops_at_the_ends_of_the_range() {
        assert_eq!(Timestamp::MAX.saturating_add(Duration::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::MIN.saturating_sub(Duration::MAX), Timestamp::MIN);
        assert_eq!(Timestamp::MIN.since(Timestamp::MAX), Duration::ZERO);
        assert_eq!(Timestamp::MAX.to_string(), "9999-12-31T23:59:59.999Z");
    }
}
