//! Definitions: create, edit, delete, get.

use std::time::Duration;

use serde_json::json;
use unified_scheduler_core::error::Result;
use unified_scheduler_core::execution::Status;
use unified_scheduler_core::id::JobId;
use unified_scheduler_core::job::{Due, EndReason, Job, Origin};
use unified_scheduler_core::policy::{Chain, ChainOn, Keep, Misfire, Overlap, Retry};
use unified_scheduler_core::schedule::Schedule;
use unified_scheduler_core::store::{
    ConflictKind, CreateConflict, CreateJobs, CreateOutcome, Reset, UpdateJob, UpdateOutcome,
};
use unified_scheduler_core::time::Timestamp;

use super::group;
use crate::ctx::{Ctx, MINUTE};

group! { "jobs":
    a_job_comes_back_as_it_was_stored,
    an_unknown_job_is_none,
    all_jobs_are_stored_or_none,
    a_repeated_creation_changes_nothing,
    an_id_with_another_definition_is_a_conflict,
    unique_names_refuse_a_name_in_use_or_given_twice,
    names_may_repeat_when_they_need_not_be_unique,
    an_edit_makes_the_next_version_and_keeps_the_rest,
    a_stale_edit_changes_nothing_and_shows_the_job,
    an_edit_of_an_unknown_job_is_an_answer,
    an_edit_refuses_the_name_of_another_when_asked_to,
    an_edit_keeps_what_claims_did_in_between,
    a_reset_clears_what_it_names,
    an_edit_sets_the_next_occurrence_exactly,
    a_deleted_job_leaves_its_history,
    a_deleted_job_can_be_made_again,
    due_times_come_back_to_the_millisecond,
    long_names_and_unicode_come_back,
}

/// A job in which every field has a value of its own.
fn rich(ctx: &Ctx<'_>) -> Job {
    let mut job = ctx.job_with("rich", Schedule::every(Duration::from_millis(1_234_567)), |d| {
        d.description = "line one\nline two".into();
        d.origin = Origin::Static;
        d.parameters = json!({"n": 1, "deep": {"list": [1.5, null, "ü", true]}})
            .as_object()
            .cloned()
            .unwrap_or_default();
        d.misfire = Misfire::Skip { grace: Duration::from_millis(1500) };
        d.overlap = Overlap::Allow { max: 3 };
        d.retry = Retry::times(4, Duration::from_secs(7)).exponential(MINUTE).jitter(0.25);
        d.timeout = Duration::from_millis(90_001);
        d.priority = -100;
        d.pause_after_failures = Some(9);
        d.history.keep = Keep::Failures;
        d.history.max_age = Some(MINUTE);
        d.history.max_count = Some(11);
        d.chains = vec![Chain { on: ChainOn::Any, job: JobId::from("another") }];
        d.notifications.on_failure = vec!["ops@example.org".to_owned()];
        d.tags = vec!["nightly".to_owned(), "größer".to_owned()];
        d.extra = json!({"owner_note": {"kept": true}}).as_object().cloned().unwrap_or_default();
    });
    job.enabled = false;
    job.skip_next = 2;
    job.n_fired = 5_000_000_000;
    job.failures_in_row = 3;
    job.created_by = Some("user:1".to_owned());
    job.last_run_at = Some(Timestamp::from_millis(1_700_000_000_001));
    job.last_status = Some(Status::PartialSuccess);
    job.last_execution_id = Some(ctx.id());
    job
}

async fn a_job_comes_back_as_it_was_stored(ctx: &Ctx<'_>) -> Result<()> {
    let job = ctx.create(rich(ctx)).await?;
    assert_eq!(ctx.get(&job.id).await?, job);
    let plain = ctx.create(ctx.manual_job("plain")).await?;
    assert_eq!(ctx.get(&plain.id).await?, plain);
    assert_eq!(ctx.other().await?.get_job(&job.id).await?, Some(job), "as another process sees it");
    Ok(())
}

async fn an_unknown_job_is_none(ctx: &Ctx<'_>) -> Result<()> {
    assert_eq!(ctx.store().get_job(&JobId::from("nobody")).await?, None);
    Ok(())
}

