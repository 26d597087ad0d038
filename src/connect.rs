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
    ]
}

/// Opens the store that a URL names: `sqlite://jobs.db`, `sqlite:///var/lib/app/jobs.db`, `memory:`.
///
/// # Errors
///
/// [`unified_scheduler_core::ErrorKind::Invalid`] for what is no such URL;
/// [`unified_scheduler_core::ErrorKind::Unsupported`] for a store that this build does not have;
/// the store's own when it can't be opened.
pub async fn connect(url: &str) -> Result<Arc<dyn Store>> {
    let scheme = url.split(':').next().unwrap_or_default();
    match scheme {
        "memory" => Ok(Arc::new(MemoryStore::new())),
        #[cfg(feature = "sqlite")]
        "sqlite" => {
            use unified_scheduler_sqlite::{SqliteConfig, SqliteStore};
            Ok(Arc::new(SqliteStore::open(SqliteConfig::from_url(url)?).await?))
        }
        #[cfg(not(feature = "sqlite"))]
        "sqlite" => Err(not_built("sqlite")),
        // The rest of a URL may hold a password.
        other => Err(Error::invalid(format!(
            "`{other}` is not a kind of store; a store URL begins with one of {}",
            schemes().join(", ")
        ))),
    }
}

#[cfg(not(feature = "sqlite"))]
fn not_built(feature: &str) -> Error {
    Error::unsupported(format!("this build has no {feature} store; build it with the feature `{feature}`"))
}
