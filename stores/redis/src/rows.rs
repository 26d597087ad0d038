//! Executions as the records that `scripts/prelude.lua` describes.

use std::time::Duration;

use serde_json::Value;
use unified_scheduler_core::execution::{Execution, Status};
use unified_scheduler_core::id::{Epoch, ExecutionId, JobId, NodeId};
use unified_scheduler_core::store::{Completion, NewExecution, NodeRef};
use unified_scheduler_core::{Error, Result, Timestamp};

use crate::answers::key;
use crate::packed::{Reader, Writer};

/// A count as a number in a record; what none holds is cut.
pub(crate) fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// A number in a record as a count.
pub(crate) fn count(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

pub(crate) fn small(n: i64) -> Result<u32> {
    u32::try_from(n).map_err(|_| Error::corrupt("a record holds a number out of range"))
}

pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

pub(crate) fn at(time: Option<Timestamp>) -> Option<i64> {
    time.map(Timestamp::as_millis)
}

pub(crate) fn time_or_none(reader: &mut Reader<'_>) -> Result<Option<Timestamp>> {
    Ok(reader.int_or()?.map(Timestamp::from_millis))
}

pub(crate) fn json<T: serde::Serialize>(value: Option<&T>) -> Result<Option<String>> {
    value
        .map(serde_json::to_string)
        .transpose()
        .map_err(|e| Error::internal("a value can't be written as JSON").caused_by(e))
}

pub(crate) fn document<T: serde::de::DeserializeOwned>(text: Option<&str>) -> Result<Option<T>> {
    text.map(serde_json::from_str)
        .transpose()
        .map_err(|e| Error::corrupt("a document in a record can't be read").caused_by(e))
}

/// What moves while an execution lives.
fn head(w: &mut Writer, e: &Execution) -> Result<()> {
    w.array(13)
        .text(e.status.as_str())
        .text_or(e.node_id.as_ref().map(NodeId::as_str))
        .int(e.epoch.0)
        .int(e.claim.into())
        .bool(e.cancel_requested)
        .int_or(at(e.started_at))
        .int_or(at(e.ended_at))
        .text_or(e.reason.as_deref())
        .bool(false)
        .text(&e.handler)
        .int(e.priority.into())
        .int(e.run_at.as_millis())
        .text_or(json(e.progress.as_ref())?.as_deref());
    Ok(())
}

/// How the row of an execution begins that runs under `owner`, and that nobody has called off.
pub(crate) fn running(owner: &NodeRef, claim: u32) -> Vec<u8> {
    let mut w = Writer::new();
    owned(&mut w, Status::Running, owner, claim);
    w.finish()
}

fn owned(w: &mut Writer, status: Status, owner: &NodeRef, claim: u32) {
    w.array(13)
        .text(status.as_str())
        .text(owner.id.as_str())
        .int(owner.epoch.0)
        .int(claim.into())
        .bool(false);
}

/// How it begins when it has ended.
pub(crate) fn ended(owner: &NodeRef, completion: &Completion) -> Vec<u8> {
    let mut w = Writer::new();
    owned(&mut w, completion.status, owner, completion.claim);
    w.int(completion.started_at.as_millis())
        .int(completion.ended_at.as_millis())
        .text_or(completion.reason.as_deref())
        .bool(false);
    w.finish()
}

/// What never changes and the scripts read.
fn fixed(w: &mut Writer, e: &Execution) {
    w.array(10)
        .text(e.job_id.as_str())
        .int(e.due_at.as_millis())
        .int(e.attempt.into())
        .text(&e.nonce)
        .text(e.trigger.as_str())
        .int(e.created_at.as_millis())
        .bytes_or((e.root_id != e.id).then(|| key(&e.root_id)))
        .none()
        .text(&e.job_name)
        .int(e.version);
}

/// What only the client reads.
fn rest(w: &mut Writer, e: &Execution) -> Result<()> {
    w.array(7)
        .text(&e.triggered_by)
        .int_or(at(e.covers_until))
        .int(int(e.n_occurrences))
        .int_or(at(e.next_due_at))
        .int(e.retries.into())
        .int(e.crashes.into())
        .text_or(json(e.parameters.as_ref())?.as_deref());
    Ok(())
}

/// What an end adds.
pub(crate) fn ending(
    duration: Option<Duration>,
    result: Option<&unified_scheduler_core::execution::JobResult>,
    error: Option<&unified_scheduler_core::execution::Failure>,
) -> Result<Vec<u8>> {
    let mut w = Writer::new();
    let nanos = duration.map(|d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX));
    w.array(3).int_or(nanos).text_or(json(result)?.as_deref()).text_or(json(error)?.as_deref());
    Ok(w.finish())
}

