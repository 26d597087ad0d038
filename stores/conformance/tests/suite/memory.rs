//! The store in memory as a backend.

use std::sync::Arc;

use async_trait::async_trait;
use unified_scheduler_conformance::{Backend, Fixture};
use unified_scheduler_core::clock::ManualClock;
use unified_scheduler_core::error::Result;
use unified_scheduler_core::store::{MemoryStore, Store};

/// Puts something around each store, such as a bug.
pub(crate) type Wrap = fn(MemoryStore) -> Arc<dyn Store>;

/// The store in memory.
pub(crate) struct Memory {
    wrap: Wrap,
}

impl Memory {
    /// The store in memory, with something around it.
    pub(crate) fn wrapped(wrap: Wrap) -> Self {
        Self { wrap }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self { wrap: |store| Arc::new(store) }
    }
}

#[async_trait]
impl Backend for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn fresh(&self) -> Result<Fixture> {
        let clock = ManualClock::at("2026-03-29T00:59:58.765Z".parse()?);
        let store = MemoryStore::with_clock(Arc::new(clock.clone()));
        let keep = Box::new(store.handle());
        Ok(Fixture { store: (self.wrap)(store), clock, keep })
    }

    async fn reopen(&self, fixture: &Fixture) -> Result<Option<Arc<dyn Store>>> {
        let store = fixture.keep.downcast_ref::<MemoryStore>();
        Ok(store.map(|store| (self.wrap)(store.handle())))
    }
}
