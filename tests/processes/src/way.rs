//! How nodes reach their store: through proxies, which can do what networks do.

use std::path::Path;
use std::sync::Arc;

use unified_scheduler_services::{Durability, Kind, Server, free_ports};
use unified_scheduler_tests::random::Random;

use crate::Failure;
use crate::proxy::{Mode, Proxy};
use crate::targets::Target;

/// How the nodes reach the store.
pub struct Way {
    /// The store's server.
    pub server: Option<Server>,
    /// The proxies of each slot; the same for all, where the members of a cluster tell them.
    pub proxies: Vec<Arc<Vec<Proxy>>>,
    /// The URL of each slot.
    pub urls: Vec<String>,
    /// The URL past all proxies.
    pub direct: String,
}

impl Way {
    /// Starts the server, and the proxies of `n` slots. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// When something does not start.
    pub async fn open(target: Target, folder: &Path, n: usize, seed: u64) -> Result<Self, Failure> {
        let Some(kind) = target.server else {
            let url = format!("sqlite://{}", folder.join("jobs.db").display());
            return Ok(Self { server: None, proxies: Vec::new(), urls: vec![url.clone(); n], direct: url });
        };
        // The members of a cluster tell all clients the same ports, so all nodes share one way.
        let shared = kind == Kind::RedisCluster;
        let n_members = kind.n_members();
        let ports = free_ports(n_members * n)?;
        let announced = if shared { &ports[..n_members] } else { &[] };
        let server = Server::start_announced(kind, Durability::Durable, announced)?;
        let mut proxies: Vec<Arc<Vec<Proxy>>> = Vec::new();
        let mut urls: Vec<String> = Vec::new();
        for (slot, ports) in ports.chunks(n_members).enumerate() {
            if shared && slot > 0 {
                proxies.push(Arc::clone(&proxies[0]));
                urls.push(urls[0].clone());
                continue;
            }
            let mut way = Vec::new();
            for (port, address) in ports.iter().zip(server.addresses()) {
                let random = Random::of(seed, "proxy", u64::from(*port));
                way.push(Proxy::start(*port, address, random).await?);
            }
            proxies.push(Arc::new(way));
            urls.push(server.url_at(ports));
        }
        let direct = server.direct_url();
        Ok(Self { server: Some(server), proxies, urls, direct })
    }

    /// Does the same to the way of one slot.
    pub fn set(proxies: &[Arc<Vec<Proxy>>], slot: usize, mode: Mode) {
        proxies.get(slot).into_iter().flat_map(|way| way.iter()).for_each(|proxy| proxy.set(mode));
    }
}
