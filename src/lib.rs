#![doc = "One job scheduler over the database your application already has."]
pub use unified_scheduler_core::*;
