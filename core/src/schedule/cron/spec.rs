//! A parsed cron expression: sets of values per field, and the search for the next civil time.
//!
//! Civil times are whole seconds since 1970-01-01T00:00:00, counted as if the zone were UTC. The
//! search goes by day, by month and by year, with one bit per value, and gives up after 400 years:
//! the Gregorian calendar, weekdays included, repeats itself after exactly that.

use crate::schedule::civil::{DAY, date_of, day_of, month_length};

const LAST_YEAR: i64 = 9999;
const CYCLE: i64 = 400;

/// Days of a month as an expression names them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Days {
    /// Bit d: day d.
    pub(super) plain: u64,
    /// Bit n: n days before the last day (`L` is bit 0, `L-3` is bit 3).
    pub(super) from_last: u64,
    /// Bit d: the weekday nearest to day d (`15W`).
    pub(super) nearest: u64,
    /// The last weekday of the month (`LW`).
    pub(super) last_workday: bool,
}

/// Weekdays as an expression names them; bit 0 is Sunday.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Weekdays {
    /// Bit w: every weekday w.
    pub(super) plain: u64,
    /// `nth[n - 1]`, bit w: the n-th weekday w of the month (`5#2`).
    pub(super) nth: [u64; 5],
    /// Bit w: the last weekday w of the month (`5L`).
    pub(super) last: u64,
}

/// A parsed expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) seconds: u64,
    pub(super) minutes: u64,
    pub(super) hours: u64,
    pub(super) days: Days,
    pub(super) months: u64,
    pub(super) weekdays: Weekdays,
    /// Sorted; `None` is every year.
    pub(super) years: Option<Vec<i64>>,
    /// The hours are `*`, `*/n` or all of them: the pattern runs in real time across a shift.
    pub(super) real_time: bool,
}

pub(super) const ALL_DAYS: u64 = 0xffff_fffe;
pub(super) const ALL_WEEKDAYS: u64 = 0x7f;

impl Spec {
    /// The first matching civil second not before `from`; none within a cycle of the calendar means
    /// never.
    pub(super) fn next(&self, from: i64) -> Option<i64> {
        let (day, second) = (from.div_euclid(DAY), from.rem_euclid(DAY));
        let (year, month, date) = date_of(day);
        if year > LAST_YEAR {
            return None;
        }
        if self.has_year(year)
            && self.months & (1 << month) != 0
            && self.dates(year, month) & (1 << date) != 0
            && let Some(time) = self.next_time(second)
        {
            return Some(day * DAY + time);
        }
        let time = self.next_time(0)?;
        // What is left of this month, then whole months.
        let mut months = self.months & (u64::MAX << month);
        let mut later = u64::MAX << (date + 1);
        let mut at = year;
        loop {
            if self.has_year(at) {
                while months != 0 {
                    let candidate = i64::from(months.trailing_zeros());
                    let dates = self.dates(at, candidate)
                        & if at == year && candidate == month { later } else { u64::MAX };
                    if dates != 0 {
                        let found = day_of(at, candidate, i64::from(dates.trailing_zeros()));
                        return Some(found * DAY + time);
                    }
                    months &= months - 1;
                }
            }
            later = u64::MAX;
            months = self.months;
            at = self.next_year(at, year)?;
        }
    }

    /// Whether a civil second matches.
    pub(super) fn matches(&self, civil: i64) -> bool {
        self.next(civil) == Some(civil)
    }

    fn has_year(&self, year: i64) -> bool {
        self.years.as_ref().is_none_or(|years| years.binary_search(&year).is_ok())
    }

    /// The next year worth a look; none at the end of the calendar or of its cycle.
    fn next_year(&self, year: i64, first: i64) -> Option<i64> {
        match &self.years {
            None => Some(year + 1).filter(|y| *y <= LAST_YEAR && *y <= first + CYCLE),
            Some(years) => years.get(years.partition_point(|y| *y <= year)).copied(),
        }
    }

    /// The first matching second of the day not before `from`.
    fn next_time(&self, from: i64) -> Option<i64> {
        let (hour, minute, second) = (from / 3600, from / 60 % 60, from % 60);
        if self.hours & (1 << hour) != 0 {
            if self.minutes & (1 << minute) != 0
                && let Some(s) = first(self.seconds, second)
            {
                return Some(hour * 3600 + minute * 60 + s);
            }
            if let Some(m) = first(self.minutes, minute + 1) {
                return Some(hour * 3600 + m * 60 + first(self.seconds, 0)?);
            }
        }
        let hour = first(self.hours, hour + 1)?;
        Some(hour * 3600 + first(self.minutes, 0)? * 60 + first(self.seconds, 0)?)
    }

