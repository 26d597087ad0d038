//! Durations in documents: seconds, as a number that may have a fraction of whole milliseconds.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de};

pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    if duration.subsec_nanos() == 0 {
        serializer.serialize_u64(duration.as_secs())
    } else {
        serializer.serialize_f64(duration.as_secs_f64())
    }
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    from_number(seconds)
        .ok_or_else(|| de::Error::custom(format!("{seconds} is not a number of seconds from 0 to 10 years")))
}

/// A number of seconds as a duration of whole milliseconds; `None` when negative or absurd.
pub(crate) fn from_number(seconds: f64) -> Option<Duration> {
    const LONGEST: f64 = 3_660.0 * 86_400.0;
    if !(0.0..=LONGEST).contains(&seconds) {
        return None;
    }
    Duration::try_from_secs_f64((seconds * 1000.0).round() / 1000.0).ok()
}

pub(crate) mod option {
    use super::{Deserialize, Deserializer, Duration, Serializer};

    #[expect(clippy::ref_option, reason = "the form that serde calls")]
    pub(crate) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        #[derive(Deserialize)]
        struct Seconds(#[serde(with = "super")] Duration);
        Ok(Option::<Seconds>::deserialize(deserializer)?.map(|s| s.0))
    }
}
