//! Definitions that can't be used, fields that nobody knows, and the store's own life: calendars, hints,
//! clock and close.

use std::time::Duration;

use serde_json::json;
use unified_scheduler_core::error::{ErrorKind, Result};
use unified_scheduler_core::execution::Status;
use unified_scheduler_core::schedule::{Calendar, Exclusions, Schedule};
use unified_scheduler_core::store::Store;

use super::group;
use crate::ctx::{Ctx, MINUTE, claimed_jobs};
use crate::planner;

group! { "strangers":
    a_job_set_aside_does_not_stop_the_others,
    a_definition_that_can_not_be_read_comes_back,
    unknown_fields_survive_an_edit,
    an_edit_mends_a_job_that_was_set_aside,
    calendars_are_kept_by_name,
    a_calendar_counts_in_claims,
    edits_and_triggers_give_hints_and_claims_give_none,
    a_hint_reaches_another_handle,
    the_stores_clock_is_told,
    a_clock_that_steps_back_repeats_nothing,
    a_closed_store_answers_that_it_is_stopped,
    a_store_describes_itself,
}

async fn a_job_set_aside_does_not_stop_the_others(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let broken = ctx.job_with("broken", Schedule::every(MINUTE), |d| d.priority = 100);
    let broken = ctx.create(broken).await?;
    let good = ctx.create(ctx.job("good")).await?;
    let planner = planner::set_aside(&ctx.planner, "broken");
    let batch = ctx.claim_with(&node, 10, &planner).await?;
    assert_eq!(claimed_jobs(&batch), [good.id.as_str()]);
    assert_eq!(batch.set_aside, [(broken.id.clone(), "schedule: can't be read".to_owned())]);
    let stored = ctx.get(&broken.id).await?;
    assert_eq!(stored.fault.as_deref(), Some("schedule: can't be read"));
    assert_eq!((stored.due, stored.enabled), (broken.due, true), "nothing else of the plan counts");
    assert!(ctx.executions(&broken.id).await?.is_empty());
    ctx.advance(MINUTE);
    let batch = ctx.claim_with(&node, 10, &planner).await?;
    assert!(batch.set_aside.is_empty(), "set aside once");
    Ok(())
}

async fn a_definition_that_can_not_be_read_comes_back(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let mut job = ctx.job_with("odd", Schedule::cron("not a cron expression"), |_| {});
    job.due = ctx.job("model").due;
    let job = ctx.create(job).await?;
    assert_eq!(ctx.get(&job.id).await?, job);
    let batch = ctx.claim(&node, 10).await?;
    assert_eq!((batch.claimed.len(), batch.set_aside.len()), (0, 1));
    assert!(ctx.get(&job.id).await?.fault.is_some());
    Ok(())
}

async fn unknown_fields_survive_an_edit(ctx: &Ctx<'_>) -> Result<()> {
    let extra = json!({"ui": {"color": "red"}, "owner": 7}).as_object().cloned().unwrap_or_default();
    let strange = ctx.job_with("extra", Schedule::manual(), |d| d.extra.clone_from(&extra));
    let job = ctx.create(strange).await?;
    ctx.update(&job.id, "disabled", |edit| edit.enabled = Some(false)).await?;
    assert_eq!(ctx.get(&job.id).await?.definition.extra, extra);
    Ok(())
}

async fn an_edit_mends_a_job_that_was_set_aside(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let mut job = ctx.job("mended");
    job.fault = Some("broken".to_owned());
    let job = ctx.create(job).await?;
    assert_eq!(ctx.claim(&node, 10).await?.claimed.len(), 0);
    ctx.update(&job.id, "updated", |edit| edit.skip_next = Some(0)).await?;
    assert_eq!(ctx.claim(&node, 10).await?.claimed.len(), 0, "an edit that does not name the fault");
    ctx.update(&job.id, "updated", |edit| edit.reset.fault = true).await?;
    ctx.claim_one(&node).await?;
    Ok(())
}

/// A calendar that excludes the whole day that the store's clock shows, in UTC, and those about it.
fn today(ctx: &Ctx<'_>, name: &str) -> Result<Calendar> {
    let day = |days: i64| {
        let t = unified_scheduler_core::Timestamp::from_millis(ctx.now().as_millis() + days * 86_400_000);
        t.to_string()[..10].to_owned()
    };
    let value = json!({ "name": name, "dates": [day(-1), day(0), day(1)], "timezone": "UTC" });
    serde_json::from_value(value).map_err(|error| {
        unified_scheduler_core::Error::internal("the suite's calendar can't be read").caused_by(error)
    })
}

