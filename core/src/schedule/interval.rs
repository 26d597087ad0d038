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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const T: fn(i64) -> Timestamp = Timestamp::from_millis;

    #[test]
    fn the_grid_goes_both_ways_from_its_anchor() {
        let grid = Grid::new(T(1000), 300);
        assert_eq!(grid.at_or_after(T(1000)), Some(T(1000)));
        assert_eq!(grid.at_or_after(T(1001)), Some(T(1300)));
        assert_eq!(grid.at_or_after(T(999)), Some(T(1000)));
        assert_eq!(grid.at_or_after(T(50)), Some(T(100)));
        assert_eq!(grid.at_or_after(T(-201)), Some(T(-200)));
    }

    #[test]
    fn the_ends_of_the_range_end_the_grid() {
        for period in [1, 7, i64::MAX] {
            for anchor in [Timestamp::MIN, Timestamp::EPOCH, Timestamp::MAX] {
                let grid = Grid::new(anchor, period);
                for t in [Timestamp::MIN, Timestamp::EPOCH, Timestamp::MAX] {
                    assert!(grid.at_or_after(t).is_none_or(|due| due >= t));
                    assert!(grid.last(Timestamp::MIN, t, 3).len() <= 3);
                }
            }
        }
        assert_eq!(Grid::new(Timestamp::EPOCH, i64::MAX).at_or_after(T(1)), None);
        assert_eq!(Grid::new(Timestamp::MIN, 1).count(Timestamp::MIN, Timestamp::MAX), 315_537_897_600_000);
    }

    proptest! {
        #[test]
        fn arithmetic_equals_counting(
            anchor in -2000i64..2000, period in 1i64..500, from in -1000i64..1000, length in 0i64..1000, k in 0usize..6,
        ) {
            let naive: Vec<Timestamp> =
                (from..=from + length).filter(|t| (t - anchor) % period == 0).map(T).collect();
            let grid = Grid::new(T(anchor), period);
            let (from, until) = (T(from), T(from + length));
            prop_assert_eq!(grid.count(from, until), naive.len() as u64);
            prop_assert_eq!(grid.at_or_after(from).filter(|t| *t <= until), naive.first().copied());
            prop_assert_eq!(grid.last(from, until, k), &naive[naive.len().saturating_sub(k)..]);
        }
    }
}
