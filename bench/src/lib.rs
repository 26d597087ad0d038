//! What the benches share: where they run, jobs, and the same writes done by hand.

pub mod by_hand;
pub mod counted;
pub mod field;
pub mod ground;
pub mod jobs;
pub mod meter;
pub mod report;

/// Whatever ends a bench.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
