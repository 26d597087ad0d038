//! Lists and counts of executions, and their removal.

use std::collections::BTreeSet;
use std::ops::Bound::{self, Excluded, Unbounded};

use super::State;
use super::executions::{Executions, Occurrence, occurrence};
use crate::error::{Error, Result};
use crate::execution::Execution;
use crate::id::{ExecutionId, JobId};
use crate::store::{Counts, ExecutionQuery, ExecutionSort, Page, PruneRequest};
use crate::time::Timestamp;

impl Executions {
    pub(super) fn list(&self, query: &ExecutionQuery) -> Result<Page<Execution>> {
        match (query.sort, &query.job_id) {
            (ExecutionSort::DueAt, None) => {
                Err(Error::invalid("only executions of one job can be sorted by due time"))
            }
            (ExecutionSort::DueAt, Some(job)) => self.list_by_due_time(query, job),
            (ExecutionSort::Newest | ExecutionSort::Oldest, _) => Ok(self.list_by_id(query)),
        }
    }

    fn list_by_due_time(&self, query: &ExecutionQuery, job: &JobId) -> Result<Page<Execution>> {
        let start: Occurrence = (job.clone(), Timestamp::MIN, 0, String::new());
        let from = match query.after {
            None => start.clone(),
            Some(id) => occurrence(self.get(&id).ok_or_else(|| Error::not_found("execution", id))?),
        };
        let rows = |from: Occurrence| {
            let after = self.occurrences.range((Excluded(from), Unbounded));
            after.take_while(|(key, _)| key.0 == *job).filter_map(|(_, id)| self.get(id))
        };
        Ok(page(query, rows(from), || rows(start)))
    }

    fn list_by_id(&self, query: &ExecutionQuery) -> Page<Execution> {
        let newest = query.sort == ExecutionSort::Newest;
        let rows = |after: Option<ExecutionId>| {
            let bounds = match after {
                None => (Unbounded, Unbounded),
                Some(id) if newest => (Unbounded, Excluded(id)),
                Some(id) => (Excluded(id), Unbounded),
            };
            let ids = self.candidates(query, bounds);
            let ids: Ids<'_> = if newest { Box::new(ids.rev()) } else { ids };
            ids.filter_map(|id| self.get(id))
        };
        page(query, rows(query.after), || rows(None))
    }

    /// The executions among which those of `query` are, by id, found by the index that fits best.
    fn candidates(
        &self,
        query: &ExecutionQuery,
        bounds: (Bound<ExecutionId>, Bound<ExecutionId>),
    ) -> Ids<'_> {
        match (&query.job_id, &query.statuses[..]) {
            (Some(job), _) => {
                Box::new(self.of_job.get(job).into_iter().flat_map(move |set| set.range(bounds)))
            }
            (None, []) => Box::new(self.ids(bounds)),
            (None, [status]) => {
                let set = self.states.by_status.get(status);
                Box::new(set.into_iter().flat_map(move |set| set.range(bounds)))
            }
            (None, statuses) => {
                let sets = statuses.iter().filter_map(|status| self.states.by_status.get(status));
                let merged: BTreeSet<&ExecutionId> = sets.flat_map(|set| set.range(bounds)).collect();
                Box::new(merged.into_iter())
            }
        }
    }
}

/// Ids in ascending order.
type Ids<'a> = Box<dyn DoubleEndedIterator<Item = &'a ExecutionId> + 'a>;

/// One page of `rows`; `all` gives them from the beginning, to be counted.
fn page<'a, I: Iterator<Item = &'a Execution>>(
    query: &ExecutionQuery,
    rows: I,
    all: impl FnOnce() -> I,
) -> Page<Execution> {
    let offset = usize::try_from(query.offset).unwrap_or(usize::MAX);
    let items = rows.filter(|e| fits(e, query)).skip(offset).take(query.limit).cloned().collect();
    let count = || u64::try_from(all().filter(|e| fits(e, query)).count()).unwrap_or(u64::MAX);
    Page { items, total: query.count.then(count) }
}

fn fits(e: &Execution, query: &ExecutionQuery) -> bool {
    let time = if query.sort == ExecutionSort::DueAt { e.due_at } else { e.created_at };
    query.job_id.as_ref().is_none_or(|job| *job == e.job_id)
        && (query.statuses.is_empty() || query.statuses.contains(&e.status))
        && query.trigger.is_none_or(|trigger| trigger == e.trigger)
        && query.node_id.as_ref().is_none_or(|node| e.node_id.as_ref() == Some(node))
        && query.root_id.is_none_or(|root| root == e.root_id)
        && query.since.is_none_or(|since| since <= time)
        && query.until.is_none_or(|until| time < until)
}

impl State {
    pub(super) fn delete_executions(&mut self, ids: &[ExecutionId]) -> u64 {
        let mut gone = 0;
        for id in ids {
            if self.executions.get(id).is_some_and(|e| e.status.is_final()) {
                gone += u64::from(self.executions.remove(id));
            }
        }
        gone
    }

    pub(super) fn prune(&mut self, request: PruneRequest, now: Timestamp) -> u64 {
        let mut doomed = self.too_old(request, now);
        for job in &self.jobs.retaining {
            if doomed.len() >= request.limit {
                break;
            }
            doomed.extend(self.beyond_own_retention(job, now));
        }
        let doomed: Vec<ExecutionId> = doomed.into_iter().take(request.limit).collect();
        self.delete_executions(&doomed)
    }

    /// Those that the scheduler's own retention no longer keeps, of the jobs that say nothing themselves.
    fn too_old(&self, request: PruneRequest, now: Timestamp) -> BTreeSet<ExecutionId> {
        let Some(max_age) = request.max_age else { return BTreeSet::new() };
        let oldest = now.saturating_sub(max_age);
        let ended = self.executions.states.ended.iter().take_while(|(ended_at, _)| *ended_at < oldest);
        let ids = ended.map(|(_, id)| *id).filter(|id| {
            let job = self.executions.get(id).and_then(|e| self.jobs.get(&e.job_id));
            job.is_none_or(|job| job.definition.history.max_age.is_none())
        });
        ids.take(request.limit).collect()
    }

    /// Those that the job's own retention no longer keeps.
    fn beyond_own_retention(&self, job: &JobId, now: Timestamp) -> BTreeSet<ExecutionId> {
        let Some(history) = self.jobs.get(job).map(|job| job.definition.history) else {
            return BTreeSet::new();
        };
        let oldest = history.max_age.map(|max_age| now.saturating_sub(max_age));
        let count = history.max_count.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        let newest_first = self.executions.states.ended_of_job.get(job).into_iter().flatten().rev();
        let doomed = newest_first.enumerate().filter(|(place, id)| {
            let ended_at = self.executions.get(id).and_then(|e| e.ended_at);
            *place >= count || ended_at.zip(oldest).is_some_and(|(ended_at, oldest)| ended_at < oldest)
        });
        doomed.map(|(_, id)| *id).collect()
    }

    pub(super) fn counts(&self, now: Timestamp) -> Counts {
        let size = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let by_status = &self.executions.states.by_status;
        let waiting = [self.jobs.due.first(), self.executions.states.waiting.first()];
        Counts {
            jobs: size(self.jobs.len()),
            enabled: size(self.jobs.len() - self.jobs.n_disabled()),
            faulty: size(self.jobs.n_faulty()),
            executions: by_status.iter().map(|(status, ids)| (*status, size(ids.len()))).collect(),
            oldest_due: waiting.into_iter().flatten().min().filter(|at| *at <= now),
        }
    }
}
