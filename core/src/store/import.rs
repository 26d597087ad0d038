//! Rows of another store, to be added as they are: how a scheduler moves from one database to another.

use super::AuditEntry;
use crate::error::{Error, Result};
use crate::execution::{Execution, LogLine, Status};
use crate::job::Job;

/// Rows as another store holds them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Import {
    /// Jobs, with what the scheduler knows about them.
    pub jobs: Vec<Job>,
    /// Executions that are pending or have ended, with their log lines.
    pub executions: Vec<(Execution, Vec<LogLine>)>,
    /// What was done to jobs, oldest first.
    pub audit: Vec<AuditEntry>,
}

impl Import {
    /// # Errors
    ///
    /// [`crate::ErrorKind::Invalid`] when one of the executions is running: its node would not find it.
    pub fn check(&self) -> Result<()> {
        match self.executions.iter().find(|(execution, _)| execution.status == Status::Running) {
            None => Ok(()),
            Some((running, _)) => Err(Error::invalid("an execution that is running can't be imported")
                .with("execution_id", running.id)),
        }
    }
}

/// How many rows an import has added.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Imported {
    /// Jobs.
    pub jobs: u64,
    /// Executions.
    pub executions: u64,
    /// Audit entries.
    pub audit: u64,
}

impl std::ops::AddAssign for Imported {
    fn add_assign(&mut self, other: Self) {
        self.jobs += other.jobs;
        self.executions += other.executions;
        self.audit += other.audit;
    }
}
