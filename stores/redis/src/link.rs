//! The connection, and how scripts are called over it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use redis::{Arg, Cmd, ErrorKind as DriverKind, RedisError, ServerErrorKind, ToRedisArgs, Value};
use rustls::crypto::CryptoProvider;
use unified_scheduler_core::{Error, Result};

use crate::config::RedisConfig;
use crate::error::from_driver;
use crate::scripts::Script;

/// How often the driver itself tries again, for the errors of a cluster that changes, and for how many
/// milliseconds it waits at least and at most.
const CLUSTER_RETRIES: u32 = 3;
const CLUSTER_WAIT: (u64, u64) = (20, 200);

/// How long a cluster may answer nothing before the connection to it is made anew. The driver finds its way back by
/// itself as a rule; after an end of all nodes at once it was seen not to.
const CLUSTER_PATIENCE: Duration = Duration::from_secs(5);

/// The connection to one server, or to a cluster. Either is shared by all calls and reconnects by itself.
#[derive(Clone)]
enum Wire {
    Single(ConnectionManager),
    Cluster(ClusterConnection),
}

/// Calls scripts.
pub(crate) struct Link {
    wire: Arc<Mutex<Wire>>,
    /// Since when a call has waited, with no answer to any since; only of a cluster.
    unanswered: Mutex<Option<Instant>>,
    prefix: String,
    nowhere: String,
    config: RedisConfig,
    /// Tells this process's hints from those of others.
    origin: String,
    closed: AtomicBool,
}

/// One call of a script.
pub(crate) struct Call {
    script: &'static Script,
    cmd: Cmd,
}

impl Call {
    pub(crate) fn arg(&mut self, arg: impl ToRedisArgs) -> &mut Self {
        self.cmd.arg(arg);
        self
    }

    /// The same call with the script's text, for a server that does not know it.
    fn spelled_out(&self) -> Cmd {
        let mut cmd = redis::cmd("EVAL");
        cmd.arg(&self.script.code);
        for arg in self.cmd.args_iter().skip(2) {
            if let Arg::Simple(bytes) = arg {
                cmd.arg(bytes);
            }
        }
        cmd
    }
}

impl Link {
    pub(crate) async fn open(config: &RedisConfig, origin: String) -> Result<Self> {
        if config.is_tls() && CryptoProvider::get_default().is_none() {
            // The driver panics without one. Who was first is as good.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        Ok(Self {
            wire: Arc::new(Mutex::new(connect(config).await?)),
            unanswered: Mutex::new(None),
            prefix: config.prefix(),
            nowhere: format!("{}-", config.prefix()),
            config: config.clone(),
            origin,
            closed: AtomicBool::new(false),
        })
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// The beginning of a call of `script`.
    pub(crate) fn call(&self, script: &'static Script) -> Call {
        let mut cmd = redis::cmd("EVALSHA");
        // Two keys that are never there: see the script's beginning for why.
        cmd.arg(&script.hash).arg(2).arg(&self.prefix).arg(&self.nowhere);
        match &self.config.clock {
            Some(clock) => cmd.arg(clock.now().as_millis()),
            None => cmd.arg(""),
        };
        cmd.arg(&self.origin);
        Call { script, cmd }
    }

