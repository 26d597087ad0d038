//! The store in MongoDB passes the suite, on a standalone server and on a replica set, each case in a
//! database of its own.

mod common;

use std::sync::Arc;

use async_trait::async_trait;
use unified_scheduler_conformance::{Backend, Fixture, run_all};
use unified_scheduler_core::clock::ManualClock;
use unified_scheduler_core::error::Result;
use unified_scheduler_core::store::Store;
use unified_scheduler_mongodb::{MongodbConfig, MongodbStore};

use common::{STANDALONE, Scratch};

/// Where a replica set is named.
const REPLICA: &str = "TEST_MONGODB_REPLICA_URL";

struct Mongodb {
    name: &'static str,
    variable: &'static str,
}

fn config(scratch: &Scratch, clock: &ManualClock) -> Result<MongodbConfig> {
    Ok(MongodbConfig::from_url(&scratch.url)?.clock(Arc::new(clock.clone())))
}

#[async_trait]
impl Backend for Mongodb {
    fn name(&self) -> &str {
        self.name
    }

    async fn fresh(&self) -> Result<Fixture> {
        let clock = ManualClock::at("2026-03-29T00:59:58.765Z".parse()?);
        let scratch = Scratch::new(self.variable)?;
        let store = MongodbStore::open(config(&scratch, &clock)?).await?;
        Ok(Fixture { store: Arc::new(store), clock, keep: Box::new(scratch) })
    }

    async fn reopen(&self, fixture: &Fixture) -> Result<Option<Arc<dyn Store>>> {
        let Some(scratch) = fixture.keep.downcast_ref::<Scratch>() else { return Ok(None) };
        let store = MongodbStore::open(config(scratch, &fixture.clock)?).await?;
        Ok(Some(Arc::new(store)))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_on_a_standalone_server_conforms() {
    run_all(&Mongodb { name: "mongodb", variable: STANDALONE }).await.assert_passed();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_on_a_replica_set_conforms() {
    run_all(&Mongodb { name: "mongodb-rs", variable: REPLICA }).await.assert_passed();
}
