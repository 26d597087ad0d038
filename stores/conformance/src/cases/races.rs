//! Many at once, on one handle and on several: nothing twice, nothing lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use unified_scheduler_core::error::{Error, Result};
use unified_scheduler_core::execution::Status;
use unified_scheduler_core::id::{ExecutionId, JobId};
use unified_scheduler_core::plan::EnginePlanner;
use unified_scheduler_core::policy::Overlap;
use unified_scheduler_core::schedule::Schedule;
use unified_scheduler_core::settle::{Ending, settle};
use unified_scheduler_core::store::{
    CancelOutcome, CompleteOutcome, CompleteRequest, CreateJobs, CreateOutcome, NodeRef, Store,
    TriggerOutcome, TriggerRequest, UpdateJob, UpdateOutcome,
};

use super::group;
use crate::ctx::{Ctx, HANDLER, LONG, MINUTE, claim_on};

group! { "races":
    each_occurrence_is_claimed_once_on_one_handle,
    each_occurrence_is_claimed_once_on_many_handles,
    each_pending_execution_is_claimed_once,
    a_job_never_runs_more_often_than_its_overlap_lets_it,
    one_of_many_edits_from_the_same_version_wins,
    edits_and_claims_at_once_lose_nothing,
    no_occurrence_of_a_paused_job_is_claimed_after_the_pause,
    a_pause_by_failures_happens_once,
    one_key_makes_one_execution,
    unless_open_makes_one_execution,
    one_name_is_given_once,
    one_id_is_given_once_and_the_others_are_told,
    a_cancellation_and_a_claim_agree,
    a_completion_is_applied_once_by_many,
}

/// What all the tasks answered.
pub(super) async fn join_all<T>(tasks: Vec<JoinHandle<Result<T>>>) -> Result<Vec<T>> {
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.map_err(|error| Error::internal("a task panicked").caused_by(error))??);
    }
    Ok(answers)
}

const CLAIMERS: usize = 6;

/// Claims, and ends when `ends`, until there is nothing left; answers what was claimed.
async fn drain(
    store: Arc<dyn Store>,
    node: NodeRef,
    planner: EnginePlanner,
    limit: usize,
) -> Result<Vec<(JobId, ExecutionId)>> {
    let mut claimed = Vec::new();
    loop {
        let batch = claim_on(&*store, &node, &[HANDLER], limit, &planner).await?;
        let done = batch.claimed.is_empty() && !batch.more;
        claimed.extend(batch.claimed.into_iter().map(|c| (c.job.id, c.execution.id)));
        if done {
            return Ok(claimed);
        }
        tokio::task::yield_now().await;
    }
}

async fn race(ctx: &Ctx<'_>, own_handles: bool) -> Result<Vec<(JobId, ExecutionId)>> {
    let mut tasks = Vec::new();
    for i in 0..CLAIMERS {
        let node = ctx.join(&format!("node-{i}")).await?;
        let store = if own_handles { ctx.other().await? } else { ctx.shared() };
        tasks.push(tokio::spawn(drain(store, node, ctx.planner.clone(), 1 + 5 * i)));
    }
    Ok(join_all(tasks).await?.concat())
}

async fn due_jobs(ctx: &Ctx<'_>, n: usize) -> Result<()> {
    let jobs = (0..n).map(|i| ctx.job(&format!("{i}"))).collect();
    let outcome = ctx.create_all(jobs).await?;
    assert_eq!(outcome, CreateOutcome::Created);
    Ok(())
}

async fn assert_each_once(ctx: &Ctx<'_>, claimed: &[(JobId, ExecutionId)], n: usize) -> Result<()> {
    let jobs: BTreeSet<&JobId> = claimed.iter().map(|(job, _)| job).collect();
    assert_eq!((claimed.len(), jobs.len()), (n, n), "each job was due once");
    let running = ctx.store().counts().await?.executions.get(&Status::Running).copied();
    assert_eq!(running, u64::try_from(n).ok());
    Ok(())
}

async fn each_occurrence_is_claimed_once_on_one_handle(ctx: &Ctx<'_>) -> Result<()> {
    due_jobs(ctx, 200).await?;
    let claimed = race(ctx, false).await?;
    assert_each_once(ctx, &claimed, 200).await
}

