//! Rows as values of core, and values of core as columns.

use std::str::FromStr;
use std::time::Duration;

use rusqlite::{CachedStatement, Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use unified_scheduler_core::execution::{Execution, Status};
use unified_scheduler_core::id::{Epoch, ExecutionId, JobId, NodeId};
use unified_scheduler_core::job::{Definition, Due, EndReason, Job, JobDefinition};
use unified_scheduler_core::schedule::Schedule;
use unified_scheduler_core::{Error, Timestamp};

use crate::cache::KnownJob;
use crate::error::Step;
use crate::session::Session;

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

/// A duration as a column of milliseconds.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// An instant from a column.
pub(crate) fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    row.get(column).map(Timestamp::from_millis)
}

/// An instant from a column that may be empty.
pub(crate) fn time_or_none(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_millis))
}

/// An instant as a column.
pub(crate) fn at(time: Option<Timestamp>) -> Option<i64> {
    time.map(Timestamp::as_millis)
}

/// A document as a column.
pub(crate) fn json<T: Serialize>(value: Option<&T>) -> Step<Option<String>> {
    Ok(value.map(serde_json::to_string).transpose()?)
}

fn document<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> Step<Option<T>> {
    Ok(text(row, column)?.map(serde_json::from_str).transpose()?)
}

fn word<T: FromStr<Err = Error>>(row: &Row<'_>, column: usize) -> Step<T> {
    text(row, column)?.unwrap_or_default().parse().map_err(|e: Error| Error::corrupt(e.message()).into())
}

fn text<'a>(row: &'a Row<'_>, column: usize) -> rusqlite::Result<Option<&'a str>> {
    Ok(row.get_ref(column)?.as_str_or_null()?)
}

/// An execution's id from a column.
pub(crate) fn execution_id(row: &Row<'_>, column: usize) -> rusqlite::Result<ExecutionId> {
    row.get(column).map(|bytes: [u8; 16]| ExecutionId::from_uuid(uuid::Uuid::from_bytes(bytes)))
}

fn execution_id_or_none(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<ExecutionId>> {
    let bytes: Option<[u8; 16]> = row.get(column)?;
    Ok(bytes.map(|bytes| ExecutionId::from_uuid(uuid::Uuid::from_bytes(bytes))))
}

/// An execution's id as a column.
pub(crate) fn key(id: &ExecutionId) -> &[u8] {
    id.as_uuid().as_bytes()
}

/// The columns that [`execution`] reads, in its order.
macro_rules! execution_columns {
    () => {
        "id, job_id, job_name, handler, status, reason, made_by, triggered_by, due_at, covers_until, \
         n_occurrences, next_due_at, version, attempt, retries, crashes, root_id, nonce, parameters, \
         priority, created_at, run_at, started_at, ended_at, duration_ns, node_id, epoch, claim, \
         cancel_requested, progress, result, error"
    };
}
pub(crate) use execution_columns;

/// An execution from a row of `execution_columns`.
pub(crate) fn execution(row: &Row<'_>) -> Step<Execution> {
    let id = execution_id(row, 0)?;
    let duration: Option<i64> = row.get(24)?;
    Ok(Execution {
        id,
        job_id: JobId::from(text(row, 1)?.unwrap_or_default()),
        job_name: row.get(2)?,
        handler: row.get(3)?,
        status: word(row, 4)?,
        reason: row.get(5)?,
        trigger: word(row, 6)?,
        triggered_by: row.get(7)?,
        due_at: time(row, 8)?,
        covers_until: time_or_none(row, 9)?,
        n_occurrences: count(row.get(10)?),
        next_due_at: time_or_none(row, 11)?,
        version: row.get(12)?,
        attempt: row.get(13)?,
        retries: row.get(14)?,
        crashes: row.get(15)?,
        root_id: execution_id_or_none(row, 16)?.unwrap_or(id),
        nonce: row.get(17)?,
        parameters: document(row, 18)?,
        priority: row.get(19)?,
        created_at: time(row, 20)?,
        run_at: time(row, 21)?,
        started_at: time_or_none(row, 22)?,
        ended_at: time_or_none(row, 23)?,
        duration: duration.map(|nanos| Duration::from_nanos(count(nanos))),
        node_id: text(row, 25)?.map(NodeId::from),
        epoch: Epoch(row.get(26)?),
        claim: row.get(27)?,
        cancel_requested: row.get(28)?,
        progress: document(row, 29)?,
        result: document(row, 30)?,
        error: document(row, 31)?,
    })
}

/// Inserts an execution; `false` when its id, its occurrence or its key is there already.
pub(crate) fn insert_execution(session: &Session, e: &Execution, key_of_caller: Option<&str>) -> Step<bool> {
    insert_with(&mut insertion(session)?, e, key_of_caller)
}

/// The statement of [`insert_with`], for many in a row.
///
/// Parameters by place: to look up 33 names costs as much as the insert.
pub(crate) fn insertion(session: &Session) -> Step<CachedStatement<'_>> {
    session.prepare(concat!(
        "INSERT INTO @executions (",
        execution_columns!(),
        ", idempotency_key) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, \
         ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
    ))
}

