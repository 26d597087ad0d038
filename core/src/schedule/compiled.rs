//! A checked schedule, and the questions it answers.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::cron::CompiledCron;
use super::exclusion::{Calendars, CompiledExclusions};
use super::interval::Grid;
use super::jitter;
use super::zone::Zone;
use crate::time::Timestamp;

/// How many due times lie in a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Their number, or the cap if there are more.
    pub n: u64,
    /// Whether `n` is all of them.
    pub exact: bool,
}

/// A checked schedule of one job. Cheap to clone.
#[derive(Clone)]
pub struct CompiledSchedule(pub(super) Arc<Inner>);

/// What is shared by its clones.
pub(super) struct Inner {
    pub(super) job_id: String,
    pub(super) rule: Rule,
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    pub(super) jitter: Duration,
    pub(super) exclusions: CompiledExclusions,
    pub(super) calendars: Vec<String>,
    pub(super) zone: Zone,
    pub(super) description: String,
}

/// A checked recurrence.
pub(super) enum Rule {
    Interval { period: i64, anchor: Option<Timestamp>, from_completion: bool },
    Cron(Box<CompiledCron>),
    Once(Timestamp),
    Manual,
}

impl CompiledSchedule {
    /// The first due time strictly later than `t`, inside the bounds; `None` is never again.
    ///
    /// An interval's grid goes through its own anchor, or else through `anchor`: any of its points
    /// will do. Exclusions are not applied: ask [`Self::excluded`].
    pub fn next_after(&self, t: Timestamp, anchor: Timestamp) -> Option<Timestamp> {
        let Inner { rule, start, end, .. } = &*self.0;
        // Milliseconds are what due times are made of: later than `t` is from `t + 1` on.
        if t >= Timestamp::MAX {
            return None;
        }
        let from = Timestamp::from_millis(t.as_millis() + 1).max(*start);
        let due = match rule {
            Rule::Interval { period, anchor: own, .. } => {
                Grid::new(own.unwrap_or(anchor), *period).at_or_after(from)
            }
            Rule::Cron(cron) => {
                // The last whole second before `from`.
                let second = (from.as_millis() - 1).div_euclid(1000);
                cron.next(second).and_then(instant)
            }
            Rule::Once(at) => Some(*at).filter(|at| *at >= from),
            Rule::Manual => None,
        };
        due.filter(|due| due <= end)
    }

    /// The first due time of a job that is registered at an instant.
    ///
    /// An interval without an anchor is due at once; with one, at the first point of its grid not
    /// before. A single due time stands, even if it is past.
    pub fn first_due(&self, registered_at: Timestamp) -> Option<Timestamp> {
        let Inner { rule, start, end, .. } = &*self.0;
        let from = registered_at.max(*start);
        let due = match rule {
            Rule::Interval { anchor: None, .. } => Some(from),
            Rule::Interval { period, anchor: Some(anchor), .. } => {
                Grid::new(*anchor, *period).at_or_after(from)
            }
            Rule::Cron(_) => self.next_after(registered_at, registered_at),
            Rule::Once(at) => Some(*at),
            Rule::Manual => None,
        };
        due.filter(|due| due <= end)
    }

    /// The last `k` due times in `from..=until`, ascending. The work grows with `k`, not with how many
    /// there are.
    pub fn last_until(
        &self,
        from: Timestamp,
        until: Timestamp,
        anchor: Timestamp,
        k: usize,
    ) -> Vec<Timestamp> {
        let Inner { rule, start, end, .. } = &*self.0;
        let (from, until) = (from.max(*start), until.min(*end));
        if from > until || k == 0 {
            return Vec::new();
        }
        match rule {
            Rule::Interval { period, anchor: own, .. } => {
                Grid::new(own.unwrap_or(anchor), *period).last(from, until, k)
            }
            _ => self.last_by_steps(from, until, k),
        }
    }

    /// By windows that end at `until` and double until they hold enough; if the last one holds far
    /// more, its beginning is found by halving.
    fn last_by_steps(&self, from: Timestamp, until: Timestamp, k: usize) -> Vec<Timestamp> {
        let (first, last) = (from.as_millis(), until.as_millis());
        let enough = k.saturating_mul(4).saturating_add(64);
        let mut width: i64 = 60_000;
        loop {
            let begin = last.saturating_sub(width).max(first);
            let mut found = VecDeque::with_capacity(enough.min(1024));
            let mut all = true;
            for due in self.steps(begin, until) {
                if found.len() == enough {
                    all = false;
                    break;
                }
                found.push_back(due);
            }
            if !all {
                return self.steps(self.halve(begin, until, k), until).collect();
            }
            if found.len() >= k || begin == first {
                let spare = found.len().saturating_sub(k);
                return found.into_iter().skip(spare).collect();
            }
            width = width.saturating_mul(2);
        }
    }

