//! What the store knows about its own health, for `doctor`.

use std::sync::Arc;
use std::time::Duration;

use sqlx::Row as _;
use sqlx::postgres::{PgListener, PgPoolOptions};
use unified_scheduler_core::id::IdSource;
use unified_scheduler_core::store::{Check, CheckLevel};
use unified_scheduler_core::{Error, Timestamp};

use crate::error::Step;
use crate::hints::CHANNEL;
use crate::rows::missing;
use crate::session::{Session, Shared, params};

/// How long a notification may take to come back.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether the database can be written: a write that changes nothing.
pub(crate) async fn probe(session: &mut Session) -> Step<()> {
    session.execute("UPDATE @meta SET value = value WHERE key = 'epoch'", params![]).await?;
    Ok(())
}

/// The check for what [`probe`] came to.
pub(crate) fn writable(result: Result<(), Error>) -> Check {
    match result {
        Ok(()) => Check::new("writable", CheckLevel::Ok, "a write was committed"),
        Err(error) => Check::new("writable", CheckLevel::Failed, error.to_string()),
    }
}

pub(crate) async fn read(session: &mut Session, here: Timestamp) -> Step<Vec<Check>> {
    const SQL: &str =
        "SELECT current_setting('server_version'), current_setting('server_version_num')::bigint,
        current_setting('synchronous_commit'), current_setting('fsync'), current_setting('full_page_writes'),
        pg_is_in_recovery(), current_setting('transaction_read_only'),
        floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint,
        current_setting('max_connections')::bigint,
        pg_total_relation_size('@job_state') + pg_total_relation_size('@jobs'),
        pg_total_relation_size('@executions') + pg_total_relation_size('@logs')";
    let row = session.first(SQL, params![]).await?.ok_or_else(missing)?;
    let text = |column: usize| row.try_get::<&str, _>(column);
    let number = |column: usize| row.try_get::<i64, _>(column);
    let (version, known) = (text(0)?, number(1)? >= 130_000);
    let mut checks = vec![Check::new(
        "reachable",
        if known { CheckLevel::Ok } else { CheckLevel::Warning },
        format!("PostgreSQL {version}{}", if known { "" } else { "; this program is made for 13 and later" }),
    )];
    let replica = row.try_get::<bool, _>(5)? || text(6)? == "on";
    if replica {
        let advice = "this server is a replica or read-only; connect to the primary";
        checks.push(Check::new("primary", CheckLevel::Failed, advice));
    }
    checks.push(durability(text(2)?, text(3)?, text(4)?));
    let (found, newest) = (crate::schema::version(session).await?, crate::schema::newest());
    let level = if found == newest { CheckLevel::Ok } else { CheckLevel::Failed };
    checks.push(Check::new("schema", level, format!("version {found}; this program knows {newest}")));
    let skew = here.as_millis() - number(7)?;
    let level = if skew.abs() > 1000 { CheckLevel::Warning } else { CheckLevel::Ok };
    checks.push(Check::new(
        "clock",
        level,
        format!("this machine is {skew} ms ahead of the server, whose clock counts"),
    ));
    let sizes = format!("{} bytes of jobs, {} of executions and logs", number(9)?, number(10)?);
    checks.push(Check::new("size", CheckLevel::Ok, sizes));
    let most = session.shared.config.max_connections;
    checks.push(Check::new(
        "connections",
        CheckLevel::Ok,
        format!("up to {most} and one that listens, of the server's {}", number(8)?),
    ));
    Ok(checks)
}

fn durability(synchronous_commit: &str, fsync: &str, full_page_writes: &str) -> Check {
    if synchronous_commit != "off" && fsync == "on" && full_page_writes == "on" {
        return Check::new("durability", CheckLevel::Ok, "each commit waits for the disk");
    }
    Check::new(
        "durability",
        CheckLevel::Warning,
        format!(
            "synchronous_commit={synchronous_commit}, fsync={fsync}, full_page_writes={full_page_writes}: a \
             crash of the server can undo the last commits, so that occurrences fire twice; set all three on"
        ),
    )
}

/// Whether a notification comes back: not through a pooler that gives each transaction another session.
pub(crate) async fn notifications(shared: &Arc<Shared>) -> Check {
    let pooled = "hints need a session of their own: connect past the pooler, or have others' changes found by \
                  polling";
    if shared.config.is_pooled() {
        // To try would leave the pooler a session that listens.
        let detail =
            format!("none are heard through a pooler in transaction mode (`statement_cache=0`); {pooled}");
        return Check::new("notifications", CheckLevel::Warning, detail);
    }
    let told = tokio::time::timeout(PATIENCE, echo(shared)).await;
    match told {
        Ok(Ok(())) if shared.hints.is_listening() => {
            Check::new("notifications", CheckLevel::Ok, "changes made by others are heard at once")
        }
        Ok(Ok(())) => {
            let detail = "they work, but the listener is not connected at this moment";
            Check::new("notifications", CheckLevel::Warning, detail)
        }
        Ok(Err(error)) => Check::new("notifications", CheckLevel::Warning, format!("{error}; {pooled}")),
        Err(_) => {
            Check::new("notifications", CheckLevel::Warning, format!("none came back within 2 s; {pooled}"))
        }
    }
}

/// Sends a notification and waits until it comes back.
async fn echo(shared: &Arc<Shared>) -> Result<(), Error> {
    let mark = format!("doctor {:x}", IdSource::new().random());
    let listen = async {
        let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(PATIENCE);
        let pool = pool.connect_lazy_with(shared.config.connect_options());
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.listen(CHANNEL).await?;
        Ok::<_, crate::error::Fail>(listener)
    };
    let mut listener = listen.await.map_err(crate::error::Fail::while_open)?;
    let send = async {
        let mut session = Session::open(shared).await?;
        session.first("SELECT pg_notify($1, $2)::text", params![CHANNEL, mark.as_str()]).await?;
        session.finish().await
    };
    send.await.map_err(crate::error::Fail::while_open)?;
    loop {
        let notification =
            listener.recv().await.map_err(|error| Error::from(crate::error::Fail::from(error)))?;
        if notification.payload() == mark {
            return Ok(());
        }
    }
}
