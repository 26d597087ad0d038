//! Rows of another store.

use unified_scheduler_core::Result;
use unified_scheduler_core::store::{AuditEntry, Import, Imported};

use crate::answers::{Answer, key};
use crate::complete::pack_lines;
use crate::packed::Writer;
use crate::rows::{at, count, row};
use crate::scripts;
use crate::store::Session;

/// How many rows one script adds.
const STEP: usize = 200;

/// One row as the script takes it: its kind, its key, and its parts.
type Row = (&'static str, Vec<u8>, [Vec<u8>; 3]);

impl Session {
    pub(crate) async fn import(&self, import: &Import) -> Result<Imported> {
        let mut rows: Vec<Row> = Vec::new();
        for job in &import.jobs {
            rows.push(("job", job.id.as_str().into(), self.parts_of(job)?));
        }
        for (execution, logs) in &import.executions {
            let mut lines = Writer::new();
            pack_lines(&mut lines, logs)?;
            let id = key(&execution.id).to_vec();
            rows.push(("execution", id, [row(execution)?, lines.finish(), Vec::new()]));
        }
        for entry in &import.audit {
            rows.push(("audit", entry.job_id.as_str().into(), [pack_entry(entry), Vec::new(), Vec::new()]));
        }
        let mut imported = Imported::default();
        for step in rows.chunks(STEP) {
            let mut call = self.link.call(&scripts::IMPORT);
            for (kind, key, [first, second, third]) in step {
                call.arg(*kind).arg(&key[..]).arg(&first[..]).arg(&second[..]).arg(&third[..]);
            }
            let mut answer = Answer::of(self.link.run(&call).await?)?;
            imported += Imported {
                jobs: count(answer.int()?),
                executions: count(answer.int()?),
                audit: count(answer.int()?),
            };
        }
        if imported != Imported::default() {
            self.hints.tell();
        }
        Ok(imported)
    }
}

/// The record that `scripts/prelude.lua` writes for an entry.
fn pack_entry(entry: &AuditEntry) -> Vec<u8> {
    let detail = if entry.detail.is_null() { String::new() } else { entry.detail.to_string() };
    let mut w = Writer::new();
    w.array(9)
        .int(entry.at.as_millis())
        .text(entry.job_id.as_str())
        .text(&entry.job_name)
        .text(&entry.action)
        .text(&entry.actor)
        .int(entry.version)
        .int_or(at(entry.due_before))
        .int_or(at(entry.due_after))
        .text(&detail);
    w.finish()
}
