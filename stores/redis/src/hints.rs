//! Hints that something may be due: from this process at once, from others by publish and subscribe.
//!
//! The subscription has a connection of its own. It is asked now and then whether it still lives, and made
//! anew for as long as the store is open; after each new one there is a hint, for what was missed.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use redis::Client;
use tokio::sync::watch;

use crate::config::RedisConfig;

/// How often a silent subscription is asked whether it lives.
const ASK: Duration = Duration::from_secs(15);

/// The longest wait before the next attempt to subscribe.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The counter that [`unified_scheduler_core::store::Store::hints`] gives.
#[derive(Debug, Clone)]
pub(crate) struct Hints {
    sender: Arc<watch::Sender<u64>>,
}

impl Hints {
    pub(crate) fn new() -> Self {
        Self { sender: Arc::new(watch::Sender::new(0)) }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.sender.subscribe()
    }

    pub(crate) fn tell(&self) {
        self.sender.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Listens for ever, on one node after the other.
    pub(crate) async fn listen(self, config: RedisConfig, origin: String, ready: watch::Sender<bool>) {
        let mut wait = Duration::from_millis(100);
        let mut again = false;
        for node in config.nodes.iter().cycle() {
            let Ok(client) = Client::open(node.clone()) else { return };
            match self.listen_on(&client, &config, &origin, &ready, &mut again).await {
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
            link.subscribe(format!("{}hints", config.prefix())).await?;
            Ok::<_, redis::RedisError>(link)
        };
        let link = tokio::time::timeout(config.timeout, connecting).await.map_err(gone)??;
        let (mut sink, mut messages) = link.split();
        ready.send_replace(true);
        if std::mem::replace(again, true) {
            self.tell();
        }
        loop {
            match tokio::time::timeout(ASK, messages.next()).await {
                Ok(Some(message)) if message.get_payload_bytes() == origin.as_bytes() => {}
                Ok(Some(_)) => self.tell(),
                Ok(None) => return Ok(()),
                Err(_) => {
                    let asked = tokio::time::timeout(config.timeout, sink.ping::<redis::Value>()).await;
                    if !matches!(asked, Ok(Ok(_))) {
                        return Ok(());
                    }
                }
            }
        }
    }
}