async fn all_jobs_are_stored_or_none(ctx: &Ctx<'_>) -> Result<()> {
    ctx.create(ctx.job("first")).await?;
    let mut clash = ctx.job("second");
    clash.id = JobId::from("job-first");
    let outcome = ctx.create_all(vec![ctx.job("third"), clash]).await?;
    let conflict = CreateConflict { index: 1, conflict: ConflictKind::Id };
    assert_eq!(outcome, CreateOutcome::Refused(vec![conflict]));
    assert_eq!(ctx.store().get_job(&JobId::from("job-third")).await?, None);
    assert_eq!(ctx.store().counts().await?.jobs, 1);
    Ok(())
}

async fn a_repeated_creation_changes_nothing(ctx: &Ctx<'_>) -> Result<()> {
    let job = ctx.create(ctx.job("again")).await?;
    let node = ctx.join("node").await?;
    ctx.claim_one(&node).await?;
    let before = ctx.get(&job.id).await?;
    ctx.create(job.clone()).await?;
    assert_eq!(ctx.get(&job.id).await?, before, "the repeat must not set the job back");
    assert_eq!(ctx.audit(&job.id).await?.len(), 1, "one creation, one audit entry");
    Ok(())
}

async fn an_id_with_another_definition_is_a_conflict(ctx: &Ctx<'_>) -> Result<()> {
    let job = ctx.create(ctx.job("mine")).await?;
    let mut other = ctx.job("theirs");
    other.id = job.id.clone();
    let conflict = CreateConflict { index: 0, conflict: ConflictKind::Id };
    assert_eq!(ctx.create_all(vec![other]).await?, CreateOutcome::Refused(vec![conflict]));
    assert_eq!(ctx.get(&job.id).await?, job);
    Ok(())
}

async fn create_unique(ctx: &Ctx<'_>, jobs: Vec<Job>) -> Result<CreateOutcome> {
    ctx.store().create_jobs(CreateJobs { jobs, unique_names: true, actor: "tester".to_owned() }).await
}

async fn unique_names_refuse_a_name_in_use_or_given_twice(ctx: &Ctx<'_>) -> Result<()> {
    let first = ctx.job("name");
    assert_eq!(create_unique(ctx, vec![first.clone()]).await?, CreateOutcome::Created);
    let mut second = ctx.job("name");
    second.id = JobId::from("second");
    let taken = ConflictKind::Name(first.id.clone());
    let refused = CreateOutcome::Refused(vec![CreateConflict { index: 0, conflict: taken }]);
    assert_eq!(create_unique(ctx, vec![second]).await?, refused);
    // The repeat of a call has its own name in its way, which is none.
    assert_eq!(create_unique(ctx, vec![first]).await?, CreateOutcome::Created);
    let (one, mut two) = (ctx.job("twice"), ctx.job("twice"));
    two.id = JobId::from("two");
    let taken = ConflictKind::Name(one.id.clone());
    let refused = CreateOutcome::Refused(vec![CreateConflict { index: 1, conflict: taken }]);
    assert_eq!(create_unique(ctx, vec![one, two]).await?, refused);
    assert_eq!(ctx.store().counts().await?.jobs, 1);
    Ok(())
}

async fn names_may_repeat_when_they_need_not_be_unique(ctx: &Ctx<'_>) -> Result<()> {
    let (one, mut two) = (ctx.job("twice"), ctx.job("twice"));
    two.id = JobId::from("two");
    assert_eq!(ctx.create_all(vec![one, two]).await?, CreateOutcome::Created);
    assert_eq!(ctx.store().counts().await?.jobs, 2);
    Ok(())
}

