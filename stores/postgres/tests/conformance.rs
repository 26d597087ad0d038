//! The store in PostgreSQL passes the suite, each case in a schema of its own.

mod server;

use std::sync::Arc;

use async_trait::async_trait;
use server::Schema;
use unified_scheduler_conformance::{Backend, Fixture, run_all};
use unified_scheduler_core::clock::ManualClock;
use unified_scheduler_core::error::Result;
use unified_scheduler_core::store::Store;
use unified_scheduler_postgres::{PostgresConfig, PostgresStore};

struct Postgres {
    /// What the URL ends with.
    parameters: &'static str,
}

impl Postgres {
    fn config(&self, schema: &Schema, clock: &ManualClock) -> Result<PostgresConfig> {
        Ok(PostgresConfig::from_url(&schema.url(self.parameters))?.clock(Arc::new(clock.clone())))
    }
}

#[async_trait]
impl Backend for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    async fn fresh(&self) -> Result<Fixture> {
        let clock = ManualClock::at("2026-03-29T00:59:58.765Z".parse()?);
        let schema = Schema::fresh();
        let store = PostgresStore::open(self.config(&schema, &clock)?).await?;
        Ok(Fixture { store: Arc::new(store), clock, keep: Box::new(schema) })
    }

    async fn reopen(&self, fixture: &Fixture) -> Result<Option<Arc<dyn Store>>> {
        let Some(schema) = fixture.keep.downcast_ref::<Schema>() else { return Ok(None) };
        let store = PostgresStore::open(self.config(schema, &fixture.clock)?).await?;
        Ok(Some(Arc::new(store)))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_in_postgres_conforms() {
    run_all(&Postgres { parameters: "" }).await.assert_passed();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_prepared_statements_it_conforms_too() {
    run_all(&Postgres { parameters: "&statement_cache=0" }).await.assert_passed();
}
