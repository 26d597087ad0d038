//! From civil times to instants: the next due time of a cron expression in a zone.
//!
//! A zone's time line is a row of segments of constant offset, joined by shifts. Within a segment a
//! civil time is one instant. What a gap skips and a fold repeats is decided at the joints:
//!
//! - Patterns whose hours are `*` or `*/n` run in real time: all that matches in each segment.
//! - Others name fixed local times. Those in a gap are moved by its length, to its end, or dropped
//!   ([`Gap`]); those in a fold come with the first pass, the second, or both ([`Fold`]).
//!
//! A moved time can overtake later ones (America/Montevideo 1974, America/Indiana/Winamac 2007), so a
//! segment gives the smaller of what is moved into it and what is its own.

use super::spec::Spec;
use super::{Fold, Gap};
use crate::schedule::civil::DAY;
use crate::schedule::zone::{Shift, Zone};

/// No offset, gap or fold is longer than this.
const REACH: i64 = 26 * 3600;
/// Longer than the calendar's cycle and the explicit transitions of the zone data.
const HORIZON: i64 = 500 * 366 * DAY;

/// What decides at the joints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rules {
    pub(super) gap: Gap,
    pub(super) fold: Fold,
}

/// One stretch of constant offset, as far as it lies after `after`.
struct Segment {
    /// The shift that opens it, when that is near enough to matter.
    opening: Option<Shift>,
    offset: i64,
    closing: Option<Shift>,
}

/// The first due second later than `after`.
pub(super) fn next(spec: &Spec, zone: &Zone, rules: Rules, after: i64) -> Option<i64> {
    let horizon = if spec.years.is_none() { after.saturating_add(HORIZON) } else { i64::MAX };
    let mut after = after;
    'seek: loop {
        let mut shifts = zone.shifts_after(after - REACH);
        let mut segment =
            Segment { opening: None, offset: zone.offset_at(after - REACH), closing: shifts.next() };
        while let Some(shift) = segment.closing.filter(|shift| shift.at <= after) {
            segment = Segment { opening: Some(shift), offset: shift.after, closing: shifts.next() };
        }
        loop {
            let start = after + 1 + segment.offset;
            let civil = spec.next(segment.start(spec, rules, start));
            let own = civil.filter(|c| *c < segment.limit(spec, rules)).map(|c| c - segment.offset);
            let moved = segment.moved(spec, rules, after);
            if let Some(found) = own.into_iter().chain(moved).min() {
                return Some(found);
            }
            let closing = segment.closing?;
            // A fold may take the clock back to before `start`.
            if closing.at + closing.after >= start {
                let civil = civil.filter(|c| *c < horizon)?;
                // Nothing matches before that civil time: skip the segments between.
                if civil - 2 * REACH > closing.at {
                    after = civil - 2 * REACH;
                    continue 'seek;
                }
            }
            after = closing.at - 1;
            segment = Segment { opening: Some(closing), offset: closing.after, closing: shifts.next() };
        }
    }
}

impl Segment {
    /// The first civil time that is the segment's own, not before `start`.
    fn start(&self, spec: &Spec, rules: Rules, start: i64) -> i64 {
        match self.opening {
            Some(shift) if shift.is_fold() && !spec.real_time && rules.fold == Fold::First => {
                start.max(shift.at + shift.before)
            }
            _ => start,
        }
    }

    /// The first civil time that is the segment's no more.
    fn limit(&self, spec: &Spec, rules: Rules) -> i64 {
        match self.closing {
            None => i64::MAX,
            Some(shift) if shift.is_fold() && !spec.real_time && rules.fold == Fold::Second => {
                shift.at + shift.after
            }
            Some(shift) => shift.at + self.offset,
        }
    }

    /// The first instant later than `after` of those that the opening gap moved into the segment.
    fn moved(&self, spec: &Spec, rules: Rules, after: i64) -> Option<i64> {
        let gap = self.opening.filter(|shift| shift.is_gap() && !spec.real_time)?;
        let skipped = |from: i64| spec.next(from + gap.before).filter(|c| *c < gap.at + gap.after);
        let moved = match rules.gap {
            Gap::Skip => None,
            Gap::Shift => skipped(gap.at.max(after + 1)).map(|c| c - gap.before),
            Gap::After => skipped(gap.at).map(|_| gap.at).filter(|at| *at > after),
        };
        moved.filter(|at| self.closing.is_none_or(|shift| *at < shift.at))
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::DateTime;
    use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase};
    use proptest::prelude::*;

    use super::super::Dialect;
    use super::super::parse::parse;
    use super::*;
    use crate::schedule::zone::timezone_names;

    const YEAR: i64 = 366 * DAY;
    const DEFAULT: Rules = Rules { gap: Gap::Shift, fold: Fold::First };

