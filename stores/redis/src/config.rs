//! Where the server is and how it is used: parsed from a URL, or built by hand.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use redis::{Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, TlsCertificates};
use unified_scheduler_core::clock::Clock;
use unified_scheduler_core::{Error, Result};

use crate::error::from_driver;

/// How to open a [`crate::RedisStore`].
#[derive(Clone)]
pub struct RedisConfig {
    /// One server, or the nodes by which a cluster is found.
    pub(crate) nodes: Vec<ConnectionInfo>,
    pub(crate) cluster: bool,
    /// The URL without the password and our options.
    shown: String,
    pub(crate) namespace: String,
    pub(crate) timeout: Duration,
    pub(crate) allow_eviction: bool,
    pub(crate) tls: TlsFiles,
    pub(crate) clock: Option<Arc<dyn Clock>>,
}

/// Files in PEM for TLS; without a CA those count that browsers trust.
#[derive(Debug, Clone, Default)]
pub(crate) struct TlsFiles {
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
}

const OPTIONS: &str =
    "namespace, timeout_ms, allow_eviction (true or false), tls_ca_file, tls_cert_file, tls_key_file";

const SCHEMES: &str = "redis://, rediss:// (TLS), redis+unix://, redis-cluster:// and rediss-cluster://";

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig").field("url", &self.url()).finish_non_exhaustive()
    }
}

impl RedisConfig {
    /// From a URL:
    ///
    /// - `redis://[[user]:password@]host[:port][/db]`, `rediss://…` with TLS, `redis+unix:///path`: one server;
    /// - `redis-cluster://[[user]:password@]host:port[,host:port…]`, `rediss-cluster://…`: a Redis Cluster, found
    ///   by any of these nodes;
    ///
    /// with options behind a `?`: `namespace`, `timeout_ms`, `allow_eviction`, `tls_ca_file`, `tls_cert_file`,
    /// `tls_key_file`.
    ///
    /// ```
    /// # use unified_scheduler_redis::RedisConfig;
    /// let config = RedisConfig::from_url("redis://:secret@db.example.org/2?namespace=billing")?;
    /// assert_eq!(config.url(), "redis://db.example.org/2?namespace=billing");
    /// # Ok::<(), unified_scheduler_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`unified_scheduler_core::ErrorKind::Invalid`] for another scheme, a URL that can't be read, or an
    /// option that is unknown or has a bad value. The message holds no password.
    pub fn from_url(url: &str) -> Result<Self> {
        let bad = || Error::invalid(format!("no URL of this store; there are {SCHEMES}"));
        let (scheme, rest) = url.split_once("://").ok_or_else(bad)?;
        let (place, options) = rest.split_once('?').unwrap_or((rest, ""));
        let (login, hosts) = place.rsplit_once('@').map_or(("", place), |(login, hosts)| (login, hosts));
        let at = if login.is_empty() { "" } else { "@" };
        let (cluster, driver_scheme) = match scheme {
            "redis" | "rediss" | "redis+unix" => (false, scheme),
            "redis-cluster" => (true, "redis"),
            "rediss-cluster" => (true, "rediss"),
            _ => return Err(bad()),
        };
        if hosts.is_empty() {
            return Err(Error::invalid("the URL names no host"));
        }
        let nodes: Vec<&str> = if cluster {
            hosts.trim_end_matches('/').split(',').filter(|host| !host.is_empty()).collect()
        } else {
            vec![hosts]
        };
        if nodes.is_empty() || (cluster && nodes.iter().any(|node| node.contains('/'))) {
            return Err(Error::invalid(
                "a cluster's URL lists host:port of its nodes, with commas, and no database",
            ));
        }
        let nodes = nodes
            .into_iter()
            .map(|host| {
                format!("{driver_scheme}://{login}{at}{host}")
                    .into_connection_info()
                    .map_err(|_| Error::invalid("the URL can't be read; check host, port and database"))
            })
            .collect::<Result<Vec<_>>>()?;
        let mut config = Self {
            nodes,
            cluster,
            shown: format!("{scheme}://{hosts}"),
            namespace: DEFAULT_NAMESPACE.to_owned(),
            timeout: Duration::from_secs(10),
            allow_eviction: false,
            tls: TlsFiles::default(),
            clock: None,
        };
        for option in options.split('&').filter(|o| !o.is_empty()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            config = config.option(key, value)?;
        }
        Ok(config)
    }

    fn option(mut self, key: &str, value: &str) -> Result<Self> {
        match key {
            "namespace" => return self.namespace(value),
            "timeout_ms" => {
                let millis = value.parse().ok().filter(|millis| *millis > 0);
                let millis = millis.ok_or_else(|| {
                    Error::invalid(format!("`{key}={value}`: a whole number of milliseconds, at least 1"))
                })?;
                self.timeout = Duration::from_millis(millis);
            }
            "allow_eviction" => {
                self.allow_eviction = value
                    .parse()
                    .map_err(|_| Error::invalid(format!("`{key}={value}`: either `true` or `false`")))?;
            }
            "tls_ca_file" => self.tls.ca = Some(path(key, value)?),
            "tls_cert_file" => self.tls.cert = Some(path(key, value)?),
            "tls_key_file" => self.tls.key = Some(path(key, value)?),
            _ => return Err(Error::invalid(format!("no option `{key}`; there are {OPTIONS}"))),
        }
        Ok(self)
    }