    /// The matching dates of a month: bit d for day d.
    fn dates(&self, year: i64, month: i64) -> u64 {
        let length = month_length(year, month);
        let valid = ALL_DAYS & ((1 << (length + 1)) - 1);
        let by_date = self.days.plain == ALL_DAYS;
        let by_weekday = self.weekdays.plain == ALL_WEEKDAYS;
        if by_date && by_weekday {
            return valid;
        }
        // Days from Sunday to the first of the month; 1970-01-01 was a Thursday.
        let offset = (day_of(year, month, 1) + 4).rem_euclid(7);
        let mut dates = 0;
        // With one of the two left open, the other decides; with both given, either does.
        if !by_date {
            dates |= self.days.dates(offset, length);
        }
        if !by_weekday {
            dates |= self.weekdays.dates(offset, length);
        }
        dates & valid
    }
}

impl Days {
    fn dates(&self, offset: i64, length: i64) -> u64 {
        let mut dates = self.plain;
        let weekday = |date: i64| (offset + date - 1).rem_euclid(7);
        for n in bits(self.from_last) {
            if n < length {
                dates |= 1 << (length - n);
            }
        }
        for date in bits(self.nearest).filter(|date| *date <= length) {
            dates |= 1
                << match weekday(date) {
                    6 if date == 1 => 3,
                    6 => date - 1,
                    0 if date == length => date - 2,
                    0 => date + 1,
                    _ => date,
                };
        }
        if self.last_workday {
            dates |= 1
                << match weekday(length) {
                    6 => length - 1,
                    0 => length - 2,
                    _ => length,
                };
        }
        dates
    }
}

impl Weekdays {
    fn dates(&self, offset: i64, length: i64) -> u64 {
        // The first such weekday of the month, as a date.
        let first = |weekday: i64| 1 + (weekday - offset).rem_euclid(7);
        let mut dates = 0;
        for weekday in bits(self.plain) {
            // Every seventh bit.
            dates |= 0x0002_0408_1020_4081 << first(weekday);
        }
        for (n, weekdays) in (0i64..).zip(self.nth) {
            for weekday in bits(weekdays) {
                dates |= 1 << (first(weekday) + 7 * n);
            }
        }
        for weekday in bits(self.last) {
            let first = first(weekday);
            dates |= 1 << (first + (length - first) / 7 * 7);
        }
        dates
    }
}

/// The set bits, ascending.
pub(super) fn bits(set: u64) -> impl Iterator<Item = i64> {
    let mut left = set;
    std::iter::from_fn(move || {
        (left != 0).then(|| {
            let bit = i64::from(left.trailing_zeros());
            left &= left - 1;
            bit
        })
    })
}

