//! What the verbs of the store do on a connection, by theme.

pub(crate) mod claim;
pub(crate) mod complete;
pub(crate) mod diagnose;
pub(crate) mod edit;
pub(crate) mod executions;
pub(crate) mod find;
pub(crate) mod history;
pub(crate) mod import;
pub(crate) mod jobs;
pub(crate) mod look;
pub(crate) mod nodes;
pub(crate) mod pick;
pub(crate) mod reap;
