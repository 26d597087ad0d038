//! Single executions: triggers, cancelling, reading, what a node owns; and lists of them.

use redis::Value;
use unified_scheduler_core::execution::{Execution, JobResult, Status, Trigger};
use unified_scheduler_core::id::{ExecutionId, JobId, NodeId};
use unified_scheduler_core::store::{
    CancelOutcome, Claimed, ExecutionQuery, ExecutionSort, NodeRef, Page, TriggerOutcome, TriggerRequest,
};
use unified_scheduler_core::{Error, Result, Timestamp};

use crate::answers::{self, Answer, key};
use crate::error::odd;
use crate::rows::{count, ending, execution, int, new_row};
use crate::scripts;
use crate::store::Session;

/// How many executions one script looks at for a list.
const LOOK_AT: usize = 1000;

/// Ids sort by the clock of whoever made them, and `created_at` is the store's: how far they may differ for a
/// search by time to find everything, in milliseconds. A day.
const SLACK_MS: i64 = 86_400_000;

impl Session {
    pub(crate) async fn trigger(&self, request: TriggerRequest) -> Result<TriggerOutcome> {
        let TriggerRequest { execution: new, idempotency_key, unless_open } = request;
        let (row, rest) = new_row(&new)?;
        let mut call = self.link.call(&scripts::TRIGGER);
        call.arg(key(&new.id))
            .arg(row)
            .arg(rest)
            .arg(idempotency_key.map_or("-".to_owned(), |key| format!("={key}")))
            .arg(i32::from(unless_open));
        let mut answer = Answer::of(self.link.run(&call).await?)?;
        let outcome = answer.int()?;
        match outcome {
            0 => return Ok(TriggerOutcome::NotFound),
            3 => return Ok(TriggerOutcome::Busy(answer.id()?)),
            4 => {
                let error = Error::conflict("another job has this execution id");
                return Err(error.with("execution_id", new.id));
            }
            _ => {}
        }
        let row = answer.bytes().ok_or_else(|| odd("execution"))?;
        if outcome == 2 {
            return Ok(TriggerOutcome::Exists(Box::new(execution(answer.id()?, &row)?)));
        }
        self.hints.tell();
        Ok(TriggerOutcome::Created(Box::new(execution(new.id, &row)?)))
    }

    pub(crate) async fn cancel(&self, id: &ExecutionId, actor: &str) -> Result<CancelOutcome> {
        let why = JobResult { message: format!("cancelled by {actor}"), ..JobResult::default() };
        let mut call = self.link.call(&scripts::CANCEL);
        call.arg(key(id)).arg(ending(None, Some(&why), None)?);
        let mut answer = Answer::of(self.link.run(&call).await?)?;
        let outcome = match answer.int()? {
            0 => return Ok(CancelOutcome::NotFound),
            1 => CancelOutcome::Cancelled,
            2 => CancelOutcome::Requested,
            _ => {
                let status = answer.text()?;
                let status = status.parse().map_err(|e: Error| Error::corrupt(e.message()))?;
                return Ok(CancelOutcome::Ended(status));
            }
        };
        self.hints.tell();
        Ok(outcome)
    }

    pub(crate) async fn get_execution(&self, id: &ExecutionId) -> Result<Option<Execution>> {
        let mut call = self.link.call(&scripts::EXECUTION);
        let row = self.link.run(call.arg(key(id))).await?;
        answers::bytes(row).map(|row| execution(*id, &row)).transpose()
    }

    pub(crate) async fn owned(&self, node: &NodeRef) -> Result<Vec<Claimed>> {
        let mut call = self.link.call(&scripts::OWNED);
        call.arg(node.id.as_str()).arg(node.epoch.0);
        let mut answer = Answer::of(self.link.run(&call).await?)?;
        let (ids, rows) = (answer.list()?, answer.list()?);
        let (states, runs, definitions) = (answer.list()?, answer.list()?, answer.list()?);
        let mut owned = Vec::with_capacity(ids.len());
        let all = ids.into_iter().zip(rows).zip(states).zip(runs.into_iter().zip(definitions));
        for (((id, row), state), (run, definition)) in all {
            let id = answers::id(&answers::bytes(id).unwrap_or_default())?;
            let Some(row) = answers::bytes(row) else { continue };
            let execution = match execution(id, &row) {
                Ok(execution) => execution,
                Err(error) => {
                    tracing::error!(?error, "could not read what this node owns");
                    continue;
                }
            };
            owned.push(match self.job(&execution.job_id, state, run, definition) {
                Some(job) => Claimed { execution, job },
                None => Claimed::of_deleted_job(execution),
            });
        }
        Ok(owned)
    }

    pub(crate) async fn list_executions(&self, query: &ExecutionQuery) -> Result<Page<Execution>> {
        if query.sort == ExecutionSort::DueAt && query.job_id.is_none() {
            return Err(Error::invalid("only executions of one job can be sorted by due time"));
        }
        let mut walk = Walk { cursor: self.begin(query).await?, ..Walk::default() };
        walk.offset = query.offset;
        let mut items = Vec::new();
        while items.len() < query.limit && !walk.done {
            let want = (query.limit - items.len()).min(LOOK_AT);
            let (ids, rows) = self.stretch(query, &mut walk, want, true).await?;
            for (id, row) in ids.into_iter().zip(rows) {
                let id = answers::id(&answers::bytes(id).unwrap_or_default())?;
                let Some(row) = answers::bytes(row) else { continue };
                match execution(id, &row) {
                    Ok(execution) => items.push(execution),
                    Err(error) => tracing::warn!(?error, "could not read an execution"),
                }
            }
        }
        let total = if query.count { Some(self.count_executions(query).await?) } else { None };
        Ok(Page { items, total })
    }

