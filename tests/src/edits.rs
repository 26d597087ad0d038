//! What people do to jobs, while nodes claim them.

use std::time::Duration;

use unified_scheduler_core::schedule::{Calendar, Schedule};
use unified_scheduler_core::{Execution, JobId, Jobs, Result, RunOptions, Timestamp};

use crate::jobs;
use crate::random::Random;

/// How long anybody waits for an answer.
pub const PATIENCE: Duration = Duration::from_mins(5);

/// One thing that somebody does.
#[derive(Debug, Clone)]
pub enum Edit {
    /// The schedule counts no more.
    Disable,
    /// It counts again, from now on.
    Enable,
    /// It counts again, and what was missed is caught up.
    EnableWithMissed,
    /// Another schedule.
    Reschedule(Schedule),
    /// Another priority.
    Priority(i32),
    /// So many occurrences are left out.
    SkipNext(u32),
    /// The job goes.
    Delete,
    /// A calendar changes.
    Calendar(Calendar),
    /// It runs now.
    Trigger(RunOptions),
    /// Something of it that is open is called off; by whoever knows what is open.
    Cancel,
}

impl Edit {
    /// Draws one.
    pub fn draw(random: &mut Random, now: Timestamp) -> Self {
        match random.within(0..24) {
            0..=2 => Self::Disable,
            3..=5 => Self::Enable,
            6..=7 => Self::EnableWithMissed,
            8..=9 => Self::Reschedule(jobs::schedule(random, now)),
            10..=11 => Self::Priority(i32::try_from(random.around_zero(9)).unwrap_or(0)),
            12 => Self::SkipNext(u32::try_from(random.within(0..4)).unwrap_or(0)),
            13 if random.in_thousand(300) => Self::Delete,
            13 => Self::Calendar(jobs::calendar(random)),
            14..=19 => Self::Trigger(trigger(random)),
            _ => Self::Cancel,
        }
    }

    /// The same on a scale of time that is `by` times quicker.
    #[must_use]
    pub fn quicker(self, by: u32, now: Timestamp) -> Self {
        match self {
            Self::Reschedule(schedule) => Self::Reschedule(jobs::quicker_schedule(schedule, by, now)),
            other => other,
        }
    }

    /// Its name in the counters.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Disable => "edit: disable",
            Self::Enable => "edit: enable",
            Self::EnableWithMissed => "edit: enable with missed",
            Self::Reschedule(_) => "edit: reschedule",
            Self::Priority(_) => "edit: priority",
            Self::SkipNext(_) => "edit: skip next",
            Self::Delete => "edit: delete",
            Self::Calendar(_) => "edit: calendar",
            Self::Trigger(_) => "edit: trigger",
            Self::Cancel => "edit: cancel",
        }
    }

    /// Does it to a job; the execution that a trigger made. A cancellation is nothing here.
    ///
    /// # Errors
    ///
    /// As the job's verbs.
    pub async fn make(&self, jobs: &Jobs, id: &JobId) -> Result<Option<Execution>> {
        match self {
            Self::Disable => jobs.disable(id).await.map(drop)?,
            Self::Enable => jobs.enable(id).await.map(drop)?,
            Self::EnableWithMissed => jobs.enable_with_missed(id).await.map(drop)?,
            Self::Reschedule(schedule) => {
                jobs.edit(id, |d| d.schedule = schedule.clone()).await.map(drop)?;
            }
            Self::Priority(priority) => jobs.edit(id, |d| d.priority = *priority).await.map(drop)?,
            Self::SkipNext(n) => jobs.skip_next(id, *n).await.map(drop)?,
            Self::Delete => jobs.delete(id).await?,
            Self::Calendar(calendar) => jobs.put_calendar(calendar).await?,
            Self::Trigger(options) => return jobs.run(id, options.clone()).await.map(Some),
            Self::Cancel => {}
        }
        Ok(None)
    }
}

fn trigger(random: &mut Random) -> RunOptions {
    let key = format!("key-{}", random.within(0..12));
    RunOptions {
        idempotency_key: random.in_thousand(700).then_some(key),
        unless_open: random.in_thousand(300),
        ..RunOptions::default()
    }
}
