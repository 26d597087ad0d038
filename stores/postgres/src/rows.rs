//! Rows as values of core, and values of core as columns.

use std::borrow::Cow;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use unified_scheduler_core::execution::{Execution, Status};
use unified_scheduler_core::id::{Epoch, ExecutionId, JobId, NodeId};
use unified_scheduler_core::job::{Definition, Due, EndReason, Job, JobDefinition};
use unified_scheduler_core::schedule::Schedule;
use unified_scheduler_core::{Error, Timestamp};
use uuid::Uuid;

use crate::cache::KnownJob;
use crate::error::{Fail, Step};

/// A count as a column; what no column holds is cut.
pub(crate) fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// A column as a count.
pub(crate) fn count(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

/// A size as a column.
pub(crate) fn size(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// A column as a small count.
pub(crate) fn small(n: i64) -> u32 {
    u32::try_from(n.max(0)).unwrap_or(u32::MAX)
}

/// An instant from a column.
pub(crate) fn time(row: &PgRow, column: usize) -> Step<Timestamp> {
    Ok(Timestamp::from_millis(row.try_get(column)?))
}

/// An instant from a column that may be empty.
pub(crate) fn time_or_none(row: &PgRow, column: usize) -> Step<Option<Timestamp>> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(Timestamp::from_millis))
}

/// An instant as a column.
pub(crate) fn at(time: Option<Timestamp>) -> Option<i64> {
    time.map(Timestamp::as_millis)
}

/// A document as a column.
pub(crate) fn json<T: Serialize>(value: Option<&T>) -> Step<Option<String>> {
    Ok(value.map(serde_json::to_string).transpose()?)
}

/// A text as a column: PostgreSQL takes every character but U+0000. Not for what must come back as it was.
pub(crate) fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{FFFD}").into() } else { text.into() }
}

fn document<T: DeserializeOwned>(row: &PgRow, column: usize) -> Step<Option<T>> {
    let text: Option<&str> = row.try_get(column)?;
    Ok(text.map(serde_json::from_str).transpose()?)
}

fn word<T: FromStr<Err = Error>>(row: &PgRow, column: usize) -> Step<T> {
    let text: &str = row.try_get(column)?;
    text.parse().map_err(|e: Error| Error::corrupt(e.message()).into())
}

/// An execution's id from a column.
pub(crate) fn execution_id(row: &PgRow, column: usize) -> Step<ExecutionId> {
    Ok(ExecutionId::from_uuid(row.try_get(column)?))
}

/// An execution's id as a column.
pub(crate) fn key(id: &ExecutionId) -> Uuid {
    *id.as_uuid()
}

/// A duration as a column of nanoseconds.
pub(crate) fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// The columns of executions `e` that [`execution`] reads, in its order.
macro_rules! execution_columns {
    () => {
        "e.id, e.job_id, e.job_name, e.handler, e.status, e.reason, e.made_by, e.triggered_by, e.due_at, \
         e.covers_until, e.n_occurrences, e.next_due_at, e.version, e.attempt, e.retries, e.crashes, \
         e.root_id, e.nonce, e.parameters, e.priority, e.created_at, e.run_at, e.started_at, e.ended_at, \
         e.duration_ns, e.node_id, e.epoch, e.claim, e.cancel_requested, e.progress, e.result, e.error"
    };
}
pub(crate) use execution_columns;

/// An execution from a row whose columns from `from` on are `execution_columns`.
pub(crate) fn execution(row: &PgRow, from: usize) -> Step<Execution> {
    let c = |column: usize| from + column;
    let id = execution_id(row, c(0))?;
    let duration: Option<i64> = row.try_get(c(24))?;
    let root: Option<Uuid> = row.try_get(c(16))?;
    Ok(Execution {
        id,
        job_id: JobId::from(row.try_get::<&str, _>(c(1))?),
        job_name: row.try_get(c(2))?,
        handler: row.try_get(c(3))?,
        status: word(row, c(4))?,
        reason: row.try_get(c(5))?,
        trigger: word(row, c(6))?,
        triggered_by: row.try_get(c(7))?,
        due_at: time(row, c(8))?,
        covers_until: time_or_none(row, c(9))?,
        n_occurrences: count(row.try_get(c(10))?),
        next_due_at: time_or_none(row, c(11))?,
        version: row.try_get(c(12))?,
        attempt: small(row.try_get(c(13))?),
        retries: small(row.try_get(c(14))?),
        crashes: small(row.try_get(c(15))?),
        root_id: root.map_or(id, ExecutionId::from_uuid),
        nonce: row.try_get(c(17))?,
        parameters: document(row, c(18))?,
        priority: row.try_get(c(19))?,
        created_at: time(row, c(20))?,
        run_at: time(row, c(21))?,
        started_at: time_or_none(row, c(22))?,
        ended_at: time_or_none(row, c(23))?,
        duration: duration.map(|nanos| Duration::from_nanos(count(nanos))),
        node_id: row.try_get::<Option<&str>, _>(c(25))?.map(NodeId::from),
        epoch: Epoch(row.try_get(c(26))?),
        claim: small(row.try_get(c(27))?),
        cancel_requested: row.try_get(c(28))?,
        progress: document(row, c(29))?,
        result: document(row, c(30))?,
        error: document(row, c(31))?,
    })
}

