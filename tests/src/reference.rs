//! What a plan and a retry must be, written a second time, for small numbers and without speed.
//!
//! The planner works on windows and ranges; this walks occurrence by occurrence. Where they differ, one of
//! them is wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use unified_scheduler_core::execution::SkipReason;
use unified_scheduler_core::job::{EndReason, due_with_jitter};
use unified_scheduler_core::schedule::Calendars;
use unified_scheduler_core::settle::Ending;
use unified_scheduler_core::store::{Disposition, Live, NextDue, Plan};
use unified_scheduler_core::{Backoff, Execution, Job, Misfire, Overlap, Retry, Status, Timestamp};

/// What becomes of occurrences, by name: how many records, and for how many occurrences.
type Fates = BTreeMap<&'static str, (u64, u64)>;

/// Everything in which `plan` is not what the job, asked for at `now`, calls for.
pub fn plan_faults(job: &Job, live: Live, now: Timestamp, calendars: &Calendars, plan: &Plan) -> Vec<String> {
    let mut faults = Vec::new();
    let (Ok(schedule), Some(due)) = (job.definition.compiled(), job.due) else {
        return vec!["a job without a due time was planned".to_owned()];
    };
    let first = due.due_at;
    if schedule.is_manual() {
        // An edit made it so, and its last due time came after.
        if (&plan.next, plan.records.len()) != (&NextDue::AfterCompletion, 0) {
            faults.push(format!("it has no due times: {plan:?}"));
        }
        return faults;
    }
    if schedule.from_completion().is_some() && job.definition.schedule.end.is_some_and(|end| first > end) {
        if (&plan.next, plan.records.len()) != (&NextDue::Ended(EndReason::Exhausted), 0) {
            faults.push(format!("it had ended: {plan:?}"));
        }
        return faults;
    }
    let mut occurrences = vec![first];
    while let Some(t) = schedule.next_after(occurrences[occurrences.len() - 1], first).filter(|t| *t <= now) {
        occurrences.push(t);
    }
    let ready = |t: &Timestamp| *t == first || due_with_jitter(schedule, *t).fire_at <= now;
    while !occurrences.last().is_none_or(ready) {
        occurrences.pop();
    }
    let last = occurrences[occurrences.len() - 1];

    let mut expected = Fates::new();
    let mut skip_next = job.skip_next;
    let mut candidates = Vec::new();
    for t in &occurrences {
        if skip_next > 0 {
            skip_next -= 1;
            expected.entry("requested").or_default().1 += 1;
        } else if schedule.excluded(*t, calendars).is_some() {
            expected.entry("excluded").or_default().1 += 1;
        } else {
            candidates.push(*t);
        }
    }
    let n_candidates = candidates.len() as u64;
    let late = |t: &Timestamp| now.since(due_with_jitter(schedule, *t).fire_at);
    let targets = targets(job.definition.misfire, &candidates.iter().map(late).collect::<Vec<_>>());
    let n_kept: u64 = targets.iter().sum();
    if n_kept < n_candidates {
        expected.entry("misfire").or_default().1 += n_candidates - n_kept;
    }
    let (fates, n_fired) = decided(job, live, &targets);
    for (name, (records, n)) in fates {
        expected.insert(name, (records, n));
    }

    let limit = job.definition.schedule.limit.unwrap_or(u64::MAX);
    if n_fired >= limit {
        // The job is over with the last that fires: what comes after it needs no record.
        let runs = |fates: &Fates| {
            fates.iter().filter(|(name, _)| RUNS.contains(name)).map(|(n, f)| (*n, *f)).collect()
        };
        let (expected, found): (Fates, Fates) = (runs(&expected), runs(&found_in(plan)));
        if expected != found {
            faults.push(format!("runs {found:?}, not {expected:?}"));
        }
    } else {
        compare(&expected, plan, &mut faults);
    }
    if n_fired < limit {
        for t in &occurrences {
            let holds =
                plan.records.iter().any(|r| r.due_at <= *t && *t <= r.covers_until.unwrap_or(r.due_at));
            if !holds {
                faults.push(format!("no record stands for {t}"));
            }
        }
    }
    if (plan.n_fired, plan.skip_next) != (n_fired, skip_next) {
        faults.push(format!("n_fired {} and skip_next {}", plan.n_fired, plan.skip_next));
    }
    let started = plan.records.iter().any(|r| r.disposition == Disposition::Start);
    let next = match schedule.next_after(last, first) {
        _ if n_fired >= limit => NextDue::Ended(EndReason::Limit),
        _ if schedule.from_completion().is_some() && started => NextDue::AfterCompletion,
        Some(t) => NextDue::At(due_with_jitter(schedule, t)),
        None => NextDue::Ended(EndReason::Exhausted),
    };
    if plan.next != next {
        faults.push(format!("next is {:?}, not {next:?}", plan.next));
    }
    if plan.cancel_running && job.definition.overlap != Overlap::CancelRunning {
        faults.push("cancels what runs, and the policy does not say so".to_owned());
    }
    faults
}

