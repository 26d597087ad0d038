//! What follows from the end of an execution: its retry, the jobs chained to it, what it means for its job.
//!
//! Pure, like the planner, and used for every end alike: one that the handler gave, a timeout, a
//! cancellation, and one that a reaper finds.

use std::time::Duration;

use crate::execution::{Execution, Failure, JobResult, LogLine, Status, StatusClass, Trigger};
use crate::id::IdSource;
use crate::job::{Due, Job, due_with_jitter};
use crate::policy::{ChainOn, Keep};
use crate::store::{Completion, FailureCount, JobEffect, NewExecution};
use crate::time::Timestamp;

/// The kind of failure of an execution that ends because its scheduler stops.
pub const INTERRUPTED: &str = "interrupted";

/// How an execution ended, before what follows from it is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Ending {
    /// A final status.
    pub status: Status,
    /// When, by the store's clock as the node knows it.
    pub ended_at: Timestamp,
    /// How long the handler ran.
    pub duration: Option<Duration>,
    /// What it answered.
    pub result: Option<JobResult>,
    /// What went wrong.
    pub error: Option<Failure>,
    /// Log lines not yet reported.
    pub logs: Vec<LogLine>,
    /// How many were reported before them.
    pub first_line: u64,
    /// The handler's own wish for the next attempt: run again after this long, whatever the policy.
    pub retry_after: Option<Duration>,
    /// Whether the retry policy counts although nobody chose it, because the template says that its
    /// work can be repeated.
    pub retry_safe: bool,
}

impl Ending {
    /// An end with nothing but a status.
    pub fn new(status: Status, ended_at: Timestamp) -> Self {
        Self {
            status,
            ended_at,
            duration: None,
            result: None,
            error: None,
            logs: Vec::new(),
            first_line: 0,
            retry_after: None,
            retry_safe: false,
        }
    }

    /// The same end with what went wrong.
    #[must_use]
    pub fn error(mut self, kind: &str, message: impl Into<String>) -> Self {
        self.error = Some(Failure { kind: kind.to_owned(), message: message.into(), trace: None });
        self
    }

    /// Whether a node that stopped ended it.
    fn is_interrupted(&self) -> bool {
        self.error.as_ref().is_some_and(|error| error.kind == INTERRUPTED)
    }

    /// The end of an execution whose node is dead.
    pub fn lost(execution: &Execution, now: Timestamp) -> Self {
        let node = execution.node_id.as_ref().map_or("unknown", |id| id.as_str());
        Self::new(Status::Lost, now).error("lost", format!("node {node} died or was cut off while it ran"))
    }
}

/// All that follows from `ending`. Without a job (it is gone) nothing but the record does.
pub fn settle(job: Option<&Job>, execution: &Execution, ending: Ending, ids: &IdSource) -> Completion {
    let retry = job.and_then(|job| next_attempt(job, execution, &ending, ids));
    let effect = job.map(|job| effect_on(job, execution, &ending)).unwrap_or_default();
    let mut completion = Completion {
        execution_id: execution.id,
        job_id: execution.job_id.clone(),
        claim: execution.claim,
        status: ending.status,
        reason: ending.error.as_ref().map(|e| e.kind.clone()),
        started_at: execution.started_at.unwrap_or(ending.ended_at),
        ended_at: ending.ended_at,
        duration: ending.duration,
        result: ending.result,
        error: ending.error,
        logs: ending.logs,
        first_line: ending.first_line,
        chained: Vec::new(),
        effect,
        keep: Keep::All,
        next: None,
        retry,
    };
    if let Some(job) = job {
        completion.keep = job.definition.history.keep;
        completion.next = next_from_completion(job, execution, completion.ended_at);
        if completion.retry.is_none() {
            completion.chained = chained(job, execution, completion.status, completion.ended_at, ids);
        }
    }
    completion
}