/// The executions among `rows` that can be read. One that can't, because a newer program wrote it, is passed
/// over, and the log says so.
pub(crate) fn readable(rows: &[PgRow]) -> Step<Vec<Execution>> {
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        match execution(row, 0) {
            Err(fail) if fail.is_corrupt() => {
                let error = Error::from(fail);
                let id = row.try_get::<Uuid, _>(0).unwrap_or_default();
                tracing::error!(execution_id = %id, %error, "an execution can't be read, and is passed over");
            }
            read => found.push(read?),
        }
    }
    Ok(found)
}

/// The columns of a job's state `s` that [`JobState::read`] reads, in its order.
macro_rules! state_columns {
    () => {
        "s.id, s.n, s.version, s.enabled, s.handler, s.due_at, s.fire_at, s.ended, s.fault, s.skip_next, \
         s.n_fired, s.failures, s.updated_at, s.last_run_at, s.last_status, s.last_execution"
    };
}
pub(crate) use state_columns;

/// How many columns `state_columns` has.
pub(crate) const N_STATE_COLUMNS: usize = 16;

/// The columns of jobs `j` that [`known_job`] reads, in its order.
macro_rules! job_columns {
    () => {
        "j.id, j.name, j.definition, j.created_at, j.created_by"
    };
}
pub(crate) use job_columns;

/// What the scheduler knows about a job, without its definition.
#[derive(Debug)]
pub(crate) struct JobState {
    pub(crate) id: JobId,
    pub(crate) n: i64,
    pub(crate) version: i64,
    pub(crate) handler: String,
    enabled: bool,
    due: Option<Due>,
    pub(crate) fault: Option<String>,
    ended: Option<EndReason>,
    skip_next: u32,
    n_fired: u64,
    failures: u32,
    updated_at: Timestamp,
    last_run_at: Option<Timestamp>,
    last_status: Option<Status>,
    last_execution: Option<ExecutionId>,
}

impl JobState {
    /// From a row whose columns from `from` on are `state_columns`.
    pub(crate) fn read(row: &PgRow, from: usize) -> Step<Self> {
        let c = |column: usize| from + column;
        let due_at = time_or_none(row, c(5))?;
        let fire_at = time_or_none(row, c(6))?;
        Ok(Self {
            id: JobId::from(row.try_get::<&str, _>(c(0))?),
            n: row.try_get(c(1))?,
            version: row.try_get(c(2))?,
            enabled: row.try_get(c(3))?,
            handler: row.try_get(c(4))?,
            due: due_at.map(|due_at| Due { due_at, fire_at: fire_at.unwrap_or(due_at) }),
            ended: row.try_get::<Option<&str>, _>(c(7))?.map(|reason| match reason {
                "limit" => EndReason::Limit,
                _ => EndReason::Exhausted,
            }),
            fault: row.try_get(c(8))?,
            skip_next: small(row.try_get(c(9))?),
            n_fired: count(row.try_get(c(10))?),
            failures: small(row.try_get(c(11))?),
            updated_at: time(row, c(12))?,
            last_run_at: time_or_none(row, c(13))?,
            last_status: row.try_get::<Option<&str>, _>(c(14))?.and_then(|status| status.parse().ok()),
            last_execution: row.try_get::<Option<Uuid>, _>(c(15))?.map(ExecutionId::from_uuid),
        })
    }

    /// The whole job. One that can't be read has that as its fault.
    pub(crate) fn into_job(self, known: &KnownJob) -> Job {
        Job {
            id: known.id.clone(),
            definition: known.definition.clone(),
            enabled: self.enabled,
            version: self.version,
            due: self.due,
            ended: self.ended,
            fault: self.fault.or_else(|| known.unreadable.clone()),
            skip_next: self.skip_next,
            n_fired: self.n_fired,
            failures_in_row: self.failures,
            created_at: known.created_at,
            updated_at: self.updated_at,
            created_by: known.created_by.clone(),
            last_run_at: self.last_run_at,
            last_status: self.last_status,
            last_execution_id: self.last_execution,
        }
    }
}

/// What the table of jobs says, from `job_columns` that begin at column `from`. A definition that can't
/// be read is answered with one that stands for it, so that it stops nobody.
pub(crate) fn known_job(row: &PgRow, from: usize, handler: &str) -> Step<KnownJob> {
    let id = JobId::from(row.try_get::<&str, _>(from)?);
    let name: &str = row.try_get(from + 1)?;
    let parsed = serde_json::from_str::<JobDefinition>(row.try_get(from + 2)?);
    let (definition, unreadable) = match parsed {
        Ok(definition) => (definition, None),
        Err(why) => {
            let stand_in = JobDefinition::new(name, handler, Schedule::manual());
            (stand_in, Some(format!("the stored definition can't be read: {why}")))
        }
    };
    Ok(KnownJob {
        definition: Definition::new(id.clone(), definition),
        id,
        unreadable,
        created_at: time(row, from + 3)?,
        created_by: row.try_get(from + 4)?,
    })
}

/// A job from a row of `state_columns`, followed by `job_columns`.
pub(crate) fn job(row: &PgRow) -> Step<Job> {
    let state = JobState::read(row, 0)?;
    let known = known_job(row, N_STATE_COLUMNS, &state.handler)?;
    Ok(state.into_job(&known))
}

/// What the columns of a missing row say: for what must be there.
pub(crate) fn missing() -> Fail {
    Fail::Driver(sqlx::Error::RowNotFound)
}
