//! Job templates that come with unified-scheduler.
//!
//! Each is a [`Template`](unified_scheduler_core::template::Template) with a feature of its own:
//!
//! | type | feature | what it does |
//! |---|---|---|
//! | `webhook_trigger` | `webhook` | calls a URL and checks the answer |

#[cfg(any(feature = "command", feature = "webhook"))]
mod run;
#[cfg(feature = "webhook")]
pub mod webhook;