async fn each_occurrence_is_claimed_once_on_many_handles(ctx: &Ctx<'_>) -> Result<()> {
    due_jobs(ctx, 200).await?;
    let claimed = race(ctx, true).await?;
    assert_each_once(ctx, &claimed, 200).await
}

async fn each_pending_execution_is_claimed_once(ctx: &Ctx<'_>) -> Result<()> {
    let mut made = BTreeSet::new();
    for i in 0..10 {
        let job =
            ctx.job_with(&format!("{i}"), Schedule::manual(), |d| d.overlap = Overlap::Allow { max: 10 });
        let job = ctx.create(job).await?;
        for _ in 0..10 {
            made.insert(ctx.trigger(&job.id).await?.id);
        }
    }
    let claimed = race(ctx, true).await?;
    let ids: BTreeSet<ExecutionId> = claimed.iter().map(|(_, id)| *id).collect();
    assert_eq!((claimed.len(), ids), (100, made));
    Ok(())
}

async fn a_job_never_runs_more_often_than_its_overlap_lets_it(ctx: &Ctx<'_>) -> Result<()> {
    for (i, max) in [1, 3].into_iter().enumerate() {
        let job = ctx.job_with(&format!("{i}"), Schedule::manual(), |d| d.overlap = Overlap::Allow { max });
        let job = ctx.create(job).await?;
        for _ in 0..20 {
            ctx.trigger(&job.id).await?;
        }
    }
    let claimed = race(ctx, true).await?;
    let mut per_job: BTreeMap<&str, usize> = BTreeMap::new();
    for (job, _) in &claimed {
        *per_job.entry(job.as_str()).or_default() += 1;
    }
    assert_eq!(per_job, BTreeMap::from([("job-0", 1), ("job-1", 3)]));
    Ok(())
}

async fn one_of_many_edits_from_the_same_version_wins(ctx: &Ctx<'_>) -> Result<()> {
    let job = ctx.create(ctx.job("edited")).await?;
    let mut tasks = Vec::new();
    for n in 0..8 {
        let store = ctx.other().await?;
        let mut edit = UpdateJob::new(&job, format!("editor-{n}"), "updated");
        edit.skip_next = Some(n + 1);
        tasks.push(tokio::spawn(async move { store.update_job(edit).await }));
    }
    let outcomes = join_all(tasks).await?;
    let won: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            UpdateOutcome::Updated(job) => Some(job.skip_next),
            _ => None,
        })
        .collect();
    let stored = ctx.get(&job.id).await?;
    assert_eq!((won, stored.version), (vec![stored.skip_next], 2), "{outcomes:?}");
    assert_eq!(ctx.audit(&job.id).await?.len(), 2);
    Ok(())
}

async fn edits_and_claims_at_once_lose_nothing(ctx: &Ctx<'_>) -> Result<()> {
    const ROUNDS: u32 = 25;
    let allow = ctx.job_with("both", Schedule::every(MINUTE), |d| d.overlap = Overlap::Allow { max: 1000 });
    let job = ctx.create(allow).await?;
    let node = ctx.join("node").await?;
    let editor = ctx.other().await?;
    let id = job.id.clone();
    let edits = tokio::spawn(async move {
        let mut won = 0;
        while won < ROUNDS {
            let Some(job) = editor.get_job(&id).await? else { return Err(Error::not_found("job", &id)) };
            let mut edit = UpdateJob::new(&job, "editor", "updated");
            let mut definition = job.definition.to_owned();
            definition.priority = i32::try_from(won).unwrap_or(0);
            edit.definition = Some(definition);
            if matches!(editor.update_job(edit).await?, UpdateOutcome::Updated(_)) {
                won += 1;
            }
            tokio::task::yield_now().await;
        }
        Ok(won)
    });
    let mut claimed = 0;
    for _ in 0..ROUNDS {
        let mut batch = ctx.claim(&node, 10).await?;
        while batch.more {
            claimed += batch.claimed.len();
            batch = ctx.claim(&node, 10).await?;
        }
        claimed += batch.claimed.len();
        ctx.advance(MINUTE);
        tokio::task::yield_now().await;
    }
    join_all(vec![edits]).await?;
    claimed += ctx.claim(&node, 100).await?.claimed.len();
    let stored = ctx.get(&job.id).await?;
    assert_eq!(stored.version, 1 + i64::from(ROUNDS), "one version for each edit");
    let rows = ctx.executions(&job.id).await?;
    let occurrences: u64 = rows.iter().map(|e| e.n_occurrences).sum();
    assert_eq!((rows.len(), occurrences), (claimed, u64::from(ROUNDS) + 1), "one record for each minute");
    Ok(())
}