    /// Which of several schedulers on one server this is, `default` by default.
    ///
    /// # Errors
    ///
    /// [`unified_scheduler_core::ErrorKind::Invalid`] unless it has 1 to 64 letters, digits and `_ - .`.
    pub fn namespace(mut self, namespace: &str) -> Result<Self> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
        if namespace.is_empty() || namespace.len() > 64 || !namespace.bytes().all(fits) {
            return Err(Error::invalid(format!(
                "`{namespace}` is no namespace; use up to 64 letters, digits and `_ - .`"
            )));
        }
        namespace.clone_into(&mut self.namespace);
        Ok(self)
    }

    /// How long one call waits for the server; 10 s by default.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Opens the store also on a server that may evict keys, and so lose jobs and leases.
    #[must_use]
    pub fn allow_eviction(mut self, allow: bool) -> Self {
        self.allow_eviction = allow;
        self
    }

    /// Trusts the servers whose certificates these authorities signed, in place of those that browsers trust.
    /// A file in PEM.
    #[must_use]
    pub fn tls_ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.tls.ca = Some(path.into());
        self
    }

    /// Shows the server this certificate, for one that asks its clients for theirs. Files in PEM.
    #[must_use]
    pub fn tls_client_files(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        (self.tls.cert, self.tls.key) = (Some(cert.into()), Some(key.into()));
        self
    }

    /// The store's clock, for tests; the server's by default.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// The place as a URL, without user and password.
    pub fn url(&self) -> String {
        if self.namespace == DEFAULT_NAMESPACE {
            self.shown.clone()
        } else {
            format!("{}?namespace={}", self.shown, self.namespace)
        }
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.nodes.iter().any(|node| matches!(node.addr(), ConnectionAddr::TcpTls { .. }))
    }

    /// What the files for TLS hold; `None` when there are none.
    ///
    /// # Errors
    ///
    /// [`unified_scheduler_core::ErrorKind::Invalid`] when one can't be read, or is of no use.
    pub(crate) fn certificates(&self) -> Result<Option<TlsCertificates>> {
        let TlsFiles { ca, cert, key } = &self.tls;
        if ca.is_none() && cert.is_none() && key.is_none() {
            return Ok(None);
        }
        if !self.is_tls() {
            return Err(Error::invalid("files for TLS need a URL with TLS: rediss:// or rediss-cluster://"));
        }
        let read = |path: &PathBuf| {
            std::fs::read(path)
                .map_err(|e| Error::invalid(format!("the file {} can't be read: {e}", path.display())))
        };
        let client_tls = match (cert, key) {
            (Some(cert), Some(key)) => {
                Some(ClientTlsConfig { client_cert: read(cert)?, client_key: read(key)? })
            }
            (None, None) => None,
            _ => return Err(Error::invalid("`tls_cert_file` and `tls_key_file` go together")),
        };
        let root_cert = ca.as_ref().map(read).transpose()?;
        Ok(Some(TlsCertificates { client_tls, root_cert }))
    }

    /// A client for each of the nodes.
    pub(crate) fn clients(&self) -> Result<Vec<Client>> {
        let certificates = self.certificates()?;
        let client = |node: &ConnectionInfo| match &certificates {
            Some(certificates) => Client::build_with_tls(node.clone(), certificates.clone()),
            None => Client::open(node.clone()),
        };
        self.nodes.iter().map(client).collect::<redis::RedisResult<_>>().map_err(from_driver)
    }

    /// The beginning of every key. In braces stands what decides its slot in a cluster.
    pub(crate) fn prefix(&self) -> String {
        format!("{{us:{}}}:", self.namespace)
    }
}

/// A path in a URL.
fn path(key: &str, value: &str) -> Result<PathBuf> {
    match percent_decode_str(value).decode_utf8() {
        Ok(path) if !path.is_empty() => Ok(PathBuf::from(&*path)),
        _ => Err(Error::invalid(format!("`{key}={value}`: the path of a file in PEM"))),
    }
}

const DEFAULT_NAMESPACE: &str = "default";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_server_or_a_cluster() {
        let one =
            RedisConfig::from_url("rediss://user:pw@h:7000/3?timeout_ms=250&allow_eviction=true").unwrap();
        assert_eq!((one.nodes.len(), one.cluster, one.allow_eviction), (1, false, true));
        assert_eq!((one.nodes[0].redis_settings().db(), one.timeout), (3, Duration::from_millis(250)));
        assert_eq!(one.nodes[0].redis_settings().password(), Some("pw"));
        let three = RedisConfig::from_url("redis-cluster://:pw@a:1,b:2,c:3/?namespace=x").unwrap();
        assert_eq!((three.nodes.len(), three.cluster, three.prefix().as_str()), (3, true, "{us:x}:"));
        assert!(three.nodes.iter().all(|node| node.redis_settings().password() == Some("pw")));
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said_without_its_password() {
        for bad in [
            "redis:secret",
            "http://:secret@h",
            "redis://:secret@",
            "redis://:secret@h/x",
            "redis://:secret@h:port",
            "redis-cluster://:secret@a:1/2",
            "redis://:secret@h?nonsense=1",
            "redis://:secret@h?timeout_ms=0",
            "redis://:secret@h?allow_eviction=maybe",
            "redis://:secret@h?namespace=a b",
        ] {
            let error = RedisConfig::from_url(bad).unwrap_err();
            assert!(!format!("{error:?} {error}").contains("secret"), "{error:?}");
        }
        let error = RedisConfig::from_url("redis://h?nonsense=1").unwrap_err();
        assert!(error.message().contains("nonsense") && error.message().contains("timeout_ms"), "{error}");
    }

    #[test]
    fn neither_the_url_shown_nor_debug_holds_the_password() {
        let config = RedisConfig::from_url("redis://user:secret@host/1").unwrap();
        assert_eq!(config.url(), "redis://host/1");
        assert!(!format!("{config:?}").contains("secret"));
    }
}
