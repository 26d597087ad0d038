//! Lists of jobs.

use std::cmp::Ordering;

use super::jobs::Jobs;
use crate::job::Job;
use crate::store::{JobQuery, JobSort, Page};

impl Jobs {
    pub(super) fn list(&self, query: &JobQuery) -> Page<Job> {
        let search = query.search.as_ref().map(|text| text.to_lowercase());
        let fits = |job: &&Job| fits(job, query, search.as_deref());
        let mut found: Vec<&Job> = match &query.name {
            Some(name) => self.with_name(name).filter_map(|id| self.get(id)).filter(fits).collect(),
            None => self.iter().filter(fits).collect(),
        };
        found.sort_by(|a, b| order(a, b, query).then_with(|| a.id.cmp(&b.id)));
        let total = query.count.then(|| u64::try_from(found.len()).unwrap_or(u64::MAX));
        let offset = usize::try_from(query.offset).unwrap_or(usize::MAX);
        Page { items: found.into_iter().skip(offset).take(query.limit).cloned().collect(), total }
    }
}

/// `search` is in lower case.
fn fits(job: &Job, query: &JobQuery, search: Option<&str>) -> bool {
    let definition = &job.definition;
    let holds = |text: &str, part: &str| text.to_lowercase().contains(part);
    query.name.as_ref().is_none_or(|name| *name == definition.name)
        && search.is_none_or(|s| holds(&definition.name, s) || holds(&definition.description, s))
        && (query.handlers.is_empty() || query.handlers.contains(&definition.handler))
        && query.enabled.is_none_or(|enabled| enabled == job.enabled)
        && query.origin.is_none_or(|origin| origin == definition.origin)
        && query.tag.as_ref().is_none_or(|tag| definition.tags.contains(tag))
        && query.after.as_ref().is_none_or(|after| job.id > *after)
        && query.faulty.is_none_or(|faulty| faulty == job.fault.is_some())
}

fn order(a: &Job, b: &Job, query: &JobQuery) -> Ordering {
    let turn = |order: Ordering| if query.descending { order.reverse() } else { order };
    match query.sort {
        JobSort::Name => turn(a.definition.name.cmp(&b.definition.name)),
        JobSort::CreatedAt => turn(a.created_at.cmp(&b.created_at)),
        JobSort::DueAt => none_last(a.due.map(|d| d.due_at), b.due.map(|d| d.due_at), turn),
        JobSort::Id => turn(a.id.cmp(&b.id)),
        JobSort::LastRunAt => none_last(a.last_run_at, b.last_run_at, turn),
    }
}

fn none_last<T: Ord>(a: Option<T>, b: Option<T>, turn: impl Fn(Ordering) -> Ordering) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => turn(a.cmp(&b)),
        (a, b) => a.is_none().cmp(&b.is_none()),
    }
}