    fn spec(expression: &str) -> Spec {
        parse(expression, Dialect::Standard, "job").unwrap()
    }

    fn zone(name: &str) -> Zone {
        Zone::find(name, "timezone").unwrap()
    }

    fn jiff_zone(name: &str) -> TimeZone {
        TimeZoneDatabase::bundled().get(name).unwrap()
    }

    fn at(text: &str) -> i64 {
        text.parse::<jiff::Timestamp>().unwrap().as_second()
    }

    /// Due times in `from..until`, by asking jiff about every local minute.
    fn oracle(spec: &Spec, tz: &TimeZone, rules: Rules, from: i64, until: i64) -> Vec<i64> {
        let mut due = Vec::new();
        let mut civil = (from - 2 * REACH).div_euclid(60) * 60;
        while civil < until + 2 * REACH {
            if spec.matches(civil) {
                let wall: DateTime = Offset::UTC.to_datetime(jiff::Timestamp::from_second(civil).unwrap());
                let minus = |offset: Offset| civil - i64::from(offset.seconds());
                match tz.to_ambiguous_timestamp(wall).offset() {
                    AmbiguousOffset::Unambiguous { offset } => due.push(minus(offset)),
                    AmbiguousOffset::Gap { before, after } => match rules.gap {
                        _ if spec.real_time => {}
                        Gap::Skip => {}
                        Gap::Shift => due.push(minus(before)),
                        Gap::After => {
                            let start = jiff::Timestamp::from_second(minus(after)).unwrap();
                            let shift = tz.following(start).find(|shift| shift.offset() == after);
                            due.push(shift.unwrap().timestamp().as_second());
                        }
                    },
                    AmbiguousOffset::Fold { before, after } => {
                        if spec.real_time || rules.fold != Fold::Second {
                            due.push(minus(before));
                        }
                        if spec.real_time || rules.fold != Fold::First {
                            due.push(minus(after));
                        }
                    }
                }
            }
            civil += 60;
        }
        due.sort_unstable();
        due.dedup();
        due.retain(|second| (from..until).contains(second));
        due
    }

    fn walk(spec: &Spec, zone: &Zone, rules: Rules, from: i64, until: i64) -> Vec<i64> {
        std::iter::successors(next(spec, zone, rules, from - 1), |last| next(spec, zone, rules, *last))
            .take_while(|second| *second < until)
            .collect()
    }

    fn every_rule() -> impl Iterator<Item = Rules> {
        [Gap::Shift, Gap::Skip, Gap::After]
            .into_iter()
            .flat_map(|gap| [Fold::First, Fold::Second, Fold::Both].map(|fold| Rules { gap, fold }))
    }

    #[test]
    fn every_shift_of_every_zone_agrees_with_a_search_of_all_minutes() {
        // All of them take minutes: by default one in so many, spread over zones and years.
        let every: usize =
            std::env::var("SCHEDULE_SWEEP_EVERY").ok().and_then(|text| text.parse().ok()).unwrap_or(61);
        let specs: Vec<Spec> =
            ["30 2 * * *", "15,45 0-3 * * *", "0 0 * * *", "0 * * * *", "*/15 * * * *", "59 23 * * *"]
                .map(spec)
                .into();
        let rules: Vec<Rules> = every_rule().collect();
        let (mut seen, mut tried) = (0, 0);
        for name in timezone_names() {
            let (zone, tz) = (zone(&name), jiff_zone(&name));
            let shifts: Vec<Shift> = zone.shifts_after(0).take_while(|shift| shift.at < 131 * YEAR).collect();
            for shift in shifts {
                seen += 1;
                if seen % every != 0 {
                    continue;
                }
                let (from, until) = (shift.at - 30 * 3600, shift.at + 30 * 3600);
                for (i, spec) in specs.iter().enumerate() {
                    let all = [DEFAULT, rules[(tried + i) % rules.len()]];
                    for rules in all {
                        assert_eq!(
                            walk(spec, &zone, rules, from, until),
                            oracle(spec, &tz, rules, from, until),
                            "{name} at {}: {spec:?} {rules:?}",
                            shift.at
                        );
                    }
                }
                tried += 1;
            }
        }
        assert!(tried > 100 || every > 100, "only {tried} of {seen} shifts tried");
    }

    #[test]
    fn a_day_that_a_zone_skips_runs_at_the_same_instants() {
        // Samoa had no 30 December 2011: 24 hours were skipped at 10:00 UTC.
        let (spec, zone) = (spec("0 3 * * *"), zone("Pacific/Apia"));
        let due = walk(&spec, &zone, DEFAULT, at("2011-12-29T00:00:00Z"), at("2012-01-01T00:00:00Z"));
        // 29th; the skipped 30th at the instant that it would have been, which is 03:00 of the 31st.
        assert_eq!(due, [at("2011-12-29T13:00:00Z"), at("2011-12-30T13:00:00Z"), at("2011-12-31T13:00:00Z")]);
    }

