//! The engine of unified-scheduler: what jobs are, when they are due, and the loops that run them.
//!
//! Programs use the crate `unified-scheduler`, which adds the stores and templates to this one. This crate
//! knows no database and no HTTP: a store implements [`store::Store`], whose comments are its contract.
//!
//! ```
//! use std::time::Duration;
//! use unified_scheduler_core::{Context, TestScheduler, every};
//!
//! let test = TestScheduler::at("2026-01-01T00:00:00Z").with(|scheduler| {
//!     scheduler.job(every("greet", Duration::from_secs(60)).run(|_: Context| async { "hello" }))
//! });
//! test.advance(Duration::from_secs(120));
//! // At once, and then every minute.
//! assert_eq!(test.executions_of("greet").len(), 3);
//! ```
//!
//! | modules | hold |
//! |---|---|
//! | [`job`], [`schedule`], [`policy`], [`execution`], [`document`] | what things are, and how they stand in JSON |
//! | [`plan`], [`settle`] | decisions, pure: what to do with a due job; what follows from an end |
//! | [`store`] | the contract of stores, and the store in memory |
//! | [`handler`], [`context`], [`template`], [`registry`], [`secret`] | what runs, and what it is given |
//! | [`scheduler`], [`static_job`], [`jobs`], [`event`] | what programs hold: a scheduler, its jobs, what it tells |
//! | [`status`], [`explain`], [`verify`], [`doctor`] | questions to a store and its nodes |
//! | [`clock`], [`testing`], [`time`], [`id`], [`error`] | time, also by hand; identifiers; errors |

mod builder;
pub mod clock;
pub mod context;
pub mod doctor;
pub mod document;
mod engine;
pub mod error;
pub mod event;
pub mod execution;
pub mod explain;
#[cfg(test)]
mod fixture;
pub mod handler;
pub mod id;
pub mod job;
pub mod jobs;
pub mod plan;
pub mod policy;
pub mod registry;
pub mod schedule;
pub mod scheduler;
mod seconds;
pub mod secret;
pub mod settle;
pub mod static_job;
pub mod status;
pub mod store;
pub mod template;
pub mod testing;
pub mod time;
pub mod transfer;
pub mod verify;

pub use async_trait::async_trait;
pub use builder::SchedulerBuilder;
pub use clock::{Clock, ManualClock, SystemClock};
pub use context::Context;
pub use engine::options::Options;
pub use error::{Error, ErrorKind, Fault, Result};
pub use event::Event;
pub use execution::{Execution, Failure, JobResult, Level, LogLine, Progress, Status, Trigger};
pub use handler::{Handler, HandlerError, Outcome, blocking};
pub use id::{Epoch, ExecutionId, IdSource, JobId, NodeId};
pub use job::{Job, JobDefinition, Origin};
pub use jobs::{Jobs, NewJob, RunOptions};
pub use policy::{Backoff, Chain, ChainOn, History, Keep, Misfire, Notifications, Overlap, Retry};
pub use registry::Registry;
pub use schedule::Schedule;
pub use scheduler::Scheduler;
pub use static_job::{JobBuilder, StaticJob, cron, every, on_demand, once, scheduled};
pub use store::Store;
pub use template::{Template, TemplateMetadata};
pub use testing::TestScheduler;
pub use time::Timestamp;