fn next_attempt(job: &Job, execution: &Execution, ending: &Ending, ids: &IdSource) -> Option<NewExecution> {
    let policy = &job.definition.retry;
    if execution.cancel_requested {
        return None;
    }
    let counts = policy.explicit || ending.retry_safe;
    let may_retry = counts && execution.retries < policy.max_retries;
    let (retries, crashes, wait) = match ending.status {
        Status::Lost => {
            let again = counts && policy.on_lost && execution.crashes + 1 < policy.crash_limit;
            again.then_some((execution.retries, execution.crashes + 1, Duration::ZERO))?
        }
        _ if ending.retry_after.is_some() => {
            (execution.retries + 1, execution.crashes, ending.retry_after.unwrap_or_default())
        }
        // A stopping node hands back what it could not end in time: it runs again at once, at no cost.
        Status::Failed if ending.is_interrupted() && counts && policy.on_lost => {
            (execution.retries, execution.crashes, Duration::ZERO)
        }
        Status::Failed if may_retry && policy.on_failure => {
            (execution.retries + 1, execution.crashes, policy.delay_before(execution.retries + 1, ids))
        }
        Status::Timeout if may_retry && policy.on_timeout => {
            (execution.retries + 1, execution.crashes, policy.delay_before(execution.retries + 1, ids))
        }
        _ => return None,
    };
    Some(NewExecution {
        id: ids.execution(ending.ended_at),
        job_id: execution.job_id.clone(),
        trigger: execution.trigger,
        triggered_by: execution.triggered_by.clone(),
        due_at: execution.due_at,
        covers_until: execution.covers_until,
        n_occurrences: execution.n_occurrences,
        run_at: ending.ended_at.saturating_add(wait),
        attempt: execution.attempt + 1,
        retries,
        crashes,
        root_id: execution.root_id,
        nonce: execution.nonce.clone(),
        parameters: execution.parameters.clone(),
    })
}

fn effect_on(job: &Job, execution: &Execution, ending: &Ending) -> JobEffect {
    let status = ending.status;
    let crashes = execution.crashes + 1;
    let policy = &job.definition.retry;
    let parked = status == Status::Lost && policy.on_lost && crashes >= policy.crash_limit;
    JobEffect {
        failures: match status.class() {
            StatusClass::Ok | StatusClass::Part => FailureCount::Reset,
            // That a node stopped says nothing about the job.
            StatusClass::Bad if ending.is_interrupted() => FailureCount::Keep,
            StatusClass::Bad => FailureCount::Increment { pause_after: job.definition.pause_after_failures },
            StatusClass::Neutral | StatusClass::Open => FailureCount::Keep,
        },
        set_aside: parked
            .then(|| format!("its node died {crashes} times while it ran; look at it, then enable it again")),
    }
}

fn chained(
    job: &Job,
    execution: &Execution,
    status: Status,
    now: Timestamp,
    ids: &IdSource,
) -> Vec<NewExecution> {
    let applies = |on: ChainOn| match (on, status.class()) {
        (ChainOn::Any, _) => true,
        (ChainOn::Success, class) => matches!(class, StatusClass::Ok | StatusClass::Part),
        (ChainOn::Failure, class) => class == StatusClass::Bad,
    };
    let links = job.definition.chains.iter().filter(|chain| applies(chain.on));
    links
        .map(|chain| {
            let id = ids.execution(now);
            NewExecution {
                id,
                job_id: chain.job.clone(),
                trigger: Trigger::Chain,
                triggered_by: format!("chain:{}", execution.id),
                due_at: now,
                covers_until: None,
                n_occurrences: 1,
                run_at: now,
                attempt: 1,
                retries: 0,
                crashes: 0,
                root_id: id,
                nonce: id.to_string(),
                parameters: None,
            }
        })
        .collect()
}