    #[test]
    fn a_time_that_a_gap_moves_can_overtake_later_ones() {
        for (name, day) in [("America/Montevideo", "1974-03-10"), ("America/Indiana/Winamac", "2007-03-11")] {
            let (zone, tz) = (zone(name), jiff_zone(name));
            let spec = spec("0,20,40 0,1,2,3 * * *");
            let from = at(&format!("{day}T00:00:00Z")) - DAY;
            for rules in every_rule() {
                assert_eq!(
                    walk(&spec, &zone, rules, from, from + 3 * DAY),
                    oracle(&spec, &tz, rules, from, from + 3 * DAY),
                    "{name} {rules:?}"
                );
            }
        }
    }

    #[test]
    fn a_shift_of_half_an_hour_moves_by_half_an_hour() {
        // Lord Howe: 02:00 becomes 02:30 on 2026-10-04.
        let (spec, zone) = (spec("15 2 * * *"), zone("Australia/Lord_Howe"));
        let due = next(&spec, &zone, DEFAULT, at("2026-10-03T12:00:00Z"));
        assert_eq!(due, Some(at("2026-10-03T15:45:00Z")));
        let after = next(&spec, &zone, Rules { gap: Gap::After, ..DEFAULT }, at("2026-10-03T12:00:00Z"));
        assert_eq!(after, Some(at("2026-10-03T15:30:00Z")));
        let skip = next(&spec, &zone, Rules { gap: Gap::Skip, ..DEFAULT }, at("2026-10-03T12:00:00Z"));
        assert_eq!(skip, Some(at("2026-10-04T15:15:00Z")));
    }

    #[test]
    fn a_time_that_only_gaps_hold_ends_when_they_are_left_out() {
        // The second Sunday of March at 02:30 is skipped in New York every year.
        let (spec, zone) = (spec("30 2 * 3 SUN#2"), zone("America/New_York"));
        let rules = Rules { gap: Gap::Skip, fold: Fold::First };
        assert_eq!(next(&spec, &zone, rules, at("2026-01-01T00:00:00Z")), None);
    }

    #[test]
    fn the_ends_of_the_range_are_quiet() {
        let (spec, zone) = (spec("0 3 * * *"), zone("Europe/Berlin"));
        for second in [i64::from(i32::MIN), -62_135_596_800, 253_402_300_799, 253_402_207_200] {
            let found = next(&spec, &zone, DEFAULT, second);
            assert!(found.is_none_or(|found| found > second));
        }
    }

    fn field(max: u32) -> impl Strategy<Value = String> {
        prop_oneof![
            3 => Just("*".to_owned()),
            2 => (0..=max).prop_map(|v| v.to_string()),
            1 => (2..=max / 2).prop_map(|n| format!("*/{n}")),
            1 => (0..=max, 0..=max).prop_map(|(a, b)| format!("{a},{b}")),
            1 => (0..=max, 0..=max).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        ]
    }

    fn expression() -> impl Strategy<Value = String> {
        let day = prop_oneof![3 => Just("*".to_owned()), 1 => (1..=28u32).prop_map(|d| d.to_string()),
            1 => Just("L".to_owned()), 1 => Just("15W".to_owned())];
        let weekday = prop_oneof![3 => Just("*".to_owned()), 1 => (0..=7u32).prop_map(|d| d.to_string()),
            1 => Just("1#2".to_owned()), 1 => Just("FRI-MON".to_owned())];
        (field(59), field(23), day, weekday).prop_map(|(m, h, d, w)| format!("{m} {h} {d} * {w}"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn due_times_are_those_of_a_search_of_all_minutes(
            expression in expression(),
            name in prop::sample::select(timezone_names()),
            day in 0i64..40_000,
            rule in 0usize..9,
        ) {
            let (spec, rules) = (spec(&expression), every_rule().nth(rule).unwrap());
            let from = day * DAY;
            prop_assert_eq!(
                walk(&spec, &zone(&name), rules, from, from + 4 * DAY),
                oracle(&spec, &jiff_zone(&name), rules, from, from + 4 * DAY)
            );
        }

        #[test]
        fn later_questions_have_later_answers(
            expression in expression(),
            name in prop::sample::select(timezone_names()),
            t in 0i64..4_000_000_000,
            step in 0i64..1_000_000,
        ) {
            let (spec, zone) = (spec(&expression), zone(&name));
            let (a, b) = (next(&spec, &zone, DEFAULT, t), next(&spec, &zone, DEFAULT, t + step));
            prop_assert!(a.is_some_and(|a| a > t) && b.is_some_and(|b| b > t + step) && a <= b);
        }
    }
}
