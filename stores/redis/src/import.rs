//! Rows of another store, added as they are.

use unified_scheduler_core::Result;
use unified_scheduler_core::store::{AuditEntry, Import, Imported};

use crate::answers::{self, key};
use crate::complete::pack_lines;
use crate::job::{Run, State, pack_definition};
use crate::link::Call;
use crate::packed::Writer;
use crate::rows::{at, count, row};
use crate::scripts;
use crate::store::Session;

/// How many rows one script adds.
const PAGE: usize = 200;

impl Session {
    pub(crate) async fn import(&self, import: &Import) -> Result<Imported> {
        import.check()?;
        let mut imported = Imported::default();
        for page in import.jobs.chunks(PAGE) {
            let mut call = self.import_of("job");
            for job in page {
                call.arg(job.id.as_str())
                    .arg(State::of(job, self.generation()).pack())
                    .arg(Run::packed(job))
                    .arg(pack_definition(job.created_at, job.created_by.as_deref(), &job.definition)?);
            }
            imported.jobs += self.add(&call).await?;
        }
        for page in import.executions.chunks(PAGE) {
            let mut call = self.import_of("execution");
            for (execution, logs) in page {
                let mut lines = Writer::new();
                pack_lines(&mut lines, logs)?;
                call.arg(key(&execution.id)).arg(row(execution)?).arg(lines.finish());
            }
            imported.executions += self.add(&call).await?;
        }
        for page in import.audit.chunks(PAGE) {
            let mut call = self.import_of("audit");
            for entry in page {
                call.arg(entry.job_id.as_str()).arg(packed(entry));
            }
            imported.audit += self.add(&call).await?;
        }
        if imported != Imported::default() {
            self.hints.tell();
        }
        Ok(imported)
    }

    fn import_of(&self, kind: &str) -> Call {
        let mut call = self.link.call(&scripts::IMPORT);
        call.arg(kind);
        call
    }

    async fn add(&self, call: &Call) -> Result<u64> {
        Ok(count(answers::int(&self.link.run(call).await?)?))
    }
}

/// An entry as the scripts write it.
fn packed(entry: &AuditEntry) -> Vec<u8> {
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
