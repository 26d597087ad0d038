//! Lists: filters, orders, and pages that hold every item exactly once.

use std::time::Duration;

use unified_scheduler_core::error::Result;
use unified_scheduler_core::execution::{Execution, Status, Trigger};
use unified_scheduler_core::id::ExecutionId;
use unified_scheduler_core::job::{Job, Origin};
use unified_scheduler_core::policy::Retry;
use unified_scheduler_core::schedule::Schedule;
use unified_scheduler_core::store::{ExecutionQuery, ExecutionSort, JobQuery, JobSort};

use super::group;
use crate::ctx::{Ctx, MINUTE};

group! { "paging":
    jobs_are_filtered_by_everything_a_query_names,
    jobs_are_searched_whatever_the_case,
    jobs_are_sorted_and_those_without_a_value_come_last,
    every_job_is_on_exactly_one_page_in_every_order,
    executions_are_filtered_by_everything_a_query_names,
    executions_are_listed_newest_or_oldest_first,
    executions_of_a_job_are_listed_by_due_time_then_attempt,
    every_execution_is_met_once_on_the_way_through_the_pages,
    times_are_half_open,
}

async fn job_names(ctx: &Ctx<'_>, query: JobQuery) -> Result<Vec<String>> {
    let page = ctx.store().list_jobs(&query).await?;
    Ok(page.items.iter().map(|job| job.definition.name.clone()).collect())
}

async fn jobs_are_filtered_by_everything_a_query_names(ctx: &Ctx<'_>) -> Result<()> {
    let mut a = ctx.job_with("a", Schedule::every(MINUTE), |d| {
        d.tags = vec!["night".to_owned(), "x".to_owned()];
        d.origin = Origin::Static;
    });
    a.enabled = false;
    let mut b = ctx.job_with("b", Schedule::every(MINUTE), |d| d.handler = "other".into());
    b.fault = Some("broken".to_owned());
    let c = ctx.job_with("c", Schedule::every(MINUTE), |d| d.tags = vec!["nigh".to_owned()]);
    let mut twin = ctx.job_with("c", Schedule::every(MINUTE), |d| d.handler = "third".into());
    twin.id = "twin".into();
    let _ = ctx.create_all(vec![a, b, c, twin]).await?;
    let all = JobQuery::default;
    let strings = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let expectations: Vec<(JobQuery, &[&str])> = vec![
        (all(), &["a", "b", "c", "c"]),
        (JobQuery { name: Some("c".to_owned()), ..all() }, &["c", "c"]),
        (JobQuery { name: Some("C".to_owned()), ..all() }, &[]),
        (JobQuery { handlers: strings(&["other", "third"]), ..all() }, &["b", "c"]),
        (JobQuery { enabled: Some(false), ..all() }, &["a"]),
        (JobQuery { enabled: Some(true), ..all() }, &["b", "c", "c"]),
        (JobQuery { origin: Some(Origin::Static), ..all() }, &["a"]),
        (JobQuery { tag: Some("night".to_owned()), ..all() }, &["a"]),
        (JobQuery { faulty: Some(true), ..all() }, &["b"]),
        (JobQuery { faulty: Some(false), enabled: Some(true), ..all() }, &["c", "c"]),
        (JobQuery { limit: 0, ..all() }, &[]),
        (JobQuery { offset: 9, ..all() }, &[]),
    ];
    for (query, expected) in expectations {
        assert_eq!(job_names(ctx, query.clone()).await?, expected, "{query:?}");
    }
    let query = JobQuery { enabled: Some(true), limit: 1, offset: 1, count: true, ..all() };
    let page = ctx.store().list_jobs(&query).await?;
    assert_eq!((page.items.len(), page.total), (1, Some(3)), "the total of all pages");
    assert_eq!(ctx.store().list_jobs(&all()).await?.total, None, "only when asked for");
    Ok(())
}

async fn jobs_are_searched_whatever_the_case(ctx: &Ctx<'_>) -> Result<()> {
    ctx.create(ctx.job("Nightly Export 100%")).await?;
    ctx.create(ctx.job_with("b", Schedule::manual(), |d| d.description = "the EXPORT_x of ÜBER".into()))
        .await?;
    ctx.create(ctx.job("other")).await?;
    for (text, found) in
        [("export", 2), ("0%", 1), ("%", 1), ("t_X", 1), ("_", 1), ("über", 1), ("nope", 0), ("", 3)]
    {
        let query = JobQuery { search: Some(text.to_owned()), ..JobQuery::default() };
        assert_eq!(job_names(ctx, query).await?.len(), found, "{text:?}");
    }
    Ok(())
}

