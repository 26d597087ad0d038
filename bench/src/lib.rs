//! What the benches share: stores, jobs, and the same writes done by hand.

pub mod by_hand;
pub mod jobs;
pub mod report;
