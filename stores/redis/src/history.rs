//! What was: logs, audit, deleting, retention, counts.

use unified_scheduler_core::execution::LogLine;
use unified_scheduler_core::id::{ExecutionId, JobId};
use unified_scheduler_core::store::{AuditEntry, AuditQuery, Counts, PruneRequest};
use unified_scheduler_core::{Result, Timestamp};

use crate::answers::{self, Answer, key};
use crate::executions::{last_place, statuses};
use crate::packed::Reader;
use crate::rows::{count, millis, time_or_none};
use crate::scripts;
use crate::store::Session;

/// How many executions one script removes, or looks at to find some.
const STEP: usize = 500;

/// How many audit entries one script reads.
const AUDIT_PAGE: usize = 500;

/// By how much the entries of an audit may be out of the order of their times, after a step of the clock.
const SLACK_MS: i64 = 86_400_000;

impl Session {
    pub(crate) async fn list_logs(&self, id: &ExecutionId, skip: u64, limit: usize) -> Result<Vec<LogLine>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let mut call = self.link.call(&scripts::LOGS);
        call.arg(key(id)).arg(skip).arg(last_place(skip, limit));
        let mut lines = Vec::new();
        for line in answers::list(self.link.run(&call).await?)? {
            match serde_json::from_slice(&answers::bytes(line).unwrap_or_default()) {
                Ok(line) => lines.push(line),
                Err(error) => tracing::warn!(execution_id = %id, ?error, "could not read a log line"),
            }
        }
        Ok(lines)
    }

    pub(crate) async fn delete_executions(&self, ids: &[ExecutionId]) -> Result<u64> {
        let mut gone = 0;
        for page in ids.chunks(STEP) {
            let mut call = self.link.call(&scripts::REMOVE);
            for id in page {
                call.arg(key(id));
            }
            gone += count(answers::int(&self.link.run(&call).await?)?);
        }
        Ok(gone)
    }

    pub(crate) async fn prune(&self, request: PruneRequest) -> Result<u64> {
        let limit = u64::try_from(request.limit).unwrap_or(u64::MAX);
        let mut gone = 0;
        if let Some(max_age) = request.max_age {
            let mut offset = 0;
            while gone < limit {
                let mut call = self.link.call(&scripts::PRUNE_OLD);
                call.arg(millis(max_age)).arg(limit - gone).arg(offset).arg(STEP);
                let mut answer = Answer::of(self.link.run(&call).await?)?;
                gone += count(answer.int()?);
                offset = answer.int()?;
                if answer.bool() {
                    break;
                }
            }
        }
        let (mut job, mut offset) = (String::new(), 0);
        while gone < limit {
            let mut call = self.link.call(&scripts::PRUNE_OWN);
            call.arg(limit - gone).arg(&job).arg(offset).arg(STEP);
            let mut answer = Answer::of(self.link.run(&call).await?)?;
            gone += count(answer.int()?);
            let Some(next) = answer.bytes() else { break };
            job = String::from_utf8_lossy(&next).into_owned();
            offset = answer.int()?;
        }
        Ok(gone)
    }

    pub(crate) async fn counts(&self) -> Result<Counts> {
        let mut call = self.link.call(&scripts::COUNTS);
        for status in statuses() {
            call.arg(status.as_str());
        }
        let mut answer = Answer::of(self.link.run(&call).await?)?;
        let jobs = count(answer.int()?);
        let disabled = count(answer.int()?);
        let faulty = count(answer.int()?);
        let oldest_due = answer.time_or_none()?;
        let mut counts =
            Counts { jobs, enabled: jobs.saturating_sub(disabled), faulty, oldest_due, ..Counts::default() };
        for (status, n) in statuses().zip(answer.list()?) {
            let n = count(answers::int(&n)?);
            if n > 0 {
                counts.executions.insert(status, n);
            }
        }
        Ok(counts)
    }

    pub(crate) async fn list_audit(&self, query: &AuditQuery) -> Result<Vec<AuditEntry>> {
        let mut entries = Vec::new();
        let mut skip = query.offset;
        let mut place = String::new();
        let job = query.job_id.as_ref().map_or("-".to_owned(), |id| format!("={id}"));
        let too_old = query.since.map(|t| Timestamp::from_millis(t.as_millis() - SLACK_MS));
        while entries.len() < query.limit {
            let mut call = self.link.call(&scripts::AUDIT);
            call.arg(&job).arg(&place).arg(AUDIT_PAGE);
            let mut answer = Answer::of(self.link.run(&call).await?)?;
            let page = answer.list()?;
            place = answer.int()?.to_string();
            if page.is_empty() {
                break;
            }
            for entry in page {
                // One that was forgotten meanwhile is no entry.
                let Some(bytes) = answers::bytes(entry) else { continue };
                let entry = audit_entry(&bytes)?;
                if too_old.is_some_and(|too_old| entry.at < too_old) {
                    return Ok(entries);
                }
                if query.since.is_some_and(|since| entry.at < since) {
                    continue;
                }
                if skip > 0 {
                    skip -= 1;
                } else if entries.len() < query.limit {
                    entries.push(entry);
                }
            }
        }
        Ok(entries)
    }
}

fn audit_entry(bytes: &[u8]) -> Result<AuditEntry> {
    Reader::new(bytes).record(9, |r| {
        Ok(AuditEntry {
            at: Timestamp::from_millis(r.int()?),
            job_id: JobId::from(r.text()?),
            job_name: r.text()?.to_owned(),
            action: r.text()?.to_owned(),
            actor: r.text()?.to_owned(),
            version: r.int()?,
            due_before: time_or_none(r)?,
            due_after: time_or_none(r)?,
            detail: serde_json::from_str(r.text()?).unwrap_or_default(),
        })
    })
}