/// Ten jobs: two and two the same in everything but id, some without due time, some that ran.
async fn ten_jobs(ctx: &Ctx<'_>) -> Result<Vec<Job>> {
    let mut jobs = Vec::new();
    for i in 0..10_u32 {
        let schedule = if i < 4 { Schedule::manual() } else { Schedule::every(MINUTE) };
        let mut job = ctx.job_with(&format!("name-{}", i / 2), schedule, |_| {});
        job.id = format!("id-{}", (i * 7) % 10).as_str().into();
        if i >= 5 {
            job.last_run_at = Some(ctx.now().saturating_add(MINUTE * (i % 2)));
        }
        if i % 2 == 0 {
            ctx.advance(Duration::from_millis(1));
        }
        jobs.push(ctx.create(job).await?);
    }
    Ok(jobs)
}

const ORDERS: [JobSort; 4] = [JobSort::Name, JobSort::CreatedAt, JobSort::DueAt, JobSort::LastRunAt];

async fn jobs_are_sorted_and_those_without_a_value_come_last(ctx: &Ctx<'_>) -> Result<()> {
    ten_jobs(ctx).await?;
    for descending in [false, true] {
        for sort in ORDERS {
            let query = JobQuery { sort, descending, ..JobQuery::default() };
            let jobs = ctx.store().list_jobs(&query).await?.items;
            for pair in jobs.windows(2) {
                let value = |job: &Job| match sort {
                    JobSort::Name => Some(job.definition.name.clone()),
                    JobSort::CreatedAt => Some(job.created_at.to_string()),
                    JobSort::DueAt => job.due.map(|due| due.due_at.to_string()),
                    JobSort::LastRunAt => job.last_run_at.map(|t| t.to_string()),
                    JobSort::Id => None,
                };
                let (a, b) = (value(&pair[0]), value(&pair[1]));
                let in_order = match (&a, &b) {
                    (Some(a), Some(b)) if a == b => pair[0].id < pair[1].id,
                    (Some(a), Some(b)) => (a < b) != descending,
                    (None, None) => pair[0].id < pair[1].id,
                    (a, _) => a.is_some(),
                };
                assert!(in_order, "{sort:?}, descending {descending}: {a:?} before {b:?}");
            }
        }
    }
    Ok(())
}

async fn every_job_is_on_exactly_one_page_in_every_order(ctx: &Ctx<'_>) -> Result<()> {
    let mut all: Vec<_> = ten_jobs(ctx).await?.into_iter().map(|job| job.id).collect();
    all.sort();
    for descending in [false, true] {
        for sort in ORDERS {
            let mut seen = Vec::new();
            for offset in (0..12).step_by(3) {
                let query = JobQuery { sort, descending, offset, limit: 3, ..JobQuery::default() };
                seen.extend(ctx.store().list_jobs(&query).await?.items.into_iter().map(|job| job.id));
            }
            seen.sort();
            assert_eq!(seen, all, "{sort:?}, descending {descending}");
        }
    }
    Ok(())
}

/// Of two jobs: ended ones, a retry, running and pending ones, some made at the same instant.
async fn some_executions(ctx: &Ctx<'_>) -> Result<Vec<Execution>> {
    let (one, two) = (ctx.join("one").await?, ctx.join("two").await?);
    let flaky = ctx.job_with("flaky", Schedule::every(MINUTE), |d| d.retry = Retry::times(1, Duration::ZERO));
    let flaky = ctx.create(flaky).await?;
    let plain = ctx.create(ctx.manual_job("plain")).await?;
    for status in [Status::Failed, Status::Success, Status::Failed] {
        let claimed = ctx.claim_one(&one).await?;
        ctx.end(&one, &claimed, status).await?;
        ctx.advance(MINUTE / 2);
    }
    for _ in 0..3 {
        ctx.trigger(&plain.id).await?;
    }
    ctx.advance(MINUTE);
    let _ = ctx.claim(&two, 10).await?;
    let mut all = ctx.executions(&flaky.id).await?;
    all.extend(ctx.executions(&plain.id).await?);
    all.sort_by_key(|e| e.id);
    assert!(all.len() >= 6, "enough to tell: {}", all.len());
    Ok(all)
}

