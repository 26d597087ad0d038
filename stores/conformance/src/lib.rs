//! The suite that every store must pass: each sentence of the [`Store`] contract as a named case over a
//! fresh, isolated store.
//!
//! A store's test is a [`Backend`] and three lines:
//!
//! ```ignore
//! #[tokio::test(flavor = "multi_thread")]
//! async fn conforms() {
//!     run_all(&MyBackend).await.assert_passed();
//! }
//! ```
//!
//! One line is printed for each case, and what failed is listed at the end. The environment variable
//! `CONFORMANCE` chooses the cases whose name holds its text, such as `claims::` or `reaping::two`.
//!
//! [`Store`]: unified_scheduler_core::store::Store

mod backend;
mod cases;
mod ctx;
mod planner;
mod runner;

pub use backend::{Backend, Fixture};
pub use cases::cases;
pub use ctx::Ctx;
pub use runner::{Case, CaseFuture, Failed, Report, run, run_all};
