//! PostgreSQL: one statement claims a batch (the next due time is computed in SQL), one completes it; each
//! is a transaction of its own.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use unified_scheduler_core::IdSource;
use uuid::Uuid;

use super::ByHand;
use crate::Failure;
use crate::ground::Plot;
use crate::jobs::at;

const CLAIM: &str = "WITH due AS MATERIALIZED (
        SELECT id, due_at FROM @job_state
        WHERE enabled AND fault IS NULL AND fire_at IS NOT NULL AND handler = 'bench' AND priority = 0
            AND fire_at <= $1
        ORDER BY fire_at LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED
    ), moved AS (
        UPDATE @job_state s SET due_at = due.due_at + 86400000, fire_at = due.due_at + 86400000,
            n_fired = n_fired + 1
        FROM due WHERE s.id = due.id RETURNING s.id, due.due_at
    )
    INSERT INTO @executions (id, job_id, job_name, handler, status, made_by, triggered_by, due_at,
        n_occurrences, next_due_at, version, attempt, retries, crashes, nonce, priority, created_at, run_at,
        started_at, node_id, epoch, claim, cancel_requested)
    SELECT ($3::uuid[])[row_number() OVER ()], id, id, 'bench', 'running', 'schedule', 'scheduler', due_at, 1,
        due_at + 86400000, 1, 1, 0, 0, '', 0, $1, $1, $1, 'node-12345678', 1, 1, false
    FROM moved RETURNING id";

const COMPLETE: &str = "WITH ended AS (
        UPDATE @executions SET status = 'success', ended_at = $1, duration_ns = 1000,
            result = '{\"message\":\"\",\"records_processed\":0,\"records_affected\":0}'
        WHERE id = ANY ($2) AND status = 'running' AND node_id = 'node-12345678' AND epoch = 1 AND claim = 1
        RETURNING id, job_id
    )
    UPDATE @job_state s SET last_run_at = $1, last_status = 'success', last_execution = ended.id, failures = 0
    FROM ended WHERE s.id = ended.job_id";

pub(super) struct Postgres {
    connection: PgConnection,
    ids: IdSource,
    claim: String,
    complete: String,
}

impl Postgres {
    pub(super) async fn connect(plot: &Plot) -> Result<Self, Failure> {
        let schema = format!("unified_scheduler_{}.", plot.namespace);
        Ok(Self {
            connection: PgConnection::connect(&plot.server_url).await?,
            ids: IdSource::new(),
            claim: CLAIM.replace('@', &schema),
            complete: COMPLETE.replace('@', &schema),
        })
    }
}

#[async_trait]
impl ByHand for Postgres {
    async fn batch(&mut self, now: i64, size: usize) -> Result<usize, Failure> {
        let ids: Vec<Uuid> = (0..size).map(|_| *self.ids.execution(at(now)).as_uuid()).collect();
        let claimed = sqlx::query(AssertSqlSafe(self.claim.as_str()))
            .bind(now)
            .bind(i64::try_from(size)?)
            .bind(&ids)
            .fetch_all(&mut self.connection)
            .await?;
        if claimed.is_empty() {
            return Ok(0);
        }
        let ids: Vec<Uuid> = claimed.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        sqlx::query(AssertSqlSafe(self.complete.as_str()))
            .bind(now)
            .bind(&ids)
            .execute(&mut self.connection)
            .await?;
        Ok(ids.len())
    }
}
