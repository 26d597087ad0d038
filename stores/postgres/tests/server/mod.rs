//! The server that the tests use, and schemas in it, each dropped at the end of a test.

use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{AssertSqlSafe, Connection, PgConnection};

/// Where the server is.
pub(crate) fn url() -> String {
    std::env::var("TEST_POSTGRES_URL")
        .expect("these tests need a server: run `cargo xtask test`, or set TEST_POSTGRES_URL")
}

/// A schema of its own, dropped at the end.
pub(crate) struct Schema {
    pub(crate) namespace: String,
}

impl Schema {
    /// One that nobody else has.
    pub(crate) fn fresh() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("t{}_{n}", std::process::id());
        Self { namespace }
    }

    /// Its URL, with more parameters, each after a `&`.
    pub(crate) fn url(&self, parameters: &str) -> String {
        let url = url();
        let joint = if url.contains('?') { '&' } else { '?' };
        format!("{url}{joint}namespace={}{parameters}", self.namespace)
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        let sql = format!("DROP SCHEMA IF EXISTS unified_scheduler_{} CASCADE", self.namespace);
        let sweep = async move {
            let mut connection = PgConnection::connect(&url()).await?;
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
            connection.close().await
        };
        // On a thread of its own, since the test's own runtime is at work here.
        let thread = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().map(|rt| rt.block_on(sweep))
        });
        // Where it fails, an empty schema is left behind.
        drop(thread.join());
    }
}
