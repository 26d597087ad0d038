//! Counting statements where they arrive: on the server.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use bson::{Bson, Document, doc};
use sqlx::Connection;

use crate::Failure;
use crate::ground::{Ground, Prepared};

/// How often each statement was sent.
pub type Statements = BTreeMap<String, u64>;

/// How much of a statement names it.
const NAME: usize = 48;

/// Counts the statements that a server is sent.
pub enum Meter {
    /// SQLite has no server.
    None,
    /// `pg_stat_statements`.
    Postgres(Box<sqlx::PgConnection>),
    /// What `MONITOR` shows, but for what scripts do.
    Redis(Arc<Mutex<Statements>>),
    /// The commands of `serverStatus`, but for those by which drivers watch their servers.
    Mongodb(mongodb::Client),
}

impl Meter {
    /// Begins to count. A server that has to be started anew for that is.
    ///
    /// # Errors
    ///
    /// The server's own.
    pub async fn on(ground: Ground, prepared: &mut Prepared) -> Result<Self, Failure> {
        let Some(server) = prepared.server() else { return Ok(Self::None) };
        let (url, address) = (server.direct_url(), server.addresses()[0]);
        Ok(match ground {
            Ground::Sqlite => Self::None,
            Ground::Postgres => {
                let mut client = sqlx::PgConnection::connect(&url).await?;
                let preload = "ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'";
                sqlx::raw_sql(preload).execute(&mut client).await?;
                client.close().await?;
                server.stop()?;
                server.restart()?;
                let mut client = sqlx::PgConnection::connect(&url).await?;
                sqlx::raw_sql("CREATE EXTENSION pg_stat_statements").execute(&mut client).await?;
                Self::Postgres(Box::new(client))
            }
            Ground::Redis => Self::Redis(monitor(address)?),
            Ground::Mongodb => {
                let url = format!("mongodb://{address}/?directConnection=true");
                Self::Mongodb(mongodb::Client::with_uri_str(url).await?)
            }
        })
    }

    /// How often each statement was sent so far; `None` where there is no server.
    ///
    /// # Errors
    ///
    /// The server's own.
    pub async fn statements(&mut self) -> Result<Option<Statements>, Failure> {
        Ok(match self {
            Self::None => None,
            Self::Postgres(client) => {
                // Our own question is not one of the store's.
                let query = "SELECT query, sum(calls)::bigint FROM pg_stat_statements
                     WHERE query NOT LIKE '%pg_stat_statements%' GROUP BY query";
                let rows: Vec<(String, i64)> = sqlx::query_as(query).fetch_all(&mut **client).await?;
                let name = |query: String| {
                    query.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(NAME).collect()
                };
                let mut all = Statements::new();
                for (query, n) in rows {
                    *all.entry(name(query)).or_default() += n.unsigned_abs();
                }
                Some(all)
            }
            Self::Redis(seen) => Some(seen.lock().unwrap_or_else(PoisonError::into_inner).clone()),
            Self::Mongodb(client) => {
                let status = client.database("admin").run_command(doc! { "serverStatus": 1 }).await?;
                Some(commands(status.get_document("metrics")?.get_document("commands")?))
            }
        })
    }
}

/// A thread that counts what a Redis server tells of its clients; it ends with the server.
fn monitor(address: SocketAddr) -> Result<Arc<Mutex<Statements>>, Failure> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"MONITOR\r\n")?;
    let seen = Arc::new(Mutex::new(Statements::new()));
    let sink = Arc::clone(&seen);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            // +1700000000.123456 [0 127.0.0.1:1234] "evalsha" …, or [0 lua] for what scripts do.
            let Some((_, rest)) = line.split_once('[').filter(|(_, rest)| !rest.starts_with("0 lua]")) else {
                continue;
            };
            let name = rest.split('"').nth(1).unwrap_or_default().to_lowercase();
            *sink.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
        }
    });
    Ok(seen)
}

fn commands(all: &Document) -> Statements {
    let watching = ["hello", "isMaster", "serverStatus"];
    let total = |command: &Bson| command.as_document().and_then(|c| c.get_i64("total").ok()).unwrap_or(0);
    let counted = all.iter().filter(|(name, _)| !watching.contains(&name.as_str()));
    counted.map(|(name, command)| (name.clone(), total(command).unsigned_abs())).collect()
}

/// What was sent between two counts, and how much of it.
pub fn between(before: &Statements, after: &Statements) -> (u64, Statements) {
    let more = |(name, n): (&String, &u64)| {
        let n = n - before.get(name).copied().unwrap_or(0);
        (n > 0).then(|| (name.clone(), n))
    };
    let sent: Statements = after.iter().filter_map(more).collect();
    (sent.values().sum(), sent)
}
