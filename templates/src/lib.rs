//! Job templates that come with unified-scheduler.
//!
//! Each is a [`Template`](unified_scheduler_core::template::Template) with a feature of its own:
//!
//! | type | feature | what it does |
//! |---|---|---|
//! | `webhook_trigger` | `webhook` | calls a URL and checks the answer |
//! | `command` | `command` | runs a program or a line of shell; only where the operator allows it |

#[cfg(all(feature = "command", unix))]
pub mod command;
#[cfg(any(all(feature = "command", unix), feature = "webhook"))]
mod run;
#[cfg(feature = "webhook")]
pub mod webhook;
