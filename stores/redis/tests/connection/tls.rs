//! TLS with certificates of an authority made here, on one server and on a cluster.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use unified_scheduler_core::ErrorKind;
use unified_scheduler_core::store::{CreateOutcome, Store};
use unified_scheduler_redis::{RedisConfig, RedisStore};

use crate::server::{Server, free_port};
use crate::{create, open};

/// An authority of the test's own, and what it signed: files in PEM.
struct Authority {
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        let key = KeyPair::generate().expect("a key");
        let ca = params.self_signed(&key).expect("a certificate");
        let issuer = Issuer::new(params, key);
        let write = |name: &str, text: String| {
            std::fs::write(folder.path().join(name), text).expect("written");
        };
        write("ca.pem", ca.pem());
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        for who in ["server", "client"] {
            let key = KeyPair::generate().expect("a key");
            let params = CertificateParams::new(names.clone()).expect("names");
            let signed = params.signed_by(&key, &issuer).expect("a certificate");
            write(&format!("{who}.pem"), signed.pem());
            write(&format!("{who}.key"), key.serialize_pem());
        }
        Self { folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A server that speaks TLS on the port in the answer, and asks its clients for a certificate or not.
    fn server(&self, auth_clients: &str, more: &[&str]) -> (Server, u16) {
        let port = free_port();
        let (tls_port, text) = (port.to_string(), |name| self.file(name).display().to_string());
        let (cert, key, ca) = (text("server.pem"), text("server.key"), text("ca.pem"));
        let mut settings = vec!["--tls-port", &tls_port, "--tls-auth-clients", auth_clients];
        settings.extend(["--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-ca-cert-file", &ca]);
        settings.extend(more);
        (Server::start(&settings), port)
    }
}

fn with_ca(url: &str, ca: &Path) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}tls_ca_file={}", ca.display())
}

#[tokio::test]
async fn a_private_authority_is_named_in_the_url_or_by_the_config() {
    let authority = Authority::new();
    let (_server, port) = authority.server("no", &["--requirepass", "s3cret"]);
    let url = format!("rediss://:s3cret@127.0.0.1:{port}/");
    let store = open(&with_ca(&url, &authority.file("ca.pem"))).await.expect("opens with TLS");
    assert_eq!(create(&store, "one").await.expect("stored"), CreateOutcome::Created);
    let checks = store.diagnose().await.expect("answers");
    assert!(checks.iter().any(|c| c.name == "hints" && c.detail.starts_with("listening")), "{checks:?}");
    assert!(!format!("{store:?} {:?} {checks:?}", store.describe()).contains("s3cret"));
    let config = RedisConfig::from_url(&url).expect("a URL").tls_ca_file(authority.file("ca.pem"));
    let store = RedisStore::open(config).await.expect("opens with TLS");
    assert_eq!(store.counts().await.expect("answers").jobs, 1);
}

#[tokio::test]
async fn a_certificate_that_nobody_known_signed_is_refused_with_what_to_do() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (_server, port) = authority.server("no", &["--requirepass", "s3cret"]);
    let url = format!("rediss://:s3cret@127.0.0.1:{port}/");
    for url in [url.clone(), with_ca(&url, &other.file("ca.pem"))] {
        let error = open(&url).await.expect_err("nobody vouches for it");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
        assert!(error.message().contains("tls_ca_file"), "{error}");
        assert!(!format!("{error:?} {error}").contains("s3cret"), "{error:?}");
    }
    let error = open(&with_ca(&url, Path::new("/nowhere/ca.pem"))).await.expect_err("no such file");
    assert!(error.kind() == ErrorKind::Invalid && error.message().contains("/nowhere/ca.pem"), "{error}");
    let plain = with_ca(&format!("redis://127.0.0.1:{port}/"), &authority.file("ca.pem"));
    let error = open(&plain).await.expect_err("no TLS in the URL");
    assert!(error.message().contains("rediss://"), "{error}");
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_gets_one() {
    let authority = Authority::new();
    let (_server, port) = authority.server("yes", &[]);
    let url = with_ca(&format!("rediss://127.0.0.1:{port}/"), &authority.file("ca.pem"));
    let error = open(&url).await.expect_err("no certificate of ours");
    assert!(matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Unavailable), "{error:?}");
    let config = RedisConfig::from_url(&url).expect("a URL");
    let config = config.tls_client_files(authority.file("client.pem"), authority.file("client.key"));
    let store = RedisStore::open(config).await.expect("opens");
    assert_eq!(create(&store, "one").await.expect("stored"), CreateOutcome::Created);
}

#[tokio::test]
async fn a_cluster_is_used_with_tls_too() {
    let authority = Authority::new();
    let cluster = ["--cluster-enabled", "yes", "--tls-cluster", "yes", "--requirepass", "s3cret"];
    let (server, port) = authority.server("no", &cluster);
    let link = redis::Client::open(server.url(":s3cret@")).expect("a URL");
    let mut link = link.get_connection().expect("a connection");
    let all: redis::Value = redis::cmd("CLUSTER")
        .arg("ADDSLOTSRANGE")
        .arg(0)
        .arg(16383)
        .query(&mut link)
        .expect("takes all slots");
    drop(all);
    let ready = || -> String { redis::cmd("CLUSTER").arg("INFO").clone().query(&mut link).expect("answers") };
    crate::until(ready, |info| info.contains("cluster_state:ok"));
    let url = format!("rediss-cluster://:s3cret@127.0.0.1:{port}");
    let store = open(&with_ca(&url, &authority.file("ca.pem"))).await.expect("opens with TLS");
    assert_eq!(create(&store, "one").await.expect("stored"), CreateOutcome::Created);
    let error = open(&url).await.expect_err("nobody vouches for it");
    assert!(!format!("{error:?} {error}").contains("s3cret"), "{error:?}");
}
