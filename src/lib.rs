#![doc = include_str!("../README.md")]

mod connect;

pub use connect::{connect, schemes};
pub use unified_scheduler_core::*;

/// SQLite: the embedded store.
#[cfg(feature = "sqlite")]
pub use unified_scheduler_sqlite as sqlite;

/// Job templates that come with the scheduler: webhooks, commands.
#[cfg(feature = "templates")]
pub use unified_scheduler_templates as templates;
