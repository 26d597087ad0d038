//! The record of what was done to jobs, by whom, and what was due before and after.

use unified_scheduler_core::error::Result;
use unified_scheduler_core::execution::Status;
use unified_scheduler_core::schedule::Schedule;
use unified_scheduler_core::store::{AuditEntry, AuditQuery};

use super::group;
use crate::ctx::{Ctx, MINUTE};
use crate::planner;

group! { "audit":
    a_life_of_edits_is_recorded_with_what_was_due,
    a_pause_by_failures_is_recorded,
    a_job_set_aside_is_recorded,
    the_newest_entry_comes_first_and_pages_hold_each_once,
}

fn actions(entries: &[AuditEntry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.action.as_str()).collect()
}

async fn a_life_of_edits_is_recorded_with_what_was_due(ctx: &Ctx<'_>) -> Result<()> {
    let job = ctx.create(ctx.job("audited")).await?;
    let due = job.due.map(|due| due.due_at);
    ctx.advance(MINUTE);
    ctx.update(&job.id, "disabled", |edit| edit.enabled = Some(false)).await?;
    ctx.update(&job.id, "enabled", |edit| edit.enabled = Some(true)).await?;
    let node = ctx.join("node").await?;
    ctx.claim(&node, 10).await?;
    let moved = ctx.get(&job.id).await?.due.map(|due| due.due_at);
    ctx.update(&job.id, "updated", |edit| edit.due = Some((None, None))).await?;
    ctx.store().delete_job(&job.id, "the deleter").await?;

    let entries = ctx.audit(&job.id).await?;
    assert_eq!(actions(&entries), ["created", "disabled", "enabled", "updated", "deleted"]);
    let dues: Vec<_> = entries.iter().map(|e| (e.due_before, e.due_after)).collect();
    assert_eq!(dues, [(None, due), (due, None), (due, due), (moved, None), (None, None)]);
    assert_eq!(entries.iter().map(|e| e.version).collect::<Vec<_>>()[..4], [1, 2, 3, 4]);
    assert!(entries.iter().all(|e| e.job_id == job.id && e.job_name == "audited"));
    assert_eq!((entries[0].actor.as_str(), entries[4].actor.as_str()), ("tester", "the deleter"));
    assert_eq!(entries[0].at, job.created_at, "by the store's clock");
    assert_eq!(entries[1].at, ctx.now());
    Ok(())
}

async fn a_pause_by_failures_is_recorded(ctx: &Ctx<'_>) -> Result<()> {
    let job = ctx.job_with("failing", Schedule::every(MINUTE), |d| d.pause_after_failures = Some(1));
    let job = ctx.create(job).await?;
    let node = ctx.join("node").await?;
    let claimed = ctx.claim_one(&node).await?;
    ctx.end(&node, &claimed, Status::Failed).await?;
    let due = ctx.get(&job.id).await?.due.map(|due| due.due_at);
    let entries = ctx.audit(&job.id).await?;
    assert_eq!(actions(&entries), ["created", "paused"]);
    assert_eq!((entries[1].due_before, entries[1].due_after), (due, None));
    assert_eq!(entries[1].version, ctx.get(&job.id).await?.version);
    Ok(())
}

async fn a_job_set_aside_is_recorded(ctx: &Ctx<'_>) -> Result<()> {
    let job = ctx.create(ctx.job("broken")).await?;
    let node = ctx.join("node").await?;
    ctx.claim_with(&node, 10, &planner::set_aside(&ctx.planner, "broken")).await?;
    let entries = ctx.audit(&job.id).await?;
    assert_eq!(actions(&entries), ["created", "set_aside"]);
    let due = job.due.map(|due| due.due_at);
    assert_eq!((entries[1].due_before, entries[1].due_after), (due, None));
    assert!(entries[1].detail.to_string().contains("can't be read"), "{:?}", entries[1].detail);
    assert_eq!(entries[1].version, ctx.get(&job.id).await?.version);
    Ok(())
}

async fn the_newest_entry_comes_first_and_pages_hold_each_once(ctx: &Ctx<'_>) -> Result<()> {
    for i in 0..7 {
        // Two by two at the same instant.
        if i % 2 == 0 {
            ctx.advance(MINUTE);
        }
        ctx.create(ctx.job(&format!("{i}"))).await?;
    }
    let mut names = Vec::new();
    for offset in (0..9).step_by(3) {
        let query = AuditQuery { offset, limit: 3, ..AuditQuery::default() };
        names.extend(ctx.store().list_audit(&query).await?.into_iter().map(|entry| entry.job_name));
    }
    assert_eq!(names, ["6", "5", "4", "3", "2", "1", "0"]);
    let since = AuditQuery { since: Some(ctx.now()), ..AuditQuery::default() };
    assert_eq!(ctx.store().list_audit(&since).await?.len(), 1, "not before `since`");
    Ok(())
}
