//! Rows of another store.

use rusqlite::params;
use unified_scheduler_core::store::{Import, Imported};

use super::executions::append_logs;
use super::{edit, jobs};
use crate::error::Step;
use crate::rows::{at, insert_execution, key};
use crate::session::Session;

pub(crate) fn import(session: &mut Session, import: &Import) -> Step<Imported> {
    let mut imported = Imported::default();
    for job in &import.jobs {
        if jobs::number(session, &job.id)?.is_none() {
            edit::insert(session, job)?;
            imported.jobs += 1;
        }
    }
    for (execution, logs) in &import.executions {
        if insert_execution(session, execution, None)? {
            let n =
                session.first("SELECT n FROM @executions WHERE id = ?1", [key(&execution.id)], |row| {
                    row.get(0)
                })?;
            append_logs(session, n.unwrap_or_default(), 0, logs)?;
            imported.executions += 1;
        }
    }
    for entry in &import.audit {
        let known = session.first(
            "SELECT 1 FROM @audit WHERE job_id = ?1 AND at = ?2 AND action = ?3 AND version = ?4
                 AND actor = ?5 AND due_after IS ?6 LIMIT 1",
            params![
                entry.job_id.as_str(),
                entry.at.as_millis(),
                entry.action,
                entry.version,
                entry.actor,
                at(entry.due_after)
            ],
            |_| Ok(()),
        )?;
        if known.is_none() {
            jobs::audit(session, entry)?;
            imported.audit += 1;
        }
    }
    session.hint |= imported != Imported::default();
    Ok(imported)
}
