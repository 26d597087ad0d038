//! What the store knows about its own health, for `doctor`.

use std::path::Path;

use unified_scheduler_core::Error;
use unified_scheduler_core::store::{Check, CheckLevel};

use crate::connection::wal_path;
use crate::error::Step;
use crate::session::Session;

/// A log beyond this is held back by a reader, or nobody moves it into the file.
const LONG_WAL: u64 = 256 << 20;

/// A file up to this is checked page by page; a larger one would take too long.
const CHECKED: u64 = 512 << 20;

/// Whether the file can be written: a write that changes nothing, under the write lock.
pub(crate) fn probe(session: &mut Session) -> Step<()> {
    session.execute("UPDATE @meta SET value = value WHERE key = 'epoch'", [])?;
    Ok(())
}

/// The check for what [`probe`] came to.
pub(crate) fn writable(result: Result<(), Error>) -> Check {
    match result {
        Ok(()) => Check::new("writable", CheckLevel::Ok, "a write was committed"),
        Err(error) => Check::new("writable", CheckLevel::Failed, error.to_string()),
    }
}

pub(crate) fn read(session: &Session, path: Option<&Path>, prefix: &str) -> Step<Vec<Check>> {
    let pragma = |name: &'static str| -> Step<String> {
        let value: Option<rusqlite::types::Value> = session.first(name, [], |row| row.get(0))?;
        Ok(match value {
            Some(rusqlite::types::Value::Integer(n)) => n.to_string(),
            Some(rusqlite::types::Value::Text(text)) => text,
            other => format!("{other:?}"),
        })
    };
    let mut checks = vec![Check::new("reachable", CheckLevel::Ok, format!("SQLite {}", rusqlite::version()))];
    let mode = pragma("PRAGMA journal_mode")?;
    checks.push(match (mode.as_str(), path) {
        ("wal", _) => Check::new("journal", CheckLevel::Ok, "write-ahead log"),
        (_, None) => Check::new("journal", CheckLevel::Warning, "in memory: it ends with this process"),
        _ => Check::new("journal", CheckLevel::Failed, format!("journal mode is `{mode}`, not `wal`")),
    });
    checks.push(match pragma("PRAGMA synchronous")?.as_str() {
        "2" | "3" => Check::new("durability", CheckLevel::Ok, "each commit waits for the disk"),
        _ => Check::new(
            "durability",
            CheckLevel::Warning,
            "commits do not wait for the disk: a loss of power can undo the last ones, so that occurrences \
             fire twice; use synchronous=full",
        ),
    });
    let (found, known) = (crate::schema::version(&session.conn, prefix)?, crate::schema::newest());
    let level = if found == known { CheckLevel::Ok } else { CheckLevel::Failed };
    checks.push(Check::new("schema", level, format!("version {found}; this program knows {known}")));
    let size = path.map_or(0, file_size);
    checks.push(if size <= CHECKED {
        match pragma("PRAGMA quick_check(5)")?.as_str() {
            "ok" => Check::new("integrity", CheckLevel::Ok, "every page reads well"),
            damage => Check::new(
                "integrity",
                CheckLevel::Failed,
                format!("{damage}; restore a backup, or use `sqlite3 FILE .recover`"),
            ),
        }
    } else {
        Check::new("integrity", CheckLevel::Ok, "not checked: the file is large; use `PRAGMA quick_check`")
    });
    if let Some(path) = path {
        let wal = file_size(&wal_path(path));
        let level = if wal > LONG_WAL { CheckLevel::Warning } else { CheckLevel::Ok };
        let detail = format!("{size} bytes, and {wal} in the write-ahead log");
        checks.push(Check::new("size", level, detail));
    }
    Ok(checks)
}

fn file_size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len())
}