async fn an_edit_makes_the_next_version_and_keeps_the_rest(ctx: &Ctx<'_>) -> Result<()> {
    let job = ctx.create(rich(ctx)).await?;
    ctx.advance(MINUTE);
    let mut definition = job.definition.to_owned();
    definition.description = "changed".into();
    let edited = ctx.update(&job.id, "updated", |edit| edit.definition = Some(definition.clone())).await?;
    let mut expected = job.clone();
    expected.definition = edited.definition.clone();
    expected.version = job.version + 1;
    expected.updated_at = ctx.now();
    assert_eq!(edited.definition.to_owned(), definition);
    assert_eq!(edited, expected);
    assert_eq!(ctx.get(&job.id).await?, expected);
    Ok(())
}

async fn a_stale_edit_changes_nothing_and_shows_the_job(ctx: &Ctx<'_>) -> Result<()> {
    let job = ctx.create(ctx.job("edited")).await?;
    let current = ctx.update(&job.id, "disabled", |edit| edit.enabled = Some(false)).await?;
    let mut stale = UpdateJob::new(&job, "slow", "enabled");
    stale.enabled = Some(true);
    let outcome = ctx.store().update_job(stale).await?;
    assert_eq!(outcome, UpdateOutcome::Stale(Box::new(current.clone())));
    assert_eq!(ctx.get(&job.id).await?, current);
    assert_eq!(ctx.audit(&job.id).await?.len(), 2, "an edit that lost leaves no audit entry");
    Ok(())
}

async fn an_edit_of_an_unknown_job_is_an_answer(ctx: &Ctx<'_>) -> Result<()> {
    let nobody = ctx.job("nobody");
    let outcome = ctx.store().update_job(UpdateJob::new(&nobody, "tester", "updated")).await?;
    assert_eq!(outcome, UpdateOutcome::NotFound);
    Ok(())
}

async fn an_edit_refuses_the_name_of_another_when_asked_to(ctx: &Ctx<'_>) -> Result<()> {
    let first = ctx.create(ctx.job("first")).await?;
    let second = ctx.create(ctx.job("second")).await?;
    let mut rename = UpdateJob::new(&second, "tester", "updated");
    rename.definition = Some(first.definition.to_owned());
    rename.unique_name = true;
    let outcome = ctx.store().update_job(rename.clone()).await?;
    assert_eq!(outcome, UpdateOutcome::NameTaken(first.id.clone()));
    assert_eq!(ctx.get(&second.id).await?, second);
    rename.definition = Some(second.definition.to_owned());
    let outcome = ctx.store().update_job(rename).await?;
    assert!(matches!(outcome, UpdateOutcome::Updated(_)), "its own name is not in its way: {outcome:?}");
    Ok(())
}

async fn an_edit_keeps_what_claims_did_in_between(ctx: &Ctx<'_>) -> Result<()> {
    let seen = ctx.create(ctx.job("busy")).await?;
    let node = ctx.join("node").await?;
    ctx.claim_one(&node).await?;
    let claimed = ctx.get(&seen.id).await?;
    assert_eq!(claimed.version, seen.version, "a claim is not an edit");
    let mut edit = UpdateJob::new(&seen, "tester", "updated");
    let mut definition = seen.definition.to_owned();
    definition.priority = 7;
    edit.definition = Some(definition);
    let outcome = ctx.store().update_job(edit).await?;
    let UpdateOutcome::Updated(edited) = outcome else { panic!("{outcome:?}") };
    assert_eq!((edited.due, edited.n_fired), (claimed.due, claimed.n_fired));
    Ok(())
}

async fn a_reset_clears_what_it_names(ctx: &Ctx<'_>) -> Result<()> {
    let mut job = rich(ctx);
    job.fault = Some("broken".to_owned());
    let job = ctx.create(job).await?;
    let only_fault = Reset { fault: true, ..Reset::default() };
    let after = ctx.update(&job.id, "updated", |edit| edit.reset = only_fault).await?;
    assert_eq!((after.fault, after.failures_in_row, after.n_fired), (None, 3, 5_000_000_000));
    let rest = Reset { fault: false, failures: true, n_fired: true };
    let after = ctx.update(&job.id, "updated", |edit| edit.reset = rest).await?;
    assert_eq!((after.failures_in_row, after.n_fired), (0, 0));
    Ok(())
}

