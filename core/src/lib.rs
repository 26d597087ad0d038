#![doc = "The engine of unified-scheduler."]

pub mod clock;
pub mod context;
pub mod document;
pub mod error;
pub mod event;
pub mod execution;
pub mod handler;
pub mod id;
pub mod job;
pub mod plan;
pub mod policy;
pub mod registry;
pub mod schedule;
mod seconds;
pub mod settle;
pub mod store;
pub mod template;
pub mod time;

pub use error::{Error, ErrorKind, Fault, Result};
pub use time::Timestamp;
