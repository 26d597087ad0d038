//! TLS and passwords, on a real server that demands both.

mod server;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use server::{Schema, claim_all, open, refused, run_at, with_jobs};
use sqlx::{Connection, PgConnection, Row};
use tempfile::TempDir;
use unified_scheduler_core::error::ErrorKind;
use unified_scheduler_core::store::Store;
use unified_scheduler_services::{Durability, PostgresSettings, Server};

struct Place {
    server: Server,
    folder: TempDir,
}

impl Place {
    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn port(&self) -> u16 {
        self.server.addresses()[0].port()
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).expect("it can be made");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("it can be made"))
        .expect("it can be made")
}

/// A server with a certificate for 127.0.0.1 of an authority, and the certificate of another authority. The user
/// `app` needs TLS and a password.
async fn place() -> &'static Place {
    static PLACE: OnceLock<Place> = OnceLock::new();
    let place = PLACE.get_or_init(|| {
        let (ours, other) = (authority(), authority());
        let key = KeyPair::generate().expect("it can be made");
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("it can be made");
        let certificate = params.signed_by(&key, &ours).expect("it can be made");
        let server = Server::start_postgres(&PostgresSettings {
            conf: "ssl=on\npassword_encryption='scram-sha-256'\n".to_owned(),
            hba: Some(
                "host all postgres 127.0.0.1/32 trust\nhostssl all app 127.0.0.1/32 scram-sha-256\n"
                    .to_owned(),
            ),
            files: vec![
                ("server.crt".to_owned(), certificate.pem()),
                ("server.key".to_owned(), key.serialize_pem()),
            ],
            ..PostgresSettings::new(Durability::Fast)
        })
        .expect("there is PostgreSQL");
        let folder = tempfile::tempdir().expect("it can be made");
        let put = |name: &str, text: String| {
            std::fs::write(folder.path().join(name), text).expect("it can be made");
        };
        put("ours.pem", ours.pem());
        put("other.pem", other.pem());
        Place { server, folder }
    });
    let admin = place.server.url();
    // More than one test may come here at once.
    let role = "DO $$ BEGIN
            PERFORM pg_advisory_xact_lock(7);
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'app') THEN
                CREATE ROLE app LOGIN PASSWORD 'open-sesame';
                GRANT CREATE ON DATABASE postgres TO app;
            END IF;
        END $$";
    run_at(&admin, role.to_owned()).await;
    place
}

fn url(place: &Place, host: &str, password: &str, ca: &Path, mode: &str) -> String {
    let (port, ca) = (place.port(), ca.display());
    format!("postgres://app:{password}@{host}:{port}/postgres?sslmode={mode}&sslrootcert={ca}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_who_it_says_is_used_over_tls() {
    let place = place().await;
    let base = url(place, "127.0.0.1", "open-sesame", &place.file("ours.pem"), "verify-full");
    let schema = Schema::fresh_at(base);
    let store = open(&schema.url("&application_name=tls")).await.unwrap();
    with_jobs(&store, 2).await;
    assert_eq!(claim_all(&store).await.1.len(), 2);
    let mut admin = PgConnection::connect(&place.server.url()).await.unwrap();
    let sql = "SELECT bool_and(s.ssl), count(*) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid)
        WHERE a.application_name = 'tls'";
    let row = sqlx::query(sql).fetch_one(&mut admin).await.unwrap();
    assert!(row.get::<bool, _>(0) && row.get::<i64, _>(1) >= 2, "the listener, too");
    let shown = format!("{store:?} {:?} {:?}", store.describe(), store.diagnose().await.unwrap());
    assert!(!shown.contains("sesame"), "{shown}");
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_nobody_vouches_for_is_refused() {
    let place = place().await;
    let error =
        refused(&url(place, "127.0.0.1", "open-sesame", &place.file("other.pem"), "verify-full")).await;
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    let shown = format!("{error} {error:?}");
    assert!(shown.contains("certificate") && shown.contains("sslrootcert"), "{shown}");
    assert!(!shown.contains("sesame"), "{shown}");
    // The right authority, another name.
    let error =
        refused(&url(place, "localhost", "open-sesame", &place.file("ours.pem"), "verify-full")).await;
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    let error =
        refused(&url(place, "127.0.0.1", "open-sesame", &place.file("no-such-file.pem"), "verify-full"))
            .await;
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains("no-such-file.pem"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_told_and_not_shown() {
    let place = place().await;
    let error = refused(&url(place, "127.0.0.1", "open-onion", &place.file("ours.pem"), "verify-full")).await;
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    let shown = format!("{error} {error:?}");
    assert!(shown.contains("password") && !shown.contains("onion"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_must_come_by_tls_and_does_not_is_told() {
    let place = place().await;
    let port = place.port();
    let error =
        refused(&format!("postgres://app:open-sesame@127.0.0.1:{port}/postgres?sslmode=disable")).await;
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains("pg_hba.conf"), "{error}");
    // And a server without TLS, where it is demanded.
    let plain = Server::start_postgres(&PostgresSettings::new(Durability::Fast)).unwrap();
    let error = refused(&format!("{}?sslmode=require", plain.url())).await;
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.to_string().to_lowercase().contains("tls"), "{error}");
}
