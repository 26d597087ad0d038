//! The SQLite store of unified-scheduler: the embedded default.
//!
//! One file, several processes. A node's process has one thread that writes, with all that has queued
//! up in one transaction, two that read, and one that looks for what other processes wrote. See
//! [`SqliteStore`] to open one, and [`unified_scheduler_core::store::Store`] for what it does.

mod cache;
mod config;
mod connection;
mod consult;
mod error;
mod hints;
mod queries;
mod reader;
mod rows;
mod schema;
mod session;
mod store;
mod writer;

pub use config::{SqliteConfig, Synchronous};
pub use store::SqliteStore;
