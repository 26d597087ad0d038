//! What a job does when things are late, overlap, fail or end.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{IdSource, JobId};
use crate::seconds;

/// What happens to occurrences that are found late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "policy", rename_all = "snake_case", deny_unknown_fields)]
pub enum Misfire {
    /// However late: all that were missed coalesce into one execution, which says how many it stands for.
    #[default]
    RunOnce,
    /// Those later than `grace` are skipped, with a record; what is left coalesces into one execution.
    Skip {
        /// How late an occurrence may be and still run; at least a second.
        #[serde(rename = "grace_seconds", with = "seconds")]
        grace: Duration,
    },
    /// Each of the last `limit` missed occurrences runs, one after another; older ones are skipped,
    /// with one record for all of them.
    RunAll {
        /// The largest number of missed occurrences that still run. From 1 to 1,000.
        limit: u32,
    },
}

/// What happens to an occurrence that is due while the job still runs, on any node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "policy", rename_all = "snake_case", deny_unknown_fields)]
pub enum Overlap {
    /// It is skipped, with a record.
    #[default]
    Skip,
    /// It waits for the running one to end. One waits; the ones after it are skipped.
    QueueOne,
    /// It runs beside the others, up to `max` at once; above that it is skipped.
    Allow {
        /// The largest number of executions of the job that run at once. From 1.
        max: u32,
    },
    /// The running ones are asked to stop, and it starts when they have.
    CancelRunning,
}

impl Overlap {
    /// The largest number of executions of the job that may run at once.
    pub fn max_running(self) -> u32 {
        match self {
            Self::Allow { max } => max.max(1),
            Self::Skip | Self::QueueOne | Self::CancelRunning => 1,
        }
    }
}

/// How the wait grows from one retry to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backoff {
    /// Always the same.
    #[default]
    Fixed,
    /// Twice the one before.
    Exponential,
}

/// Whether and when an execution that went wrong is run again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "four independent choices, as they stand in documents")]
pub struct Retry {
    /// How many times after the first. 0 is never. At most 1,000.
    pub max_retries: u32,
    /// The wait before the first retry.
    #[serde(rename = "retry_delay_seconds", with = "seconds")]
    pub delay: Duration,
    /// How the wait grows.
    pub backoff: Backoff,
    /// The longest wait.
    #[serde(rename = "max_delay_seconds", with = "seconds")]
    pub max_delay: Duration,
    /// The part of each wait, from 0 to 1, that is drawn at random, so that many jobs that failed
    /// together do not come back together.
    pub jitter: f64,
    /// Whether a failure is retried.
    pub on_failure: bool,
    /// Whether an execution that ran out of time is retried.
    pub on_timeout: bool,
    /// Whether an execution whose node died is run again. That counts as a crash, not as a retry.
    pub on_lost: bool,
    /// After how many crashes of one execution the job is parked: set aside until someone looks.
    pub crash_limit: u32,
    /// Whether somebody chose this policy. Documents of older programs carry one that nobody chose; it
    /// counts only for templates that declare themselves safe to repeat.
    pub explicit: bool,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            max_retries: 0,
            delay: Duration::from_secs(300),
            backoff: Backoff::Fixed,
            max_delay: Duration::from_secs(3600),
            jitter: 0.0,
            on_failure: true,
            on_timeout: true,
            on_lost: false,
            crash_limit: 3,
            explicit: true,
        }
    }
}

impl Retry {
    /// Never.
    pub fn never() -> Self {
        Self::default()
    }

    /// `n` times, after a failure, a timeout or the death of the node, `delay` apart.
    pub fn times(n: u32, delay: Duration) -> Self {
        Self { max_retries: n, delay, on_lost: true, ..Self::default() }
    }

    /// The same, each wait twice the one before, at most `max_delay`.
    #[must_use]
    pub fn exponential(mut self, max_delay: Duration) -> Self {
        self.backoff = Backoff::Exponential;
        self.max_delay = max_delay;
        self
    }

    /// The same, with this part (0 to 1) of each wait drawn at random.
    #[must_use]
    pub fn jitter(mut self, part: f64) -> Self {
        self.jitter = part.clamp(0.0, 1.0);
        self
    }

    /// The wait before retry number `n`, counted from 1.
    pub fn delay_before(&self, n: u32, ids: &IdSource) -> Duration {
        let whole = match self.backoff {
            Backoff::Fixed => self.delay,
            Backoff::Exponential => {
                self.delay.saturating_mul(1_u32.checked_shl(n.saturating_sub(1)).unwrap_or(u32::MAX))
            }
        };
        let whole = if self.backoff == Backoff::Exponential { whole.min(self.max_delay) } else { whole };
        if self.jitter > 0.0 { whole.mul_f64(1.0 - self.jitter.min(1.0) * ids.fraction()) } else { whole }
    }
}

/// Which executions of a job stay in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// All of them.
    #[default]
    All,
    /// Only what did not go well; a success is removed in the step that would have recorded it.
    Failures,
    /// None: an execution is removed when it ends.
    None,
}

/// What of a job's history is kept, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct History {
    /// Which executions are kept at all.
    pub keep: Keep,
    /// How long. Without it the scheduler's own retention counts.
    #[serde(rename = "max_age_seconds", with = "seconds::option", skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Duration>,
    /// How many of the newest. Without it, all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_count: Option<u32>,
}

/// Which end of an execution starts another job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChainOn {
    /// It went well, in whole or in part.
    #[default]
    Success,
    /// It failed, ran out of time or was lost, and will not be retried.
    Failure,
    /// Any end that will not be retried.
    Any,
}

/// A job that runs when this one ends; it finds this one's result in its context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chain {
    /// At which end.
    #[serde(default)]
    pub on: ChainOn,
    /// The id of the job to run. A job that is gone or disabled by then is not run.
    pub job: JobId,
}

/// Whom to tell: email addresses and webhook URLs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Notifications {
    /// When the last attempt went well.
    pub on_success: Vec<String>,
    /// When the last attempt went wrong, in whole or in part.
    pub on_failure: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exponential_wait_doubles_up_to_its_cap() {
        let ids = IdSource::seeded(1);
        let retry = Retry::times(9, Duration::from_secs(10)).exponential(Duration::from_secs(60));
        let waits: Vec<u64> = (1..=5).map(|n| retry.delay_before(n, &ids).as_secs()).collect();
        assert_eq!(waits, [10, 20, 40, 60, 60]);
        assert_eq!(retry.delay_before(u32::MAX, &ids).as_secs(), 60);
    }

    #[test]
    fn jitter_only_shortens_a_wait() {
        let ids = IdSource::seeded(1);
        let retry = Retry::times(1, Duration::from_secs(10)).jitter(0.5);
        for _ in 0..100 {
            let wait = retry.delay_before(1, &ids);
            assert!((Duration::from_secs(5)..=Duration::from_secs(10)).contains(&wait), "{wait:?}");
        }
    }

    #[test]
    fn a_policy_reads_as_it_is_written() {
        let text = r#"{"policy":"skip","grace_seconds":1.5}"#;
        let misfire: Misfire = serde_json::from_str(text).unwrap();
        assert_eq!(misfire, Misfire::Skip { grace: Duration::from_millis(1500) });
        assert_eq!(serde_json::to_string(&misfire).unwrap(), text);
        assert!(serde_json::from_str::<Misfire>(r#"{"policy":"sometimes"}"#).is_err());
    }
}
