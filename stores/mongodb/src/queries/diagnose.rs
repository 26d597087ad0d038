//! What the store knows of its own health and settings.

use bson::{Document, doc};
use unified_scheduler_core::Timestamp;
use unified_scheduler_core::store::{Check, CheckLevel};

use crate::db::{Db, Durability};
use crate::error::{Fail, Step};
use crate::schema;
use crate::value::{count, text, time};

fn check(name: &str, level: CheckLevel, detail: impl Into<String>) -> Check {
    Check::new(name, level, detail)
}

pub(crate) async fn diagnose(db: &Db, location: &str) -> Step<Vec<Check>> {
    let asked_at = std::time::SystemTime::now();
    let hello = match db.database.run_command(doc! { "hello": 1 }).await.map_err(Fail::from) {
        Ok(hello) => hello,
        Err(fail) => {
            let error = unified_scheduler_core::Error::from(fail);
            return Ok(vec![check("store", CheckLevel::Failed, format!("{location}: {error}"))]);
        }
    };
    let mut checks = vec![check("store", CheckLevel::Ok, format!("{location} answers"))];
    checks.push(writable(db).await);
    checks.push(version(db).await);
    checks.push(topology(&hello));
    checks.push(skew(&hello, asked_at));
    checks.extend(indexes(db).await);
    Ok(checks)
}

async fn writable(db: &Db) -> Check {
    let statement = doc! { "q": { "_id": "doctor" }, "u": { "$set": { "n": 1 } }, "upsert": true };
    match db.update(&db.names.meta, vec![statement], Durability::Full).await {
        Ok(_) => check("writes", CheckLevel::Ok, "a write reaches the journals of a majority"),
        Err(fail) => {
            let error = unified_scheduler_core::Error::from(fail);
            check("writes", CheckLevel::Failed, error.to_string())
        }
    }
}

async fn version(db: &Db) -> Check {
    let info = db.database.run_command(doc! { "buildInfo": 1 }).await;
    let version = info.ok().and_then(|info| text(&info, "version").map(str::to_owned)).unwrap_or_default();
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let number = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    match number {
        (0, _) => check("version", CheckLevel::Warning, "the server does not tell its version"),
        n if n < (4, 4) => {
            check("version", CheckLevel::Failed, format!("MongoDB {version}; it must be 4.4 or later"))
        }
        n if n < (5, 0) => check(
            "version",
            CheckLevel::Warning,
            format!("MongoDB {version} stores no parameters whose names begin with `$`; 5.0 and later do"),
        ),
        _ => check("version", CheckLevel::Ok, format!("MongoDB {version}")),
    }
}

/// Whether the server is a member of a replica set.
pub(crate) fn is_replica_set(hello: &Document) -> bool {
    hello.contains_key("setName") || text(hello, "msg") == Some("isdbgrid")
}

fn topology(hello: &Document) -> Check {
    if is_replica_set(hello) {
        let name = text(hello, "setName").unwrap_or("sharded");
        return check(
            "topology",
            CheckLevel::Ok,
            format!("replica set {name}: other nodes are told of edits at once"),
        );
    }
    check(
        "topology",
        CheckLevel::Warning,
        "a standalone server: other processes learn of edits by polling, and a crashed disk loses everything",
    )
}

fn skew(hello: &Document, asked_at: std::time::SystemTime) -> Check {
    let here = asked_at.duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_millis());
    let here = Timestamp::from_millis(i64::try_from(here).unwrap_or(0));
    let Some(there) = time(hello.get("localTime")) else {
        return check("clock", CheckLevel::Warning, "the server does not tell its time");
    };
    let off = there.as_millis() - here.as_millis();
    let level = if off.abs() > 1000 { CheckLevel::Warning } else { CheckLevel::Ok };
    check(
        "clock",
        level,
        format!("the server's clock is {off} ms ahead of this machine's; the server's counts"),
    )
}

async fn indexes(db: &Db) -> Vec<Check> {
    let mut missing = Vec::new();
    for (collection, indexes) in schema::wanted(&db.names) {
        let there = db.database.run_command(doc! { "listIndexes": &collection }).await;
        let there = there.ok().and_then(|reply| {
            let batch = reply.get_document("cursor").ok()?.get_array("firstBatch").ok()?.clone();
            Some(batch)
        });
        let keys: Vec<Document> = there
            .iter()
            .flatten()
            .filter_map(|index| index.as_document()?.get_document("key").ok().cloned())
            .collect();
        for index in indexes {
            if !keys.iter().any(|key| same_key(key, &index.keys)) {
                missing.push(format!("{collection} {}", index.keys));
            }
        }
    }
    if missing.is_empty() {
        return vec![check("indexes", CheckLevel::Ok, "all are there")];
    }
    let list = missing.join(", ");
    vec![check("indexes", CheckLevel::Warning, format!("missing, and so claims and lists are slow: {list}"))]
}

fn same_key(a: &Document, b: &Document) -> bool {
    let pairs = |doc: &Document| -> Vec<(String, i64)> {
        doc.iter().map(|(key, value)| (key.clone(), count(Some(value)))).collect()
    };
    pairs(a) == pairs(b)
}
