#![doc = "The engine of unified-scheduler."]

pub mod error;
pub mod schedule;
pub mod time;

pub use error::{Error, ErrorKind, Fault, Result};
pub use time::Timestamp;
