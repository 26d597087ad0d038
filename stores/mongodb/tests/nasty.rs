//! Documents that nobody should have written: each is set aside or put off, nothing of it is lost, and the
//! others go on.

#[expect(dead_code, reason = "other tests use more of it")]
#[path = "common/backend.rs"]
mod backend;
mod common;

use std::str::FromStr;
use std::sync::Arc;

use bson::oid::ObjectId;
use bson::raw::RawDocumentBuf;
use bson::spec::BinarySubtype;
use bson::{Binary, Bson, DateTime, Decimal128, Document, Regex, Timestamp, doc};
use unified_scheduler_core::error::Result;
use unified_scheduler_core::id::JobId;
use unified_scheduler_core::store::{CheckLevel, ExecutionQuery, JobQuery, Store};
use unified_scheduler_mongodb::{MongodbConfig, MongodbStore};

use backend::Backend;
use common::{STANDALONE, Scratch};

/// What becomes of a job that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It runs as it is meant, or as it is by default.
    Runs,
    /// It waits for a time to come, or for somebody to switch it on.
    Waits,
    /// It has a fault that says why.
    SetAside,
}
use Fate::{Runs, SetAside, Waits};

fn every(seconds: impl Into<Bson>) -> Document {
    doc! { "schedule": { "type": "interval", "interval_seconds": seconds.into() } }
}