/// [`insert_execution`] with its statement at hand.
pub(crate) fn insert_with(
    insertion: &mut CachedStatement<'_>,
    e: &Execution,
    key_of_caller: Option<&str>,
) -> Step<bool> {
    let inserted = insertion.execute(params![
        key(&e.id),
        e.job_id.as_str(),
        e.job_name,
        e.handler,
        e.status.as_str(),
        e.reason,
        e.trigger.as_str(),
        e.triggered_by,
        e.due_at.as_millis(),
        at(e.covers_until),
        int(e.n_occurrences),
        at(e.next_due_at),
        e.version,
        e.attempt,
        e.retries,
        e.crashes,
        (e.root_id != e.id).then(|| key(&e.root_id)),
        e.nonce,
        json(e.parameters.as_ref())?,
        e.priority,
        e.created_at.as_millis(),
        e.run_at.as_millis(),
        at(e.started_at),
        at(e.ended_at),
        e.duration.map(nanos),
        e.node_id.as_ref().map(NodeId::as_str),
        e.epoch.0,
        e.claim,
        e.cancel_requested,
        json(e.progress.as_ref())?,
        json(e.result.as_ref())?,
        json(e.error.as_ref())?,
        key_of_caller
    ])?;
    Ok(inserted == 1)
}

/// A duration as a column of nanoseconds.
pub(crate) fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// The columns of a job's state that [`JobState::read`] reads, in its order.
macro_rules! state_columns {
    () => {
        "s.n, s.version, s.enabled, s.handler, s.due_at, s.fire_at, s.ended, s.fault, s.skip_next, \
         s.n_fired, s.failures, s.updated_at, s.last_run_at, s.last_status, s.last_execution"
    };
}
pub(crate) use state_columns;

/// The columns that [`known_job`] reads, in its order.
macro_rules! job_columns {
    () => {
        "j.id, j.name, j.definition, j.created_at, j.created_by"
    };
}
pub(crate) use job_columns;

/// How many columns `state_columns` has.
pub(crate) const N_STATE_COLUMNS: usize = 15;

/// What the scheduler knows about a job, without its definition.
#[derive(Debug)]
pub(crate) struct JobState {
    pub(crate) n: i64,
    pub(crate) version: i64,
    pub(crate) enabled: bool,
    pub(crate) handler: String,
    pub(crate) due: Option<Due>,
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
    /// From a row that begins with `state_columns`.
    pub(crate) fn read(row: &Row<'_>) -> Step<Self> {
        let due_at = time_or_none(row, 4)?;
        let fire_at = time_or_none(row, 5)?;
        Ok(Self {
            n: row.get(0)?,
            version: row.get(1)?,
            enabled: row.get(2)?,
            handler: row.get(3)?,
            due: due_at.map(|due_at| Due { due_at, fire_at: fire_at.unwrap_or(due_at) }),
            ended: text(row, 6)?.map(|reason| match reason {
                "limit" => EndReason::Limit,
                _ => EndReason::Exhausted,
            }),
            fault: row.get(7)?,
            skip_next: row.get(8)?,
            n_fired: count(row.get(9)?),
            failures: row.get(10)?,
            updated_at: time(row, 11)?,
            last_run_at: time_or_none(row, 12)?,
            last_status: text(row, 13)?.and_then(|status| status.parse().ok()),
            last_execution: execution_id_or_none(row, 14)?,
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
pub(crate) fn known_job(row: &Row<'_>, from: usize, handler: &str) -> Step<KnownJob> {
    let id = JobId::from(row.get::<_, String>(from)?);
    let name: String = row.get(from + 1)?;
    let parsed = match row.get_ref(from + 2)?.as_bytes() {
        Ok(bytes) => serde_json::from_slice::<JobDefinition>(bytes).map_err(|e| e.to_string()),
        Err(_) => Err("it is no text".to_owned()),
    };
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
        created_by: row.get(from + 4)?,
    })
}
