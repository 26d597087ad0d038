//! When jobs are due: schedules, their JSON form, and the arithmetic of due times.
//!
//! A [`Schedule`] is plain data. [`Schedule::compile`] checks it and gives a [`CompiledSchedule`],
//! which answers questions about due times. All of it is pure: no clock is read, and the same question
//! has the same answer on every node.

mod check;
mod civil;
mod compiled;
mod cron;
mod document;
mod exclusion;
mod interval;
mod jitter;
mod preview;
mod zone;

use std::time::Duration;

pub use compiled::{CompiledSchedule, Count};
pub use cron::{Cron, Dialect, Fold, Gap};
pub use exclusion::{Calendar, Calendars, DateRange, Exclusions, TimeOfDay, Weekday, Window};
pub use preview::{Dst, Preview, preview};
pub use zone::{timezone_names, tzdb_version};

use crate::time::Timestamp;

/// When a job is due.
///
/// ```
/// use unified_scheduler_core::schedule::Schedule;
///
/// let nightly = Schedule::cron("30 2 * * *").in_timezone("Europe/Berlin").compile("backup")?;
/// // On the night when 02:30 is skipped, it runs at the same instant: 03:30 in summer time.
/// let due = nightly.next_after("2026-03-29T00:00:00Z".parse().unwrap(), Default::default());
/// assert_eq!(due.unwrap().to_string(), "2026-03-29T01:30:00.000Z");
/// # Ok::<(), Vec<unified_scheduler_core::Fault>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// How due times follow each other.
    pub recurrence: Recurrence,
    /// No due time before this instant.
    pub start: Option<Timestamp>,
    /// No due time after this instant.
    pub end: Option<Timestamp>,
    /// At most so many executions; whoever plans them counts.
    pub limit: Option<u64>,
    /// Each occurrence starts late by an offset of its own, from zero to below this.
    pub jitter: Duration,
    /// Which due times are left out.
    pub exclude: Exclusions,
}

/// How due times follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recurrence {
    /// At anchor + n × `every`.
    Interval {
        /// The period: whole milliseconds, at least one.
        every: Duration,
        /// Any point of the grid; without one, the job's first due time.
        anchor: Option<Timestamp>,
        /// Counted from the end of each execution instead: drifts, and never overlaps.
        from_completion: bool,
    },
    /// When the clock on the wall matches an expression.
    Cron(Cron),
    /// Once.
    Once {
        /// The due time.
        at: Timestamp,
    },
    /// Only when triggered, by hand or by another job.
    Manual,
}

impl Schedule {
    /// Due by `recurrence` alone: no bounds, no jitter, no exclusions.
    pub fn new(recurrence: Recurrence) -> Self {
        Self {
            recurrence,
            start: None,
            end: None,
            limit: None,
            jitter: Duration::ZERO,
            exclude: Exclusions::default(),
        }
    }

    /// Due every so often, from registration on.
    pub fn every(every: Duration) -> Self {
        Self::new(Recurrence::Interval { every, anchor: None, from_completion: false })
    }

    /// Due by a cron expression of the standard dialect, in UTC.
    pub fn cron(expression: impl Into<String>) -> Self {
        Self::cron_in(expression, "UTC")
    }

    /// Due by a cron expression of the standard dialect, in the local time of `timezone`.
    pub fn cron_in(expression: impl Into<String>, timezone: impl Into<String>) -> Self {
        Self::new(Recurrence::Cron(Cron::new(expression, timezone)))
    }

    /// Due once.
    pub fn once(at: Timestamp) -> Self {
        Self::new(Recurrence::Once { at })
    }

    /// Due only when triggered.
    pub fn manual() -> Self {
        Self::new(Recurrence::Manual)
    }

    /// Whether it is [`Self::manual`].
    pub fn is_manual(&self) -> bool {
        self.recurrence == Recurrence::Manual
    }

    /// The same in the local time of `timezone`: the expression's, or else that of the exclusions.
    #[must_use]
    pub fn in_timezone(mut self, timezone: impl Into<String>) -> Self {
        match &mut self.recurrence {
            Recurrence::Cron(cron) => cron.timezone = timezone.into(),
            _ => self.exclude.timezone = Some(timezone.into()),
        }
        self
    }

    /// The same on a grid through `anchor`; only intervals have one.
    #[must_use]
    pub fn anchored_at(mut self, instant: Timestamp) -> Self {
        if let Recurrence::Interval { anchor, .. } = &mut self.recurrence {
            *anchor = Some(instant);
        }
        self
    }

    /// The same, not before `start`.
    #[must_use]
    pub fn starting(mut self, start: Timestamp) -> Self {
        self.start = Some(start);
        self
    }

    /// The same, not after `end`.
    #[must_use]
    pub fn until(mut self, end: Timestamp) -> Self {
        self.end = Some(end);
        self
    }

    /// The same, for at most `n` executions.
    #[must_use]
    pub fn limit(mut self, n: u64) -> Self {
        self.limit = Some(n);
        self
    }

    /// The same, each occurrence late by an offset below `jitter`.
    #[must_use]
    pub fn jitter(mut self, jitter: Duration) -> Self {
        self.jitter = jitter;
        self
    }

    /// The same without the due times that `exclude` names.
    #[must_use]
    pub fn excluding(mut self, exclude: Exclusions) -> Self {
        self.exclude = exclude;
        self
    }
}