async fn an_edit_sets_the_next_occurrence_exactly(ctx: &Ctx<'_>) -> Result<()> {
    let job = ctx.create(ctx.job("moved")).await?;
    let due = Due {
        due_at: Timestamp::from_millis(ctx.now().as_millis() + 12_345),
        fire_at: Timestamp::from_millis(ctx.now().as_millis() + 12_999),
    };
    let moved = ctx.update(&job.id, "updated", |edit| edit.due = Some((Some(due), None))).await?;
    assert_eq!((moved.due, moved.ended), (Some(due), None));
    let ended = Some((None, Some(EndReason::Limit)));
    ctx.update(&job.id, "updated", |edit| edit.due = ended).await?;
    let stored = ctx.get(&job.id).await?;
    assert_eq!((stored.due, stored.ended), (None, Some(EndReason::Limit)));
    Ok(())
}

async fn a_deleted_job_leaves_its_history(ctx: &Ctx<'_>) -> Result<()> {
    let node = ctx.join("node").await?;
    let claimed = ctx.running("gone", &node).await?;
    let ended = ctx.end(&node, &claimed, Status::Success).await?;
    assert!(ctx.store().delete_job(&claimed.job.id, "tester").await?);
    assert_eq!(ctx.store().get_job(&claimed.job.id).await?, None);
    assert_eq!(ctx.execution(&ended.id).await?, ended);
    assert!(!ctx.store().delete_job(&claimed.job.id, "tester").await?, "it is gone already");
    ctx.advance(10 * MINUTE);
    assert_eq!(ctx.claim(&node, 10).await?.claimed.len(), 0);
    Ok(())
}

async fn a_deleted_job_can_be_made_again(ctx: &Ctx<'_>) -> Result<()> {
    let job = ctx.create(ctx.job("phoenix")).await?;
    let node = ctx.join("node").await?;
    ctx.claim_one(&node).await?;
    ctx.store().delete_job(&job.id, "tester").await?;
    ctx.advance(MINUTE);
    let again = ctx.create(ctx.job("phoenix")).await?;
    assert_eq!(ctx.get(&job.id).await?, again);
    assert_eq!(ctx.executions(&job.id).await?.len(), 1, "its history is still there");
    Ok(())
}

async fn due_times_come_back_to_the_millisecond(ctx: &Ctx<'_>) -> Result<()> {
    for (i, millis) in [
        -62_135_596_799_999,
        -1,
        0,
        1,
        999,
        1_767_323_045_678,
        4_102_444_799_999,
        9_007_199_254_740_993 % 253_402_300_799_999,
        253_402_300_799_999,
    ]
    .into_iter()
    .enumerate()
    {
        let due_at = Timestamp::from_millis(millis);
        let mut job = ctx.job(&format!("due-{i}"));
        job.due = Some(Due { due_at, fire_at: due_at.saturating_add(Duration::from_millis(1)) });
        let job = ctx.create(job).await?;
        assert_eq!(ctx.get(&job.id).await?.due, job.due);
    }
    Ok(())
}

async fn long_names_and_unicode_come_back(ctx: &Ctx<'_>) -> Result<()> {
    let name: String = "ÄÖ🚀漢字'\"\\;--$%_\u{301} ".chars().cycle().take(200).collect();
    let mut job = ctx.job_with(&name, Schedule::every(MINUTE), |d| d.handler = "handler/ü:1'--".into());
    job.id = JobId::from("ü🚀'\"\\%_;:@#{}".chars().cycle().take(70).collect::<String>());
    let job = ctx.create(job).await?;
    assert_eq!(ctx.get(&job.id).await?, job);
    let node = ctx.join("näme-'🚀").await?;
    let batch = ctx.claim_of(&node, &["handler/ü:1'--"], 10).await?;
    assert_eq!(batch.claimed.len(), 1);
    let stored = ctx.execution(&batch.claimed[0].execution.id).await?;
    assert_eq!((&stored.job_id, stored.job_name.as_str()), (&job.id, name.as_str()));
    assert_eq!(stored.node_id, Some(node.id));
    Ok(())
}
