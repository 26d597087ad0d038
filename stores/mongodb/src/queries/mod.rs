//! The verbs, one file for each group of them.

pub(crate) mod board;
pub(crate) mod calendars;
pub(crate) mod claim;
pub(crate) mod complete;
pub(crate) mod create;
pub(crate) mod diagnose;
pub(crate) mod edit;
pub(crate) mod effects;
pub(crate) mod executions;
pub(crate) mod finish;
pub(crate) mod history;
pub(crate) mod import;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod look;
pub(crate) mod nodes;
pub(crate) mod ops;
pub(crate) mod pending;
pub(crate) mod places;
pub(crate) mod read;
pub(crate) mod reap;
pub(crate) mod strangers;
pub(crate) mod trigger;
