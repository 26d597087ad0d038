//! The ends of executions, and what running ones report.

use super::State;
use crate::execution::Execution;
use crate::id::JobId;
use crate::store::{
    CompleteOutcome, CompleteRequest, Completion, FailureCount, NewExecution, NodeRef, Report,
};
use crate::time::Timestamp;

impl State {
    pub(super) fn complete(&mut self, request: CompleteRequest<'_>, now: Timestamp) -> Vec<CompleteOutcome> {
        let alive = self.nodes.is_alive(request.node);
        let completions = request.completions.iter();
        completions.map(|completion| self.complete_one(request.node, alive, completion, now)).collect()
    }

    fn complete_one(
        &mut self,
        node: &NodeRef,
        alive: bool,
        completion: &Completion,
        now: Timestamp,
    ) -> CompleteOutcome {
        let id = &completion.execution_id;
        let Some(execution) = self.executions.get(id) else {
            // What a live node ran can have gone only by its own completion, so this is its repeat.
            let repeat = alive && !completion.keeps_row();
            return if repeat {
                CompleteOutcome::Applied { paused: false }
            } else {
                CompleteOutcome::Refused
            };
        };
        if completion.is_repeat(execution, node) {
            return CompleteOutcome::Applied { paused: self.executions.has_paused(id) };
        }
        if !alive || !self.owns(node, id, completion.claim) {
            return CompleteOutcome::Refused;
        }
        let paused = self.apply(completion.clone(), now).is_some_and(|(_, paused)| paused);
        CompleteOutcome::Applied { paused }
    }

    /// Whether the execution runs under this node, epoch and claim.
    fn owns(&self, node: &NodeRef, id: &crate::id::ExecutionId, claim: u32) -> bool {
        self.executions.get(id).is_some_and(|e| {
            e.status == crate::execution::Status::Running && e.is_owned_by(node) && e.claim == claim
        })
    }

    /// Ends a running execution. Answers it as it ended, and whether its job has paused itself.
    pub(super) fn apply(&mut self, completion: Completion, now: Timestamp) -> Option<(Execution, bool)> {
        let keeps_row = completion.keeps_row();
        let id = completion.execution_id;
        let ended = self.executions.change(&id, |e| completion.apply_to(e))?;
        let ended = ended.clone();
        let Completion { job_id, logs, first_line, retry, chained, effect, next, .. } = completion;
        self.executions.append_logs(&id, first_line, logs);
        // When somebody called it off, and the node did not know yet, there is no next attempt.
        if let Some(retry) = retry.filter(|_| !ended.cancel_requested) {
            self.insert_new(retry, now);
        }
        for link in chained {
            if self.jobs.get(&link.job_id).is_some_and(|job| job.enabled) {
                self.insert_new(link, now);
            }
        }
        self.jobs.change(&job_id, |job| {
            job.last_run_at = ended.started_at;
            job.last_status = Some(ended.status);
            job.last_execution_id = Some(id);
            if job.due.is_none() && job.ended.is_none() {
                job.due = next;
            }
        });
        self.hint |= next.is_some() || self.executions.open(&job_id).is_some_and(|o| !o.pending.is_empty());
        let paused = self.count_failures(&job_id, effect.failures, &ended, now);
        if let Some(reason) = effect.set_aside {
            self.set_aside(&job_id, &reason, now);
        }
        if paused {
            self.executions.mark_paused(&id);
        }
        if !keeps_row {
            self.executions.remove(&id);
        }
        Some((ended, paused))
    }

    /// Adds a retry or a chained execution, unless its job is gone or it is there already.
    fn insert_new(&mut self, new: NewExecution, now: Timestamp) {
        let Some(job) = self.jobs.get(&new.job_id) else { return };
        let execution = new.into_execution(job, now);
        self.hint |= self.executions.insert(execution, None);
    }

    /// Counts a failure or its opposite; whether the job has paused itself because of it.
    fn count_failures(
        &mut self,
        id: &JobId,
        failures: FailureCount,
        execution: &Execution,
        now: Timestamp,
    ) -> bool {
        let FailureCount::Increment { pause_after } = failures else {
            if failures == FailureCount::Reset {
                self.jobs.change(id, |job| job.failures_in_row = 0);
            }
            return false;
        };
        let reached = self.jobs.change(id, |job| {
            job.failures_in_row = job.failures_in_row.saturating_add(1);
            job.enabled && pause_after.is_some_and(|most| job.failures_in_row >= most)
        });
        if reached != Some(true) {
            return false;
        }
        let detail = serde_json::json!({ "execution_id": execution.id, "failures": pause_after });
        self.change_by_scheduler(id, "paused", detail, now, |job| job.enabled = false);
        true
    }

    pub(super) fn report(&mut self, node: &NodeRef, reports: &[Report]) -> usize {
        if !self.nodes.is_alive(node) {
            return 0;
        }
        let mut applied = 0;
        for report in reports {
            if !self.owns(node, &report.execution_id, report.claim) {
                continue;
            }
            applied += 1;
            let lines = report.logs.iter().cloned();
            self.executions.append_logs(&report.execution_id, report.first_line, lines);
            if let Some(progress) = &report.progress {
                self.executions.change(&report.execution_id, |e| e.progress = Some(progress.clone()));
            }
        }
        applied
    }
}
