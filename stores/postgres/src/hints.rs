//! Hints that something may be due: from this store at once, from others by notification.
//!
//! Each commit that may have made something due carries one notification, with the schema and the store that
//! sent it as its payload. The listener, a task with a connection of its own, hears those of others; it
//! connects again for as long as the store is open, and tells a hint each time, for what it may have missed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::sync::watch;
use unified_scheduler_core::id::IdSource;

/// The channel of all schedulers in one database.
pub(crate) const CHANNEL: &str = "unified_scheduler";

/// How long the listener waits before it connects again: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// The counter that [`unified_scheduler_core::store::Store::hints`] gives.
#[derive(Debug, Clone)]
pub(crate) struct Hints {
    sender: Arc<watch::Sender<u64>>,
    schema: Arc<str>,
    /// Who sends from here: what comes back of one's own was told before.
    own: Arc<str>,
    hears: Arc<AtomicBool>,
    /// Whether the listener has connected, or failed to, at least once.
    tried: Arc<watch::Sender<bool>>,
}

impl Hints {
    pub(crate) fn new(schema: String) -> Self {
        Self {
            sender: Arc::new(watch::Sender::new(0)),
            schema: schema.into(),
            own: format!("{:x}", IdSource::new().random()).into(),
            hears: Arc::default(),
            tried: Arc::new(watch::Sender::new(false)),
        }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.sender.subscribe()
    }

    /// How many were told.
    pub(crate) fn count(&self) -> u64 {
        *self.sender.borrow()
    }

    pub(crate) fn tell(&self) {
        self.sender.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// What a notification of this store says. It stands in a statement as it is.
    pub(crate) fn payload(&self) -> String {
        format!("{} {}", self.schema, self.own)
    }

    /// Whether the listener is connected.
    pub(crate) fn is_listening(&self) -> bool {
        self.hears.load(Ordering::Relaxed)
    }

    /// Waits until the listener has connected once, or failed to.
    pub(crate) async fn tried(&self) {
        // The sender lives as long as this.
        let _ = self.tried.subscribe().wait_for(|tried| *tried).await;
    }

    fn hear(&self, payload: &str) {
        if let Some((schema, sender)) = payload.split_once(' ')
            && schema == &*self.schema
            && sender != &*self.own
        {
            self.tell();
        }
    }

    /// Listens until the task is ended.
    pub(crate) async fn listen(self, options: PgConnectOptions) {
        let mut wait = RETRY.0;
        loop {
            match self.listen_once(&options).await {
                Ok(()) => wait = RETRY.0,
                Err(error) => {
                    let error = unified_scheduler_core::Error::from(crate::error::Fail::from(error));
                    tracing::debug!(%error, "can't listen for changes made by others");
                    self.tried.send_replace(true);
                }
            }
            if self.hears.swap(false, Ordering::Relaxed) {
                wait = RETRY.0;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY.1);
        }
    }

    /// Listens for as long as the connection lives.
    async fn listen_once(&self, options: &PgConnectOptions) -> Result<(), sqlx::Error> {
        let pool = PgPoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None);
        let pool = pool.acquire_timeout(Duration::from_secs(10)).connect_lazy_with(options.clone());
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        self.hears.store(true, Ordering::Relaxed);
        // What happened since the last connection.
        self.tell();
        self.tried.send_replace(true);
        while let Some(notification) = listener.try_recv().await? {
            self.hear(notification.payload());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_others_in_the_same_schema_are_heard() {
        let hints = Hints::new("a".to_owned());
        let mut told = hints.subscribe();
        told.mark_unchanged();
        hints.hear(&hints.payload());
        hints.hear("b someone");
        hints.hear("nonsense");
        assert!(!told.has_changed().unwrap());
        hints.hear("a someone");
        assert!(told.has_changed().unwrap());
    }
}
