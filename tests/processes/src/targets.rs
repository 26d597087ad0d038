//! The table of stores. To try another store, add a line.

use unified_scheduler_services::Kind;

/// What to run on.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name on command lines.
    pub name: &'static str,
    /// Its server, which can crash, behind proxies, which can break connections; none for SQLite, which
    /// is a file.
    pub server: Option<Kind>,
}

/// All that there is.
pub const TARGETS: &[Target] = &[
    Target { name: "sqlite", server: None },
    Target { name: "postgres", server: Some(Kind::Postgres) },
    Target { name: "redis", server: Some(Kind::Redis) },
    Target { name: "redis-cluster", server: Some(Kind::RedisCluster) },
    Target { name: "mongodb", server: Some(Kind::Mongodb) },
    Target { name: "mongodb-replica", server: Some(Kind::MongodbReplica) },
];
