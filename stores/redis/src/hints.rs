//! Hints that something may be due: from this process at once, from others by publish and subscribe.
//!
//! The subscription has a connection of its own, which is made anew for as long as the store is open; after
//! each new one there is a hint, for what was missed. Each heartbeat is told to the process that sent it, so that
//! a subscription that is silent while heartbeats are answered is known to be dead, at no cost. Only a process
//! without heartbeats asks now and then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use redis::Client;
use tokio::sync::watch;

use crate::config::RedisConfig;

/// How long a subscription may be silent before it is looked at.
const ASK: Duration = Duration::from_secs(15);

/// The longest wait before the next attempt to subscribe.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The counter that [`unified_scheduler_core::store::Store::hints`] gives.
#[derive(Debug, Clone)]
pub(crate) struct Hints {
    sender: Arc<watch::Sender<u64>>,
    /// How many heartbeats were answered.
    beats: Arc<AtomicU64>,
}

impl Hints {
    pub(crate) fn new() -> Self {
        Self { sender: Arc::new(watch::Sender::new(0)), beats: Arc::default() }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.sender.subscribe()
    }

    /// A heartbeat was answered.
    pub(crate) fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        *self.sender.borrow()
    }

    pub(crate) fn tell(&self) {
        self.sender.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Listens for ever, on one node after the other.
    pub(crate) async fn listen(
        self,
        clients: Vec<Client>,
        config: RedisConfig,
        origin: String,
        ready: watch::Sender<bool>,
    ) {
        let mut wait = Duration::from_millis(100);
        let mut again = false;
        for client in clients.iter().cycle() {
            match self.listen_on(client, &config, &origin, &ready, &mut again).await {
                Ok(()) => wait = Duration::from_millis(100),
                Err(error) => {
                    tracing::debug!(code = error.code(), "the subscription to hints has ended");
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
            ready.send_replace(false);
            tokio::time::sleep(wait).await;
        }
    }

    /// Listens until the connection ends: with an error when it could not even be made.
    async fn listen_on(
        &self,
        client: &Client,
        config: &RedisConfig,
        origin: &str,
        ready: &watch::Sender<bool>,
        again: &mut bool,
    ) -> redis::RedisResult<()> {
        let gone = |_| redis::RedisError::from((redis::ErrorKind::Io, "no answer in time"));
        let connecting = async {
            let mut link = client.get_async_pubsub().await?;
            let own = format!("{}hints:{origin}", config.prefix());
            link.subscribe(&[format!("{}hints", config.prefix()), own]).await?;
            Ok::<_, redis::RedisError>(link)
        };
        let link = tokio::time::timeout(config.timeout, connecting).await.map_err(gone)??;
        let (mut sink, mut messages) = link.split();
        ready.send_replace(true);
        if std::mem::replace(again, true) {
            self.tell();
        }
        let mut beats = self.beats.load(Ordering::Relaxed);
        loop {
            match tokio::time::timeout(ASK, messages.next()).await {
                // Of this process's own heartbeat, or of its own edit.
                Ok(Some(message)) if message.get_payload_bytes().is_empty() => {}
                Ok(Some(message)) if message.get_payload_bytes() == origin.as_bytes() => {}
                Ok(Some(_)) => self.tell(),
                Ok(None) => return Ok(()),
                Err(_) => match self.beats.load(Ordering::Relaxed).wrapping_sub(beats) {
                    0 | 1 => {
                        let asked = tokio::time::timeout(config.timeout, sink.ping::<redis::Value>()).await;
                        if !matches!(asked, Ok(Ok(_))) {
                            return Ok(());
                        }
                    }
                    _ => return Ok(()),
                },
            }
            beats = self.beats.load(Ordering::Relaxed);
        }
    }
}