async fn no_occurrence_of_a_paused_job_is_claimed_after_the_pause(ctx: &Ctx<'_>) -> Result<()> {
    due_jobs(ctx, 60).await?;
    let other = ctx.other().await?;
    let task = tokio::spawn(async move {
        let mut paused = Vec::new();
        for i in 0..60 {
            let id = JobId::from(format!("job-{i}"));
            let Some(job) = other.get_job(&id).await? else { continue };
            let mut edit = UpdateJob::new(&job, "pauser", "disabled");
            edit.enabled = Some(false);
            if let UpdateOutcome::Updated(job) = other.update_job(edit).await? {
                paused.push(*job);
            }
            tokio::task::yield_now().await;
        }
        Ok(paused)
    });
    let claimed: BTreeSet<JobId> = race(ctx, true).await?.into_iter().map(|(job, _)| job).collect();
    let paused = join_all(vec![task]).await?.concat();
    assert_eq!(paused.len(), 60, "a claim is not an edit: none of the pauses is stale");
    for job in paused {
        let fired = job.n_fired == 1;
        assert_eq!(claimed.contains(&job.id), fired, "{} was claimed before its pause, or never", job.id);
        assert_eq!(ctx.executions(&job.id).await?.len(), usize::from(fired));
    }
    Ok(())
}

async fn a_pause_by_failures_happens_once(ctx: &Ctx<'_>) -> Result<()> {
    let job = ctx.job_with("pausing", Schedule::every(MINUTE), |d| {
        d.pause_after_failures = Some(3);
        d.overlap = Overlap::Allow { max: 100 };
    });
    let job = ctx.create(job).await?;
    let node = ctx.join("node").await?;
    let mut ends = Vec::new();
    for _ in 0..10 {
        ends.push(ctx.ending(&ctx.claim_one(&node).await?, Status::Failed));
        ctx.advance(MINUTE);
    }
    let mut tasks = Vec::new();
    for end in ends {
        let (store, node) = (ctx.other().await?, node.clone());
        tasks.push(tokio::spawn(async move {
            store.complete(CompleteRequest { node: &node, completions: &[end] }).await
        }));
    }
    let outcomes = join_all(tasks).await?.concat();
    let paused = outcomes.iter().filter(|o| matches!(o, CompleteOutcome::Applied { paused: true })).count();
    assert_eq!((outcomes.len(), paused), (10, 1));
    assert_eq!(ctx.get(&job.id).await?.failures_in_row, 10, "every failure counts");
    assert_eq!(ctx.audit(&job.id).await?.len(), 2);
    Ok(())
}

async fn triggers_at_once(ctx: &Ctx<'_>, job: &JobId, key: Option<&str>, unless_open: bool) -> Result<usize> {
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let store = ctx.other().await?;
        let execution = ctx.manual(job);
        let request = TriggerRequest { execution, idempotency_key: key.map(str::to_owned), unless_open };
        tasks.push(tokio::spawn(async move { store.trigger(request).await }));
    }
    let outcomes = join_all(tasks).await?;
    Ok(outcomes.iter().filter(|outcome| matches!(outcome, TriggerOutcome::Created(_))).count())
}

async fn one_key_makes_one_execution(ctx: &Ctx<'_>) -> Result<()> {
    let job = ctx.create(ctx.manual_job("asked")).await?;
    assert_eq!(triggers_at_once(ctx, &job.id, Some("key"), false).await?, 1);
    assert_eq!(ctx.executions(&job.id).await?.len(), 1);
    Ok(())
}

