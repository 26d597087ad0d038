//! Rows of another store.

use super::State;
use crate::store::{AuditQuery, Import, Imported};

impl State {
    pub(super) fn import(&mut self, import: Import) -> Imported {
        let mut imported = Imported::default();
        for job in import.jobs {
            if self.jobs.get(&job.id).is_none() {
                self.jobs.insert(job);
                imported.jobs += 1;
            }
        }
        for (execution, logs) in import.executions {
            let id = execution.id;
            if self.executions.insert(execution, None) {
                self.executions.append_logs(&id, 0, logs);
                imported.executions += 1;
            }
        }
        for entry in import.audit {
            let of_job =
                AuditQuery { job_id: Some(entry.job_id.clone()), limit: usize::MAX, ..AuditQuery::default() };
            if !self.audit.list(&of_job).contains(&entry) {
                self.audit.add(entry);
                imported.audit += 1;
            }
        }
        self.hint |= imported != Imported::default();
        imported
    }
}
