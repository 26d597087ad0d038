//! What to do with a job that is due: run, queue or skip which of its occurrences, and when is next.
//!
//! Pure: the same job, open executions, time and calendars give the same plan (but for the ids of the
//! records). The store calls it inside the atomic step of a claim; see [`crate::store::Planner`].
//!
//! # How a plan is made
//!
//! 1. The occurrences that have come due since the job's stored due time are listed. Work is bounded:
//!    beyond [`WINDOW`] of them the older ones are one range, however long the downtime was.
//! 2. Each is sorted out: skipped on request, excluded by a calendar, or a candidate.
//! 3. The misfire policy turns the candidates into targets: one for all, one each, or none.
//! 4. The overlap policy decides for each target, from the executions that are open now, whether it
//!    starts, waits or is skipped.
//! 5. The next due time follows from the last occurrence accounted for, never from now.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use crate::execution::{Execution, SkipReason};
use crate::id::IdSource;
use crate::job::{EndReason, Job, due_with_jitter};
use crate::policy::{Misfire, Overlap};
use crate::registry::Registry;
use crate::schedule::{Calendars, CompiledSchedule};
use crate::settle::{self, Ending};
use crate::store::{Completion, Disposition, Live, NextDue, Plan, Planned, Planner};
use crate::time::Timestamp;

/// How many missed occurrences are looked at one by one.
pub const WINDOW: usize = 1000;

/// How far the occurrences before the window are counted; above that their number is a lower bound.
const COUNT_CAP: u64 = 10_000;

/// The engine's planner.
#[derive(Debug, Clone)]
pub struct EnginePlanner {
    ids: Arc<IdSource>,
    templates: Option<Arc<Registry>>,
}

impl EnginePlanner {
    /// A planner that takes the ids of its records from `ids`.
    pub fn new(ids: Arc<IdSource>) -> Self {
        Self { ids, templates: None }
    }

    /// The same, which also retries the lost work of templates that `registry` knows as safe to repeat.
    #[must_use]
    pub fn knowing(mut self, registry: Arc<Registry>) -> Self {
        self.templates = Some(registry);
        self
    }
}

impl Planner for EnginePlanner {
    fn plan(&self, job: &Job, live: Live, now: Timestamp, calendars: &Calendars) -> Plan {
        match (job.definition.compiled(), job.due) {
            // Counted from the end of an execution, the next time may lie past the schedule's own end.
            (Ok(schedule), Some(due))
                if schedule.from_completion().is_some()
                    && job.definition.schedule.end.is_some_and(|end| due.due_at > end) =>
            {
                unchanged(job, NextDue::Ended(EndReason::Exhausted))
            }
            // A due time that came from an earlier schedule of the job: there is nothing to do for it.
            (Ok(schedule), Some(_)) if schedule.is_manual() => unchanged(job, NextDue::AfterCompletion),
            (Ok(schedule), Some(due)) => {
                let planning = Planning { ids: &self.ids, job, schedule, first: due.due_at, now };
                // A defect that one job brings out must not end the node that meets it.
                std::panic::catch_unwind(AssertUnwindSafe(|| planning.plan(live, calendars))).unwrap_or_else(
                    |_| {
                        unchanged(
                            job,
                            NextDue::SetAside("planning it panicked, which is a defect".to_owned()),
                        )
                    },
                )
            }
            (Ok(_), None) => unchanged(job, NextDue::Ended(EndReason::Exhausted)),
            (Err(faults), _) => {
                let reasons: Vec<String> = faults.iter().map(ToString::to_string).collect();
                unchanged(job, NextDue::SetAside(format!("schedule: {}", reasons.join("; "))))
            }
        }
    }

    fn lost(&self, job: Option<&Job>, execution: &Execution, now: Timestamp) -> Completion {
        let mut ending = Ending::lost(execution, now);
        ending.retry_safe = self.templates.as_ref().is_some_and(|known| known.retry_safe(&execution.handler));
        settle::settle(job, execution, ending, &self.ids)
    }
}

fn unchanged(job: &Job, next: NextDue) -> Plan {
    Plan { records: Vec::new(), next, skip_next: job.skip_next, n_fired: job.n_fired, cancel_running: false }
}

/// Occurrences that share one fate: one of them, or a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    first: Timestamp,
    last: Timestamp,
    n: u64,
}

impl Span {
    fn one(t: Timestamp) -> Self {
        Self { first: t, last: t, n: 1 }
    }

    /// This span, made to reach to the end of a later one.
    fn join(self, later: Span) -> Self {
        Self { first: self.first, last: later.last, n: self.n + later.n }
    }
}

/// One plan in the making.
struct Planning<'a> {
    ids: &'a IdSource,
    job: &'a Job,
    schedule: &'a CompiledSchedule,
    /// The job's stored due time: the first occurrence to account for, and a point of the grid.
    first: Timestamp,
    now: Timestamp,
}