async fn calendars_are_kept_by_name(ctx: &Ctx<'_>) -> Result<()> {
    let (b, a) = (today(ctx, "b")?, today(ctx, "a ü")?);
    for calendar in [&b, &a, &b] {
        ctx.store().put_calendar(calendar).await?;
    }
    assert_eq!(ctx.store().list_calendars().await?, [a.clone(), b.clone()]);
    let mut changed = b;
    changed.dates.clear();
    ctx.store().put_calendar(&changed).await?;
    assert_eq!(ctx.other().await?.list_calendars().await?, [a.clone(), changed]);
    assert!(ctx.store().delete_calendar("b").await?);
    assert!(!ctx.store().delete_calendar("b").await?, "there is none any more");
    assert_eq!(ctx.store().list_calendars().await?, [a]);
    Ok(())
}

async fn a_calendar_counts_in_claims(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let exclude = Exclusions { calendars: vec!["holidays".to_owned()], ..Exclusions::default() };
    ctx.create(ctx.job_with("worker", Schedule::every(MINUTE).excluding(exclude), |_| {})).await?;
    ctx.store().put_calendar(&today(ctx, "holidays")?).await?;
    let batch = ctx.claim(&node, 10).await?;
    assert_eq!((batch.claimed.len(), batch.skipped.len()), (0, 1));
    assert_eq!(batch.skipped[0].reason.as_deref(), Some("excluded"));
    ctx.store().delete_calendar("holidays").await?;
    ctx.advance(MINUTE);
    ctx.claim_one(&node).await?;
    Ok(())
}

/// Whether a hint comes within a second, which is far longer than any store needs.
async fn hinted(hints: &mut tokio::sync::watch::Receiver<u64>) -> bool {
    tokio::time::timeout(Duration::from_secs(5), hints.changed()).await.is_ok_and(|r| r.is_ok())
}

async fn edits_and_triggers_give_hints_and_claims_give_none(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let mut hints = ctx.store().hints();
    hints.mark_unchanged();
    let job = ctx.create(ctx.job("hinting")).await?;
    assert!(hinted(&mut hints).await, "a new job");
    ctx.update(&job.id, "updated", |edit| edit.skip_next = Some(0)).await?;
    assert!(hinted(&mut hints).await, "an edit");
    ctx.trigger(&job.id).await?;
    assert!(hinted(&mut hints).await, "a trigger");
    let claimed = ctx.claim_one(&node).await?;
    ctx.end(&node, &claimed, Status::Success).await?;
    assert!(!hints.has_changed().unwrap_or(true), "a claim and its completion make nothing new due");
    Ok(())
}

async fn a_hint_reaches_another_handle(ctx: &Ctx<'_>) -> Result<()> {
    let other = ctx.other().await?;
    let mut hints = other.hints();
    hints.mark_unchanged();
    ctx.create(ctx.job("hinting")).await?;
    assert!(hinted(&mut hints).await);
    Ok(())
}

async fn the_stores_clock_is_told(ctx: &Ctx<'_>) -> Result<()> {
    for millis in [1, 999, 86_400_000] {
        ctx.advance(Duration::from_millis(millis));
        assert_eq!(ctx.store().now().await?, ctx.now(), "to the millisecond");
    }
    Ok(())
}

async fn a_clock_that_steps_back_repeats_nothing(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let claimed = ctx.running("steady", &node).await?;
    ctx.end(&node, &claimed, Status::Success).await?;
    ctx.step(-3_600_000);
    assert_eq!(ctx.claim(&node, 10).await?.claimed.len(), 0);
    assert!(ctx.reap().await?.nodes.is_empty(), "and kills nobody");
    ctx.step(3_600_000);
    assert_eq!(ctx.claim(&node, 10).await?.claimed.len(), 0);
    assert_eq!(ctx.executions(&claimed.job.id).await?.len(), 1);
    Ok(())
}

fn is_stopped<T: std::fmt::Debug>(answer: Result<T>) -> bool {
    answer.is_err_and(|error| error.kind() == ErrorKind::Stopped)
}

async fn a_closed_store_answers_that_it_is_stopped(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let job = ctx.create(ctx.job("kept")).await?;
    let other = ctx.other().await?;
    let store: &dyn Store = ctx.store();
    store.close().await?;
    assert!(is_stopped(store.now().await), "now");
    assert!(is_stopped(store.get_job(&job.id).await), "get_job");
    assert!(is_stopped(ctx.claim(&node, 1).await), "claim");
    assert!(is_stopped(ctx.create_all(vec![ctx.job("late")]).await), "create_jobs");
    assert!(is_stopped(ctx.heartbeat(&node, MINUTE).await), "heartbeat");
    assert!(is_stopped(store.counts().await), "counts");
    assert_eq!(other.get_job(&job.id).await?, Some(job), "others go on");
    Ok(())
}

async fn a_store_describes_itself(ctx: &Ctx<'_>) -> Result<()> {
    let description = ctx.store().describe();
    assert!(!description.kind.is_empty() && !description.location.is_empty());
    assert!(!ctx.store().diagnose().await?.is_empty());
    assert!(ctx.now() > unified_scheduler_core::Timestamp::EPOCH);
    Ok(())
}
