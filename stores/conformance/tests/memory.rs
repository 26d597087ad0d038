//! The store in memory passes the suite.

use std::sync::Arc;

use async_trait::async_trait;
use unified_scheduler_conformance::{Backend, Fixture, run_all};
use unified_scheduler_core::clock::ManualClock;
use unified_scheduler_core::error::Result;
use unified_scheduler_core::store::{MemoryStore, Store};

struct Memory;

#[async_trait]
impl Backend for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn fresh(&self) -> Result<Fixture> {
        let clock = ManualClock::at("2026-03-29T00:59:58.765Z".parse()?);
        let store = MemoryStore::with_clock(Arc::new(clock.clone()));
        let keep = Box::new(store.handle());
        Ok(Fixture { store: Arc::new(store), clock, keep })
    }

    async fn reopen(&self, fixture: &Fixture) -> Result<Option<Arc<dyn Store>>> {
        let store = fixture.keep.downcast_ref::<MemoryStore>();
        Ok(store.map(|store| Arc::new(store.handle()) as Arc<dyn Store>))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_in_memory_conforms() {
    run_all(&Memory).await.assert_passed();
}