/// The first set bit not below `from`.
fn first(set: u64, from: i64) -> Option<i64> {
    let left = set & u64::MAX.checked_shl(u32::try_from(from).ok()?)?;
    (left != 0).then(|| i64::from(left.trailing_zeros()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Dialect, parse::parse};
    use super::*;

    fn spec(expression: &str) -> Spec {
        parse(expression, Dialect::Standard, "job").unwrap()
    }

    /// Dates on which an expression fires, from the first of a year on.
    fn dates(expression: &str, year: i64, n: usize) -> Vec<(i64, i64, i64)> {
        let spec = spec(expression);
        let first = spec.next(day_of(year, 1, 1) * DAY);
        let later = |last: &i64| spec.next((last.div_euclid(DAY) + 1) * DAY);
        std::iter::successors(first, later).take(n).map(|civil| date_of(civil.div_euclid(DAY))).collect()
    }

    #[test]
    fn special_days_fall_where_quartz_puts_them() {
        assert_eq!(dates("0 0 L * *", 2028, 3), [(2028, 1, 31), (2028, 2, 29), (2028, 3, 31)]);
        assert_eq!(dates("0 0 L-2 * *", 2026, 2), [(2026, 1, 29), (2026, 2, 26)]);
        assert_eq!(dates("0 0 LW * *", 2026, 5)[..2], [(2026, 1, 30), (2026, 2, 27)]);
        // 1 August 2026 is a Saturday: the weekday nearest to it in its month is the 3rd.
        assert_eq!(dates("0 0 1W 8 *", 2026, 1), [(2026, 8, 3)]);
        // 31 May 2026 is a Sunday: back to Friday.
        assert_eq!(dates("0 0 31W 5 *", 2026, 1), [(2026, 5, 29)]);
        assert_eq!(dates("0 0 15W 2,3 *", 2026, 2), [(2026, 2, 16), (2026, 3, 16)]);
        assert_eq!(dates("0 0 * * 5#5", 2026, 2), [(2026, 1, 30), (2026, 5, 29)]);
        assert_eq!(dates("0 0 * * FRIL", 2026, 2), [(2026, 1, 30), (2026, 2, 27)]);
    }

    #[test]
    fn day_and_weekday_both_given_mean_either() {
        assert_eq!(dates("0 0 13 * 5", 2026, 3), [(2026, 1, 2), (2026, 1, 9), (2026, 1, 13)]);
        assert_eq!(dates("0 0 1-31 * 5", 2026, 2), [(2026, 1, 2), (2026, 1, 9)]);
        assert_eq!(dates("0 0 13 * 0-6", 2026, 2), [(2026, 1, 13), (2026, 2, 13)]);
        assert_eq!(dates("0 0 ? * 5", 2026, 2), [(2026, 1, 2), (2026, 1, 9)]);
    }

    #[test]
    fn rare_dates_are_found_and_impossible_ones_given_up() {
        assert_eq!(dates("0 0 29 2 *", 2097, 1), [(2104, 2, 29)]);
        // Februaries with five Sundays: 2088, then 2128, as 2100 is no leap year.
        assert_eq!(dates("0 0 * 2 0#5", 2077, 1), [(2088, 2, 29)]);
        assert_eq!(dates("0 0 * 2 0#5", 2089, 1), [(2128, 2, 29)]);
        for never in ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 31W 2 *"] {
            assert_eq!(spec(never).next(0), None, "{never}");
        }
        assert_eq!(dates("0 0 0 29 2 ? 2027,2030-2040/2", 2026, 2), [(2032, 2, 29), (2036, 2, 29)]);
        assert_eq!(dates("0 0 0 1 1 ? 2020", 2026, 1), []);
    }

    #[test]
    fn the_calendar_repeats_after_four_centuries_and_ends_with_9999() {
        let spec = spec("0 0 29 2 5");
        let mut civil = 0;
        for _ in 0..50 {
            let found = spec.next(civil).unwrap();
            assert_eq!(spec.next(civil + 146_097 * DAY), Some(found + 146_097 * DAY));
            civil = found + 1;
        }
        assert_eq!(spec.next(day_of(10_000, 1, 1) * DAY), None);
    }

    proptest! {
        #[test]
        fn dates_go_to_days_and_back(day in -800_000i64..3_000_000) {
            let (year, month, date) = date_of(day);
            prop_assert_eq!(day_of(year, month, date), day);
            prop_assert!(date >= 1 && date <= month_length(year, month));
        }

        #[test]
        fn the_next_match_is_the_first_of_all_minutes(
            minute in 0u32..60, hour in 0u32..24, step in 1u32..20,
            day in prop::sample::select(vec!["*", "1", "13,27", "L", "LW", "15W", "L-3", "31"]),
            month in prop::sample::select(vec!["*", "2", "1-3", "*/5"]),
            weekday in prop::sample::select(vec!["*", "1", "5#2", "MON-FRI", "3L"]),
            start in 0i64..146_097,
        ) {
            // 400 years of days, sampled; a quarter of a year each, minute by minute.
            let spec = spec(&format!("{minute}/{step} {hour} {day} {month} {weekday}"));
            let from = start * DAY;
            let found = spec.next(from);
            let naive = (from.div_euclid(60)..from.div_euclid(60) + 90 * 1440)
                .map(|m| m * 60)
                .find(|civil| *civil >= from && naive(&spec, *civil));
            match naive {
                Some(civil) => prop_assert_eq!(found, Some(civil)),
                None => prop_assert!(found.is_none_or(|civil| civil >= from + 89 * DAY)),
            }
        }
    }

    /// Field by field, by the definitions.
    fn naive(spec: &Spec, civil: i64) -> bool {
        let (day, second) = (civil.div_euclid(DAY), civil.rem_euclid(DAY));
        let (year, month, date) = date_of(day);
        let length = month_length(year, month);
        let weekday = |date: i64| (day_of(year, month, date) + 4).rem_euclid(7);
        let workday = |date: i64| (1..=5).contains(&weekday(date));
        let has = |set: u64, value: i64| set >> value & 1 == 1;
        let nearest =
            |wanted: i64| (1..=length).filter(|d| workday(*d)).min_by_key(|d| ((d - wanted).abs(), *d));
        let by_date = has(spec.days.plain, date)
            || has(spec.days.from_last, length - date)
            || bits(spec.days.nearest).any(|d| d <= length && nearest(d) == Some(date))
            || spec.days.last_workday && (1..=length).rev().find(|d| workday(*d)) == Some(date);
        let nth = usize::try_from((date - 1) / 7).unwrap();
        let by_weekday = has(spec.weekdays.plain, weekday(date))
            || has(spec.weekdays.nth[nth], weekday(date))
            || has(spec.weekdays.last, weekday(date)) && date + 7 > length;
        let open = (spec.days.plain == ALL_DAYS, spec.weekdays.plain == ALL_WEEKDAYS);
        let by_day = match open {
            (true, true) => true,
            (true, false) => by_weekday,
            (false, true) => by_date,
            (false, false) => by_date || by_weekday,
        };
        by_day
            && has(spec.months, month)
            && has(spec.hours, second / 3600)
            && has(spec.minutes, second / 60 % 60)
            && has(spec.seconds, second % 60)
    }
}