    /// The latest beginning of a span up to `until` that holds `k` due times; that from `begin` does.
    fn halve(&self, begin: i64, until: Timestamp, k: usize) -> i64 {
        let (mut holds, mut lacks) = (begin, until.as_millis() + 1);
        while lacks - holds > 1 {
            let middle = holds + (lacks - holds) / 2;
            if self.steps(middle, until).take(k).count() == k {
                holds = middle;
            } else {
                lacks = middle;
            }
        }
        holds
    }

    /// How many due times lie in `from..=until`; expressions are counted up to `cap` only.
    pub fn count_until(&self, from: Timestamp, until: Timestamp, anchor: Timestamp, cap: u64) -> Count {
        let Inner { rule, start, end, .. } = &*self.0;
        let (from, until) = (from.max(*start), until.min(*end));
        if from > until {
            return Count { n: 0, exact: true };
        }
        if let Rule::Interval { period, anchor: own, .. } = rule {
            let n = Grid::new(own.unwrap_or(anchor), *period).count(from, until);
            return Count { n, exact: true };
        }
        let mut steps = self.steps(from.as_millis(), until);
        let mut n = 0;
        while n < cap {
            if steps.next().is_none() {
                return Count { n, exact: true };
            }
            n += 1;
        }
        Count { n, exact: steps.next().is_none() }
    }

    /// Due times from a millisecond on, both ends included; not for intervals, which have a grid.
    fn steps(&self, from: i64, until: Timestamp) -> impl Iterator<Item = Timestamp> + '_ {
        let mut at = Timestamp::from_millis(from - 1);
        std::iter::from_fn(move || {
            at = self.next_after(at, at).filter(|due| *due <= until)?;
            Some(at)
        })
    }

    /// Which exclusion leaves `t` out, such as `weekday saturday` or `calendar holidays`.
    ///
    /// A calendar that is not among `calendars` excludes nothing.
    pub fn excluded(&self, t: Timestamp, calendars: &Calendars) -> Option<String> {
        let Inner { exclusions, zone, calendars: names, .. } = &*self.0;
        exclusions.reason(t, zone).or_else(|| {
            let name = names.iter().find(|name| calendars.excludes(name, t, zone))?;
            Some(format!("calendar {name}"))
        })
    }

    /// Names of the shared calendars that exclude due times.
    pub fn calendars(&self) -> &[String] {
        &self.0.calendars
    }

    /// How late the occurrence due at `t` starts: always the same for the same job and `t`.
    pub fn jitter_offset(&self, t: Timestamp) -> Duration {
        jitter::offset(&self.0.job_id, t, self.0.jitter)
    }

    /// A plain English reading, such as `every 5 minutes`.
    pub fn describe(&self) -> String {
        self.0.description.clone()
    }

    /// Whether there is one due time only.
    pub fn is_one_shot(&self) -> bool {
        matches!(self.0.rule, Rule::Once(_))
    }

    /// Whether there is no due time at all.
    pub fn is_manual(&self) -> bool {
        matches!(self.0.rule, Rule::Manual)
    }

    /// The period, if it counts from the end of each execution.
    pub fn from_completion(&self) -> Option<Duration> {
        match self.0.rule {
            Rule::Interval { period, from_completion: true, .. } => {
                u64::try_from(period).ok().map(Duration::from_millis)
            }
            _ => None,
        }
    }

    /// Name of the zone that local times are in.
    pub fn timezone(&self) -> &str {
        self.0.zone.name()
    }

    pub(super) fn zone(&self) -> &Zone {
        &self.0.zone
    }

    /// Whether the schedule names local times, and not this one.
    pub(super) fn is_displaced(&self, civil: i64) -> bool {
        matches!(&self.0.rule, Rule::Cron(cron) if !cron.names(civil))
    }
}

impl fmt::Debug for CompiledSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompiledSchedule")
            .field("job_id", &self.0.job_id)
            .field("description", &self.0.description)
            .finish_non_exhaustive()
    }
}