/// The occurrences to account for, sorted out.
#[derive(Default)]
struct Sorted {
    skipped: Vec<(Span, SkipReason, String)>,
    candidates: Vec<Span>,
    last: Timestamp,
    skip_next: u32,
}

impl Planning<'_> {
    fn plan(&self, live: Live, calendars: &Calendars) -> Plan {
        let mut sorted = self.sort(calendars);
        let targets = self.targets(&mut sorted);
        let mut plan = unchanged(self.job, NextDue::Ended(EndReason::Exhausted));
        plan.skip_next = sorted.skip_next;
        for (span, reason, detail) in std::mem::take(&mut sorted.skipped) {
            plan.records.push(self.record(span, Disposition::Skip(reason, detail)));
        }
        self.decide(targets, live, &mut plan);
        plan.records.sort_by_key(|r| r.due_at);
        plan.next = self.next(&plan, sorted.last);
        if plan.next == NextDue::AfterCompletion {
            // Nobody knows yet what comes after the last.
            for record in plan.records.iter_mut().filter(|r| r.next_due_at > Some(sorted.last)) {
                record.next_due_at = None;
            }
        }
        plan
    }

    /// Lists what has come due, and sorts it out. Work is bounded by [`WINDOW`].
    fn sort(&self, calendars: &Calendars) -> Sorted {
        let due = self.come_due();
        let mut sorted = Sorted { last: self.first, skip_next: self.job.skip_next, ..Sorted::default() };
        let window_starts = due.first().copied().unwrap_or(self.first);
        if window_starts > self.first {
            // More than the window holds: the older ones are one range.
            let before = Timestamp::from_millis(window_starts.as_millis() - 1);
            // The stored time counts, also beside the grid.
            let second = Timestamp::from_millis(self.first.as_millis() + 1);
            let n = 1 + self.schedule.count_until(second, before, self.first, COUNT_CAP).n;
            let last = self
                .schedule
                .last_until(self.first, before, self.first, 1)
                .last()
                .copied()
                .unwrap_or(self.first);
            let range = Span { first: self.first, last, n };
            let requested = u64::from(sorted.skip_next) >= n;
            sorted.skip_next = sorted.skip_next.saturating_sub(u32::try_from(n).unwrap_or(u32::MAX));
            sorted.last = last;
            if requested {
                sorted.skipped.push((range, SkipReason::Requested, String::new()));
            } else if let Some(why) = self.excluded_throughout(range, calendars) {
                sorted.skipped.push((range, SkipReason::Excluded, why));
            } else {
                sorted.candidates.push(range);
            }
        }
        // Neighbors with the same fate share a record, as long as no candidate lies between them.
        let mut joins = sorted.candidates.is_empty();
        for t in due {
            sorted.last = t;
            let fate = if sorted.skip_next > 0 {
                sorted.skip_next -= 1;
                Some((SkipReason::Requested, String::new()))
            } else {
                self.schedule.excluded(t, calendars).map(|why| (SkipReason::Excluded, why))
            };
            joins = if let Some((reason, why)) = fate {
                skip(&mut sorted.skipped, Span::one(t), reason, why, joins);
                true
            } else {
                sorted.candidates.push(Span::one(t));
                false
            };
        }
        sorted
    }

    /// Why the whole of a range is excluded; `None` also where it is too long to look.
    fn excluded_throughout(&self, range: Span, calendars: &Calendars) -> Option<String> {
        let why = self.schedule.excluded(range.first, calendars)?;
        let mut t = range.first;
        for _ in 0..COUNT_CAP {
            match self.schedule.next_after(t, self.first).filter(|next| *next <= range.last) {
                Some(next) => t = next,
                None => return Some(why),
            }
            self.schedule.excluded(t, calendars)?;
        }
        None
    }

    /// The last [`WINDOW`] nominal due times whose fire time has come, ascending; the stored one is
    /// always among what has come due.
    fn come_due(&self) -> Vec<Timestamp> {
        let mut due = self.schedule.last_until(self.first, self.ready_until(), self.first, WINDOW);
        if due.len() < WINDOW && due.first() != Some(&self.first) {
            // A grid that does not hold the stored time (one given, or an edit elsewhere): it counts.
            due.insert(0, self.first);
        }
        due
    }

    /// Up to when everything due may also fire. With a jitter longer than the period a later occurrence
    /// can be ready before an earlier one; it waits for it, so that each is accounted for in its turn.
    fn ready_until(&self) -> Timestamp {
        let jitter = self.job.definition.schedule.jitter;
        if jitter.is_zero() {
            return self.now;
        }
        // Offsets are below the jitter. Of those above, the first that is not ready is soon found.
        let mut until = self.now.saturating_sub(jitter).max(self.first);
        while let Some(t) = self.schedule.next_after(until, self.first).filter(|t| *t <= self.now) {
            if due_with_jitter(self.schedule, t).fire_at > self.now {
                break;
            }
            until = t;
        }
        until
    }

    /// What the misfire policy makes of the candidates; what it drops goes to the skipped.
    fn targets(&self, sorted: &mut Sorted) -> Vec<Span> {
        let mut candidates = std::mem::take(&mut sorted.candidates);
        // By when it could fire, not by when it was due: jitter is no lateness.
        let late = |span: &Span| self.now.since(due_with_jitter(self.schedule, span.last).fire_at);
        match self.job.definition.misfire {
            Misfire::RunOnce => {}
            Misfire::Skip { grace } => {
                // With jitter, one that is kept may lie between two that are not.
                let mut joins = false;
                candidates.retain(|span| {
                    let keep = late(span) <= grace;
                    if !keep {
                        let why = "later than its grace".to_owned();
                        skip(&mut sorted.skipped, *span, SkipReason::Misfire, why, joins);
                    }
                    joins = !keep;
                    keep
                });
            }
            Misfire::RunAll { limit } => {
                let mut keep_from = candidates.len().saturating_sub(limit.max(1) as usize);
                // Each runs on its own; a range older than the window can't.
                if candidates.first().is_some_and(|span| span.n > 1) {
                    keep_from = keep_from.max(1);
                }
                for span in candidates.drain(..keep_from) {
                    let why = "more were missed than the limit lets run".to_owned();
                    skip(&mut sorted.skipped, span, SkipReason::Misfire, why, true);
                }
                return candidates;
            }
        }
        candidates.into_iter().reduce(Span::join).into_iter().collect()
    }

    /// What the overlap policy makes of each target.
    fn decide(&self, targets: Vec<Span>, live: Live, plan: &mut Plan) {
        let limit = self.job.definition.schedule.limit.unwrap_or(u64::MAX);
        let Live { mut running, mut queued } = live;
        for target in targets {
            if plan.n_fired >= limit {
                break;
            }
            let overlap = self.job.definition.overlap;
            let disposition = if plan.n_fired > self.job.n_fired {
                // The rest of what `run all` asked for waits its turn.
                Disposition::Queue
            } else if running < overlap.max_running() && (queued == 0 || matches!(overlap, Overlap::Skip)) {
                Disposition::Start
            } else {
                match overlap {
                    Overlap::Skip | Overlap::Allow { .. } => overlapped(running),
                    Overlap::QueueOne if queued > 0 => overlapped(running),
                    Overlap::QueueOne => Disposition::Queue,
                    Overlap::CancelRunning => {
                        plan.cancel_running = running > 0;
                        if queued > 0 { overlapped(running) } else { Disposition::Queue }
                    }
                }
            };
            match disposition {
                Disposition::Start => running += 1,
                Disposition::Queue => queued += 1,
                Disposition::Skip(..) => {}
            }
            if !matches!(disposition, Disposition::Skip(..)) {
                plan.n_fired += 1;
            }
            plan.records.push(self.record(target, disposition));
        }
        if plan.n_fired >= limit {
            // The schedule ends with the last that fires; what would come after is nothing to record.
            let fired = plan.records.iter().filter(|r| !matches!(r.disposition, Disposition::Skip(..)));
            let end = fired.map(|r| r.covers_until.unwrap_or(r.due_at)).max();
            plan.records.retain(|r| Some(r.due_at) <= end);
        }
    }

    fn record(&self, span: Span, disposition: Disposition) -> Planned {
        Planned {
            id: self.ids.execution(self.now),
            due_at: span.first,
            covers_until: (span.last > span.first).then_some(span.last),
            n_occurrences: span.n,
            next_due_at: self.schedule.next_after(span.last, self.first),
            disposition,
        }
    }

    fn next(&self, plan: &Plan, last: Timestamp) -> NextDue {
        if self.job.definition.schedule.limit.is_some_and(|limit| plan.n_fired >= limit) {
            return NextDue::Ended(EndReason::Limit);
        }
        // One that only waits may be called off before it runs; then nobody would say what is next.
        let starts = plan.records.iter().any(|record| record.disposition == Disposition::Start);
        if starts && self.schedule.from_completion().is_some() {
            return NextDue::AfterCompletion;
        }
        match self.schedule.next_after(last, self.first) {
            Some(due_at) => NextDue::At(due_with_jitter(self.schedule, due_at)),
            None => NextDue::Ended(EndReason::Exhausted),
        }
    }
}

fn overlapped(running: u32) -> Disposition {
    Disposition::Skip(SkipReason::Overlap, format!("{running} running"))
}

/// Adds a span to the skipped; with `joins`, to the last one when that has the same fate.
fn skip(
    skipped: &mut Vec<(Span, SkipReason, String)>,
    span: Span,
    reason: SkipReason,
    detail: String,
    joins: bool,
) {
    match skipped.last_mut() {
        Some((last, last_reason, last_detail))
            if joins && *last_reason == reason && *last_detail == detail && last.last < span.first =>
        {
            *last = last.join(span);
        }
        _ => skipped.push((span, reason, detail)),
    }
}

#[cfg(test)]
mod overlap_tests;
#[cfg(test)]
mod tests;
