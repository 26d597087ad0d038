//! What a store brings to the suite.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use unified_scheduler_core::clock::ManualClock;
use unified_scheduler_core::error::Result;
use unified_scheduler_core::store::Store;

/// Makes stores to test.
#[async_trait]
pub trait Backend: Send + Sync {
    /// What is printed: `memory`, `postgres`, …
    fn name(&self) -> &str;

    /// An empty store that shares nothing with any other.
    ///
    /// # Errors
    ///
    /// Whatever prevents it; the case then counts as failed.
    async fn fresh(&self) -> Result<Fixture>;

    /// A second handle on the same data, as another process would have, with the same clock; closed on
    /// its own. `None` when there can't be one: the cases that need it then count as failed.
    ///
    /// # Errors
    ///
    /// Whatever prevents it.
    async fn reopen(&self, fixture: &Fixture) -> Result<Option<Arc<dyn Store>>>;
}

/// A fresh store, and what moves its time.
pub struct Fixture {
    /// The store.
    pub store: Arc<dyn Store>,
    /// What the store takes as its clock.
    pub clock: ManualClock,
    /// Kept until the case has ended, and free for [`Backend::reopen`] to look into: a directory, a
    /// pool, a concrete handle.
    pub keep: Box<dyn Any + Send + Sync>,
}

impl fmt::Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture").field("store", &self.store).finish_non_exhaustive()
    }
}
