//! What every command has in hand: settings, output, and the store, opened when it is needed.

use std::sync::Arc;

use tokio::sync::OnceCell;
use unified_scheduler::{Jobs, Registry, Store, Timestamp};

use crate::args::Global;
use crate::config::Config;
use crate::exit::Failure;
use crate::output::Out;

const DEFAULT_STORE: &str = "sqlite://unified-scheduler.db";

/// What every command has in hand.
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) out: Out,
    url: String,
    store: OnceCell<Arc<dyn Store>>,
}

impl App {
    pub(crate) fn new(global: Global) -> Result<Self, Failure> {
        let config = match &global.config {
            Some(path) => Config::load(path)?,
            None => Config::default(),
        };
        config.log.start()?;
        let url = global.store.or_else(|| config.store.url.clone()).unwrap_or_else(|| DEFAULT_STORE.into());
        Ok(Self { config, out: Out::new(global.json, global.color), url, store: OnceCell::new() })
    }

    /// The store; opened, and its schema brought up to date, at the first call.
    pub(crate) async fn store(&self) -> Result<&Arc<dyn Store>, Failure> {
        self.store.get_or_try_init(|| open(&self.url)).await
    }

    /// Whether the store is this process alone, and gone with it.
    pub(crate) fn is_private(&self) -> bool {
        self.url.starts_with("memory:") || self.url.contains(":memory:")
    }

    /// The jobs, parameters checked by what is registered.
    pub(crate) async fn jobs(&self, registry: Option<Arc<Registry>>) -> Result<Jobs, Failure> {
        Ok(Jobs::of(Arc::clone(self.store().await?), registry).by(&actor()))
    }

    pub(crate) async fn now(&self) -> Result<Timestamp, Failure> {
        Ok(self.store().await?.now().await?)
    }

    pub(crate) async fn close(&self) {
        if let Some(store) = self.store.get()
            && let Err(error) = store.close().await
        {
            tracing::warn!(%error, "the store could not be closed");
        }
    }
}

/// Opens the store of a URL. What is no URL of a store is bad input; what can't be opened is no store.
pub(crate) async fn open(url: &str) -> Result<Arc<dyn Store>, Failure> {
    let scheme = url.split(':').next().unwrap_or_default();
    let known = unified_scheduler::schemes().iter().any(|s| s.split(':').next() == Some(scheme));
    unified_scheduler::connect(url)
        .await
        .map_err(|e| if known { Failure::Store(e) } else { Failure::Scheduler(e) })
}

/// Who makes the changes, for the audit record.
pub(crate) fn actor() -> String {
    ["USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()))
        .map_or_else(|| "cli".to_owned(), |user| format!("cli:{user}"))
}
