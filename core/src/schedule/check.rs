//! Checking a schedule, and making of it what answers questions.

use std::sync::Arc;
use std::time::Duration;

use super::compiled::{CompiledSchedule, Inner, Rule};
use super::zone::Zone;
use super::{Recurrence, Schedule};
use crate::error::Fault;
use crate::time::Timestamp;

/// Longer offsets are mistakes: jitter spreads load, it does not plan.
const LONGEST_JITTER: Duration = Duration::from_hours(24);

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
    if !every.subsec_nanos().is_multiple_of(1_000_000) {
        return fault("the interval is not a whole number of milliseconds", "use at most three decimals");
    }
    let longest = Timestamp::MAX.since(Timestamp::EPOCH);
    match i64::try_from(every.as_millis()) {
        Ok(millis) if every <= longest => Ok(millis),
        _ => fault("the interval is longer than any calendar", "use less"),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(schedule: &Schedule) -> Vec<String> {
        schedule.compile("job").unwrap_err().into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn all_faults_are_told_with_their_fields() {
        let t = Timestamp::EPOCH;
        let schedule = Schedule::cron_in("61 3 * * *", "Europe/Berln").starting(t).until(t).limit(0);
        assert_eq!(fields(&schedule), ["expression", "timezone", "end", "limit"]);
        for every in [Duration::ZERO, Duration::from_nanos(1), Duration::from_micros(1500), Duration::MAX] {
            assert_eq!(fields(&Schedule::every(every)), ["interval_seconds"], "{every:?}");
        }
        let minute = Schedule::every(Duration::from_mins(1));
        assert_eq!(fields(&minute.clone().jitter(Duration::from_secs(61))), ["jitter_seconds"]);
        assert_eq!(fields(&minute.in_timezone("Mars/Base")), ["exclude.timezone"]);
        assert_eq!(fields(&Schedule::cron("0 0 30 2 *")), ["expression"]);
        assert_eq!(fields(&Schedule::cron(" ".repeat(2000))), ["expression"]);
    }

    #[test]
    fn schedules_read_as_people_say_them() {
        let text = |schedule: Schedule| schedule.compile("job").unwrap().describe();
        assert_eq!(text(Schedule::every(Duration::from_mins(5))), "every 5 minutes");
        assert_eq!(text(Schedule::every(Duration::from_hours(1))), "every hour");
        assert_eq!(text(Schedule::every(Duration::from_mins(90))), "every 1 hour 30 minutes");
        assert_eq!(
            text(Schedule::cron_in("0 3 * * 1-5", "Europe/Berlin")),
            "at 03:00 on weekdays (Europe/Berlin)"
        );
        assert_eq!(text(Schedule::once(Timestamp::EPOCH)), "once at 1970-01-01T00:00:00.000Z");
    }
}
