//! The flags by which a job is defined or changed.

use std::time::Duration;

use clap::{Args, ValueEnum};
use unified_scheduler::policy::{Chain, ChainOn};
use unified_scheduler::schedule::{Cron, Recurrence};
use unified_scheduler::{
    Backoff, Fault, JobDefinition, JobId, Keep, Misfire, Overlap, Retry, Schedule, Timestamp,
};

use crate::exit::Failure;
use crate::values::{When, duration, parameters};

use super::instant;

/// When a job is due.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Schedule")]
pub(crate) struct ScheduleArgs {
    /// Due every so often: 90s, 5m, 1h30m, 250ms
    #[arg(long, value_name = "PERIOD", value_parser = duration, allow_hyphen_values = true, group = "recurrence")]
    pub(crate) every: Option<Duration>,
    /// Due when a cron expression says, of 5, 6 (seconds first) or 7 fields, or such as @daily
    #[arg(long, value_name = "EXPR", group = "recurrence")]
    pub(crate) cron: Option<String>,
    /// Due once: 2026-01-02T03:04:05Z, 2026-01-02T03:04 (local time), or +5m
    #[arg(long, value_name = "TIME", value_parser = instant, allow_hyphen_values = true, group = "recurrence")]
    pub(crate) at: Option<When>,
    /// Due only when triggered, or chained to
    #[arg(long, group = "recurrence")]
    pub(crate) manual: bool,
    /// IANA time zone of the expression, such as Europe/Berlin [default: UTC]
    #[arg(long, visible_alias = "tz", value_name = "ZONE")]
    pub(crate) timezone: Option<String>,
    /// With --every: count from the end of each run
    #[arg(long, requires = "every")]
    pub(crate) from_completion: bool,
    /// Not due before
    #[arg(long, value_name = "TIME", value_parser = instant, allow_hyphen_values = true)]
    pub(crate) start: Option<When>,
    /// Not due after
    #[arg(long, value_name = "TIME", value_parser = instant, allow_hyphen_values = true)]
    pub(crate) end: Option<When>,
    /// Run at most so many times
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Start each occurrence late by a random part of this
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) jitter: Option<Duration>,
    /// Leave out a date (2026-12-24), a range of them, or a weekday (SAT); may be repeated
    #[arg(long, value_name = "DATE|DAY")]
    pub(crate) exclude: Vec<String>,
    /// Leave out what a shared calendar excludes; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) calendar: Vec<String>,
}