fn next_from_completion(job: &Job, execution: &Execution, ended_at: Timestamp) -> Option<Due> {
    let schedule = job.definition.compiled().ok()?;
    let every = schedule.from_completion()?;
    if execution.trigger != Trigger::Schedule || execution.attempt > 1 {
        return None;
    }
    // Past the schedule's end it stands for that end: the planner ends the job there, with the reason.
    let due_at = ended_at.saturating_add(every);
    Some(due_with_jitter(schedule, due_at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::JobDefinition;
    use crate::policy::{Chain, Retry};
    use crate::schedule::{Recurrence, Schedule};
    use crate::store::{Disposition, NodeRef, Planned};
    use crate::{Epoch, JobId};

    /// A name, a policy, an end, and what comes next: retries, crashes, seconds until then.
    type NextRow<'a> = (&'a str, &'a Retry, Ending, Option<(u32, u32, u64)>);

    const NOW: Timestamp = Timestamp::from_secs(1_767_225_600);
    const SECOND: Duration = Duration::from_secs(1);

    fn job(change: impl FnOnce(&mut JobDefinition)) -> Job {
        let mut definition = JobDefinition::new("job", "handler", Schedule::every(60 * SECOND));
        change(&mut definition);
        Job::new(JobId::from("job"), definition, NOW)
    }

    fn retrying(retry: Retry) -> Job {
        job(|d| d.retry = retry)
    }

    fn running(job: &Job) -> Execution {
        let ids = IdSource::seeded(2);
        let node = NodeRef { id: ids.node("node"), epoch: Epoch(1) };
        let planned = Planned {
            id: ids.execution(NOW),
            due_at: NOW,
            covers_until: Some(NOW.saturating_add(60 * SECOND)),
            n_occurrences: 2,
            next_due_at: None,
            disposition: Disposition::Start,
        };
        planned.into_execution(job, NOW, &node)
    }

    fn end(status: Status) -> Ending {
        Ending::new(status, NOW.saturating_add(10 * SECOND))
    }

    fn interrupted() -> Ending {
        end(Status::Failed).error(INTERRUPTED, "the scheduler stopped")
    }

    fn settled(job: &Job, execution: &Execution, ending: Ending) -> Completion {
        settle(Some(job), execution, ending, &IdSource::seeded(1))
    }

    /// The next attempt: retries and crashes before it, and the seconds until it.
    fn next(job: &Job, execution: &Execution, ending: Ending) -> Option<(u32, u32, u64)> {
        let ended_at = ending.ended_at;
        let retry = settled(job, execution, ending).retry?;
        assert_eq!((retry.attempt, retry.root_id), (execution.attempt + 1, execution.root_id));
        assert_eq!((retry.due_at, retry.covers_until), (execution.due_at, execution.covers_until));
        assert_eq!((&retry.nonce, retry.n_occurrences), (&execution.nonce, execution.n_occurrences));
        Some((retry.retries, retry.crashes, retry.run_at.since(ended_at).as_secs()))
    }

    #[test]
    fn each_end_is_followed_by_the_attempt_that_its_policy_says() {
        let all = Retry::times(2, 7 * SECOND);
        let no_failure = Retry { on_failure: false, ..all.clone() };
        let no_timeout = Retry { on_timeout: false, ..all.clone() };
        let no_lost = Retry { on_lost: false, ..all.clone() };
        let inherited = Retry { explicit: false, ..all.clone() };
        let never = Retry::never();
        let wish = |status| Ending { retry_after: Some(3 * SECOND), ..end(status) };
        let safe = |ending| Ending { retry_safe: true, ..ending };
        let table: Vec<NextRow<'_>> = vec![
            ("well", &all, end(Status::Success), None),
            ("in part", &all, end(Status::Partial), None),
            ("called off", &all, end(Status::Cancelled), None),
            ("failed", &all, end(Status::Failed), Some((1, 0, 7))),
            ("failed, not chosen", &no_failure, end(Status::Failed), None),
            ("late", &all, end(Status::Timeout), Some((1, 0, 7))),
            ("late, not chosen", &no_timeout, end(Status::Timeout), None),
            ("lost", &all, end(Status::Lost), Some((0, 1, 0))),
            ("lost, not chosen", &no_lost, end(Status::Lost), None),
            ("never", &never, end(Status::Failed), None),
            ("failed, inherited", &inherited, end(Status::Failed), None),
            ("lost, inherited", &inherited, end(Status::Lost), None),
            ("failed, inherited and safe", &inherited, safe(end(Status::Failed)), Some((1, 0, 7))),
            ("a wish", &never, wish(Status::Failed), Some((1, 0, 3))),
            ("a wish over a policy", &all, wish(Status::Failed), Some((1, 0, 3))),
            ("interrupted", &all, interrupted(), Some((0, 0, 0))),
            ("interrupted, only lost", &no_failure, interrupted(), Some((0, 0, 0))),
            ("interrupted, only failures", &no_lost, interrupted(), Some((1, 0, 7))),
            ("interrupted, inherited", &inherited, interrupted(), None),
            ("interrupted, inherited and safe", &inherited, safe(interrupted()), Some((0, 0, 0))),
            ("interrupted, never", &never, interrupted(), None),
        ];
        for (case, policy, ending, expected) in table {
            let job = retrying(policy.clone());
            assert_eq!(next(&job, &running(&job), ending.clone()), expected, "{case}");
            let called_off = Execution { cancel_requested: true, ..running(&job) };
            assert_eq!(next(&job, &called_off, ending), None, "{case}, and called off");
        }
    }

    #[test]
    fn retries_run_out_and_waits_double() {
        let job = retrying(Retry::times(3, 10 * SECOND).exponential(25 * SECOND));
        let waits: Vec<_> = (0..5)
            .map(|retries| {
                let execution = Execution { retries, attempt: retries + 1, ..running(&job) };
                next(&job, &execution, end(Status::Failed)).map(|(.., wait)| wait)
            })
            .collect();
        assert_eq!(waits, [Some(10), Some(20), Some(25), None, None]);
    }

    #[test]
    fn an_interruption_costs_nothing_even_when_retries_are_used_up() {
        let job = retrying(Retry::times(1, 10 * SECOND));
        let execution = Execution { retries: 1, crashes: 2, attempt: 4, ..running(&job) };
        assert_eq!(next(&job, &execution, interrupted()), Some((1, 2, 0)));
        assert_eq!(settled(&job, &execution, interrupted()).effect, JobEffect::default());
    }

    #[test]
    fn a_job_whose_node_dies_too_often_is_parked() {
        let job = retrying(Retry::times(1, SECOND));
        let parked = |crashes| {
            let execution = Execution { crashes, ..running(&job) };
            let completion = settled(&job, &execution, Ending::lost(&execution, NOW));
            (completion.retry.is_some(), completion.effect.set_aside.is_some())
        };
        assert_eq!([parked(0), parked(1), parked(2)], [(true, false), (true, false), (false, true)]);
    }

    #[test]
    fn failures_in_a_row_count_what_went_badly() {
        let job = job(|d| d.pause_after_failures = Some(3));
        let count = |status| settled(&job, &running(&job), end(status)).effect.failures;
        for status in [Status::Success, Status::Completed, Status::Partial, Status::PartialSuccess] {
            assert_eq!(count(status), FailureCount::Reset);
        }
        for status in [Status::Failed, Status::Timeout, Status::Lost] {
            assert_eq!(count(status), FailureCount::Increment { pause_after: Some(3) });
        }
        for status in [Status::Cancelled, Status::Skipped] {
            assert_eq!(count(status), FailureCount::Keep);
        }
    }

    #[test]
    fn the_last_attempt_starts_the_chained_jobs() {
        let link = |on, job: &str| Chain { on, job: JobId::from(job) };
        let chains =
            vec![link(ChainOn::Success, "ok"), link(ChainOn::Failure, "bad"), link(ChainOn::Any, "any")];
        let job = job(|d| (d.retry, d.chains) = (Retry::times(1, SECOND), chains));
        let chained = |execution: &Execution, status| {
            let completion = settled(&job, execution, end(status));
            completion.chained.iter().map(|c| c.job_id.to_string()).collect::<Vec<_>>()
        };
        let first = running(&job);
        let last = Execution { retries: 1, ..first.clone() };
        assert_eq!(chained(&first, Status::Success), ["ok", "any"]);
        assert_eq!(chained(&first, Status::Partial), ["ok", "any"]);
        assert!(chained(&first, Status::Failed).is_empty());
        assert_eq!(chained(&last, Status::Failed), ["bad", "any"]);
        assert_eq!(chained(&first, Status::Cancelled), ["any"]);
        let made = settled(&job, &first, end(Status::Success)).chained;
        assert_eq!(made[0].triggered_by, format!("chain:{}", first.id));
        assert_eq!(made[0].nonce, made[0].root_id.to_string());
    }

    #[test]
    fn what_a_history_keeps_decides_over_the_row() {
        let keeps = |keep, status| {
            let job = job(|d| (d.history.keep, d.retry) = (keep, Retry::times(0, SECOND)));
            settled(&job, &running(&job), end(status)).keeps_row()
        };
        let table = [
            (Keep::All, Status::Success, true),
            (Keep::Failures, Status::Success, false),
            (Keep::Failures, Status::Cancelled, false),
            (Keep::Failures, Status::Partial, true),
            (Keep::Failures, Status::Lost, true),
            (Keep::None, Status::Failed, false),
        ];
        for (keep, status, stays) in table {
            assert_eq!(keeps(keep, status), stays, "{keep:?} {status}");
        }
    }

    #[test]
    fn only_the_first_attempt_of_the_schedule_moves_one_counted_from_completion() {
        let recurrence = Recurrence::Interval { every: 60 * SECOND, anchor: None, from_completion: true };
        let job = job(|d| d.schedule = Schedule::new(recurrence).until(NOW.saturating_add(100 * SECOND)));
        let first = running(&job);
        let next =
            |execution: &Execution, ending| settled(&job, execution, ending).next.map(|due| due.due_at);
        assert_eq!(next(&first, end(Status::Failed)), Some(NOW.saturating_add(70 * SECOND)));
        assert_eq!(next(&Execution { attempt: 2, ..first.clone() }, end(Status::Success)), None);
        assert_eq!(
            next(&Execution { trigger: Trigger::Manual, ..first.clone() }, end(Status::Success)),
            None
        );
        let past_the_end = Ending { ended_at: NOW.saturating_add(41 * SECOND), ..end(Status::Success) };
        // The planner ends the job there, with its reason.
        assert_eq!(next(&first, past_the_end), Some(NOW.saturating_add(101 * SECOND)));
    }

    #[test]
    fn without_its_job_only_the_record_is_left() {
        let job = retrying(Retry::times(5, SECOND));
        let completion = settle(None, &running(&job), end(Status::Failed), &IdSource::seeded(1));
        assert_eq!((completion.retry, completion.next), (None, None));
        assert!(completion.chained.is_empty() && completion.keep == Keep::All);
    }
}
