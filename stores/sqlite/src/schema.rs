//! Numbered migrations, safe when several processes start at once.

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use unified_scheduler_core::Error;

use crate::connection::APPLICATION_ID;
use crate::error::Step;

/// Each migration: its name and its text. The number is the place in this list, from 1; what has been
/// released is never changed.
const MIGRATIONS: &[(&str, &str)] = &[("initial", include_str!("../migrations/0001_initial.sql"))];

/// The newest schema that this program knows.
pub(crate) fn newest() -> i64 {
    crate::rows::size(MIGRATIONS.len())
}

/// The version of the schema in the file; 0 when there is none.
pub(crate) fn version(connection: &Connection, prefix: &str) -> Step<i64> {
    let table = format!("{prefix}migrations");
    let exists = connection
        .query_row("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1", [&table], |_| Ok(()))
        .optional()?
        .is_some();
    if !exists {
        return Ok(0);
    }
    let sql = format!("SELECT coalesce(max(version), 0) FROM {table}");
    Ok(connection.query_row(&sql, [], |row| row.get(0))?)
}

/// Brings the schema of this namespace to the newest version. Whoever comes second finds, under the
/// write lock, that it is done already.
pub(crate) fn migrate(connection: &mut Connection, prefix: &str, now: i64) -> Step<()> {
    if refuse_newer(version(connection, prefix)?)? == newest() {
        return Ok(());
    }
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = refuse_newer(version(&tx, prefix)?)?;
    if found == 0 {
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        tx.execute_batch(&format!(
            "CREATE TABLE {prefix}migrations (version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at \
             INTEGER NOT NULL)"
        ))?;
    }
    for (number, (name, sql)) in (1_i64..).zip(MIGRATIONS) {
        if number > found {
            apply(&tx, prefix, now, number, name, sql)?;
        }
    }
    tx.commit()?;
    Ok(())
}

fn apply(tx: &Transaction<'_>, prefix: &str, now: i64, number: i64, name: &str, sql: &str) -> Step<()> {
    tx.execute_batch(&sql.replace('@', prefix))?;
    let record = format!("INSERT INTO {prefix}migrations (version, name, applied_at) VALUES (?1, ?2, ?3)");
    tx.execute(&record, params![number, name, now])?;
    Ok(())
}

fn refuse_newer(found: i64) -> Step<i64> {
    if found <= newest() {
        return Ok(found);
    }
    let known = newest();
    Err(Error::unsupported(format!(
        "the file has schema version {found}, and this program knows {known}; use the newer program that \
         made it"
    ))
    .into())
}
