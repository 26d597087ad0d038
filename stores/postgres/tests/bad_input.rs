//! What is wrong with the server or with what is in it: each a clear error or a job set aside, and the rest goes on.

mod server;

use server::{Schema, claim, claim_all, join, open, refused, run, url, with_jobs};
use sqlx::{Connection, PgConnection, Row};
use unified_scheduler_core::error::ErrorKind;
use unified_scheduler_core::store::{CheckLevel, Store};
use unified_scheduler_services::{Durability, PostgresSettings, Server};

const FIRST: &str = include_str!("../migrations/0001_initial.sql");
const SECOND: &str = include_str!("../migrations/0002_live.sql");

/// A schema as the first `n` migrations leave it, with a record of `recorded` of them.
async fn migrated(schema: &Schema, texts: &[&str], recorded: i64) {
    let name = schema.name();
    let mut sql = format!(
        "CREATE SCHEMA {name}; CREATE TABLE {name}.migrations (version bigint PRIMARY KEY, name text NOT NULL,
            applied_at timestamptz NOT NULL DEFAULT now());
         INSERT INTO {name}.migrations (version, name) SELECT n, 'x' FROM generate_series(1, {recorded}) n;"
    );
    for text in texts {
        sql += &text.replace('@', &format!("{name}."));
    }
    run(sql).await;
}

#[tokio::test]
async fn an_older_schema_is_brought_up_to_date_with_what_runs() {
    let schema = Schema::fresh();
    migrated(&schema, &[FIRST], 1).await;
    let name = schema.name();
    let state = "1, 1, true, 'work', 0, 1, NULL, NULL, NULL, NULL, 0, 0, 0, 0, NULL, NULL, NULL";
    let run_of = |n: i32, status: &str, ended: &str| {
        format!(
            "INSERT INTO {name}.executions (id, job_id, job_name, handler, status, made_by, triggered_by, due_at,
                n_occurrences, version, attempt, retries, crashes, nonce, priority, created_at, run_at, epoch, claim,
                cancel_requested, ended_at)
            VALUES ('00000000-0000-0000-0000-00000000000{n}', 'a', 'a', 'work', '{status}', 'schedule', 's', {n}, 1,
                1, 1, 0, 0, '', 0, 0, 0, 0, 0, false, {ended});"
        )
    };
    let rows =
        [run_of(1, "success", "5"), run_of(2, "running", "NULL"), run_of(3, "pending", "NULL")].concat();
    run(format!("INSERT INTO {name}.job_state VALUES ('a', {state}), ('b', {state}); {rows}")).await;
    open(&schema.url("")).await.unwrap().close().await.unwrap();
    let mut connection = PgConnection::connect(&url()).await.unwrap();
    let sql = format!("SELECT cardinality(live) FROM {name}.job_state ORDER BY id");
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&mut connection).await.unwrap();
    let live: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(live, [2, 0], "what runs and what is queued");
}

#[tokio::test]
async fn a_migration_that_was_applied_in_part_is_told() {
    let schema = Schema::fresh();
    migrated(&schema, &[FIRST, SECOND], 1).await;
    let error = refused(&schema.url("")).await;
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains("migration 2 (live)"), "{error}");
    // Recorded, and not there.
    let schema = Schema::fresh();
    open(&schema.url("")).await.unwrap().close().await.unwrap();
    run(format!("DROP TABLE {}.calendars", schema.name())).await;
    let error = refused(&schema.url("")).await;
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains("calendars"), "{error}");
}

#[tokio::test]
async fn a_migration_that_fails_leaves_nothing_behind() {
    let schema = Schema::fresh();
    // A table in the way of the first one.
    let name = schema.name();
    run(format!("CREATE SCHEMA {name}; CREATE TABLE {name}.nodes (x int)")).await;
    assert_eq!(refused(&schema.url("")).await.kind(), ErrorKind::Corrupt);
    run(format!("DROP TABLE {name}.nodes")).await;
    open(&schema.url("")).await.unwrap();
}

#[tokio::test]
async fn definitions_that_can_not_be_used_are_set_aside_and_the_others_run() {
    const BAD: [&str; 7] = [
        "nonsense",
        "{}",
        "[]",
        r#"{"name": 7, "handler": "work", "schedule": {"type": "interval", "every_ms": 60000}}"#,
        r#"{"name": "x", "handler": "work"}"#,
        r#"{"name": "x", "handler": "work", "schedule": {"type": "sometimes"}}"#,
        r#"{"name": "x", "handler": "work", "schedule": {"type": "cron", "expression": "99 * * * *"}}"#,
    ];
    let schema = Schema::fresh();
    let store = open(&schema.url("")).await.unwrap();
    with_jobs(&store, BAD.len() + 3).await;
    let name = schema.name();
    for (i, definition) in BAD.iter().enumerate() {
        run(format!("UPDATE {name}.jobs SET definition = '{definition}' WHERE id = 'job-{i}'")).await;
    }
    let (_, claimed) = claim_all(&store).await;
    assert_eq!(claimed.len(), 3, "the others run");
    for (i, definition) in BAD.iter().enumerate() {
        let job = store.get_job(&format!("job-{i}").into()).await.unwrap().unwrap();
        assert!(job.fault.is_some_and(|fault| !fault.is_empty()), "{definition}");
    }
    assert_eq!(store.counts().await.unwrap().faulty, BAD.len() as u64);
}

