//! The grid of an interval schedule: anchor + n × period, in whole milliseconds.
//!
//! All of it is arithmetic, so that an outage of years costs no more than one of seconds.

use crate::time::Timestamp;

/// Points `anchor + n × period` for every whole `n`, also negative.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    anchor: i128,
    period: i128,
}

impl Grid {
    /// `period` in milliseconds; at least 1.
    pub(super) fn new(anchor: Timestamp, period: i64) -> Self {
        Self { anchor: i128::from(anchor.as_millis()), period: i128::from(period.max(1)) }
    }

    /// The first point not before `t`; none when it lies past the range of instants.
    pub(super) fn at_or_after(self, t: Timestamp) -> Option<Timestamp> {
        let past = i128::from(t.as_millis()) - self.anchor;
        // Rounds up, also for negative numbers.
        self.point(-((-past).div_euclid(self.period)))
    }

    /// The last `k` points in `from..=until`, ascending.
    pub(super) fn last(self, from: Timestamp, until: Timestamp, k: usize) -> Vec<Timestamp> {
        let Some((first, last)) = self.span(from, until) else { return Vec::new() };
        let k = i128::try_from(k).unwrap_or(i128::MAX);
        let first = first.max(last.saturating_sub(k).saturating_add(1));
        (first..=last).filter_map(|n| self.point(n)).collect()
    }

    /// How many points lie in `from..=until`.
    pub(super) fn count(self, from: Timestamp, until: Timestamp) -> u64 {
        self.span(from, until).map_or(0, |(first, last)| u64::try_from(last - first + 1).unwrap_or(u64::MAX))
    }

    /// Numbers of the first and the last point in `from..=until`.
    fn span(self, from: Timestamp, until: Timestamp) -> Option<(i128, i128)> {
        let from = i128::from(from.as_millis()) - self.anchor;
        let until = i128::from(until.as_millis()) - self.anchor;
        let (first, last) = (-((-from).div_euclid(self.period)), until.div_euclid(self.period));
        (first <= last).then_some((first, last))
    }

    fn point(self, n: i128) -> Option<Timestamp> {
        let millis = i64::try_from(self.anchor + n * self.period).ok()?;
        let t = Timestamp::from_millis(millis);
        (t.as_millis() == millis).then_some(t)
    }
}