/// What somebody may have written, by what it says, and what may become of it.
fn documents() -> Vec<(&'static str, Document, &'static [Fate])> {
    let gone = Bson::Undefined;
    vec![
        ("a schedule that is a list", doc! { "schedule": [1, 2] }, &[SetAside]),
        ("a schedule that is a flag", doc! { "schedule": true }, &[SetAside]),
        ("a period that is a text", every("soon"), &[SetAside]),
        ("a period that is no number", every(f64::NAN), &[SetAside]),
        ("a period without end", every(f64::INFINITY), &[SetAside]),
        ("a period below nothing", every(-60), &[SetAside]),
        ("a period that is a document", every(doc! { "a": 1 }), &[SetAside]),
        (
            "a cron expression that is a number",
            doc! { "schedule": { "type": "cron", "expression": 5 } },
            &[SetAside],
        ),
        (
            "no cron expression",
            doc! { "schedule": { "type": "cron", "expression": Bson::Null } },
            &[SetAside],
        ),
        (
            "a zone that is a number",
            doc! { "schedule": { "type": "cron", "expression": "* * * * *", "timezone": 2 } },
            &[SetAside],
        ),
        ("a due time that is no date", doc! { "nextRunAt": "tomorrow" }, &[Waits]),
        ("a due time that is a number", doc! { "nextRunAt": 5 }, &[Waits, Runs]),
        ("a due time that is a document", doc! { "nextRunAt": { "$date": "x" } }, &[Waits]),
        ("a due time at the end of all", doc! { "nextRunAt": DateTime::MAX }, &[Waits]),
        ("parameters that are a list", doc! { "parameters": [1, 2] }, &[SetAside, Runs]),
        ("parameters that are a text", doc! { "parameters": "days=7" }, &[SetAside, Runs]),
        ("no parameters", doc! { "parameters": Bson::Null }, &[Runs]),
        ("a flag that is a text", doc! { "enabled": "yes" }, &[Waits]),
        ("a flag that is a number", doc! { "enabled": 1 }, &[Waits]),
        ("a template that is a number", doc! { "template_type": 5 }, &[SetAside]),
        ("a template that is null", doc! { "template_type": Bson::Null }, &[SetAside]),
        ("no name", doc! { "name": gone.clone() }, &[SetAside, Runs]),
        ("a name that is a number", doc! { "name": 5 }, &[SetAside, Runs]),
        ("a name that is a list", doc! { "name": ["a", "b"] }, &[SetAside, Runs]),
        ("a description that is a document", doc! { "description": { "a": 1 } }, &[SetAside, Runs]),
        ("a time-out that is a text", doc! { "timeout_seconds": "long" }, &[SetAside, Runs]),
        ("a time-out below nothing", doc! { "timeout_seconds": -5 }, &[SetAside, Runs]),
        ("a time-out that is no number", doc! { "timeout_seconds": f64::NAN }, &[SetAside, Runs]),
        ("a time-out beyond all", doc! { "timeout_seconds": 1e300 }, &[SetAside, Runs]),
        ("retries that are a text", doc! { "retry_policy": "often" }, &[SetAside, Runs]),
        ("retries without end", doc! { "retry_policy": { "max_retries": 1e300 } }, &[SetAside, Runs]),
        ("notifications that are a list", doc! { "notifications": ["me"] }, &[SetAside, Runs]),
        ("a version that is a text", doc! { "version": "three" }, &[Runs]),
        ("times that are texts", doc! { "createdAt": "long ago", "updatedAt": 5, "lastRunAt": "x" }, &[Runs]),
        ("a status that nobody knows", doc! { "lastStatus": 17 }, &[Runs]),
        ("our part a text", doc! { "unified_scheduler": "mine" }, &[Runs]),
        ("our part a list", doc! { "unified_scheduler": [1] }, &[Runs]),
        ("our part empty", doc! { "unified_scheduler": {} }, &[Runs]),
        (
            "our part of another type",
            doc! { "unified_scheduler": { "v": "one", "rev": "x" } },
            &[Runs, SetAside, Waits],
        ),
        ("our part half there", doc! { "unified_scheduler": { "v": 1, "slots": 5, "print": "x" } }, &[Runs]),
        (
            "our part in parts that make no sense",
            doc! { "unified_scheduler": { "v": 1, "rev": "x", "fire": "now", "handler": 5, "definition": "{" } },
            &[Runs, SetAside],
        ),
        ("an id that is a text", doc! { "_id": "a/b c" }, &[Runs]),
        ("an id that is a number", doc! { "_id": 12.0 }, &[Runs]),
        ("an id that is a fraction", doc! { "_id": 1.5 }, &[SetAside]),
        ("an id that is a document", doc! { "_id": { "a": 1 } }, &[SetAside]),
        ("an id that is a date", doc! { "_id": DateTime::from_millis(5) }, &[SetAside]),
        ("an id that is null", doc! { "_id": Bson::Null }, &[SetAside]),
        ("an id that is a flag", doc! { "_id": true }, &[SetAside]),
        (
            "an id that is a UUID",
            doc! { "_id": Binary { subtype: BinarySubtype::Uuid, bytes: vec![7; 16] } },
            &[SetAside],
        ),
        ("an id that is another as a text", doc! { "_id": "64b0c0ffee64b0c0ffee64b0" }, &[SetAside]),
        ("an id that is of a job in code", doc! { "_id": "static:x" }, &[SetAside]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_can_not_be_meant_harms_nobody() -> Result<()> {
    let backend = Backend::new().await?;
    for (what, changes, fates) in documents() {
        let good = backend.insert(doc! { "name": "good" }).await;
        let before = backend.jobs.count_documents(doc! {}).await.expect("answered");
        insert(&backend, changes.clone()).await;
        let batch = backend.claim().await?;
        assert!(batch.claimed.iter().any(|c| c.job.id == good), "{what}: the others go on");
        let ran = batch.claimed.iter().any(|c| c.job.id != good);
        for claimed in &batch.claimed {
            backend.end(claimed).await?;
        }
        let all = backend.store.list_jobs(&JobQuery { limit: 100, ..JobQuery::default() }).await?.items;
        assert_eq!(all.len() as u64, before + 1, "{what}: it is shown");
        let job = all.into_iter().find(|job| job.id != good).expect("it is there");
        let fate = match (&job.fault, ran) {
            (Some(_), _) => SetAside,
            (None, true) => Runs,
            (None, false) => Waits,
        };
        assert!(fates.contains(&fate), "{what}: {fate:?}, {job:?}");
        assert!(!(job.fault.is_some() && ran), "{what}: what is set aside does not run");
        // And once more: nothing is left running or found again.
        let again = backend.claim().await?;
        assert!(again.claimed.is_empty() && again.set_aside.is_empty(), "{what}: {again:?}");
        let open = doc! { "status": { "$in": ["running", "pending"] } };
        assert_eq!(backend.executions.count_documents(open).await.expect("answered"), 0, "{what}");
        // Not by way of serde, which takes a field called `$date` for a date.
        let raw = backend.jobs.clone_with_type::<RawDocumentBuf>();
        let stored = raw.find_one(doc! { "name": { "$ne": "good" } }).await.expect("answered");
        let stored = Document::try_from(&stored.expect("it is there")).expect("good BSON");
        for (field, value) in &changes {
            let may_change = ["nextRunAt", "lastStatus", "lastRunAt", "unified_scheduler"];
            let differs = *value != Bson::Undefined && stored.get(field) != Some(value);
            let is_nan = value.as_f64().is_some_and(f64::is_nan) || field == "schedule";
            assert!(!differs || may_change.contains(&field.as_str()) || is_nan, "{what}: {field}");
        }
        backend.jobs.delete_many(doc! {}).await.expect("deleted");
        backend.executions.delete_many(doc! {}).await.expect("deleted");
    }
    Ok(())
}

/// Inserts a job that is due, with changes, also of its `_id`.
async fn insert(backend: &Backend, mut changes: Document) {
    changes.entry("name".to_owned()).or_insert_with(|| "nasty".into());
    backend.insert(changes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_of_every_type_stay_byte_for_byte() -> Result<()> {
    let backend = Backend::new().await?;
    let regex = Regex { pattern: bson::cstr!("^a.*").into(), options: bson::cstr!("i").into() };
    let strange = doc! {
        "decimal": Decimal128::from_str("1.10").expect("a number"),
        "no_decimal": Decimal128::from_str("NaN").expect("no number"),
        "nan": f64::NAN, "infinite": f64::NEG_INFINITY, "least": Bson::MinKey, "most": Bson::MaxKey,
        "stamp": Timestamp { time: 1, increment: 2 }, "regex": regex, "undefined": Bson::Null,
        "code": Bson::JavaScriptCode("f()".to_owned()), "symbol": Bson::Symbol("s".to_owned()),
        "bytes": Binary { subtype: BinarySubtype::Generic, bytes: vec![0, 255] },
        "keys": { "a.b": { "$c": [1_i64, 2.0, 3] }, "": 1, "$date": "x" },
        "deep": deep(90), "long": "x".repeat(1 << 20), "tags": { "not": "a list" },
    };
    let id = backend.insert(strange.clone()).await;
    let key = doc! { "_id": ObjectId::parse_str(id.as_str()).expect("an id") };
    let raw = backend.jobs.clone_with_type::<RawDocumentBuf>();
    let before = raw.find_one(key.clone()).await.expect("answered").expect("it is there");
    let claimed = backend.claim().await?.claimed.remove(0);
    backend.end(&claimed).await?;
    let after = raw.find_one(key).await.expect("answered").expect("it is there");
    for field in strange.keys() {
        let bytes = |doc: &RawDocumentBuf| {
            let mut one = RawDocumentBuf::new();
            let value = doc.get(field.as_str()).expect("good BSON").expect("it is there");
            one.append(bson::cstr!("x"), bson::raw::RawBson::from(value));
            one.into_bytes()
        };
        assert_eq!(bytes(&before), bytes(&after), "{field}");
    }
    Ok(())
}

fn deep(levels: usize) -> Bson {
    (0..levels).fold(Bson::Int32(1), |inner, _| Bson::Document(doc! { "d": inner }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_without_room_for_ours_is_passed_over() -> Result<()> {
    let backend = Backend::new().await?;
    let good = backend.insert(doc! {}).await;
    // The server takes 16 MB; with what we add it would be more.
    let huge = "x".repeat((16 << 20) - 900);
    backend.insert(doc! { "parameters": { "all": huge } }).await;
    for _ in 0..2 {
        let claimed = backend.claim().await?.claimed;
        assert_eq!(claimed.iter().map(|c| &c.job.id).collect::<Vec<_>>(), [&good]);
        backend.end(&claimed[0]).await?;
        backend.clock.advance(std::time::Duration::from_secs(3600));
    }
    // And one that is huge, but has room.
    let large = backend.insert(doc! { "parameters": { "all": "x".repeat(15 << 20) } }).await;
    let claimed = backend.claim().await?.claimed;
    let large = claimed.iter().find(|c| c.job.id == large).expect("it runs");
    backend.end(large).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn executions_that_make_no_sense_are_passed_over() -> Result<()> {
    let backend = Backend::new().await?;
    let id = backend.insert(doc! {}).await;
    let claimed = backend.claim().await?.claimed.remove(0);
    let all = [
        doc! { "_id": "text", "job_id": id.as_str() },
        doc! { "_id": ObjectId::new() },
        doc! { "job_id": 5, "status": 7, "started_at": "x", "completed_at": 5, "logs": "none", "result": [1] },
        doc! { "job_id": id.as_str(), "status": ["a"], "duration_seconds": f64::NAN, "error": { "a": 1 } },
        doc! { "job_id": id.as_str(), "status": "running", "unified_scheduler": "mine" },
        doc! { "job_id": id.as_str(), "status": "running", "unified_scheduler": { "id": "x", "epoch": "y" } },
        doc! { "job_id": id.as_str(), "status": "success", "unified_scheduler": { "v": 99, "id": "x" } },
    ];
    backend.executions.insert_many(all.clone()).await.expect("inserted");
    let page = backend.store.list_executions(&ExecutionQuery::default()).await?;
    assert!(page.items.iter().any(|e| e.id == claimed.execution.id), "ours is there");
    let _ = backend.store.counts().await?;
    let found = page.items.iter().find(|e| e.job_id.as_str() == "").expect("it says almost nothing");
    assert!(backend.store.list_logs(&found.id, 0, 10).await?.is_empty());
    backend.end(&claimed).await?;
    for doc in all {
        let Some(key) = doc.get("_id") else { continue };
        let still = backend.executions.find_one(doc! { "_id": key }).await.expect("answered");
        assert_eq!(still, Some(doc));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_that_can_not_be_made_are_told_by_the_doctor() -> Result<()> {
    let scratch = Scratch::new(STANDALONE)?;
    let client = mongodb::Client::with_uri_str(&scratch.url).await.expect("the URL is good");
    let executions = client.database(&scratch.name).collection::<Document>("job_executions");
    let twice = |n: i32| {
        doc! {
            "n": n, "job_id": "x", "attempt": 1, "scheduled_for": DateTime::from_millis(0),
            "unified_scheduler": { "nonce": "x" },
        }
    };
    executions.insert_many([twice(1), twice(2)]).await.expect("inserted");
    // One that others made under another name is as good.
    let jobs = client.database(&scratch.name).collection::<Document>("dynamic_jobs");
    let theirs = mongodb::IndexModel::builder().keys(doc! { "enabled": 1, "nextRunAt": 1 }).build();
    jobs.create_index(theirs).await.expect("made");
    let store = Arc::new(MongodbStore::open(MongodbConfig::from_url(&scratch.url)?).await?);
    let checks = store.diagnose().await?;
    let indexes = checks.iter().find(|check| check.name == "indexes").expect("it is looked at");
    assert_eq!(indexes.level, CheckLevel::Warning);
    assert!(indexes.detail.contains("scheduled_for") && !indexes.detail.contains("enabled"), "{indexes:?}");
    assert_eq!(store.get_job(&JobId::from("nobody")).await?, None);
    // Mended, and opened again, all are there.
    executions.delete_one(doc! { "n": 2 }).await.expect("deleted");
    let store = MongodbStore::open(MongodbConfig::from_url(&scratch.url)?).await?;
    let checks = store.diagnose().await?;
    assert!(checks.iter().any(|c| c.name == "indexes" && c.level == CheckLevel::Ok), "{checks:?}");
    Ok(())
}