    /// How many there are on all pages.
    async fn count_executions(&self, query: &ExecutionQuery) -> Result<u64> {
        let mut query = ExecutionQuery { after: None, ..query.clone() };
        if query.since.is_none() && query.until.is_none() {
            query.sort = ExecutionSort::Oldest;
        }
        let mut walk = Walk { cursor: self.begin(&query).await?, ..Walk::default() };
        while !walk.done {
            self.stretch(&query, &mut walk, 0, false).await?;
        }
        Ok(walk.fitted)
    }

    /// Where a walk begins.
    async fn begin(&self, query: &ExecutionQuery) -> Result<Vec<u8>> {
        if query.sort != ExecutionSort::DueAt {
            let after = query.after.map(|id| key(&id).to_vec());
            let slack = |time: Option<Timestamp>, by: i64| {
                time.map(|t| ExecutionId::lower_bound(Timestamp::from_millis(t.as_millis() + by)))
                    .map(|id| key(&id).to_vec())
            };
            let bound = match query.sort {
                ExecutionSort::Newest => slack(query.until, SLACK_MS),
                _ => slack(query.since, -SLACK_MS),
            };
            return Ok(match (after, bound) {
                (None, bound) => bound.unwrap_or_default(),
                (Some(after), None) => after,
                (Some(after), Some(bound)) if query.sort == ExecutionSort::Newest => after.min(bound),
                (Some(after), Some(bound)) => after.max(bound),
            });
        }
        let (Some(after), Some(job)) = (query.after, &query.job_id) else { return Ok(Vec::new()) };
        let mut call = self.link.call(&scripts::DUE_PLACE);
        call.arg(key(&after)).arg(job.as_str());
        match self.link.run(&call).await? {
            Value::Nil => Err(Error::not_found("execution", after)),
            place => Ok((answers::int(&place)? + 1).to_string().into_bytes()),
        }
    }

    /// Goes on with a walk; answers ids and rows.
    async fn stretch(
        &self,
        query: &ExecutionQuery,
        walk: &mut Walk,
        want: usize,
        with_rows: bool,
    ) -> Result<(Vec<Value>, Vec<Value>)> {
        let or_none = |text: Option<&str>| text.map_or("-".to_owned(), |text| format!("={text}"));
        let time = |time: Option<Timestamp>| time.map_or(String::new(), |t| t.as_millis().to_string());
        let (sort, stop) = match query.sort {
            ExecutionSort::Newest => ("newest", query.since.map(|t| (t, -SLACK_MS))),
            ExecutionSort::Oldest => ("oldest", query.until.map(|t| (t, SLACK_MS))),
            ExecutionSort::DueAt => ("due", None),
        };
        let stop = stop.map(|(t, by)| Timestamp::from_millis(t.as_millis() + by));
        let stop = stop.map(|t| key(&ExecutionId::lower_bound(t)).to_vec()).unwrap_or_default();
        let mut call = self.link.call(&scripts::LIST_EXECUTIONS);
        call.arg(sort)
            .arg(or_none(query.job_id.as_ref().map(JobId::as_str)))
            .arg(&walk.cursor)
            .arg(stop)
            .arg(LOOK_AT)
            .arg(walk.offset)
            .arg(want)
            .arg(query.trigger.map(Trigger::as_str).unwrap_or_default())
            .arg(or_none(query.node_id.as_ref().map(NodeId::as_str)))
            .arg(query.root_id.map(|root| key(&root).to_vec()).unwrap_or_default())
            .arg(time(query.since))
            .arg(time(query.until))
            .arg(i32::from(with_rows));
        for status in &query.statuses {
            call.arg(status.as_str());
        }
        let mut answer = Answer::of(self.link.run(&call).await?)?;
        let (ids, rows) = (answer.list()?, answer.list()?);
        walk.fitted += count(answer.int()?);
        walk.offset -= count(answer.int()?).min(walk.offset);
        match answer.next() {
            Value::Nil => walk.done = true,
            Value::Int(place) => walk.cursor = place.to_string().into_bytes(),
            cursor => walk.cursor = answers::bytes(cursor).unwrap_or_default(),
        }
        Ok((ids, rows))
    }
}

/// How far a walk through a list has come.
#[derive(Debug, Default)]
struct Walk {
    cursor: Vec<u8>,
    /// How many that fit are still to be passed over.
    offset: u64,
    fitted: u64,
    done: bool,
}

/// Every status, in the order in which `counts.lua` is asked for them.
pub(crate) fn statuses() -> impl Iterator<Item = Status> {
    Status::ALL.iter().copied()
}

/// A limit as the last place of a range from `first` on.
pub(crate) fn last_place(first: u64, limit: usize) -> i64 {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    int(first).saturating_add(limit).saturating_sub(1)
}
