//! The PostgreSQL store of unified-scheduler: many nodes on one database.
//!
//! A schema of its own for each namespace; claims that lock what they take and pass over what others
//! hold; a notification for each edit. See [`PostgresStore`] to open one, and
//! [`unified_scheduler_core::store::Store`] for what it does.

mod cache;
mod config;
mod error;
mod hints;
mod insert;
mod pool;
mod queries;
mod rows;
mod schema;
mod session;
mod store;

pub use config::PostgresConfig;
pub use store::PostgresStore;