pub(crate) fn ending_of(completion: &Completion) -> Result<Vec<u8>> {
    ending(completion.duration, completion.result.as_ref(), completion.error.as_ref())
}

/// The whole row of an execution that was just made.
pub(crate) fn row(e: &Execution) -> Result<Vec<u8>> {
    let mut w = Writer::new();
    head(&mut w, e)?;
    fixed(&mut w, e);
    rest(&mut w, e)?;
    if e.status.is_final() {
        w.raw(&ending(e.duration, e.result.as_ref(), e.error.as_ref())?);
    }
    Ok(w.finish())
}

/// A new execution in its two parts; what its job says is filled in by the script.
pub(crate) fn new_row(new: &NewExecution) -> Result<(Vec<u8>, Vec<u8>)> {
    let mut w = Writer::new();
    w.array(13).text(Status::Pending.as_str()).none().int(0).int(0).none().none().none().none().none();
    w.text("").int(0).int(new.run_at.as_millis()).none();
    w.array(10)
        .text(new.job_id.as_str())
        .int(new.due_at.as_millis())
        .int(new.attempt.into())
        .text(&new.nonce)
        .text(new.trigger.as_str())
        .int(0)
        .bytes_or((new.root_id != new.id).then(|| key(&new.root_id)))
        .none()
        .text("")
        .int(0);
    let mut rest = Writer::new();
    rest.array(7)
        .text(&new.triggered_by)
        .int_or(at(new.covers_until))
        .int(int(new.n_occurrences))
        .none()
        .int(new.retries.into())
        .int(new.crashes.into())
        .text_or(json(new.parameters.as_ref())?.as_deref());
    Ok((w.finish(), rest.finish()))
}

/// Reads a row.
pub(crate) fn execution(id: ExecutionId, bytes: &[u8]) -> Result<Execution> {
    read(id, bytes).map_err(|e| e.with("execution_id", id))
}

fn read(id: ExecutionId, bytes: &[u8]) -> Result<Execution> {
    let corrupt = |e: Error| Error::corrupt(e.message());
    let mut r = Reader::new(bytes);
    let mut e = r.record(13, |r| {
        Ok(Execution {
            id,
            job_id: JobId::from(""),
            job_name: String::new(),
            status: r.text()?.parse().map_err(corrupt)?,
            node_id: r.text_or()?.map(NodeId::from),
            epoch: Epoch(r.int()?),
            claim: small(r.int()?)?,
            cancel_requested: r.bool()?,
            started_at: time_or_none(r)?,
            ended_at: time_or_none(r)?,
            reason: r.text_or()?.map(str::to_owned),
            handler: {
                r.bool()?;
                r.text()?.to_owned()
            },
            priority: i32::try_from(r.int()?).unwrap_or_default(),
            run_at: Timestamp::from_millis(r.int()?),
            progress: document(r.text_or()?)?,
            trigger: unified_scheduler_core::execution::Trigger::Schedule,
            triggered_by: String::new(),
            due_at: Timestamp::EPOCH,
            covers_until: None,
            n_occurrences: 0,
            next_due_at: None,
            version: 0,
            attempt: 0,
            retries: 0,
            crashes: 0,
            root_id: id,
            nonce: String::new(),
            parameters: None,
            created_at: Timestamp::EPOCH,
            duration: None,
            result: None,
            error: None,
        })
    })?;
    r.record(10, |r| {
        e.job_id = JobId::from(r.text()?);
        e.due_at = Timestamp::from_millis(r.int()?);
        e.attempt = small(r.int()?)?;
        r.text()?.clone_into(&mut e.nonce);
        e.trigger = r.text()?.parse().map_err(corrupt)?;
        e.created_at = Timestamp::from_millis(r.int()?);
        if let Some(root) = r.bytes_or()? {
            e.root_id = crate::answers::id(root)?;
        }
        r.text_or()?;
        r.text()?.clone_into(&mut e.job_name);
        e.version = r.int()?;
        Ok(())
    })?;
    r.record(7, |r| {
        r.text()?.clone_into(&mut e.triggered_by);
        e.covers_until = time_or_none(r)?;
        e.n_occurrences = count(r.int()?);
        e.next_due_at = time_or_none(r)?;
        e.retries = small(r.int()?)?;
        e.crashes = small(r.int()?)?;
        e.parameters = document::<Value>(r.text_or()?)?;
        Ok(())
    })?;
    if !r.is_empty() {
        r.record(3, |r| {
            e.duration = r.int_or()?.map(|nanos| Duration::from_nanos(count(nanos)));
            e.result = document(r.text_or()?)?;
            e.error = document(r.text_or()?)?;
            Ok(())
        })?;
    }
    Ok(e)
}

