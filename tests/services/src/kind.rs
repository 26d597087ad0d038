//! The kinds of servers there are.

use std::fmt;
use std::str::FromStr;

use crate::Failure;

/// What to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// One PostgreSQL server.
    Postgres,
    /// One Redis server.
    Redis,
    /// Redis Cluster of three.
    RedisCluster,
    /// One `mongod` on its own.
    Mongodb,
    /// One `mongod` as a replica set of one: with transactions and change streams.
    MongodbReplica,
}

impl Kind {
    /// All of them.
    pub const ALL: &'static [Self] =
        &[Self::Postgres, Self::Redis, Self::RedisCluster, Self::Mongodb, Self::MongodbReplica];

    /// Its name on command lines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::RedisCluster => "redis-cluster",
            Self::Mongodb => "mongodb",
            Self::MongodbReplica => "mongodb-replica",
        }
    }

    /// The environment variable that tests find its URL in.
    pub const fn variable(self) -> &'static str {
        match self {
            Self::Postgres => "TEST_POSTGRES_URL",
            Self::Redis => "TEST_REDIS_URL",
            Self::RedisCluster => "TEST_REDIS_CLUSTER_URL",
            Self::Mongodb => "TEST_MONGODB_URL",
            Self::MongodbReplica => "TEST_MONGODB_REPLICA_URL",
        }
    }

    /// How many servers it takes.
    pub const fn n_members(self) -> usize {
        match self {
            Self::RedisCluster => 3,
            _ => 1,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Kind {
    type Err = Failure;

    fn from_str(name: &str) -> Result<Self, Failure> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|kind| kind.name()).collect();
            Failure::new(format!("no server `{name}`; there are {}", names.join(", ")))
        })
    }
}

/// What a server is to survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing: for tests of what stores do.
    Fast,
    /// Being killed at any moment: for tests that do so, and for benches.
    Durable,
}
