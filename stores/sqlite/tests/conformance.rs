//! The store in SQLite passes the suite, each case on a file of its own.

use std::sync::Arc;

use async_trait::async_trait;
use tempfile::TempDir;
use unified_scheduler_conformance::{Backend, Fixture, run_all};
use unified_scheduler_core::Error;
use unified_scheduler_core::clock::ManualClock;
use unified_scheduler_core::error::Result;
use unified_scheduler_core::store::Store;
use unified_scheduler_sqlite::{SqliteConfig, SqliteStore, Synchronous};

struct Sqlite;

fn config(directory: &TempDir, clock: &ManualClock) -> SqliteConfig {
    // What is tested does not need the disk to have it.
    SqliteConfig::new(directory.path().join("jobs.db"))
        .synchronous(Synchronous::Normal)
        .clock(Arc::new(clock.clone()))
}

#[async_trait]
impl Backend for Sqlite {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    async fn fresh(&self) -> Result<Fixture> {
        let clock = ManualClock::at("2026-03-29T00:59:58.765Z".parse()?);
        let directory = tempfile::tempdir().map_err(|e| Error::unavailable("no directory").caused_by(e))?;
        let store = SqliteStore::open(config(&directory, &clock)).await?;
        Ok(Fixture { store: Arc::new(store), clock, keep: Box::new(directory) })
    }

    async fn reopen(&self, fixture: &Fixture) -> Result<Option<Arc<dyn Store>>> {
        let Some(directory) = fixture.keep.downcast_ref::<TempDir>() else { return Ok(None) };
        let store = SqliteStore::open(config(directory, &fixture.clock)).await?;
        Ok(Some(Arc::new(store)))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_in_sqlite_conforms() {
    run_all(&Sqlite).await.assert_passed();
}
