//! Where benches run: a file, or a private server with settings that survive a crash, and a plot of it for
//! each measurement.

use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;
use unified_scheduler::connect;
use unified_scheduler::mongodb::{MongodbConfig, MongodbStore};
use unified_scheduler::postgres::{PostgresConfig, PostgresStore};
use unified_scheduler::redis::{RedisConfig, RedisStore};
use unified_scheduler::sqlite::{SqliteConfig, SqliteStore};
use unified_scheduler_core::Store;
use unified_scheduler_core::clock::Clock;
use unified_scheduler_services::{Durability, Kind, Server};

use crate::Failure;

/// Whether the arguments of a bench name this store.
pub(crate) fn asks_for(name: &str) -> bool {
    std::env::args().skip(1).any(|arg| arg == name)
}

/// A kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// A file on the local disk.
    Sqlite,
    /// A PostgreSQL server.
    Postgres,
    /// A Redis server.
    Redis,
    /// A `mongod` on its own.
    Mongodb,
}

impl Ground {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Sqlite, Self::Postgres, Self::Redis, Self::Mongodb];

    /// Its name on command lines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Mongodb => "mongodb",
        }
    }

    /// Those that the arguments of a bench name; all when they name none.
    pub fn asked_for() -> Vec<Self> {
        let named: Vec<Self> = Self::ALL.into_iter().filter(|ground| asks_for(ground.name())).collect();
        if named.is_empty() { Self::ALL.to_vec() } else { named }
    }

    /// Measures on those that the arguments of a bench name, one after another.
    ///
    /// # Errors
    ///
    /// The first that a measurement gives.
    pub fn each<F>(measure: impl Fn(Self) -> F) -> Result<(), Failure>
    where
        F: Future<Output = Result<(), Failure>>,
    {
        let runtime = tokio::runtime::Runtime::new()?;
        Self::asked_for().into_iter().try_for_each(|ground| runtime.block_on(measure(ground)))
    }

    const fn server(self) -> Option<Kind> {
        match self {
            Self::Sqlite => None,
            Self::Postgres => Some(Kind::Postgres),
            Self::Redis => Some(Kind::Redis),
            Self::Mongodb => Some(Kind::Mongodb),
        }
    }

    /// Makes it ready; a server ends when the answer is dropped.
    ///
    /// # Errors
    ///
    /// Why the server does not start.
    pub fn prepare(self) -> Result<Prepared, Failure> {
        let server = match self.server() {
            Some(kind) => Some(Server::start(kind, Durability::Durable).map_err(|e| e.to_string())?),
            None => None,
        };
        Ok(Prepared { ground: self, server, folder: tempfile::tempdir()?, n_plots: 0 })
    }
}

/// A ground with its server running.
pub struct Prepared {
    ground: Ground,
    server: Option<Server>,
    folder: TempDir,
    n_plots: u32,
}

impl Prepared {
    /// Its server; SQLite has none.
    pub fn server(&mut self) -> Option<&mut Server> {
        self.server.as_mut()
    }

    /// A plot that nothing was measured on yet.
    pub fn plot(&mut self) -> Plot {
        self.n_plots += 1;
        let namespace = format!("bench{}", self.n_plots);
        let folder = self.folder.path().to_owned();
        let server_url = self.server.as_ref().map(Server::direct_url).unwrap_or_default();
        Plot { ground: self.ground, namespace, server_url, folder }
    }
}

/// A namespace of its own on a server, or a file.
#[derive(Debug, Clone)]
pub struct Plot {
    /// Of which kind.
    pub ground: Ground,
    /// The namespace; the database's name for MongoDB.
    pub namespace: String,
    /// The server's URL, without a namespace.
    pub server_url: String,
    folder: PathBuf,
}

impl Plot {
    /// The file of SQLite.
    pub fn file(&self) -> PathBuf {
        self.folder.join(format!("{}.db", self.namespace))
    }

    /// The URL of the store.
    pub fn url(&self) -> String {
        let Self { namespace, server_url, .. } = self;
        match self.ground {
            Ground::Sqlite => format!("sqlite://{}", self.file().display()),
            Ground::Postgres | Ground::Redis => format!("{server_url}?namespace={namespace}"),
            Ground::Mongodb => {
                let host = server_url.trim_start_matches("mongodb://");
                let host = host.split('/').next().unwrap_or(host);
                format!("mongodb://{host}/{namespace}")
            }
        }
    }

    /// The store.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn store(&self) -> Result<Arc<dyn Store>, Failure> {
        Ok(connect(&self.url()).await?)
    }

    /// The store, with a clock of ours in place of its own: what is due does not wait for real time.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn store_at(&self, clock: Arc<dyn Clock>) -> Result<Arc<dyn Store>, Failure> {
        let url = self.url();
        Ok(match self.ground {
            Ground::Sqlite => Arc::new(SqliteStore::open(SqliteConfig::from_url(&url)?.clock(clock)).await?),
            Ground::Postgres => {
                Arc::new(PostgresStore::open(PostgresConfig::from_url(&url)?.clock(clock)).await?)
            }
            Ground::Redis => Arc::new(RedisStore::open(RedisConfig::from_url(&url)?.clock(clock)).await?),
            Ground::Mongodb => {
                Arc::new(MongodbStore::open(MongodbConfig::from_url(&url)?.clock(clock)).await?)
            }
        })
    }
}
