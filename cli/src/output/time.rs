//! Times and durations as people read them: local time, with how far away it is.

use std::time::Duration;

use chrono::{Local, SecondsFormat};
use unified_scheduler::Timestamp;

/// `2026-01-02 03:04:05`, in local time.
pub(crate) fn local(t: Timestamp) -> String {
    t.to_datetime().with_timezone(&Local).format("%Y-%m-%d %H:%M:%S").to_string()
}

/// `03:04:05.678`, in local time.
pub(crate) fn clock(t: Timestamp) -> String {
    t.to_datetime().with_timezone(&Local).format("%H:%M:%S%.3f").to_string()
}

/// `2026-01-02 03:04:05 (in 5m)`.
pub(crate) fn both(t: Timestamp, now: Timestamp) -> String {
    format!("{} ({})", local(t), relative(t, now))
}

/// With its offset, so that nobody has to guess: `2026-01-02T03:04:05.678+01:00 (5m ago)`.
pub(crate) fn exact(t: Timestamp, now: Timestamp) -> String {
    let text = t.to_datetime().with_timezone(&Local).to_rfc3339_opts(SecondsFormat::Millis, true);
    format!("{text} ({})", relative(t, now))
}

/// `in 5m`, `3s ago`, `now`.
pub(crate) fn relative(t: Timestamp, now: Timestamp) -> String {
    if t > now {
        return format!("in {}", rough(t.since(now)));
    }
    let ago = now.since(t);
    if ago < Duration::from_secs(1) { "now".to_owned() } else { format!("{} ago", rough(ago)) }
}

/// A duration in its two largest units, cut: `1h30m`, `2d4h`, `1.5s`, `250ms`.
pub(crate) fn rough(duration: Duration) -> String {
    let millis = duration.as_millis();
    let seconds = duration.as_secs();
    if millis < 1000 {
        return format!("{millis}ms");
    }
    if seconds < 10 && millis % 1000 >= 100 {
        return format!("{seconds}.{}s", millis % 1000 / 100);
    }
    let units = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];
    let first = units.iter().position(|(_, size)| seconds >= *size).unwrap_or(3);
    let (unit, size) = units[first];
    let large = format!("{}{unit}", seconds / size);
    match units.get(first + 1).map(|(unit, smaller)| (seconds % size / smaller, unit)) {
        Some((rest, unit)) if rest > 0 => format!("{large}{rest}{unit}"),
        _ => large,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_shown_in_its_two_largest_units() {
        for (millis, text) in [
            (0, "0ms"),
            (250, "250ms"),
            (1500, "1.5s"),
            (2003, "2s"),
            (9999, "9.9s"),
            (59_000, "59s"),
            (90_000, "1m30s"),
            (5_400_000, "1h30m"),
            (172_800_000, "2d"),
            (187_200_000, "2d4h"),
        ] {
            assert_eq!(rough(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn a_time_is_told_from_now() {
        let now = Timestamp::from_secs(1000);
        assert_eq!(relative(Timestamp::from_secs(1060), now), "in 1m");
        assert_eq!(relative(Timestamp::from_secs(997), now), "3s ago");
        assert_eq!(relative(now, now), "now");
    }
}
