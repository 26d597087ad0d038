//! Manual triggers and cancellations.

use super::State;
use super::executions::occurrence;
use crate::error::{Error, Result};
use crate::execution::{Execution, Status};
use crate::id::ExecutionId;
use crate::store::{CancelOutcome, TriggerOutcome, TriggerRequest};
use crate::time::Timestamp;

impl State {
    pub(super) fn trigger(&mut self, request: TriggerRequest, now: Timestamp) -> Result<TriggerOutcome> {
        let TriggerRequest { execution: new, idempotency_key, unless_open } = request;
        let exists = |seen: &Execution| Ok(TriggerOutcome::Exists(Box::new(seen.clone())));
        if let Some(seen) = self.executions.get(&new.id) {
            if seen.job_id != new.job_id {
                return Err(Error::conflict("another job has this execution id")
                    .during("trigger")
                    .with("execution_id", new.id));
            }
            return exists(seen);
        }
        let by_key = idempotency_key.as_ref().and_then(|key| self.executions.by_key(&new.job_id, key));
        if let Some(seen) = by_key {
            return exists(seen);
        }
        let Some(job) = self.jobs.get(&new.job_id) else { return Ok(TriggerOutcome::NotFound) };
        if unless_open && let Some(open) = self.executions.open(&new.job_id) {
            let first = open.running.iter().chain(&open.pending).next();
            if let Some(id) = first {
                return Ok(TriggerOutcome::Busy(*id));
            }
        }
        let execution = new.into_execution(job, now);
        if let Some(seen) = self.executions.by_occurrence(&occurrence(&execution)) {
            return exists(seen);
        }
        self.executions.insert(execution.clone(), idempotency_key);
        self.hint = true;
        Ok(TriggerOutcome::Created(Box::new(execution)))
    }

    pub(super) fn cancel(&mut self, id: &ExecutionId, actor: &str, now: Timestamp) -> CancelOutcome {
        match self.executions.get(id).map(|execution| execution.status) {
            None => CancelOutcome::NotFound,
            Some(Status::Pending) => {
                self.end_pending(id, &format!("cancelled by {actor}"), now);
                self.hint = true;
                CancelOutcome::Cancelled
            }
            Some(Status::Running) => {
                self.executions.change(id, |execution| execution.cancel_requested = true);
                self.hint = true;
                CancelOutcome::Requested
            }
            Some(ended) => CancelOutcome::Ended(ended),
        }
    }
}
