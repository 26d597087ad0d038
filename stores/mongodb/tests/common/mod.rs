//! A database for one test, on a server that the environment names.

use std::sync::atomic::{AtomicU64, Ordering};

use unified_scheduler_core::Error;
use unified_scheduler_core::error::Result;

/// Where a standalone server is named.
pub(crate) const STANDALONE: &str = "TEST_MONGODB_URL";

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A database that is dropped with it.
pub(crate) struct Scratch {
    /// With the database.
    pub(crate) url: String,
    /// The database.
    pub(crate) name: String,
}

impl Scratch {
    /// A database on the server that `variable` names.
    pub(crate) fn new(variable: &str) -> Result<Self> {
        let base = std::env::var(variable).map_err(|_| {
            Error::invalid(format!("run `cargo xtask test`, or set {variable} to the URL of a server"))
        })?;
        let name = format!("us_test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let (place, options) = base.split_once('?').unwrap_or((&base, ""));
        let (scheme, hosts) = place.split_once("://").unwrap_or(("mongodb", place));
        let hosts = hosts.split('/').next().unwrap_or_default();
        Ok(Self { url: format!("{scheme}://{hosts}/{name}?{options}"), name })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let (url, name) = (self.url.clone(), self.name.clone());
        let dropping = async move {
            if let Ok(client) = mongodb::Client::with_uri_str(&url).await {
                drop(client.database(&name).drop().await);
            }
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            drop(runtime.spawn(dropping));
        }
    }
}
