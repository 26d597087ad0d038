//! Numbered migrations, safe when several processes start at once.
//!
//! All that are missing are applied in one transaction, under an advisory lock of the schema's name: a
//! schema is never half one version and half another.

use std::sync::Arc;

use sqlx::Row as _;
use unified_scheduler_core::Error;

use crate::error::{Fail, Step};
use crate::session::{Session, Shared, params};

/// Each migration: its name and its text. The number is the place in this list, from 1; what has been
/// released is never changed.
const MIGRATIONS: &[(&str, &str)] = &[
    ("initial", include_str!("../migrations/0001_initial.sql")),
    ("live", include_str!("../migrations/0002_live.sql")),
];

/// The newest schema that this program knows.
pub(crate) fn newest() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// The version of the schema in the database; 0 when there is none.
pub(crate) async fn version(session: &mut Session) -> Step<i64> {
    // The catalog itself, and not `to_regclass`, whose cache may not know yet what was made while this
    // session waited for the lock.
    const EXISTS: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relname = 'migrations')";
    let schema = session.shared.schema.clone();
    let exists = session.first(EXISTS, params![schema]).await?;
    if !exists.map(|row| row.try_get::<bool, _>(0)).transpose()?.unwrap_or_default() {
        return Ok(0);
    }
    let found = session.first("SELECT coalesce(max(version), 0) FROM @migrations", params![]).await?;
    Ok(found.map(|row| row.try_get(0)).transpose()?.unwrap_or_default())
}

/// Brings the schema of this namespace to the newest version. Whoever comes second finds, under the lock,
/// that it is done already. A schema that is as it should be needs no right to change any.
pub(crate) async fn migrate(shared: &Arc<Shared>) -> Step<()> {
    let mut session = Session::open(shared).await?;
    if refuse_newer(version(&mut session).await?)? == newest() {
        is_whole(&mut session).await?;
        return session.finish().await;
    }
    session.finish().await?;
    let mut session = Session::begin(shared).await?;
    let schema = &shared.schema;
    session
        .first("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))::text", params![schema.clone()])
        .await?;
    let found = refuse_newer(version(&mut session).await?)?;
    if found == 0 {
        let sql = format!(
            "CREATE SCHEMA IF NOT EXISTS {schema}; CREATE TABLE {schema}.migrations (version bigint PRIMARY \
             KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        );
        session.command(sql).await?;
    }
    for (number, (name, sql)) in (1_i64..).zip(MIGRATIONS) {
        if number > found {
            let applied = session.command(shared.text(sql)).await;
            applied.map_err(|fail| if fail.is_made_already() { half(schema, number, name) } else { fail })?;
            let record = "INSERT INTO @migrations (version, name) VALUES ($1, $2)";
            session.execute(record, params![number, *name]).await?;
        }
    }
    session.finish().await
}

/// What a migration that somebody has applied in part, or without its record, comes to.
fn half(schema: &str, number: i64, name: &str) -> Fail {
    Error::corrupt(format!(
        "the schema {schema} holds parts of migration {number} ({name}), which it does not record: the database was \
         restored or changed in part; restore it whole, or drop the schema for a new one"
    ))
    .into()
}

/// The tables of the newest schema.
const TABLES: [&str; 8] = ["audit", "calendars", "executions", "job_state", "jobs", "logs", "meta", "nodes"];

/// Refuses a schema that says it is up to date, and lacks tables.
async fn is_whole(session: &mut Session) -> Step<()> {
    const MISSING: &str = "SELECT t.name FROM unnest($2::text[]) AS t (name) WHERE NOT EXISTS (
        SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relname = t.name)";
    let schema = session.shared.schema.clone();
    let rows = session.all(MISSING, params![schema.as_str(), TABLES.as_slice()]).await?;
    let missing: Vec<&str> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::corrupt(format!(
        "the schema {schema} lacks its table {}: restore it from a backup, or drop the schema for a new one",
        missing.join(", ")
    ))
    .into())
}

fn refuse_newer(found: i64) -> Step<i64> {
    if found <= newest() {
        return Ok(found);
    }
    let known = newest();
    Err(Error::unsupported(format!(
        "the database has schema version {found}, and this program knows {known}; use the newer program that \
         made it"
    ))
    .into())
}
