//! The same writes, in the same file, without a scheduler: what SQLite itself can do.
//!
//! One connection, prepared statements, one transaction for each batch of claims and one for each batch
//! of completions, `synchronous=FULL`, the store's own schema with all its indexes.

use std::path::Path;

use async_trait::async_trait;
use rusqlite::{Connection, params};

use super::ByHand;
use crate::Failure;

/// A claim: the job moves on, and its execution is there.
const CLAIM: [&str; 2] = [
    "UPDATE us_job_state SET due_at = ?2, fire_at = ?2, n_fired = n_fired + 1 WHERE n = ?1 AND due_at = ?3",
    "INSERT INTO us_executions (id, job_id, job_name, handler, status, made_by, triggered_by, due_at, \
     n_occurrences, next_due_at, version, attempt, retries, crashes, nonce, priority, created_at, run_at, \
     started_at, node_id, epoch, claim, cancel_requested) \
     VALUES (?1, ?2, ?2, 'bench', 'running', 'schedule', 'scheduler', ?3, 1, ?4, 1, 1, 0, 0, '', 0, ?5, ?5, \
     ?5, 'node-12345678', 1, 1, 0) ON CONFLICT DO NOTHING",
];

/// A completion: the execution ends, and the job knows how its last run went.
const COMPLETE: [&str; 2] = [
    "UPDATE us_executions SET status = 'success', started_at = ?2, ended_at = ?2, duration_ns = 1000, \
     result = '{\"message\":\"\",\"records_processed\":0,\"records_affected\":0}' \
     WHERE id = ?1 AND status = 'running' AND node_id = 'node-12345678' AND epoch = 1 AND claim = 1",
    "UPDATE us_job_state SET last_run_at = ?2, last_status = 'success', last_execution = ?3, failures = 0 \
     WHERE n = ?1",
];

/// One job of the file: its row number, id and due time.
struct Row {
    n: i64,
    id: String,
    due_at: i64,
}

/// A connection to the file of a store.
pub(super) struct Sqlite {
    connection: Connection,
    done: usize,
}

impl Sqlite {
    pub(super) fn open(file: &Path) -> Result<Self, Failure> {
        let connection = Connection::open(file)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        Ok(Self { connection, done: 0 })
    }
}

#[async_trait]
impl ByHand for Sqlite {
    async fn batch(&mut self, now: i64, size: usize) -> Result<usize, Failure> {
        let rows = claim(&mut self.connection, now, size, self.done)?;
        let tx = self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        {
            let mut execution = tx.prepare_cached(COMPLETE[0])?;
            let mut job = tx.prepare_cached(COMPLETE[1])?;
            for (i, row) in rows.iter().enumerate() {
                let id = key(self.done + i);
                execution.execute(params![id, now])?;
                job.execute(params![row.n, now, id])?;
            }
        }
        tx.commit()?;
        self.done += rows.len();
        Ok(rows.len())
    }
}

fn claim(connection: &mut Connection, now: i64, batch: usize, done: usize) -> rusqlite::Result<Vec<Row>> {
    let tx = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let rows: Vec<Row> = {
        let mut due = tx.prepare_cached(
            "SELECT s.n, j.id, s.due_at FROM us_job_state s JOIN us_jobs j ON j.n = s.n \
             WHERE s.enabled = 1 AND s.fault IS NULL AND s.fire_at IS NOT NULL AND s.handler = 'bench' \
             AND s.priority = 0 AND s.fire_at <= ?1 ORDER BY s.fire_at LIMIT ?2",
        )?;
        let limit = i64::try_from(batch).unwrap_or(i64::MAX);
        due.query_map(params![now, limit], |row| {
            Ok(Row { n: row.get(0)?, id: row.get(1)?, due_at: row.get(2)? })
        })?
        .collect::<rusqlite::Result<_>>()?
    };
    {
        let mut job = tx.prepare_cached(CLAIM[0])?;
        let mut execution = tx.prepare_cached(CLAIM[1])?;
        for (i, row) in rows.iter().enumerate() {
            let next = row.due_at + 86_400_000;
            job.execute(params![row.n, next, row.due_at])?;
            execution.execute(params![key(done + i), row.id, row.due_at, next, now])?;
        }
    }
    tx.commit()?;
    Ok(rows)
}

/// Sixteen bytes that grow, as the ids of executions do.
fn key(n: usize) -> [u8; 16] {
    (u128::MAX / 3 + n as u128).to_be_bytes()
}