/// Holds what the records of a plan make of the occurrences against what is expected.
fn compare(expected: &Fates, plan: &Plan, faults: &mut Vec<String>) {
    let found = found_in(plan);
    for name in ["start", "queue", "overlap", "requested", "excluded", "misfire"] {
        let (want, have) = (expected.get(name).copied(), found.get(name).copied());
        // Neighbors that share a fate may share a record, or not: then only occurrences count.
        let same = match name {
            "start" | "queue" | "overlap" => want == have,
            _ => want.map(|w| w.1) == have.map(|h| h.1),
        };
        if !same {
            faults.push(format!("{name}: (records, occurrences) {have:?}, not {want:?}"));
        }
    }
}

/// The fates that make an execution.
const RUNS: [&str; 2] = ["start", "queue"];

/// What the records of a plan make of the occurrences.
fn found_in(plan: &Plan) -> Fates {
    let mut found = Fates::new();
    for record in &plan.records {
        let name = match &record.disposition {
            Disposition::Start => "start",
            Disposition::Queue => "queue",
            Disposition::Skip(reason, _) => reason.as_str(),
        };
        let fate = found.entry(name).or_default();
        *fate = (fate.0 + 1, fate.1 + record.n_occurrences);
    }
    found
}

/// How many occurrences each thing to run stands for, from how late each candidate is.
fn targets(misfire: Misfire, candidates: &[Duration]) -> Vec<u64> {
    let n = candidates.len() as u64;
    let one = |n: u64| if n == 0 { Vec::new() } else { vec![n] };
    match misfire {
        Misfire::RunOnce => one(n),
        Misfire::Skip { grace } => one(candidates.iter().filter(|late| **late <= grace).count() as u64),
        Misfire::RunAll { limit } => vec![1; usize::try_from(n.min(u64::from(limit))).unwrap_or(0)],
    }
}

/// The overlap policy, target by target.
fn decided(job: &Job, live: Live, targets: &[u64]) -> (Fates, u64) {
    let limit = job.definition.schedule.limit.unwrap_or(u64::MAX);
    let overlap = job.definition.overlap;
    let (mut fates, mut n_fired) = (Fates::new(), job.n_fired);
    for (i, n) in targets.iter().enumerate() {
        if n_fired >= limit {
            break;
        }
        let waits = live.queued > 0;
        let room = live.running < overlap.max_running();
        let name = match overlap {
            // The rest of what `run all` asks for waits behind the first, or goes with it.
            _ if i > 0 && fates.contains_key("overlap") => "overlap",
            _ if i > 0 => "queue",
            Overlap::Skip if room => "start",
            _ if room && !waits => "start",
            Overlap::Skip | Overlap::Allow { .. } => "overlap",
            _ if waits => "overlap",
            _ => "queue",
        };
        let fate = fates.entry(name).or_default();
        *fate = (fate.0 + 1, fate.1 + n);
        n_fired += u64::from(name != SkipReason::Overlap.as_str());
    }
    (fates, n_fired)
}

/// The attempt that must follow this end of an execution, or `None`: its counts of retries and crashes, and
/// the least and the most time until it.
pub fn retry_after(
    policy: &Retry,
    execution: &Execution,
    ending: &Ending,
) -> Option<(u32, u32, Duration, Duration)> {
    let (retries, crashes) = (execution.retries, execution.crashes);
    if execution.cancel_requested {
        return None;
    }
    if let Some(wait) = ending.retry_after {
        return Some((retries + 1, crashes, wait, wait));
    }
    let kind = ending.error.as_ref().map(|failure| failure.kind.as_str());
    let wanted = match ending.status {
        Status::Lost => {
            let again = policy.on_lost && crashes + 1 < policy.crash_limit;
            return again.then_some((retries, crashes + 1, Duration::ZERO, Duration::ZERO));
        }
        Status::Failed if policy.on_lost && kind == Some("interrupted") => {
            return Some((retries, crashes, Duration::ZERO, Duration::ZERO));
        }
        Status::Failed => policy.on_failure,
        Status::Timeout => policy.on_timeout,
        _ => false,
    };
    if !wanted || retries >= policy.max_retries {
        return None;
    }
    let most = match policy.backoff {
        Backoff::Fixed => policy.delay,
        Backoff::Exponential => {
            (0..retries).fold(policy.delay, |wait, _| (wait * 2).min(policy.max_delay)).min(policy.max_delay)
        }
    };
    Some((retries + 1, crashes, most.mul_f64(1.0 - policy.jitter), most))
}
