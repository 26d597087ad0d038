//! The MongoDB store of unified-scheduler, on the documents of the backend that it takes the place of.
//!
//! Works on a standalone server and on a replica set, without transactions: the atomic step is one
//! document. What a verb does to more than one is embedded in the document of its job by the very update
//! that decides it, carried out, and taken out again; whoever meets it there carries it out first (see
//! `queries/ops.rs`). See [`MongodbStore`] to open one, and [`unified_scheduler_core::store::Store`] for
//! what it does.

mod cache;
mod config;
mod db;
mod error;
mod hints;
mod ids;
mod jobs;
mod legacy;
mod queries;
mod rows;
mod schema;
mod scout;
mod sharing;
mod store;
mod value;

pub use config::MongodbConfig;
pub use store::MongodbStore;