    pub(crate) async fn run(&self, call: &Call) -> Result<Value> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::stopped("the store is closed"));
        }
        let answering = async {
            match self.send(&call.cmd).await {
                Err(error) if error.kind() == DriverKind::Server(ServerErrorKind::NoScript) => {
                    self.send(&call.spelled_out()).await
                }
                answer => answer,
            }
        };
        let answer = tokio::time::timeout(self.config.timeout, answering).await.map_err(|_| too_late())?;
        answer.map_err(from_driver)
    }

    async fn send(&self, cmd: &Cmd) -> Result<Value, RedisError> {
        let answer = match self.wire() {
            Wire::Single(mut wire) => wire.send_packed_command(cmd).await,
            Wire::Cluster(mut wire) => {
                self.asked();
                cmd.query_async(&mut wire).await
            }
        }
        .and_then(Value::extract_error);
        if answer.as_ref().err().is_none_or(|error| matches!(error.kind(), DriverKind::Server(_))) {
            *self.unanswered.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        answer
    }

    fn wire(&self) -> Wire {
        self.wire.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes note of a call to a cluster. Where none has been answered for long, the connection is made anew, beside
    /// the call, which may be given up meanwhile.
    fn asked(&self) {
        let now = Instant::now();
        let mut unanswered = self.unanswered.lock().unwrap_or_else(PoisonError::into_inner);
        let since = *unanswered.get_or_insert(now);
        if now.saturating_duration_since(since) < CLUSTER_PATIENCE {
            return;
        }
        *unanswered = Some(now);
        let (wire, config) = (Arc::clone(&self.wire), self.config.clone());
        tokio::spawn(async move {
            match connect(&config).await {
                Ok(fresh) => *wire.lock().unwrap_or_else(PoisonError::into_inner) = fresh,
                Err(error) => tracing::debug!(%error, "the cluster can't be reached anew"),
            }
        });
    }

    /// A command that no script may call, on the server that holds our keys.
    pub(crate) async fn ask(&self, cmd: Cmd) -> Result<Value> {
        let answering = async {
            match self.wire() {
                Wire::Single(mut wire) => wire.send_packed_command(&cmd).await,
                Wire::Cluster(mut wire) => {
                    let route = Route::new(slot_of(&self.prefix), SlotAddr::Master);
                    let node = SingleNodeRoutingInfo::SpecificNode(route);
                    wire.route_command(cmd, RoutingInfo::SingleNode(node)).await
                }
            }
            .and_then(Value::extract_error)
        };
        let answer = tokio::time::timeout(self.config.timeout, answering).await.map_err(|_| too_late())?;
        answer.map_err(from_driver)
    }
}

async fn connect(config: &RedisConfig) -> Result<Wire> {
    let (certificates, clients) = (config.certificates()?, config.clients()?);
    let connecting = async {
        if config.cluster {
            let mut client = ClusterClient::builder(config.nodes.clone())
                .retries(CLUSTER_RETRIES)
                .min_retry_wait(CLUSTER_WAIT.0)
                .max_retry_wait(CLUSTER_WAIT.1)
                .connection_timeout(config.timeout)
                .response_timeout(config.timeout)
                .overall_response_timeout(Some(config.timeout));
            if let Some(certificates) = certificates {
                client = client.certs(certificates);
            }
            return Ok(Wire::Cluster(client.build()?.get_async_connection().await?));
        }
        let first = clients.into_iter().next();
        let client = first.ok_or((DriverKind::InvalidClientConfig, "no address"))?;
        let settings = ConnectionManagerConfig::new()
            .set_number_of_retries(1)
            .set_max_delay(Duration::from_secs(1))
            .set_connection_timeout(Some(config.timeout))
            .set_response_timeout(Some(config.timeout));
        Ok(Wire::Single(ConnectionManager::new_with_config(client, settings).await?))
    };
    let connected: Result<Wire, RedisError> =
        tokio::time::timeout(config.timeout, connecting).await.map_err(|_| too_late())?;
    connected.map_err(from_driver)
}

fn too_late() -> Error {
    Error::unavailable("the server did not answer in time")
}

/// The slot of a key with a hash tag: CRC16 (XMODEM) of the tag, modulo 16384. Source: the Redis Cluster
/// specification, "Hash tags".
fn slot_of(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or(key, |(tag, _)| tag);
    let crc = tag.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    crc % 16384
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_that_of_the_tag() {
        // From the specification: CRC16 of "123456789" is 0x31C3.
        assert_eq!(slot_of("123456789"), 0x31C3);
        assert_eq!(slot_of("{123456789}:x"), slot_of("123456789"));
    }
}
