//! Errors that the servers themselves are made to give: connections that their administrator ends, locks,
//! deadlocks, no memory, no writes, forgotten scripts, a primary that is none.

use std::net::SocketAddr;
use std::time::Duration;

use mongodb::bson::{Document, doc};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use unified_scheduler_services::Kind;
use unified_scheduler_tests::random::Random;

use super::cluster::Cluster;
use crate::Failure;

/// Makes the server give one of its errors; answers which.
///
/// # Errors
///
/// When the server can't be told.
pub(super) async fn upset(cluster: &Cluster) -> Result<Option<&'static str>, Failure> {
    let Some(kind) = cluster.target.server else { return Ok(None) };
    let mut random = Random::of(cluster.draw(Random::bits), "native", 0);
    match kind {
        Kind::Postgres => postgres(&cluster.direct, &mut random).await.map(Some),
        Kind::Redis | Kind::RedisCluster => redis(&cluster.addresses, &mut random).await.map(Some),
        Kind::Mongodb | Kind::MongodbReplica => mongodb(&cluster.addresses, &mut random).await.map(Some),
    }
}

async fn postgres(url: &str, random: &mut Random) -> Result<&'static str, Failure> {
    let mut server = PgConnection::connect(url).await?;
    let others = "FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
    let tables: (String, String) = sqlx::query_as(
        "SELECT format('%I.job_state', schemaname), format('%I.executions', schemaname)
         FROM pg_tables WHERE tablename = 'job_state'",
    )
    .fetch_one(&mut server)
    .await?;
    let wait = random.between(Duration::from_millis(200), Duration::from_millis(1500));
    let mut run = async |statement: String| {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut server).await.map(drop)
    };
    Ok(match random.within(0..5) {
        0 => {
            run(format!("SELECT pg_terminate_backend(pid) {others} AND random() < 0.5")).await?;
            "backends terminated"
        }
        1 => {
            run(format!("SELECT pg_cancel_backend(pid) {others}")).await?;
            "statements cancelled"
        }
        2 => {
            run(format!("BEGIN; LOCK TABLE {} IN EXCLUSIVE MODE", tables.0)).await?;
            tokio::time::sleep(wait).await;
            run("COMMIT".to_owned()).await?;
            "tables locked"
        }
        3 => {
            // Who writes to both takes the other one first. It is we who wait for longer than they.
            run(format!(
                "BEGIN; SET LOCAL deadlock_timeout = '3s'; SET LOCAL lock_timeout = '2500ms'; LOCK TABLE {} IN SHARE MODE",
                tables.1
            ))
            .await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
            // A deadlock may be ended at our cost all the same.
            let _ = run(format!("LOCK TABLE {} IN SHARE MODE", tables.0)).await;
            run("ROLLBACK".to_owned()).await?;
            "tables locked in the wrong order"
        }
        _ => {
            run("ALTER SYSTEM SET default_transaction_read_only = on".to_owned()).await?;
            run("SELECT pg_reload_conf()".to_owned()).await?;
            tokio::time::sleep(wait / 2).await;
            run("ALTER SYSTEM RESET default_transaction_read_only".to_owned()).await?;
            run("SELECT pg_reload_conf()".to_owned()).await?;
            "read-only for a while"
        }
    })
}

async fn redis(members: &[SocketAddr], random: &mut Random) -> Result<&'static str, Failure> {
    let wait = random.between(Duration::from_millis(100), Duration::from_millis(900));
    let drawn = random.within(0..5);
    let (what, first, then): (_, &[&str], Option<&[&str]>) = match drawn {
        0 => ("scripts forgotten", &["SCRIPT", "FLUSH"], None),
        1 => ("clients killed", &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"], None),
        2 => ("writes held", &["CLIENT", "PAUSE", "60000", "WRITE"], Some(&["CLIENT", "UNPAUSE"])),
        3 => (
            "out of memory",
            &["CONFIG", "SET", "maxmemory", "1mb"],
            Some(&["CONFIG", "SET", "maxmemory", "1gb"]),
        ),
        // Members of a cluster can't be told so.
        _ if members.len() > 1 => ("scripts forgotten", &["SCRIPT", "FLUSH"], None),
        _ => ("read-only for a while", &["REPLICAOF", "127.0.0.1", "1"], Some(&["REPLICAOF", "NO", "ONE"])),
    };
    let mut connections = Vec::new();
    for member in members {
        let client = redis::Client::open(format!("redis://{member}/"))?;
        connections.push(client.get_multiplexed_async_connection().await?);
    }
    for words in std::iter::once(first).chain(then) {
        for connection in &mut connections {
            let mut command = redis::cmd(words[0]);
            command.arg(&words[1..]);
            command.query_async::<redis::Value>(connection).await?;
        }
        tokio::time::sleep(wait).await;
    }
    Ok(what)
}

async fn mongodb(members: &[SocketAddr], random: &mut Random) -> Result<&'static str, Failure> {
    let member = members.first().ok_or("no server")?;
    let client = mongodb::Client::with_uri_str(format!("mongodb://{member}/?directConnection=true")).await?;
    let commands = ["insert", "update", "find", "findAndModify", "aggregate", "delete", "getMore"];
    let mut data: Document = doc! { "failCommands": commands.as_slice() };
    let what = match random.within(0..6) {
        0 => {
            data.insert("closeConnection", true);
            "connections closed by the server"
        }
        1 => {
            data.extend(doc! { "blockConnection": true, "blockTimeMS": 700 });
            "slow commands"
        }
        2 => {
            data.insert(
                "writeConcernError",
                doc! { "code": 64, "errmsg": "waiting for replication timed out" },
            );
            "write concern not reached"
        }
        3 => {
            data.insert("errorCode", 112);
            "write conflicts"
        }
        4 => {
            data.insert("errorCode", random.pick(&[10107, 189, 11602, 91]));
            "not primary"
        }
        _ => {
            data.insert("errorCode", random.pick(&[262, 50, 89]));
            "time limits exceeded"
        }
    };
    let times = i32::try_from(random.within(2..12)).unwrap_or(2);
    let order = doc! { "configureFailPoint": "failCommand", "mode": { "times": times }, "data": data };
    client.database("admin").run_command(order).await?;
    client.shutdown().await;
    Ok(what)
}
