#![doc = include_str!("../README.md")]

mod connect;

pub use connect::{connect, schemes};
pub use unified_scheduler_core::*;

/// SQLite: the embedded store.
#[cfg(feature = "sqlite")]
pub use unified_scheduler_sqlite as sqlite;

/// MongoDB: standalone or replica set, on the documents of an existing backend.
#[cfg(feature = "mongodb")]
pub use unified_scheduler_mongodb as mongodb;

/// PostgreSQL: many nodes on one database.
#[cfg(feature = "postgres")]
pub use unified_scheduler_postgres as postgres;

/// Redis: one server, or a cluster.
#[cfg(feature = "redis")]
pub use unified_scheduler_redis as redis;

/// Job templates that come with the scheduler: webhooks, commands.
#[cfg(feature = "templates")]
pub use unified_scheduler_templates as templates;
