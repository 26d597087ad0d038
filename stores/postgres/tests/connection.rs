//! What goes wrong with the server and its database, and what the store says then.

mod server;

use std::time::Duration;

use server::{Schema, claim_all, open, refused, run, url, with_jobs};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use unified_scheduler_core::Timestamp;
use unified_scheduler_core::error::ErrorKind;
use unified_scheduler_core::execution::{Failure, JobResult, Level, LogLine, Status};
use unified_scheduler_core::id::IdSource;
use unified_scheduler_core::settle::{Ending, settle};
use unified_scheduler_core::store::{
    CheckLevel, Claimed, CompleteOutcome, CompleteRequest, ExecutionQuery, Store,
};

/// The server's URL with another user, password and database.
fn with(user: &str, database: &str) -> String {
    let url = url();
    let host = url.rsplit_once('@').map_or_else(|| url.trim_start_matches("postgres://"), |(_, host)| host);
    let host = host.split('/').next().unwrap_or_default();
    format!("postgres://{user}:hush@{host}/{database}")
}

fn database() -> String {
    let url = url();
    let database = url.rsplit('/').next().unwrap_or_default();
    database.split('?').next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_user_without_access_is_told_so_and_the_password_is_not() {
    let error = refused(&with("nobody_at_all", &database())).await;
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    let shown = format!("{error} {error:?}");
    assert!(shown.contains("pg_hba.conf") && !shown.contains("hush"), "{shown}");
}

#[tokio::test]
async fn a_database_that_does_not_exist_is_named() {
    let base = url();
    let (place, _) = base.rsplit_once('/').unwrap();
    let error = refused(&format!("{place}/no_such_database")).await;
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(
        error.to_string().contains("no_such_database") && error.to_string().contains("createdb"),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_that_is_not_there_may_come() {
    let error = refused("postgres://user:hush@127.0.0.1:1/db?timeout_ms=2000").await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(!format!("{error:?}").contains("hush"), "{error}");
}

#[tokio::test]
async fn a_user_without_rights_is_told_which_to_ask_for() {
    let role = format!("us_limited_{}", std::process::id());
    run(format!("DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN PASSWORD 'hush'")).await;
    let schema = Schema::fresh();
    let limited = format!("{}?namespace={}", with(&role, &database()), schema.namespace);
    let error = refused(&limited).await;
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains("CREATE"), "{error}");
    // Where another user has made the schema, rights on what is in it are enough.
    open(&schema.url("")).await.unwrap().close().await.unwrap();
    let name = format!("unified_scheduler_{}", schema.namespace);
    run(format!(
        "GRANT USAGE ON SCHEMA {name} TO {role}; GRANT ALL ON ALL TABLES IN SCHEMA {name} TO {role}"
    ))
    .await;
    let store = open(&limited).await.unwrap();
    with_jobs(&store, 1).await;
    store.close().await.unwrap();
    run(format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn a_newer_schema_is_left_alone() {
    let schema = Schema::fresh();
    open(&schema.url("")).await.unwrap().close().await.unwrap();
    let name = format!("unified_scheduler_{}", schema.namespace);
    run(format!("INSERT INTO {name}.migrations (version, name) VALUES (999, 'later')")).await;
    let error = refused(&schema.url("")).await;
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("999"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_start_at_once_make_one_schema() {
    let schema = Schema::fresh();
    let opening: Vec<_> = (0..8)
        .map(|_| {
            let url = schema.url("");
            tokio::spawn(async move { open(&url).await })
        })
        .collect();
    for opened in opening {
        let store = opened.await.unwrap().unwrap();
        assert_eq!(store.counts().await.unwrap().jobs, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_work_again_after_the_server_ended_every_connection() {
    let schema = Schema::fresh();
    let name = format!("cut-{}", schema.namespace);
    let store = open(&schema.url(&format!("&application_name={name}"))).await.unwrap();
    let other = open(&schema.url("")).await.unwrap();
    let mut hints = store.hints();
    let jobs = with_jobs(&store, 3).await;
    for _ in 0..3 {
        run(format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{name}'"
        ))
        .await;
        let first = store.get_job(&jobs[0].id).await;
        assert!(first.is_ok() || first.is_err_and(|error| error.is_retryable()));
        assert!(store.get_job(&jobs[0].id).await.unwrap().is_some());
    }
    // And changes made by others are heard again. The listener tells one hint when it has connected.
    tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            hints.mark_unchanged();
            other.put_calendar(&serde_json::from_str(r#"{"name": "c"}"#).unwrap()).await.unwrap();
            if tokio::time::timeout(Duration::from_millis(500), hints.changed()).await.is_ok() {
                return;
            }
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_call_that_takes_too_long_may_pass_and_leaves_nothing_behind() {
    let schema = Schema::fresh();
    let store = open(&schema.url("&timeout_ms=1000")).await.unwrap();
    let jobs = with_jobs(&store, 1).await;
    let mut other = PgConnection::connect(&url()).await.unwrap();
    let lock = format!("BEGIN; LOCK TABLE unified_scheduler_{}.job_state", schema.namespace);
    sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut other).await.unwrap();
    let error = store.get_job(&jobs[0].id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    assert!(store.get_job(&jobs[0].id).await.unwrap().is_some());
}

#[tokio::test]
async fn texts_with_a_character_that_the_server_refuses_end_no_batch() {
    let schema = Schema::fresh();
    let store = open(&schema.url("")).await.unwrap();
    with_jobs(&store, 2).await;
    let (node, claimed) = claim_all(&store).await;
    let odd = "a\0b".to_owned();
    let end = |claimed: &Claimed| {
        let ending = Ending::new(Status::Failed, claimed.execution.created_at);
        let mut end = settle(Some(&claimed.job), &claimed.execution, ending, &IdSource::new());
        end.reason = Some(odd.clone());
        end.error = Some(Failure { kind: odd.clone(), message: odd.clone(), trace: Some(odd.clone()) });
        end.result = Some(JobResult { message: odd.clone(), ..JobResult::default() });
        let timestamp = claimed.execution.created_at;
        let fields = serde_json::json!({ "k": odd });
        end.logs = vec![LogLine { timestamp, level: Level::Info, message: odd.clone(), fields }];
        end
    };
    let ends: Vec<_> = claimed.iter().map(end).collect();
    let outcomes = store.complete(CompleteRequest { node: &node, completions: &ends }).await.unwrap();
    assert_eq!(outcomes, [CompleteOutcome::Applied { paused: false }; 2]);
    let stored = store.get_execution(&claimed[0].execution.id).await.unwrap().unwrap();
    assert_eq!(stored.error.map(|error| error.message), Some(odd), "documents come back as they were");
    let logs = store.list_logs(&claimed[0].execution.id, 0, 9).await.unwrap();
    assert_eq!(logs[0].message, "a\u{FFFD}b");
}

#[tokio::test]
async fn rows_and_definitions_of_a_newer_program_stop_nobody() {
    let schema = Schema::fresh();
    let store = open(&schema.url("")).await.unwrap();
    let jobs = with_jobs(&store, 3).await;
    let name = format!("unified_scheduler_{}", schema.namespace);
    run(format!("UPDATE {name}.jobs SET definition = '{{\"from\": \"later\"}}' WHERE id = 'job-1'")).await;
    let (_, claimed) = claim_all(&store).await;
    assert_eq!(claimed.len(), 2, "the others run");
    let odd = store.get_job(&jobs[1].id).await.unwrap().unwrap();
    assert!(odd.fault.is_some_and(|fault| fault.contains("can't be read")));
    let id = claimed[0].execution.id;
    run(format!("UPDATE {name}.executions SET status = 'dreaming' WHERE id = '{id}'")).await;
    let listed = store.list_executions(&ExecutionQuery::default()).await.unwrap();
    assert_eq!(listed.items.len(), 1, "it is passed over");
    assert_eq!(store.counts().await.unwrap().jobs, 3);
}

#[tokio::test]
async fn doctor_looks_at_what_matters() {
    let schema = Schema::fresh();
    let store = open(&schema.url("")).await.unwrap();
    let checks = store.diagnose().await.unwrap();
    for name in ["reachable", "durability", "schema", "clock", "writable", "notifications"] {
        let check = checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("{name}"));
        assert_ne!(check.level, CheckLevel::Failed, "{name}: {}", check.detail);
    }
    store.close().await.unwrap();
    assert_eq!(store.now().await.unwrap_err().kind(), ErrorKind::Stopped);
}

#[tokio::test]
async fn a_session_that_nobody_uses_holds_no_transaction() {
    let schema = Schema::fresh();
    let name = format!("idle-{}", schema.namespace);
    let store = open(&schema.url(&format!("&application_name={name}"))).await.unwrap();
    with_jobs(&store, 1).await;
    claim_all(&store).await;
    let mut connection = PgConnection::connect(&url()).await.unwrap();
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND xact_start IS NOT NULL";
    let row = sqlx::query(sql).bind(name).fetch_one(&mut connection).await.unwrap();
    assert_eq!(row.get::<i64, _>(0), 0);
    assert!(store.now().await.unwrap() > Timestamp::EPOCH);
}
