//! Rows of another store, added as they are.

use unified_scheduler_core::error::{ErrorKind, Result};
use unified_scheduler_core::execution::{Level, LogLine, Status};
use unified_scheduler_core::job::Origin;
use unified_scheduler_core::policy::Retry;
use unified_scheduler_core::schedule::Schedule;
use unified_scheduler_core::store::{AuditQuery, ExecutionQuery, Import, Imported, JobQuery, JobSort};

use super::group;
use crate::ctx::{Ctx, MINUTE};

group! { "import":
    what_another_store_holds_comes_back_as_it_was,
    the_same_import_again_adds_nothing,
    what_was_pending_there_is_claimed_here,
    what_is_running_is_refused,
    jobs_are_walked_by_id_and_none_is_met_twice,
}

/// A little of everything, made in another store: a job that failed and waits for its retry, one that ran.
async fn made_elsewhere(ctx: &Ctx<'_>) -> Result<Import> {
    let there = ctx.elsewhere();
    let node = there.join("node").await?;
    let mut failing = there.job_with("failing", Schedule::every(MINUTE), |d| {
        d.retry = Retry::times(2, MINUTE);
        d.description = "from elsewhere".into();
    });
    failing.created_by = Some("somebody".to_owned());
    there.create(failing).await?;
    there.create(there.job("other")).await?;
    for claimed in there.claim(&node, 10).await?.claimed {
        let failed = claimed.execution.job_name == "failing";
        let mut end = there.ending(&claimed, if failed { Status::Failed } else { Status::Success });
        end.logs = vec![LogLine {
            timestamp: there.now(),
            level: Level::Info,
            message: "a line".to_owned(),
            fields: serde_json::json!({ "n": 1 }),
        }];
        let _ = there.complete(&node, &[end]).await?;
    }
    there.update(&"job-other".into(), "skip_next", |edit| edit.skip_next = Some(2)).await?;
    let jobs = there.store().list_jobs(&JobQuery::default()).await?.items;
    let mut import = Import { jobs, ..Import::default() };
    for execution in there.store().list_executions(&ExecutionQuery::default()).await?.items {
        let logs = there.store().list_logs(&execution.id, 0, 10).await?;
        import.executions.push((execution, logs));
    }
    import.audit = there.store().list_audit(&AuditQuery::default()).await?;
    import.audit.reverse();
    Ok(import)
}

async fn what_another_store_holds_comes_back_as_it_was(ctx: &Ctx<'_>) -> Result<()> {
    let import = made_elsewhere(ctx).await?;
    let imported = ctx.store().import(import.clone()).await?;
    assert_eq!(imported, Imported { jobs: 2, executions: 3, audit: 3 });
    for job in &import.jobs {
        assert_eq!(ctx.get(&job.id).await?, *job);
    }
    for (execution, logs) in &import.executions {
        assert_eq!(ctx.execution(&execution.id).await?, *execution);
        assert_eq!(ctx.store().list_logs(&execution.id, 0, 10).await?, *logs);
    }
    let mut audit = ctx.store().list_audit(&AuditQuery::default()).await?;
    audit.reverse();
    assert_eq!(audit, import.audit, "and nothing about the import itself");
    Ok(())
}

async fn the_same_import_again_adds_nothing(ctx: &Ctx<'_>) -> Result<()> {
    let import = made_elsewhere(ctx).await?;
    let _ = ctx.store().import(import.clone()).await?;
    let id = import.jobs[0].id.clone();
    let edited = ctx.update(&id, "disabled", |edit| edit.enabled = Some(false)).await?;
    assert_eq!(ctx.store().import(import).await?, Imported::default());
    assert_eq!(ctx.get(&id).await?, edited, "what was done since stays");
    Ok(())
}

async fn what_was_pending_there_is_claimed_here(ctx: &Ctx<'_>) -> Result<()> {
    let import = made_elsewhere(ctx).await?;
    let _ = ctx.store().import(import).await?;
    let node = ctx.join("node").await?;
    assert_eq!(ctx.claim(&node, 10).await?.claimed.len(), 0, "what ran there does not run here");
    ctx.advance(MINUTE);
    let batch = ctx.claim(&node, 1).await?;
    let retry = &batch.claimed.first().expect("the retry is due").execution;
    assert_eq!((retry.job_name.as_str(), retry.attempt), ("failing", 2));
    Ok(())
}

async fn what_is_running_is_refused(ctx: &Ctx<'_>) -> Result<()> {
    let there = ctx.elsewhere();
    let node = there.join("node").await?;
    let running = there.running("job", &node).await?;
    let import = Import { executions: vec![(running.execution, Vec::new())], ..Import::default() };
    let refused = ctx.store().import(import).await.expect_err("it runs elsewhere");
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(ctx.store().counts().await?.executions.is_empty());
    Ok(())
}

async fn jobs_are_walked_by_id_and_none_is_met_twice(ctx: &Ctx<'_>) -> Result<()> {
    let mut names = Vec::new();
    for n in 0..23 {
        let mut job = ctx.job_with(&format!("job {n:02}"), Schedule::manual(), |d| {
            if n % 3 == 0 {
                d.origin = Origin::Static;
            }
        });
        job.id = format!("id-{}", (n * 7) % 23).into();
        ctx.create(job).await?;
        names.push(format!("job {n:02}"));
    }
    let mut query = JobQuery { sort: JobSort::Id, limit: 5, ..JobQuery::default() };
    let mut met = Vec::new();
    loop {
        let page = ctx.store().list_jobs(&query).await?.items;
        let Some(last) = page.last() else { break };
        query.after = Some(last.id.clone());
        met.extend(page.iter().map(|job| job.definition.name.clone()));
        // One behind, which is not met again, and one that is gone.
        if met.len() == 10 {
            ctx.store().delete_job(&last.id, "tester").await?;
        }
    }
    met.sort();
    assert_eq!(met, names);
    let by_name = JobQuery { sort: JobSort::Name, after: Some("id-3".into()), ..JobQuery::default() };
    let refused = ctx.store().list_jobs(&by_name).await.expect_err("only by id");
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    Ok(())
}