/// What a job runs, and how.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Definition")]
pub(crate) struct DefinitionArgs {
    #[command(flatten)]
    pub(crate) schedule: ScheduleArgs,
    /// One parameter; a value that is JSON is taken as such, else as text. May be repeated
    #[arg(long, short, value_name = "NAME=VALUE", help_heading = "Definition")]
    param: Vec<String>,
    /// All parameters, as a JSON object or @FILE
    #[arg(long, value_name = "JSON|@FILE", help_heading = "Definition")]
    parameters: Option<String>,
    /// For people
    #[arg(long, value_name = "TEXT", help_heading = "Definition")]
    description: Option<String>,
    /// A tag for filters; may be repeated
    #[arg(long, value_name = "TAG", help_heading = "Definition")]
    tag: Vec<String>,
    /// How long one attempt may take [default: 1h]
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "Policies")]
    timeout: Option<Duration>,
    /// How many times what went wrong runs again
    #[arg(long, value_name = "N", help_heading = "Policies")]
    retries: Option<u32>,
    /// How long to wait before a retry [default: 5m]
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "Policies")]
    retry_delay: Option<Duration>,
    /// How that wait grows
    #[arg(long, value_enum, value_name = "HOW", help_heading = "Policies")]
    backoff: Option<BackoffArg>,
    /// The longest wait before a retry [default: 1h]
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "Policies")]
    max_retry_delay: Option<Duration>,
    /// The part of each wait, from 0 to 1, that is drawn at random
    #[arg(long, value_name = "PART", help_heading = "Policies")]
    retry_jitter: Option<f64>,
    /// What happens when it is due while it runs: skip, queue-one, cancel-running, allow:N
    #[arg(long, value_name = "POLICY", value_parser = overlap, help_heading = "Policies")]
    overlap: Option<Overlap>,
    /// What happens to late occurrences: run-once, skip[:GRACE], run-all:N
    #[arg(long, value_name = "POLICY", value_parser = misfire, help_heading = "Policies")]
    misfire: Option<Misfire>,
    /// Higher is claimed first; from -100 to 100
    #[arg(long, value_name = "N", allow_negative_numbers = true, help_heading = "Policies")]
    priority: Option<i32>,
    /// Disable the job after so many failures in a row
    #[arg(long, value_name = "N", help_heading = "Policies")]
    pause_after: Option<u32>,
    /// Which executions stay in the history
    #[arg(long, value_enum, value_name = "WHICH", help_heading = "Policies")]
    keep: Option<KeepArg>,
    /// How long they stay
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "Policies")]
    keep_for: Option<Duration>,
    /// How many of the newest stay
    #[arg(long, value_name = "N", help_heading = "Policies")]
    keep_last: Option<u32>,
    /// Run this job, by id or name, when this one went well; may be repeated
    #[arg(long, value_name = "JOB", help_heading = "Policies")]
    then: Vec<String>,
    /// Run this job when this one went wrong; may be repeated
    #[arg(long, value_name = "JOB", help_heading = "Policies")]
    on_failure: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum BackoffArg {
    Fixed,
    Exponential,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KeepArg {
    All,
    Failures,
    None,
}

fn overlap(text: &str) -> Result<Overlap, String> {
    let help = "there are skip, queue-one, cancel-running, allow:N";
    match text.replace('_', "-").as_str() {
        "skip" => Ok(Overlap::Skip),
        "queue-one" => Ok(Overlap::QueueOne),
        "cancel-running" => Ok(Overlap::CancelRunning),
        other => {
            let max = other.strip_prefix("allow:").and_then(|n| n.parse().ok());
            max.map(|max| Overlap::Allow { max }).ok_or_else(|| format!("no policy `{text}`; {help}"))
        }
    }
}

fn misfire(text: &str) -> Result<Misfire, String> {
    let help = "there are run-once, skip, skip:GRACE (such as skip:30s), run-all:N";
    match text.replace('_', "-").as_str() {
        "run-once" => Ok(Misfire::RunOnce),
        "skip" => Ok(Misfire::Skip { grace: Duration::from_secs(60) }),
        other => {
            if let Some(grace) = other.strip_prefix("skip:") {
                return duration(grace).map(|grace| Misfire::Skip { grace });
            }
            let limit = other.strip_prefix("run-all:").and_then(|n| n.parse().ok());
            limit.map(|limit| Misfire::RunAll { limit }).ok_or_else(|| format!("no policy `{text}`; {help}"))
        }
    }
}

impl ScheduleArgs {
    /// Whether nothing says when the job is due.
    pub(crate) fn has_no_recurrence(&self) -> bool {
        self.every.is_none() && self.cron.is_none() && self.at.is_none() && !self.manual
    }

    fn recurrence(&self, now: Timestamp) -> Option<Recurrence> {
        if let Some(every) = self.every {
            return Some(Recurrence::Interval { every, anchor: None, from_completion: self.from_completion });
        }
        if let Some(expression) = &self.cron {
            return Some(Recurrence::Cron(Cron::new(expression, "UTC")));
        }
        if let Some(at) = self.at {
            return Some(Recurrence::Once { at: at.resolve(now) });
        }
        self.manual.then_some(Recurrence::Manual)
    }

    /// Changes what is named, and leaves the rest.
    pub(crate) fn apply(&self, schedule: &mut Schedule, now: Timestamp) -> Result<(), Failure> {
        if let Some(mut recurrence) = self.recurrence(now) {
            // Another expression stays in the zone of the one before.
            if let (Recurrence::Cron(new), Recurrence::Cron(old)) = (&mut recurrence, &schedule.recurrence) {
                new.timezone.clone_from(&old.timezone);
                (new.gap, new.overlap) = (old.gap, old.overlap);
            }
            schedule.recurrence = recurrence;
        }
        if let Some(zone) = &self.timezone {
            *schedule = schedule.clone().in_timezone(zone);
        }
        schedule.start = self.start.map(|t| t.resolve(now)).or(schedule.start);
        schedule.end = self.end.map(|t| t.resolve(now)).or(schedule.end);
        schedule.limit = self.limit.or(schedule.limit);
        schedule.jitter = self.jitter.unwrap_or(schedule.jitter);
        schedule.exclude.calendars.extend(self.calendar.iter().cloned());
        let mut faults = Vec::new();
        for text in &self.exclude {
            let value = serde_json::Value::String(text.clone());
            if let Ok(day) = serde_json::from_value(value.clone()) {
                schedule.exclude.weekdays.push(day);
                continue;
            }
            match serde_json::from_value(value) {
                Ok(range) => schedule.exclude.dates.push(range),
                Err(error) => faults.push(Fault::new("--exclude", error.to_string())),
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(Failure::faults("these days can't be left out", faults)) }
    }
}

impl DefinitionArgs {
    /// Changes what is named, and leaves the rest.
    pub(crate) fn apply(&self, job: &mut JobDefinition, now: Timestamp) -> Result<(), Failure> {
        self.schedule.apply(&mut job.schedule, now)?;
        if let Some(given) = parameters(self.parameters.as_deref(), &self.param)? {
            // Single parameters change single ones; `--parameters` replaces them all.
            if self.parameters.is_some() {
                job.parameters = given;
            } else {
                job.parameters.extend(given);
            }
        }
        if let Some(description) = &self.description {
            job.description.clone_from(description);
        }
        if !self.tag.is_empty() {
            job.tags.clone_from(&self.tag);
        }
        job.timeout = self.timeout.unwrap_or(job.timeout);
        self.apply_retry(&mut job.retry);
        job.overlap = self.overlap.unwrap_or(job.overlap);
        job.misfire = self.misfire.unwrap_or(job.misfire);
        job.priority = self.priority.unwrap_or(job.priority);
        job.pause_after_failures = self.pause_after.or(job.pause_after_failures);
        if let Some(keep) = self.keep {
            job.history.keep = match keep {
                KeepArg::All => Keep::All,
                KeepArg::Failures => Keep::Failures,
                KeepArg::None => Keep::None,
            };
        }
        job.history.max_age = self.keep_for.or(job.history.max_age);
        job.history.max_count = self.keep_last.or(job.history.max_count);
        let chains = |on: ChainOn, jobs: &[String]| -> Vec<Chain> {
            jobs.iter().map(|job| Chain { on, job: JobId::from(job.as_str()) }).collect()
        };
        for (on, jobs) in [(ChainOn::Success, &self.then), (ChainOn::Failure, &self.on_failure)] {
            if !jobs.is_empty() {
                job.chains.retain(|chain| chain.on != on);
                job.chains.extend(chains(on, jobs));
            }
        }
        Ok(())
    }

    fn apply_retry(&self, retry: &mut Retry) {
        if let Some(retries) = self.retries {
            retry.max_retries = retries;
            retry.on_lost = retries > 0;
            retry.explicit = true;
        }
        if let Some(delay) = self.retry_delay {
            retry.delay = delay;
            retry.explicit = true;
        }
        if let Some(backoff) = self.backoff {
            retry.backoff = match backoff {
                BackoffArg::Fixed => Backoff::Fixed,
                BackoffArg::Exponential => Backoff::Exponential,
            };
            retry.explicit = true;
        }
        retry.max_delay = self.max_retry_delay.unwrap_or(retry.max_delay);
        retry.jitter = self.retry_jitter.unwrap_or(retry.jitter);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_as_words() {
        assert_eq!(overlap("allow:4").unwrap(), Overlap::Allow { max: 4 });
        assert_eq!(overlap("queue_one").unwrap(), Overlap::QueueOne);
        assert_eq!(misfire("skip:30s").unwrap(), Misfire::Skip { grace: Duration::from_secs(30) });
        assert_eq!(misfire("run-all:9").unwrap(), Misfire::RunAll { limit: 9 });
        assert!(overlap("allow").is_err() && misfire("run-all").is_err());
    }

    #[test]
    fn an_edit_changes_what_is_named_and_leaves_the_rest() {
        let mut job = JobDefinition::new("n", "t", Schedule::cron_in("0 3 * * *", "Europe/Berlin").limit(5));
        job.parameters.insert("a".into(), 1.into());
        let args = DefinitionArgs {
            schedule: ScheduleArgs { cron: Some("0 4 * * *".into()), ..ScheduleArgs::default() },
            param: vec!["b=2".into()],
            retries: Some(3),
            ..DefinitionArgs::default()
        };
        args.apply(&mut job, Timestamp::EPOCH).unwrap();
        assert_eq!(job.schedule, Schedule::cron_in("0 4 * * *", "Europe/Berlin").limit(5));
        assert_eq!((job.parameters.len(), job.retry.max_retries, job.retry.on_lost), (2, 3, true));
    }
}
