//! The Redis store of unified-scheduler: one server, or a Redis Cluster.
//!
//! Every verb is a script in the server, and so one atomic step; a claim is two: one reserves what is due,
//! the other, after the planner was asked, writes. All keys of a namespace have one hash tag, and so one slot:
//! a cluster holds a namespace on one of its nodes, and several namespaces on several. The scripts get the
//! prefix of all keys as `KEYS[1]` and make the others from it. See [`RedisStore`] to open one, and
//! [`unified_scheduler_core::store::Store`] for what it does.

mod answers;
mod claim;
mod commit;
mod complete;
mod config;
mod diagnose;
mod error;
mod executions;
mod find;
mod hints;
mod history;
mod import;
mod job;
mod jobs;
mod link;
mod nodes;
mod packed;
mod rows;
mod scripts;
mod store;

pub use config::RedisConfig;
pub use store::RedisStore;
