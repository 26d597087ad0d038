//! The store on a Redis server, and on a Redis Cluster, passes the suite, each case in a namespace of its own.

#[path = "connection/server.rs"]
#[expect(dead_code, reason = "other tests use more of it")]
mod server;

use std::sync::Arc;

use async_trait::async_trait;
use redis::Client;
use unified_scheduler_conformance::{Backend, Fixture, run_all};
use unified_scheduler_core::Error;
use unified_scheduler_core::clock::ManualClock;
use unified_scheduler_core::error::Result;
use unified_scheduler_core::id::IdSource;
use unified_scheduler_core::store::Store;
use unified_scheduler_redis::{RedisConfig, RedisStore};

struct Redis {
    name: &'static str,
    url: String,
}

/// Removes every key of its namespace when the case has ended.
struct Namespace {
    name: String,
    url: String,
}

impl Redis {
    fn config(&self, namespace: &str, clock: &ManualClock) -> Result<RedisConfig> {
        Ok(RedisConfig::from_url(&self.url)?.namespace(namespace)?.clock(Arc::new(clock.clone())))
    }
}

/// The servers that a URL names, each by itself.
fn servers(url: &str) -> Vec<String> {
    let (scheme, rest) = url.split_once("://").expect("a URL");
    let (login, hosts) = rest.rsplit_once('@').map_or(("", rest), |(login, hosts)| (login, hosts));
    let at = if login.is_empty() { "" } else { "@" };
    let scheme = scheme.replace("-cluster", "");
    let host = hosts.split(',').next().expect("a host");
    let first = format!("{scheme}://{login}{at}{host}");
    // Each node of a cluster knows all of them; a server by itself knows of none.
    let nodes = Client::open(&*first).and_then(|client| client.get_connection());
    let nodes: String =
        nodes.and_then(|mut link| redis::cmd("CLUSTER").arg("NODES").query(&mut link)).unwrap_or_default();
    let others = nodes.lines().filter_map(|line| line.split_whitespace().nth(1)?.split('@').next());
    let others: Vec<String> = others.map(|host| format!("{scheme}://{login}{at}{host}")).collect();
    if others.is_empty() { vec![first] } else { others }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        for server in servers(&self.url) {
            let Ok(mut link) = Client::open(server).and_then(|client| client.get_connection()) else {
                continue;
            };
            let keys: Vec<Vec<u8>> = redis::cmd("KEYS")
                .arg(format!("{{us:{}}}:*", self.name))
                .query(&mut link)
                .unwrap_or_default();
            for key in keys {
                // Another node of a cluster has nothing of it, and says so.
                let _: redis::RedisResult<()> = redis::cmd("UNLINK").arg(key).query(&mut link);
            }
        }
    }
}

#[async_trait]
impl Backend for Redis {
    fn name(&self) -> &str {
        self.name
    }

    async fn fresh(&self) -> Result<Fixture> {
        let clock = ManualClock::at("2026-03-29T00:59:58.765Z".parse()?);
        let name = format!("test-{:016x}", IdSource::new().random());
        let store = RedisStore::open(self.config(&name, &clock)?).await?;
        let keep = Box::new(Namespace { name, url: self.url.clone() });
        Ok(Fixture { store: Arc::new(store), clock, keep })
    }

    async fn reopen(&self, fixture: &Fixture) -> Result<Option<Arc<dyn Store>>> {
        let Some(namespace) = fixture.keep.downcast_ref::<Namespace>() else { return Ok(None) };
        let store = RedisStore::open(self.config(&namespace.name, &fixture.clock)?).await?;
        Ok(Some(Arc::new(store)))
    }
}

fn backend(name: &'static str, variable: &str) -> Redis {
    let url = std::env::var(variable).map_err(|_| {
        Error::invalid(format!("no server to test on: run `cargo xtask test`, or set {variable} to its URL"))
    });
    Redis { name, url: url.expect("a server to test on") }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_on_one_server_conforms() {
    run_all(&backend("redis", "TEST_REDIS_URL")).await.assert_passed();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_on_a_cluster_conforms() {
    run_all(&backend("redis cluster", "TEST_REDIS_CLUSTER_URL")).await.assert_passed();
}

/// The rights that the docs list are all that is needed, and the docs are what is tested.
#[tokio::test(flavor = "multi_thread")]
async fn the_store_conforms_with_the_rights_that_the_docs_list() {
    let server = server::Server::start(&[]);
    let docs = include_str!("../../../docs/redis.md");
    let line =
        docs.lines().find(|line| line.starts_with("ACL SETUSER scheduler ")).expect("the docs list them");
    let line = line.replace("PASSWORD", "s3cret").replace("NAMESPACE", "test-*");
    server.command(&line.split(' ').collect::<Vec<_>>());
    let url = server.url("scheduler:s3cret@");
    let store =
        RedisStore::open(RedisConfig::from_url(&url).expect("a URL").namespace("test-1").expect("a name"));
    let checks = store.await.expect("opens").diagnose().await.expect("answers");
    assert!(
        checks.iter().any(|check| check.name == "hints" && check.detail.starts_with("listening")),
        "{checks:?}"
    );
    run_all(&Redis { name: "redis, with limited rights", url: url.clone() }).await.assert_passed();
    let error =
        RedisStore::open(RedisConfig::from_url(&url).expect("a URL")).await.expect_err("another namespace");
    assert_eq!(error.kind(), unified_scheduler_core::ErrorKind::Invalid, "{error:?}");
    assert!(error.message().contains("right") && !format!("{error:?}").contains("s3cret"), "{error:?}");
    // Nothing else of the server is within reach.
    server.command(&["ACL", "SETUSER", "scheduler", "-evalsha", "-eval"]);
    let config = RedisConfig::from_url(&url).expect("a URL").namespace("test-2").expect("a name");
    let error = RedisStore::open(config).await.expect_err("no scripts");
    assert_eq!(error.kind(), unified_scheduler_core::ErrorKind::Invalid, "{error:?}");
}
