//! What was done to jobs, and by whom.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::id::JobId;
use crate::job::Job;
use crate::store::{AuditEntry, AuditQuery, Change};
use crate::time::Timestamp;

/// All entries, oldest first.
#[derive(Debug, Default)]
pub(super) struct Audit {
    entries: Vec<AuditEntry>,
    of_job: BTreeMap<JobId, Vec<usize>>,
}

impl Audit {
    /// Records a change of `job`, which is as it was left.
    pub(super) fn record(&mut self, job: &Job, now: Timestamp, change: Change<'_>, detail: Value) {
        self.add(AuditEntry::of(job, now, change, detail));
    }

    pub(super) fn add(&mut self, entry: AuditEntry) {
        self.of_job.entry(entry.job_id.clone()).or_default().push(self.entries.len());
        self.entries.push(entry);
    }

    pub(super) fn list(&self, query: &AuditQuery) -> Vec<AuditEntry> {
        let offset = usize::try_from(query.offset).unwrap_or(usize::MAX);
        let since = |entry: &&AuditEntry| query.since.is_none_or(|since| entry.at >= since);
        match &query.job_id {
            Some(id) => {
                let places = self.of_job.get(id).into_iter().flatten().rev();
                let entries = places.filter_map(|place| self.entries.get(*place));
                entries.filter(since).skip(offset).take(query.limit).cloned().collect()
            }
            None => self.entries.iter().rev().filter(since).skip(offset).take(query.limit).cloned().collect(),
        }
    }
}
