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

    /// The end of an execution whose node is dead.
    pub fn lost(execution: &Execution, now: Timestamp) -> Self {
        let node = execution.node_id.as_ref().map_or("unknown", |id| id.as_str());
        Self::new(Status::Lost, now).error("lost", format!("node {node} died or was cut off while it ran"))
    }
}

/// All that follows from `ending`. Without a job (it is gone) nothing but the record does.
pub fn settle(job: Option<&Job>, execution: &Execution, ending: Ending, ids: &IdSource) -> Completion {
    let retry = job.and_then(|job| next_attempt(job, execution, &ending, ids));
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
        effect: JobEffect::default(),
        keep: Keep::All,
        next: None,
        retry,
    };
    if let Some(job) = job {
        completion.keep = job.definition.history.keep;
        completion.next = next_from_completion(job, execution, completion.ended_at);
        completion.effect = effect_on(job, execution, completion.status);
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

fn effect_on(job: &Job, execution: &Execution, status: Status) -> JobEffect {
    let crashes = execution.crashes + 1;
    let policy = &job.definition.retry;
    let parked = status == Status::Lost && policy.on_lost && crashes >= policy.crash_limit;
    JobEffect {
        failures: match status.class() {
            StatusClass::Ok | StatusClass::Part => FailureCount::Reset,
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