/// A due second as an instant; none past the range.
fn instant(second: i64) -> Option<Timestamp> {
    let millis = second.checked_mul(1000)?;
    let t = Timestamp::from_millis(millis);
    (t.as_millis() == millis).then_some(t)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Exclusions, Fold, Gap, Recurrence, Schedule};
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn an_interval_is_first_due_at_once_or_on_its_grid() {
        let (t, minute) = (at("2026-01-01T00:00:20Z"), Schedule::every(Duration::from_mins(1)));
        let first = |schedule: &Schedule| schedule.compile("job").unwrap().first_due(t).unwrap().to_string();
        assert_eq!(first(&minute), "2026-01-01T00:00:20.000Z");
        assert_eq!(first(&minute.clone().starting(at("2026-02-01T00:00:00Z"))), "2026-02-01T00:00:00.000Z");
        assert_eq!(first(&minute.anchored_at(at("2030-01-01T00:00:05Z"))), "2026-01-01T00:01:05.000Z");
        let past = at("2020-01-01T00:00:00Z");
        assert_eq!(first(&Schedule::once(past)), "2020-01-01T00:00:00.000Z");
        assert_eq!(Schedule::manual().compile("job").unwrap().first_due(t), None);
    }

    #[test]
    fn bounds_are_part_of_the_schedule() {
        let (start, end) = (at("2026-01-01T03:00:00Z"), at("2026-01-03T03:00:00Z"));
        let daily = Schedule::cron("0 3 * * *").starting(start).until(end).compile("job").unwrap();
        let all: Vec<Timestamp> =
            std::iter::successors(daily.first_due(Timestamp::EPOCH), |t| daily.next_after(*t, *t)).collect();
        assert_eq!(all.len(), 3);
        assert_eq!((all[0], all[2]), (start, end));
        assert_eq!(daily.last_until(Timestamp::MIN, Timestamp::MAX, start, 9), all);
        assert_eq!(daily.count_until(Timestamp::MIN, Timestamp::MAX, start, 9), Count { n: 3, exact: true });
        assert_eq!(daily.count_until(Timestamp::MIN, Timestamp::MAX, start, 3), Count { n: 3, exact: true });
        assert_eq!(daily.count_until(Timestamp::MIN, Timestamp::MAX, start, 2), Count { n: 2, exact: false });
    }

    #[test]
    fn the_last_due_times_of_a_crowd_long_ago_are_found() {
        let seconds = Schedule::cron("* * * * * ? 2020").compile("job").unwrap();
        let (from, until) = (at("2001-01-01T00:00:00Z"), at("2090-01-01T00:00:00Z"));
        let last = seconds.last_until(from, until, from, 2);
        assert_eq!(last, [at("2020-12-31T23:59:58Z"), at("2020-12-31T23:59:59Z")]);
    }

    #[test]
    fn nothing_overflows_at_the_ends_of_the_range() {
        let schedules = [
            Schedule::every(Duration::from_millis(1)),
            Schedule::every(Timestamp::MAX.since(Timestamp::EPOCH)),
            Schedule::cron_in("* * * * *", "Pacific/Kiritimati"),
            Schedule::cron_in("0 0 1 1 *", "America/New_York"),
            Schedule::once(Timestamp::MAX),
            Schedule::manual(),
        ];
        let ends = [Timestamp::MIN, Timestamp::EPOCH, Timestamp::MAX];
        for compiled in schedules.map(|schedule| schedule.compile("job").unwrap()) {
            for (t, anchor) in ends.iter().flat_map(|t| ends.map(|anchor| (*t, anchor))) {
                assert!(compiled.next_after(t, anchor).is_none_or(|due| due > t));
                assert!(compiled.last_until(t, Timestamp::MAX, anchor, 2).len() <= 2);
                let _ = (compiled.first_due(t), compiled.count_until(Timestamp::MIN, t, anchor, 5));
            }
        }
    }

    #[test]
    fn exclusions_name_what_they_leave_out() {
        let exclude: Exclusions =
            serde_json::from_str(r#"{"weekdays": ["sunday"], "calendars": ["holidays", "absent"]}"#).unwrap();
        let daily = Schedule::cron_in("0 3 * * *", "Asia/Tokyo").excluding(exclude).compile("job").unwrap();
        let mut calendars = Calendars::new();
        let holidays = serde_json::from_str(r#"{"name": "holidays", "dates": ["2026-01-01"]}"#).unwrap();
        calendars.insert(&holidays).unwrap();
        let reason = |t: &str| daily.excluded(at(t), &calendars);
        assert_eq!(reason("2025-12-31T18:00:00Z").unwrap(), "calendar holidays");
        assert_eq!(reason("2026-01-03T18:00:00Z").unwrap(), "weekday sunday");
        assert_eq!(reason("2026-01-04T18:00:00Z"), None);
        assert_eq!(daily.calendars(), ["holidays", "absent"]);
    }

    proptest! {
        #[test]
        fn the_last_and_the_count_equal_a_walk(
            expression in prop::sample::select(vec![
                "*/7 * * * *", "30 2 * * *", "0 1,2 * * *", "*/20 * * * * *", "0 0 1 * *", "* * 1 1 *", "0 3 * * 1-5",
            ]),
            zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia"]),
            both in any::<bool>(),
            from in 1_300_000_000i64..1_800_000_000,
            length in 0i64..200_000,
            k in 1usize..20,
        ) {
            let mut schedule = Schedule::cron_in(expression, zone);
            if let Recurrence::Cron(cron) = &mut schedule.recurrence && both {
                cron.overlap = Fold::Both;
                cron.gap = Gap::After;
            }
            let compiled = schedule.compile("job").unwrap();
            let (from, until) = (Timestamp::from_secs(from), Timestamp::from_secs(from + length));
            let all: Vec<Timestamp> = compiled.steps(from.as_millis(), until).collect();
            prop_assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert_eq!(compiled.last_until(from, until, from, k), &all[all.len().saturating_sub(k)..]);
            let n = all.len() as u64;
            prop_assert_eq!(compiled.count_until(from, until, from, u64::MAX), Count { n, exact: true });
        }
    }
}
