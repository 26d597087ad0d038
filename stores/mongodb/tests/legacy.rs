//! The documents of the existing backend: read as they are, changed only where they must be, and fit for
//! going back.

#[path = "common/backend.rs"]
mod backend;
mod common;

use std::sync::Arc;
use std::time::Duration;

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, doc};
use unified_scheduler_core::clock::Clock;
use unified_scheduler_core::error::Result;
use unified_scheduler_core::execution::Status;
use unified_scheduler_core::id::JobId;
use unified_scheduler_core::plan::EnginePlanner;
use unified_scheduler_core::store::{
    JobQuery, NewExecution, Store, TriggerRequest, UpdateJob, UpdateOutcome,
};
use unified_scheduler_core::{Schedule, Timestamp, Trigger};
use unified_scheduler_mongodb::{MongodbConfig, MongodbStore};

use backend::Backend;
use common::STANDALONE;

const HOUR: i64 = 3_600_000;

fn millis(doc: &Document, field: &str) -> Option<i64> {
    doc.get_datetime(field).ok().map(|t| t.timestamp_millis())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_the_backend_runs_once_and_stays_on_its_grid() -> Result<()> {
    let backend = Backend::new().await?;
    let id = backend.insert(doc! { "nextRunAt": backend.in_hours(-5.5), "runCount": 3, "tags": ["x"] }).await;
    let before = backend.document(&id).await;
    let batch = backend.claim().await?;
    assert_eq!(batch.claimed.len(), 1, "several periods late is one run");
    assert_eq!(batch.claimed[0].execution.n_occurrences, 6);
    assert_eq!(backend.old_loop().await, 0, "it moves before it runs");
    backend.end(&batch.claimed[0]).await?;
    let after = backend.document(&id).await;
    assert_eq!(millis(&after, "nextRunAt"), Some(backend.clock.now().as_millis() + HOUR / 2), "on the grid");
    assert_eq!(after.get_str("lastStatus").ok(), Some("success"));
    assert_eq!(millis(&after, "lastRunAt"), Some(backend.clock.now().as_millis()));
    for (field, value) in &before {
        if !["nextRunAt", "lastRunAt", "lastStatus"].contains(&field.as_str()) {
            assert_eq!(after.get(field), Some(value), "{field} is left alone");
        }
    }
    let row = backend.executions.find_one(doc! {}).await.expect("answered").expect("one");
    assert!(row.get_object_id("_id").is_ok() && row.get_str("job_id").ok() == Some(id.as_str()));
    assert_eq!(
        (row.get_str("status").ok(), row.get_str("triggered_by").ok()),
        (Some("success"), Some("scheduler"))
    );
    assert_eq!(row.get_document("result").expect("the eight fields").len(), 8);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_variant_is_read_as_it_is() -> Result<()> {
    let backend = Backend::new().await?;
    let gone = || Bson::Undefined;
    let no_schedule = |more: Document| {
        let mut all = doc! { "schedule": gone() };
        all.extend(more);
        all
    };
    // Whether it runs at once, and when it is due after that, in hours from now.
    let table: Vec<(&str, Document, bool, Option<f64>)> = vec![
        ("as the API writes it", doc! {}, true, Some(0.5)),
        (
            "the template under its first name",
            doc! { "templateType": "work", "template_type": "other" },
            true,
            Some(0.5),
        ),
        (
            "the template under its last name",
            doc! { "template": "work", "template_type": gone() },
            true,
            Some(0.5),
        ),
        ("no due time", doc! { "nextRunAt": gone() }, false, Some(1.0)),
        ("a null due time", doc! { "nextRunAt": Bson::Null }, false, Some(1.0)),
        (
            "another spelling, in the past",
            doc! { "nextRunAt": gone(), "next_run_at": backend.in_hours(-0.25) },
            false,
            Some(0.75),
        ),
        (
            "another spelling, in the future",
            doc! { "nextRunAt": gone(), "nextRun": backend.in_hours(2.0) },
            false,
            Some(2.0),
        ),
        ("a due time as text", doc! { "nextRunAt": "2026-03-29T11:30:00Z" }, true, Some(0.5)),
        ("disabled", doc! { "enabled": false }, false, Some(-0.5)),
        ("nothing about being enabled", doc! { "enabled": gone() }, false, Some(-0.5)),
        ("enabled in another spelling", doc! { "enabled": gone(), "isEnabled": true }, true, Some(0.5)),
        (
            "a schedule without a period",
            doc! { "schedule": { "type": "interval", "interval_seconds": Bson::Null } },
            true,
            Some(0.5),
        ),
        (
            "a schedule under an alias",
            doc! { "schedule": { "type": "cron", "value": "30 * * * *" } },
            true,
            Some(0.5),
        ),
        ("a schedule that is a text", doc! { "schedule": "30 * * * *" }, true, Some(0.5)),
        (
            "flat fields",
            no_schedule(doc! { "scheduleType": "cron", "cronExpression": "30 * * * *" }),
            true,
            Some(0.5),
        ),
        ("flat fields, otherwise", no_schedule(doc! { "interval": 1800 }), true, Some(0.5)),
        (
            "an empty schedule and flat fields",
            doc! { "schedule": {}, "interval_seconds": 7200 },
            true,
            Some(1.5),
        ),
        ("no parameters", doc! { "parameters": gone() }, true, Some(0.5)),
    ];
    for (what, changes, runs, next) in table {
        let id = backend.insert(changes).await;
        let batch = backend.claim().await?;
        let ran: Vec<&JobId> = batch.claimed.iter().map(|c| &c.job.id).collect();
        assert_eq!(ran, if runs { vec![&id] } else { vec![] }, "{what}");
        let due = backend.job(&id).await?.due_at().map(|t| t.as_millis() - backend.clock.now().as_millis());
        #[expect(clippy::cast_possible_truncation, reason = "a few hours")]
        let next = next.map(|hours| (hours * 3_600_000.0) as i64);
        assert_eq!(due, next, "{what}");
        let job = backend.job(&id).await?;
        assert_eq!((job.fault, job.definition.handler.as_str()), (None, "work"), "{what}");
        assert!(
            !job.definition.retry.explicit || job.definition.retry.max_retries == 0,
            "{what}: nobody chose it"
        );
        backend.store.delete_job(&id, "test").await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_read_is_set_aside_and_mended_by_an_edit_of_the_document() -> Result<()> {
    let backend = Backend::new().await?;
    let good = backend.insert(doc! { "name": "good" }).await;
    let mut broken = Vec::new();
    for changes in [
        doc! { "schedule": { "type": "cron", "expression": "nonsense" } },
        doc! { "schedule": { "type": "interval", "interval_seconds": 0 } },
        doc! { "schedule": { "type": "cron", "expression": "0 3 * * *", "timezone": "Mars/Olympus" } },
        doc! { "schedule": { "type": "lunar" } },
        doc! { "template_type": Bson::Undefined },
        doc! { "schedule": 7 },
    ] {
        broken.push(backend.insert(changes).await);
    }
    let batch = backend.claim().await?;
    assert_eq!(batch.claimed.iter().map(|c| &c.job.id).collect::<Vec<_>>(), [&good]);
    for id in &broken {
        let job = backend.job(id).await?;
        assert!(job.fault.is_some(), "{job:?}");
        let document = backend.document(id).await;
        assert_eq!(document.get_str("lastStatus").ok(), Some("failed"));
        assert_eq!(document.get("nextRunAt"), Some(&Bson::Null), "the old engine would run it hourly");
    }
    let faulty = JobQuery { faulty: Some(true), ..JobQuery::default() };
    assert_eq!(backend.store.list_jobs(&faulty).await?.items.len(), broken.len());
    let key = ObjectId::parse_str(broken[0].as_str()).expect("an id");
    let mended = doc! { "schedule": "0 * * * *", "nextRunAt": backend.in_hours(-0.1) };
    backend.jobs.update_one(doc! { "_id": key }, doc! { "$set": mended }).await.expect("updated");
    let batch = backend.claim().await?;
    assert_eq!(batch.claimed.iter().map(|c| &c.job.id).collect::<Vec<_>>(), [&broken[0]]);
    assert_eq!(backend.job(&broken[0]).await?.fault, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_edits_win_and_double_nothing() -> Result<()> {
    let backend = Backend::new().await?;
    let id = backend.insert(doc! {}).await;
    let key = doc! { "_id": ObjectId::parse_str(id.as_str()).expect("an id") };
    let set = async |fields: Document| {
        backend.jobs.update_one(key.clone(), doc! { "$set": fields }).await.expect("updated");
    };
    let first = backend.claim().await?.claimed;
    backend.end(&first[0]).await?;
    assert!(backend.claim().await?.claimed.is_empty());
    set(doc! { "nextRunAt": backend.in_hours(-0.01) }).await;
    let second = backend.claim().await?.claimed;
    assert_eq!(second.len(), 1, "moved to the past, it runs");
    backend.end(&second[0]).await?;
    set(doc! { "nextRunAt": backend.in_hours(-0.51) }).await;
    set(doc! { "nextRunAt": first[0].execution.due_at.as_millis() }).await;
    set(doc! { "nextRunAt": DateTime::from_millis(first[0].execution.due_at.as_millis()) }).await;
    assert!(backend.claim().await?.claimed.is_empty(), "this occurrence has run already");
    set(doc! { "enabled": false }).await;
    backend.clock.advance(Duration::from_secs(7200));
    assert!(backend.claim().await?.claimed.is_empty(), "switched off");
    set(doc! { "enabled": true, "parameters": { "days": 9 }, "name": "renamed" }).await;
    let third = backend.claim().await?.claimed;
    assert_eq!(third.len(), 1, "switched on, and late: one run");
    assert_eq!(third[0].job.definition.parameters["days"], 9);
    assert_eq!(third[0].job.definition.name, "renamed");
    backend.end(&third[0]).await?;
    set(doc! { "nextRunAt": backend.in_hours(9.0) }).await;
    backend.clock.advance(Duration::from_secs(3 * 3600));
    assert!(backend.claim().await?.claimed.is_empty(), "put off");
    set(doc! { "schedule": { "type": "interval", "interval_seconds": 60 }, "nextRunAt": backend.in_hours(0.0) }).await;
    let fourth = backend.claim().await?.claimed;
    assert_eq!(
        (fourth.len(), &fourth[0].job.definition.schedule),
        (1, &Schedule::every(Duration::from_secs(60)))
    );
    assert_eq!(backend.old_loop().await, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_fields_survive_every_verb() -> Result<()> {
    let backend = Backend::new().await?;
    let strange = doc! {
        "displayName": "Purge", "executionCount": 4_i64, "deep": { "a.b": 1, "at": backend.in_hours(1.0) },
        "owner": ObjectId::new(), "next_run": "tomorrow",
    };
    let id = backend.insert(strange.clone()).await;
    let claimed = backend.claim().await?.claimed.remove(0);
    backend.end(&claimed).await?;
    let job = backend.job(&id).await?;
    let mut edit = UpdateJob::new(&job, "admin", "updated");
    let mut definition = job.definition.to_owned();
    definition.priority = 5;
    definition.schedule = Schedule::every(Duration::from_millis(1500));
    edit.definition = Some(definition);
    assert!(matches!(backend.store.update_job(edit).await?, UpdateOutcome::Updated(_)));
    let now = backend.clock.now();
    let new = backend.ids.execution(now);
    let execution = NewExecution {
        id: new,
        job_id: id.clone(),
        trigger: Trigger::Manual,
        triggered_by: "manual:admin".to_owned(),
        due_at: now,
        covers_until: None,
        n_occurrences: 1,
        run_at: now,
        attempt: 1,
        retries: 0,
        crashes: 0,
        root_id: new,
        nonce: new.to_string(),
        parameters: None,
    };
    let request = TriggerRequest { execution, idempotency_key: None, unless_open: false };
    let _ = backend.store.trigger(request).await?;
    let manual = backend.claim().await?.claimed.remove(0);
    backend.end(&manual).await?;
    let after = backend.document(&id).await;
    for (field, value) in &strange {
        assert_eq!(after.get(field), Some(value), "{field}");
    }
    assert_eq!(after.get("nextRunAt"), Some(&Bson::Null), "the old engine does not know this schedule");
    assert_eq!(after.get_i64("version").ok(), Some(2));
    let job = backend.job(&id).await?;
    assert_eq!(job.definition.schedule, Schedule::every(Duration::from_millis(1500)));
    assert_eq!((job.definition.priority, job.definition.extra.contains_key("displayName")), (5, true));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn executions_of_the_backend_are_shown_and_those_that_run_are_left_alone() -> Result<()> {
    let backend = Backend::new().await?;
    let done = doc! {
        "_id": ObjectId::new(), "jobId": "x", "jobName": "old", "startedAt": backend.in_hours(-1.0),
        "completedAt": backend.in_hours(-0.5), "durationSeconds": 1800.0, "triggeredBy": "manual:bob",
        "executionHost": "server-01", "status": "odd",
        "logs": [{ "timestamp": "2026-03-29T11:00:00.5", "level": "WARNING", "message": "hm" }],
    };
    let runs = doc! {
        "_id": ObjectId::new(), "job_id": "x", "job_name": "old", "started_at": backend.in_hours(-48.0),
        "status": "running", "triggered_by": "manual", "result": {}, "error": Bson::Null, "logs": [],
    };
    backend.executions.insert_many([done, runs.clone()]).await.expect("inserted");
    let page =
        backend.store.list_executions(&unified_scheduler_core::store::ExecutionQuery::default()).await?;
    assert_eq!(page.items.len(), 2);
    let done = page.items.iter().find(|e| e.status == Status::Failed).expect("unknown counts as bad");
    assert_eq!(
        (done.job_id.as_str(), done.trigger, done.reason.as_deref()),
        ("x", Trigger::Manual, Some("odd"))
    );
    assert_eq!(done.ended_at.map(Timestamp::as_millis), Some(backend.clock.now().as_millis() - HOUR / 2));
    assert_eq!(backend.store.get_execution(&done.id).await?.as_ref(), Some(done));
    assert_eq!(backend.store.list_logs(&done.id, 0, 9).await?[0].message, "hm");
    let reaped = backend
        .store
        .reap(
            unified_scheduler_core::store::ReapRequest { grace: Duration::ZERO, limit: 10 },
            &EnginePlanner::new(Arc::clone(&backend.ids)),
        )
        .await?;
    assert!(reaped.ended.is_empty(), "what the old code runs is not ours to end");
    let still = backend.executions.find_one(doc! { "_id": runs.get("_id") }).await.expect("answered");
    assert_eq!(still, Some(runs));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_can_not_be_used_is_told_without_secrets() {
    let open = async |url: &str| {
        let config = MongodbConfig::from_url(url)?.deadline(Duration::from_secs(2));
        MongodbStore::open(config).await
    };
    let nobody = open("mongodb://user:hunter2@127.0.0.1:1/app").await.expect_err("nobody listens there");
    assert_eq!(nobody.kind(), unified_scheduler_core::ErrorKind::Unavailable);
    let base = std::env::var(STANDALONE).expect("the URL of a server");
    let host = base.trim_start_matches("mongodb://").trim_end_matches('/').to_owned();
    let wrong = open(&format!("mongodb://user:hunter2@{host}/app")).await.expect_err("there is no such user");
    assert_eq!(wrong.kind(), unified_scheduler_core::ErrorKind::Invalid, "{wrong:?}");
    for error in [nobody, wrong] {
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_embedded_is_carried_out_by_whoever_comes_next() -> Result<()> {
    let backend = Backend::new().await?;
    let id = backend.insert(doc! {}).await;
    let claimed = backend.claim().await?.claimed.remove(0);
    // As it was between the two writes of the claim: the job has moved, the execution is embedded.
    let row = backend.executions.find_one_and_delete(doc! {}).await.expect("answered").expect("one");
    let key = doc! { "_id": ObjectId::parse_str(id.as_str()).expect("an id") };
    let ops = doc! { "token": ObjectId::new(), "insert": [row.clone()] };
    let embed = doc! { "$set": { "unified_scheduler.ops": ops } };
    backend.jobs.update_one(key.clone(), embed.clone()).await.expect("updated");
    assert_eq!(backend.store.get_execution(&claimed.execution.id).await?.as_ref(), Some(&claimed.execution));
    assert_eq!(backend.store.owned(&backend.node).await?.len(), 1);
    assert!(
        !backend.document(&id).await.get_document("unified_scheduler").expect("ours").contains_key("ops")
    );
    // The same again, met by a claim.
    backend.executions.delete_many(doc! {}).await.expect("deleted");
    backend.jobs.update_one(key, embed).await.expect("updated");
    assert!(backend.claim().await?.claimed.is_empty());
    assert_eq!(backend.executions.find_one(doc! {}).await.expect("answered"), Some(row));
    backend.end(&claimed).await?;
    assert_eq!(backend.job(&id).await?.last_status, Some(Status::Success));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_id_is_a_number_runs_and_what_a_newer_version_wrote_is_left_alone() -> Result<()> {
    let backend = Backend::new().await?;
    let id = backend.insert(doc! { "_id": 7 }).await;
    assert_ne!(id.as_str(), "7");
    let id = JobId::from("7");
    for _ in 0..2 {
        let claimed = backend.claim().await?.claimed.remove(0);
        assert_eq!(claimed.job.id, id);
        backend.end(&claimed).await?;
        assert_eq!(backend.job(&id).await?.last_execution_id, Some(claimed.execution.id));
        backend.clock.advance(Duration::from_secs(3600));
    }
    backend.store.delete_job(&id, "test").await?;
    let newer = backend
        .insert(doc! { "unified_scheduler": { "v": 99, "handler": "work", "fire": backend.in_hours(-1.0) } })
        .await;
    let before = backend.document(&newer).await;
    assert!(backend.claim().await?.claimed.is_empty());
    assert_eq!(backend.document(&newer).await, before);
    assert!(backend.job(&newer).await?.fault.is_some());
    Ok(())
}
