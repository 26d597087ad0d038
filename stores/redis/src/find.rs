//! Lists of jobs.
//!
//! The server walks an order of all jobs and keeps those that fit what a state says. What only the definition
//! says (search, tag, origin) is looked for here, stretch by stretch.

use std::cmp::Ordering;

use redis::Value;
use unified_scheduler_core::Result;
use unified_scheduler_core::id::JobId;
use unified_scheduler_core::job::Job;
use unified_scheduler_core::store::{JobQuery, JobSort, Page};

use crate::answers::{self, Answer};
use crate::scripts;
use crate::store::Session;

/// How many jobs one script looks at.
const LOOK_AT: usize = 1000;

/// How many whole jobs are read at once.
const READ: usize = 200;

impl Session {
    pub(crate) async fn list_jobs(&self, query: &JobQuery) -> Result<Page<Job>> {
        query.check()?;
        if query.name.is_some() {
            return self.list_named(query).await;
        }
        let search = query.search.as_ref().map(|text| text.to_lowercase());
        let by_definition = search.is_some() || query.tag.is_some() || query.origin.is_some();
        let by_state = query.after.is_some()
            || !query.handlers.is_empty()
            || query.enabled.is_some()
            || query.faulty.is_some();
        let mut items = Vec::new();
        let (mut place, mut skip, mut found) = (0, query.offset, 0);
        if !by_definition && !by_state {
            // Nothing is to be looked at, to know where a page begins and how many there are.
            (place, skip) = (query.offset, 0);
        }
        let all = by_definition || by_state;
        loop {
            if items.len() >= query.limit && !(query.count && all) {
                break;
            }
            let (ids, next) = self.stretch_of_jobs(query, place).await?;
            let fitting: Vec<JobId> = if by_definition {
                let mut fitting = Vec::new();
                for page in ids.chunks(READ) {
                    let jobs = self.read_jobs(page).await?;
                    let jobs = jobs.into_iter().filter(|job| fits(job, query, search.as_deref()));
                    fitting.extend(jobs.map(|job| job.id));
                }
                fitting
            } else {
                ids
            };
            found += u64::try_from(fitting.len()).unwrap_or(u64::MAX);
            let passed = usize::try_from(skip).unwrap_or(usize::MAX).min(fitting.len());
            skip -= u64::try_from(passed).unwrap_or(skip);
            let wanted = &fitting[passed..];
            let wanted = &wanted[..wanted.len().min(query.limit - items.len().min(query.limit))];
            for page in wanted.chunks(READ) {
                items.extend(self.read_jobs(page).await?);
            }
            let Some(next) = next else { break };
            place = next;
        }
        let total = match (query.count, all) {
            (false, _) => None,
            (true, true) => Some(found),
            (true, false) => Some(self.counts().await?.jobs),
        };
        Ok(Page { items, total })
    }

    /// Jobs of one name are few.
    async fn list_named(&self, query: &JobQuery) -> Result<Page<Job>> {
        let search = query.search.as_ref().map(|text| text.to_lowercase());
        let (ids, _) = self.stretch_of_jobs(query, 0).await?;
        let mut jobs = self.read_jobs(&ids).await?;
        jobs.retain(|job| fits(job, query, search.as_deref()));
        jobs.sort_by(|a, b| order(a, b, query).then_with(|| a.id.cmp(&b.id)));
        let total = query.count.then(|| u64::try_from(jobs.len()).unwrap_or(u64::MAX));
        let offset = usize::try_from(query.offset).unwrap_or(usize::MAX);
        Ok(Page { items: jobs.into_iter().skip(offset).take(query.limit).collect(), total })
    }

    /// The jobs that fit by their state, from a place in the order on, and the place to go on at.
    async fn stretch_of_jobs(&self, query: &JobQuery, place: u64) -> Result<(Vec<JobId>, Option<u64>)> {
        let order = match query.sort {
            JobSort::Name => "names",
            JobSort::CreatedAt => "by_created",
            JobSort::DueAt => "by_due",
            JobSort::LastRunAt => "by_run",
            JobSort::Id => "by_id",
        };
        let choice = |choice: Option<bool>| choice.map_or("", |yes| if yes { "1" } else { "0" });
        let unfiltered = query.handlers.is_empty()
            && query.enabled.is_none()
            && query.faulty.is_none()
            && query.search.is_none()
            && query.tag.is_none()
            && query.origin.is_none();
        let look_at = if unfiltered { query.limit.min(LOOK_AT) } else { LOOK_AT };
        let mut call = self.link.call(&scripts::LIST_JOBS);
        call.arg(order)
            .arg(i32::from(query.descending))
            .arg(place)
            .arg(look_at)
            .arg(query.name.as_ref().map_or("-".to_owned(), |name| format!("={name}")))
            .arg(choice(query.enabled))
            .arg(choice(query.faulty))
            .arg(query.after.as_ref().map_or("-".to_owned(), |id| format!("={id}")));
        for handler in &query.handlers {
            call.arg(handler);
        }
        let mut answer = Answer::of(self.link.run(&call).await?)?;
        let ids = answer.list()?.into_iter().map(|id| answers::text(id).map(JobId::from));
        let ids = ids.collect::<Result<Vec<_>>>()?;
        let next = match answer.next() {
            Value::Nil => None,
            place => Some(crate::rows::count(answers::int(&place)?)),
        };
        Ok((ids, next))
    }
}

/// `search` is in lower case.
fn fits(job: &Job, query: &JobQuery, search: Option<&str>) -> bool {
    let definition = &job.definition;
    let holds = |text: &str, part: &str| text.to_lowercase().contains(part);
    query.after.as_ref().is_none_or(|after| job.id > *after)
        && search.is_none_or(|s| holds(&definition.name, s) || holds(&definition.description, s))
        && query.origin.is_none_or(|origin| origin == definition.origin)
        && query.tag.as_ref().is_none_or(|tag| definition.tags.contains(tag))
}

fn order(a: &Job, b: &Job, query: &JobQuery) -> Ordering {
    let turn = |order: Ordering| if query.descending { order.reverse() } else { order };
    match query.sort {
        JobSort::Name => Ordering::Equal,
        JobSort::CreatedAt => turn(a.created_at.cmp(&b.created_at)),
        JobSort::DueAt => none_last(a.due.map(|d| d.due_at), b.due.map(|d| d.due_at), turn),
        JobSort::LastRunAt => none_last(a.last_run_at, b.last_run_at, turn),
        JobSort::Id => turn(a.id.cmp(&b.id)),
    }
}

fn none_last<T: Ord>(a: Option<T>, b: Option<T>, turn: impl Fn(Ordering) -> Ordering) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => turn(a.cmp(&b)),
        (a, b) => a.is_none().cmp(&b.is_none()),
    }
}
