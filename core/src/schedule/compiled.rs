//! A checked schedule, and the questions it answers.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::cron::CompiledCron;
use super::exclusion::{Calendars, CompiledExclusions};
use super::interval::Grid;
use super::zone::Zone;
use super::{Recurrence, Schedule, jitter};
use crate::error::Fault;
use crate::time::Timestamp;

/// Longer offsets are mistakes: jitter spreads load, it does not plan.
const LONGEST_JITTER: Duration = Duration::from_secs(86_400);

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
pub struct CompiledSchedule(Arc<Inner>);

struct Inner {
    job_id: String,
    rule: Rule,
    start: Timestamp,
    end: Timestamp,
    jitter: Duration,
    exclusions: CompiledExclusions,
    calendars: Vec<String>,
    zone: Zone,
    description: String,
}

enum Rule {
    Interval { period: i64, anchor: Option<Timestamp>, from_completion: bool },
    Cron(Box<CompiledCron>),
    Once(Timestamp),
    Manual,
}

impl Schedule {
    /// Checks everything and prepares it for the job `job_id`, whose id decides its jitter and what
    /// `H` stands for.
    ///
    /// # Errors
    ///
    /// Everything that is wrong; fields are named as in the document, relative to the schedule.
    pub fn compile(&self, job_id: &str) -> Result<CompiledSchedule, Vec<Fault>> {
        let mut faults = Vec::new();
        let rule = self.rule(job_id, &mut faults);
        self.check(&mut faults);
        let exclusions = self.exclude.compile().map_err(|list| {
            faults.extend(list.into_iter().map(|fault| fault.under("exclude")));
        });
        let (Some(rule), Ok(exclusions), true) = (rule, exclusions, faults.is_empty()) else {
            return Err(faults);
        };
        let zone = match &rule {
            Rule::Cron(cron) => cron.zone().clone(),
            _ => exclusions.zone().cloned().unwrap_or_else(Zone::utc),
        };
        Ok(CompiledSchedule(Arc::new(Inner {
            job_id: job_id.to_owned(),
            description: describe(&rule),
            rule,
            start: self.start.unwrap_or(Timestamp::MIN),
            end: self.end.unwrap_or(Timestamp::MAX),
            jitter: self.jitter,
            exclusions,
            calendars: self.exclude.calendars.clone(),
            zone,
        })))
    }

    fn rule(&self, job_id: &str, faults: &mut Vec<Fault>) -> Option<Rule> {
        match &self.recurrence {
            Recurrence::Interval { every, anchor, from_completion } => match period(*every) {
                Ok(period) => {
                    Some(Rule::Interval { period, anchor: *anchor, from_completion: *from_completion })
                }
                Err(fault) => {
                    faults.push(fault);
                    None
                }
            },
            Recurrence::Cron(cron) => match cron.compile(job_id) {
                Ok(cron) => Some(Rule::Cron(Box::new(cron))),
                Err(list) => {
                    faults.extend(list);
                    None
                }
            },
            Recurrence::Once { at } => Some(Rule::Once(*at)),
            Recurrence::Manual => Some(Rule::Manual),
        }
    }

    fn check(&self, faults: &mut Vec<Fault>) {
        if let (Some(start), Some(end)) = (self.start, self.end)
            && end <= start
        {
            faults.push(
                Fault::new("end", "the schedule ends before it starts").help("put `end` after `start`"),
            );
        }
        if let Recurrence::Once { at } = self.recurrence {
            if self.start.is_some_and(|start| at < start) {
                faults.push(Fault::new("at", "the only due time lies before `start`"));
            }
            if self.end.is_some_and(|end| at > end) {
                faults.push(Fault::new("at", "the only due time lies after `end`"));
            }
        }
        if self.limit == Some(0) {
            faults.push(
                Fault::new("limit", "a limit of 0 never runs").help("use 1 or more, or disable the job"),
            );
        }
        if self.jitter > LONGEST_JITTER {
            faults.push(Fault::new("jitter_seconds", "the jitter is longer than a day").help("use less"));
        } else if let Recurrence::Interval { every, .. } = self.recurrence
            && self.jitter > every
        {
            faults.push(
                Fault::new("jitter_seconds", "the jitter is longer than the interval")
                    .help("use less than `interval_seconds`, so that occurrences keep their order"),
            );
        }
        for (i, name) in self.exclude.calendars.iter().enumerate() {
            if name.trim().is_empty() {
                faults.push(Fault::new(format!("exclude.calendars[{i}]"), "the calendar's name is empty"));
            }
        }
    }
}

/// The period in milliseconds.
fn period(every: Duration) -> Result<i64, Fault> {
    let fault = |message: &str, help: &str| Err(Fault::new("interval_seconds", message).help(help));
    if every.is_zero() {
        return fault("the interval is zero", "use 0.001 or more");
    }
    if every.subsec_nanos() % 1_000_000 != 0 {
        return fault("the interval is not a whole number of milliseconds", "use at most three decimals");
    }
    let longest = Timestamp::MAX.since(Timestamp::EPOCH);
    match i64::try_from(every.as_millis()) {
        Ok(millis) if every <= longest => Ok(millis),
        _ => fault("the interval is longer than any calendar", "use less"),
    }
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

fn describe(rule: &Rule) -> String {
    match rule {
        Rule::Interval { period, from_completion, .. } => {
            let every = format!("every {}", span(*period));
            if *from_completion { format!("{every} after the last run") } else { every }
        }
        Rule::Cron(cron) => cron.text().to_owned(),
        Rule::Once(at) => format!("once at {at}"),
        Rule::Manual => "only when triggered".to_owned(),
    }
}

/// A length of time in words: `5 minutes`, `1 hour 30 minutes`.
fn span(millis: i64) -> String {
    let units =
        [("day", 86_400_000), ("hour", 3_600_000), ("minute", 60_000), ("second", 1000), ("millisecond", 1)];
    let mut left = millis;
    let mut words = Vec::new();
    for (unit, size) in units {
        let n = left / size;
        left %= size;
        if n == 1 && n * size == millis {
            return unit.to_owned();
        }
        if n > 0 {
            words.push(format!("{n} {unit}{}", if n == 1 { "" } else { "s" }));
        }
    }
    words.join(" ")
}