#[tokio::test]
async fn columns_with_odd_values_stop_nobody() {
    let schema = Schema::fresh();
    let store = open(&schema.url("")).await.unwrap();
    with_jobs(&store, 4).await;
    let name = schema.name();
    run(format!(
        "UPDATE {name}.job_state SET last_status = 'dreaming', ended = NULL WHERE id = 'job-0';
         UPDATE {name}.job_state SET skip_next = -5, failures = -1, n_fired = -1 WHERE id = 'job-1';
         UPDATE {name}.job_state SET live = ARRAY[gen_random_uuid()] WHERE id = 'job-2'"
    ))
    .await;
    let (_, claimed) = claim_all(&store).await;
    assert_eq!(claimed.len(), 4);
}

#[tokio::test]
async fn a_server_that_only_reads_may_write_again() {
    let role = format!("us_reader_{}", std::process::id());
    run(format!("DROP ROLE IF EXISTS {role}; CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'hush'")).await;
    let schema = Schema::fresh();
    let base = url();
    let host = base.rsplit_once('@').map_or("", |(_, host)| host).to_owned();
    let reader = Schema::fresh_at(format!("postgres://{role}:hush@{host}"));
    run(format!("ALTER ROLE {role} SET default_transaction_read_only = on")).await;
    let error = refused(&reader.url("")).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("primary"), "{error}");
    // Where the schema is there, the store opens, answers questions, and says what it can't do.
    open(&schema.url("")).await.unwrap().close().await.unwrap();
    let parameters = format!("?namespace={}", schema.namespace);
    let store = open(&format!("postgres://{role}:hush@{host}{parameters}")).await.unwrap();
    assert_eq!(store.counts().await.unwrap().jobs, 0);
    let checks = store.diagnose().await.unwrap();
    for name in ["primary", "writable"] {
        let check = checks.iter().find(|check| check.name == name).unwrap();
        assert_eq!(check.level, CheckLevel::Failed, "{name}: {}", check.detail);
    }
    let error = store.put_calendar(&serde_json::from_str(r#"{"name": "c"}"#).unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    run(format!("ALTER ROLE {role} RESET default_transaction_read_only")).await;
    // The sessions of before are not used again.
    with_jobs(&store, 1).await;
    store.close().await.unwrap();
    run(format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_in_the_middle_has_forgotten_nothing() {
    let mut server = Server::start_postgres(&PostgresSettings::new(Durability::Durable)).unwrap();
    let schema = Schema::fresh_at(server.url());
    let store = open(&schema.url("&timeout_ms=3000")).await.unwrap();
    with_jobs(&store, 10).await;
    let node = join(&store).await;
    let first = claim(&store, &node, 4).await;
    assert_eq!(first.len(), 4);
    server.crash().unwrap();
    let error = store.counts().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    server.restart().unwrap();
    let owned = store.owned(&node).await.unwrap();
    assert_eq!(owned.len(), 4, "what was claimed is claimed");
    let rest = claim(&store, &node, 100).await;
    assert_eq!(rest.len(), 6, "and what was not, is due");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_free_connection_may_have_one_later() {
    let conf = "max_connections=6\nsuperuser_reserved_connections=0\n".to_owned();
    let server =
        Server::start_postgres(&PostgresSettings { conf, ..PostgresSettings::new(Durability::Fast) })
            .unwrap();
    let schema = Schema::fresh_at(server.url());
    let store = open(&schema.url("")).await.unwrap();
    with_jobs(&store, 1).await;
    let mut others = Vec::new();
    while let Ok(other) = PgConnection::connect(&server.url()).await {
        others.push(other);
    }
    assert!(store.counts().await.is_ok(), "with the connections it has it goes on");
    let error = refused(&schema.url("")).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("clients"), "{error}");
    for other in others {
        other.close().await.unwrap();
    }
    // The server takes a moment to see that they have gone.
    let began = std::time::Instant::now();
    let second = loop {
        match open(&schema.url("")).await {
            Ok(store) => break store,
            Err(error) => assert!(began.elapsed() < std::time::Duration::from_secs(10), "{error}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    second.close().await.unwrap();
    store.close().await.unwrap();
}
