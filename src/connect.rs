//! From a URL to a store.

use std::sync::Arc;

use unified_scheduler_core::store::{MemoryStore, Store};
use unified_scheduler_core::{Error, Result};

/// The URL schemes of the stores in this build.
pub const fn schemes() -> &'static [&'static str] {
    &[
        "memory:",
        #[cfg(feature = "sqlite")]
        "sqlite://",
        #[cfg(feature = "postgres")]
        "postgres://",
        #[cfg(feature = "postgres")]
        "postgresql://",
        #[cfg(feature = "mongodb")]
        "mongodb://",
        #[cfg(feature = "mongodb")]
        "mongodb+srv://",
        #[cfg(feature = "redis")]
        "redis://",
        #[cfg(feature = "redis")]
        "rediss://",
        #[cfg(feature = "redis")]
        "redis+unix://",
        #[cfg(feature = "redis")]
        "redis-cluster://",
        #[cfg(feature = "redis")]
        "rediss-cluster://",
    ]
}

/// Opens the store that a URL names: `sqlite://jobs.db`, `postgres://user@host/database`,
/// `mongodb://host/database`, `redis://host`, `memory:`. The guide's pages on the stores list what else a
/// URL can say.
///
/// # Errors
///
/// [`unified_scheduler_core::ErrorKind::Invalid`] for what is no such URL;
/// [`unified_scheduler_core::ErrorKind::Unsupported`] for a store that this build does not have;
/// the store's own when it can't be opened. No error shows the URL's password.
pub async fn connect(url: &str) -> Result<Arc<dyn Store>> {
    match url.split(':').next().unwrap_or_default() {
        "memory" => Ok(Arc::new(MemoryStore::new())),
        "sqlite" => sqlite(url).await,
        "postgres" | "postgresql" => postgres(url).await,
        "mongodb" | "mongodb+srv" => mongodb(url).await,
        "redis" | "rediss" | "redis+unix" | "redis-cluster" | "rediss-cluster" => redis(url).await,
        // The rest of a URL may hold a password.
        other => Err(Error::invalid(format!(
            "`{other}` is not a kind of store; a store URL begins with one of {}",
            schemes().join(", ")
        ))),
    }
}

/// The function that opens one kind of store, or, in a build without it, says so.
macro_rules! opener {
    ($feature:literal, $name:ident, $url:ident, $open:expr) => {
        #[cfg(feature = $feature)]
        async fn $name($url: &str) -> Result<Arc<dyn Store>> {
            Ok(Arc::new($open.await?))
        }

        #[cfg(not(feature = $feature))]
        async fn $name(_: &str) -> Result<Arc<dyn Store>> {
            Err(Error::unsupported(concat!(
                "this build has no ",
                $feature,
                " store; build it with the feature `",
                $feature,
                "`"
            )))
        }
    };
}

opener!("sqlite", sqlite, url, {
    use unified_scheduler_sqlite::{SqliteConfig, SqliteStore};
    SqliteStore::open(SqliteConfig::from_url(url)?)
});
opener!("postgres", postgres, url, {
    use unified_scheduler_postgres::{PostgresConfig, PostgresStore};
    PostgresStore::open(PostgresConfig::from_url(url)?)
});
opener!("mongodb", mongodb, url, {
    use unified_scheduler_mongodb::{MongodbConfig, MongodbStore};
    MongodbStore::open(MongodbConfig::from_url(url)?)
});
opener!("redis", redis, url, {
    use unified_scheduler_redis::{RedisConfig, RedisStore};
    RedisStore::open(RedisConfig::from_url(url)?)
});