async fn executions_are_filtered_by_everything_a_query_names(ctx: &Ctx<'_>) -> Result<()> {
    let all = some_executions(ctx).await?;
    let root = all.iter().find(|e| e.attempt == 2).map(|e| e.root_id);
    let any = || ExecutionQuery { sort: ExecutionSort::Oldest, ..ExecutionQuery::default() };
    let queries = [
        any(),
        ExecutionQuery { job_id: Some("job-plain".into()), ..any() },
        ExecutionQuery { statuses: vec![Status::Failed, Status::Running], ..any() },
        ExecutionQuery { statuses: vec![Status::Timeout], ..any() },
        ExecutionQuery { trigger: Some(Trigger::Manual), ..any() },
        ExecutionQuery { node_id: Some("two".into()), ..any() },
        ExecutionQuery { root_id: root, ..any() },
        ExecutionQuery { job_id: Some("job-flaky".into()), statuses: vec![Status::Success], ..any() },
    ];
    for query in queries {
        let fits = |e: &&Execution| {
            query.job_id.as_ref().is_none_or(|id| *id == e.job_id)
                && (query.statuses.is_empty() || query.statuses.contains(&e.status))
                && query.trigger.is_none_or(|trigger| trigger == e.trigger)
                && query.node_id.as_ref().is_none_or(|node| e.node_id.as_ref() == Some(node))
                && query.root_id.is_none_or(|root| root == e.root_id)
        };
        let expected: Vec<Execution> = all.iter().filter(fits).cloned().collect();
        let counted = ExecutionQuery { count: true, limit: 2, ..query.clone() };
        let page = ctx.store().list_executions(&counted).await?;
        assert_eq!(page.total, u64::try_from(expected.len()).ok(), "{query:?}");
        assert_eq!(page.items, expected.iter().take(2).cloned().collect::<Vec<_>>(), "{query:?}");
        assert_eq!(ctx.store().list_executions(&query).await?.items, expected, "{query:?}");
    }
    Ok(())
}

async fn executions_are_listed_newest_or_oldest_first(ctx: &Ctx<'_>) -> Result<()> {
    let mut all = some_executions(ctx).await?;
    let oldest = ExecutionQuery { sort: ExecutionSort::Oldest, ..ExecutionQuery::default() };
    assert_eq!(ctx.store().list_executions(&oldest).await?.items, all);
    all.reverse();
    assert_eq!(ctx.store().list_executions(&ExecutionQuery::default()).await?.items, all);
    Ok(())
}

async fn executions_of_a_job_are_listed_by_due_time_then_attempt(ctx: &Ctx<'_>) -> Result<()> {
    some_executions(ctx).await?;
    let listed = ctx.executions(&"job-flaky".into()).await?;
    let keys: Vec<_> = listed.iter().map(|e| (e.due_at, e.attempt)).collect();
    let mut sorted = keys.clone();
    sorted.sort_unstable();
    assert_eq!(keys, sorted);
    assert!(keys.windows(2).any(|pair| pair[0].0 == pair[1].0), "two attempts of one occurrence");
    Ok(())
}

async fn every_execution_is_met_once_on_the_way_through_the_pages(ctx: &Ctx<'_>) -> Result<()> {
    let all = some_executions(ctx).await?;
    let flaky: Vec<_> = all.iter().filter(|e| e.job_id.as_str() == "job-flaky").collect();
    for sort in [ExecutionSort::Newest, ExecutionSort::Oldest, ExecutionSort::DueAt] {
        let (job_id, expected) = match sort {
            ExecutionSort::DueAt => (Some("job-flaky".into()), flaky.len()),
            _ => (None, all.len()),
        };
        let query = ExecutionQuery { job_id, sort, limit: 2, ..ExecutionQuery::default() };
        let whole = ExecutionQuery { limit: 1000, ..query.clone() };
        let ids = |items: Vec<Execution>| items.into_iter().map(|e| e.id).collect::<Vec<ExecutionId>>();
        let whole = ids(ctx.store().list_executions(&whole).await?.items);
        assert_eq!(whole.len(), expected);
        let (mut by_offset, mut by_cursor, mut after) = (Vec::new(), Vec::new(), None);
        for offset in (0..).step_by(2).take(whole.len()) {
            let page = ExecutionQuery { offset, ..query.clone() };
            by_offset.extend(ids(ctx.store().list_executions(&page).await?.items));
            let page = ExecutionQuery { after, ..query.clone() };
            by_cursor.extend(ids(ctx.store().list_executions(&page).await?.items));
            after = by_cursor.last().copied();
        }
        assert_eq!(by_offset, whole, "{sort:?} by offset");
        assert_eq!(by_cursor, whole, "{sort:?} by the last one seen");
    }
    Ok(())
}

async fn times_are_half_open(ctx: &Ctx<'_>) -> Result<()> {
    let all = some_executions(ctx).await?;
    let (since, until) = (all[1].created_at, all[all.len() - 1].created_at);
    let any = ExecutionQuery { since: Some(since), until: Some(until), ..ExecutionQuery::default() };
    let expected = all.iter().filter(|e| since <= e.created_at && e.created_at < until).count();
    assert_eq!(ctx.store().list_executions(&any).await?.items.len(), expected, "by when they were made");
    let due = ExecutionQuery {
        job_id: Some("job-flaky".into()),
        sort: ExecutionSort::DueAt,
        since: Some(all[0].due_at),
        until: Some(all[0].due_at.saturating_add(Duration::from_millis(1))),
        ..ExecutionQuery::default()
    };
    let found = ctx.store().list_executions(&due).await?.items;
    assert!(!found.is_empty() && found.iter().all(|e| e.due_at == all[0].due_at), "by due time");
    Ok(())
}