#[cfg(test)]
mod tests {
    use unified_scheduler_core::job::{Job, JobDefinition};
    use unified_scheduler_core::schedule::Schedule;

    use super::*;

    fn new() -> NewExecution {
        let id = ExecutionId::lower_bound(Timestamp::from_millis(1_700_000_000_000));
        NewExecution {
            id,
            job_id: JobId::from("job"),
            trigger: unified_scheduler_core::execution::Trigger::Manual,
            triggered_by: "manual:me".to_owned(),
            due_at: Timestamp::from_millis(-5),
            covers_until: Some(Timestamp::from_millis(77)),
            n_occurrences: 3,
            run_at: Timestamp::from_millis(99),
            attempt: 2,
            retries: 1,
            crashes: 0,
            root_id: ExecutionId::lower_bound(Timestamp::EPOCH),
            nonce: "n".to_owned(),
            parameters: Some(serde_json::json!({"a": [1, null]})),
        }
    }

    #[test]
    fn a_row_comes_back() {
        let job = Job::new("job".into(), JobDefinition::new("j", "h", Schedule::manual()), Timestamp::EPOCH);
        let mut e = new().into_execution(&job, Timestamp::from_millis(123_456_789_012));
        assert_eq!(execution(e.id, &row(&e).unwrap()).unwrap(), e);
        e.status = Status::Failed;
        e.ended_at = Some(Timestamp::from_millis(5));
        e.duration = Some(Duration::from_nanos(1_234_567_891));
        e.reason = Some("error".to_owned());
        assert_eq!(execution(e.id, &row(&e).unwrap()).unwrap(), e);
    }

    #[test]
    fn a_running_row_begins_as_the_script_expects() {
        let job = Job::new("job".into(), JobDefinition::new("j", "h", Schedule::manual()), Timestamp::EPOCH);
        let mut e = new().into_execution(&job, Timestamp::from_millis(1_700_000_000_000));
        let owner = NodeRef { id: NodeId::from("node"), epoch: Epoch(300) };
        e.own(&owner, Timestamp::from_millis(1_700_000_000_000));
        let (row, beginning) = (row(&e).unwrap(), running(&owner, e.claim));
        assert!(row.starts_with(&beginning));
        assert_eq!(row[beginning.len()], 0xcf, "a time in eight bytes");
        assert_eq!(row[beginning.len() + 9..][..3], [0xc2; 3], "no end, no reason, no pause");
    }

    #[test]
    fn a_row_of_a_newer_version_is_an_error_of_its_own() {
        let id = new().id;
        let mut w = Writer::new();
        w.array(13).text("levitating");
        assert!(execution(id, &w.finish()).is_err());
        assert!(execution(id, b"nonsense").is_err());
    }
}
