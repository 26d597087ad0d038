//! Running jobs outside their schedules: now, or once more.

use serde_json::Value;

use super::{Jobs, RunOptions};
use crate::error::{Error, Result};
use crate::execution::{Execution, Status, Trigger};
use crate::id::{ExecutionId, JobId};
use crate::store::{NewExecution, TriggerOutcome, TriggerRequest};

impl Jobs {
    /// Makes an execution now, whether or not the job is enabled, without moving its schedule. It starts
    /// as soon as a node has a free slot and the job's overlap policy lets it.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::NotFound`]; [`crate::ErrorKind::Conflict`] with `unless_open`, when it is open already;
    /// [`crate::ErrorKind::Invalid`] for parameters that the template refuses.
    pub async fn run(&self, id: &JobId, mut options: RunOptions) -> Result<Execution> {
        if let Some(parameters) = &mut options.parameters {
            let job = self.get(id).await?;
            let Value::Object(map) = parameters else {
                return Err(Error::invalid("parameters must be an object"));
            };
            if let Some(registry) = &self.registry {
                registry
                    .check(&job.definition.handler, map)
                    .map_err(|faults| Error::faults_of("the parameters can't be used", faults))?;
            }
        }
        let now = self.store.now().await?;
        let execution_id = self.ids.execution(now);
        let execution = NewExecution {
            id: execution_id,
            job_id: id.clone(),
            trigger: Trigger::Manual,
            triggered_by: format!("manual:{}", self.actor),
            due_at: now,
            covers_until: None,
            n_occurrences: 1,
            run_at: options.at.unwrap_or(now),
            attempt: 1,
            retries: 0,
            crashes: 0,
            root_id: execution_id,
            nonce: execution_id.to_string(),
            parameters: options.parameters,
        };
        self.trigger(execution, options.idempotency_key, options.unless_open).await
    }

    /// Runs an execution that has ended once more, as the next attempt at the same occurrence.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::NotFound`] for the execution or its job; [`crate::ErrorKind::Conflict`] when it has not
    /// ended, or the attempt after it exists already.
    pub async fn retry(&self, id: &ExecutionId) -> Result<Execution> {
        let execution =
            self.store.get_execution(id).await?.ok_or_else(|| Error::not_found("execution", id))?;
        if !execution.status.is_final() {
            return Err(Error::conflict(format!(
                "execution {id} is {}; only an ended one can be retried",
                execution.status
            )));
        }
        let now = self.store.now().await?;
        let new_id = self.ids.execution(now);
        let again = NewExecution {
            id: new_id,
            job_id: execution.job_id.clone(),
            // A skipped occurrence that is run after all is a manual run of its own.
            trigger: Trigger::Manual,
            triggered_by: format!("manual:{}", self.actor),
            due_at: execution.due_at,
            covers_until: execution.covers_until,
            n_occurrences: execution.n_occurrences,
            run_at: now,
            attempt: if execution.status == Status::Skipped { 1 } else { execution.attempt + 1 },
            retries: 0,
            crashes: 0,
            root_id: execution.root_id,
            nonce: format!("retry:{id}"),
            parameters: execution.parameters,
        };
        let retried = self.trigger(again, Some(format!("retry:{id}")), false).await?;
        if retried.id == new_id {
            return Ok(retried);
        }
        Err(Error::conflict("it was retried before").with("execution_id", retried.id))
    }

    async fn trigger(
        &self,
        execution: NewExecution,
        idempotency_key: Option<String>,
        unless_open: bool,
    ) -> Result<Execution> {
        let id = execution.job_id.clone();
        match self.store.trigger(TriggerRequest { execution, idempotency_key, unless_open }).await? {
            TriggerOutcome::Created(execution) | TriggerOutcome::Exists(execution) => Ok(*execution),
            TriggerOutcome::Busy(open) => {
                Err(Error::conflict("the job is already running or waiting to run")
                    .with("execution_id", open))
            }
            TriggerOutcome::NotFound => Err(Error::not_found("job", id)),
        }
    }
}