async fn unless_open_makes_one_execution(ctx: &Ctx<'_>) -> Result<()> {
    let job = ctx.create(ctx.manual_job("asked")).await?;
    assert_eq!(triggers_at_once(ctx, &job.id, None, true).await?, 1);
    assert_eq!(ctx.executions(&job.id).await?.len(), 1);
    Ok(())
}

async fn one_name_is_given_once(ctx: &Ctx<'_>) -> Result<()> {
    let mut tasks = Vec::new();
    for i in 0..8 {
        let store = ctx.other().await?;
        let mut job = ctx.job("name");
        job.id = JobId::from(format!("{i}"));
        let request = CreateJobs { jobs: vec![job], unique_names: true, actor: "tester".to_owned() };
        tasks.push(tokio::spawn(async move { store.create_jobs(request).await }));
    }
    let outcomes = join_all(tasks).await?;
    assert_eq!(outcomes.iter().filter(|o| **o == CreateOutcome::Created).count(), 1, "{outcomes:?}");
    assert_eq!(ctx.store().counts().await?.jobs, 1);
    Ok(())
}

/// Nodes that come up together store the same static job. Losing that race is an answer, not an error.
async fn one_id_is_given_once_and_the_others_are_told(ctx: &Ctx<'_>) -> Result<()> {
    for round in 0..10 {
        let mut tasks = Vec::new();
        for i in 0..CLAIMERS {
            let mut job = ctx.job(&format!("{round} by {i}"));
            job.id = JobId::from(format!("static:{round}").as_str());
            let store = ctx.other().await?;
            let request = CreateJobs { jobs: vec![job], unique_names: false, actor: "tester".to_owned() };
            tasks.push(tokio::spawn(async move { store.create_jobs(request).await }));
        }
        let outcomes = join_all(tasks).await?;
        let created = outcomes.iter().filter(|outcome| **outcome == CreateOutcome::Created).count();
        assert_eq!(created, 1, "{outcomes:?}");
    }
    Ok(())
}

async fn a_cancellation_and_a_claim_agree(ctx: &Ctx<'_>) -> Result<()> {
    let mut pending = Vec::new();
    for i in 0..40 {
        let job = ctx.create(ctx.manual_job(&format!("{i}"))).await?;
        pending.push(ctx.trigger(&job.id).await?.id);
    }
    let canceller = ctx.other().await?;
    let ids = pending.clone();
    let cancels = tokio::spawn(async move {
        let mut outcomes = BTreeMap::new();
        for id in ids.into_iter().rev() {
            outcomes.insert(id, canceller.cancel(&id, "tester").await?);
            tokio::task::yield_now().await;
        }
        Ok(outcomes)
    });
    let claimed: BTreeSet<ExecutionId> = race(ctx, true).await?.into_iter().map(|(_, id)| id).collect();
    let cancels = join_all(vec![cancels]).await?.pop().unwrap_or_default();
    for id in pending {
        let expected =
            if claimed.contains(&id) { CancelOutcome::Requested } else { CancelOutcome::Cancelled };
        assert_eq!(cancels.get(&id), Some(&expected), "one of the two came first");
    }
    Ok(())
}

async fn a_completion_is_applied_once_by_many(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join_for("node", LONG).await?;
    let claimed = ctx.running("job", &node).await?;
    let mut tasks = Vec::new();
    for n in 0..8 {
        let (store, node) = (ctx.other().await?, node.clone());
        let mut ending = Ending::new(Status::Failed, ctx.now().saturating_add(Duration::from_secs(n)));
        ending.retry_after = Some(MINUTE);
        let end = settle(Some(&claimed.job), &claimed.execution, ending, &ctx.ids);
        tasks.push(tokio::spawn(async move {
            store.complete(CompleteRequest { node: &node, completions: &[end] }).await
        }));
    }
    let outcomes = join_all(tasks).await?.concat();
    let applied = outcomes.iter().filter(|o| **o != CompleteOutcome::Refused).count();
    assert_eq!(applied, 1, "eight different ends of one execution: {outcomes:?}");
    assert_eq!(ctx.executions(&claimed.job.id).await?.len(), 2, "one retry");
    assert_eq!(ctx.get(&claimed.job.id).await?.failures_in_row, 1);
    Ok(())
}
