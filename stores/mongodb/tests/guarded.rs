//! A server that asks for TLS and a password, and users who may not do everything.

#[path = "common/mongod.rs"]
mod mongod;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bson::{Document, doc};
use mongodb::Client;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use unified_scheduler_core::error::{ErrorKind, Result};
use unified_scheduler_core::execution::Status;
use unified_scheduler_core::id::{IdSource, NodeId};
use unified_scheduler_core::job::{Job, JobDefinition};
use unified_scheduler_core::plan::EnginePlanner;
use unified_scheduler_core::settle::{Ending, settle};
use unified_scheduler_core::store::{
    CheckLevel, ClaimOutcome, ClaimRequest, CompleteOutcome, CompleteRequest, CreateJobs, JoinRequest,
    NodeInfo, NodeRef, Store,
};
use unified_scheduler_core::{Error, Schedule};
use unified_scheduler_mongodb::{MongodbConfig, MongodbStore};
use unified_scheduler_services::Program;

use mongod::mongod;

const PASSWORD: &str = "hunter2 with / and @";
const ESCAPED: &str = "hunter2%20with%20%2F%20and%20%40";

/// Writes an authority, `NAME.pem`, and what it signed for the server, `NAME-server.pem`.
fn authority(folder: &Path, name: &str) {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, format!("the authority {name}"));
    let key = KeyPair::generate().expect("a key");
    let ca = params.self_signed(&key).expect("a certificate");
    let issuer = Issuer::new(params, key);
    let write = |file: String, text: String| std::fs::write(folder.join(file), text).expect("written");
    write(format!("{name}.pem"), ca.pem());
    let key = KeyPair::generate().expect("a key");
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name.push(DnType::CommonName, "127.0.0.1");
    let signed = params.signed_by(&key, &issuer).expect("a certificate");
    write(format!("{name}-server.pem"), format!("{}{}", signed.pem(), key.serialize_pem()));
}

struct Guarded {
    server: Program,
}

impl Guarded {
    /// With a user who may read and write, one who may only read, and one who may do nothing here.
    async fn start() -> Self {
        let server = mongod(|folder| {
            authority(folder, "ours");
            authority(folder, "theirs");
            let file = |name: &str| folder.join(name).display().to_string();
            let (cert, ca) = (file("ours-server.pem"), file("ours.pem"));
            let tls = ["--tlsMode", "requireTLS", "--tlsCertificateKeyFile", &cert, "--tlsCAFile", &ca];
            let more = ["--tlsAllowConnectionsWithoutCertificates", "--auth"];
            tls.iter().chain(&more).map(|&text| text.to_owned()).collect()
        });
        let guarded = Self { server };
        // The first user may be made without being one.
        let user = |name: &str, role: &str, db: &str| {
            doc! { "createUser": name, "pwd": PASSWORD, "roles": [{ "role": role, "db": db }] }
        };
        guarded.admin("", "admin", user("root", "root", "admin")).await;
        let root = format!("root:{ESCAPED}@");
        guarded.admin(&root, "admin", user("app", "readWrite", "app")).await;
        guarded.admin(&root, "app", user("local", "readWrite", "app")).await;
        guarded.admin(&root, "admin", user("reader", "read", "app")).await;
        guarded.admin(&root, "admin", user("stranger", "readWrite", "other")).await;
        guarded
    }

    async fn admin(&self, user: &str, database: &str, command: Document) {
        let url = self.url(user, "admin", "authSource=admin", "ours");
        let url = if user.is_empty() { url.replace("authSource=admin&", "") } else { url };
        let client = Client::with_uri_str(url).await.expect("the URL is good");
        client.database(database).run_command(command).await.expect("done");
    }

    fn url(&self, user: &str, database: &str, options: &str, ca: &str) -> String {
        let ca = self.server.folder().join(format!("{ca}.pem")).display().to_string();
        let port = self.server.port();
        format!("mongodb://{user}127.0.0.1:{port}/{database}?{options}&tls=true&tlsCAFile={ca}")
    }

    async fn open(&self, user: &str, options: &str) -> Result<MongodbStore> {
        open(&self.url(&format!("{user}:{ESCAPED}@"), "app", options, "ours")).await
    }
}

async fn open(url: &str) -> Result<MongodbStore> {
    MongodbStore::open(MongodbConfig::from_url(url)?.deadline(Duration::from_secs(4))).await
}

fn tells_no_secret(error: &Error) {
    let mut told = format!("{error} {error:?} {error:#?}");
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        told = format!("{told} {error} {error:?}");
        source = error.source();
    }
    assert!(!told.contains("hunter2"), "{told}");
}

/// A job from its creation to its end.
async fn works(store: &MongodbStore) -> Result<()> {
    let ids = Arc::new(IdSource::seeded(11));
    let now = store.now().await?;
    let every = Schedule::every(Duration::from_secs(3600));
    let job = Job::new(ids.job(now), JobDefinition::new("guarded", "work", every), now);
    let request = CreateJobs { jobs: vec![job], unique_names: false, actor: "test".to_owned() };
    let _ = store.create_jobs(request).await?;
    let request =
        JoinRequest { id: NodeId::from("node"), ttl: Duration::from_secs(60), info: NodeInfo::default() };
    let node = NodeRef { id: "node".into(), epoch: store.join(request).await?.epoch };
    let planner = EnginePlanner::new(Arc::clone(&ids));
    let handlers: BTreeSet<String> = ["work".to_owned()].into();
    let request = ClaimRequest { node: &node, handlers: &handlers, limit: 10 };
    let ClaimOutcome::Claimed(batch) = store.claim(request, &planner).await? else {
        panic!("the node is alive");
    };
    assert_eq!(batch.claimed.len(), 1);
    let claimed = &batch.claimed[0];
    let end = settle(Some(&claimed.job), &claimed.execution, Ending::new(Status::Success, now), &ids);
    let ended = store.complete(CompleteRequest { node: &node, completions: &[end] }).await?;
    assert_eq!(ended, [CompleteOutcome::Applied { paused: false }]);
    store.leave(&node).await?;
    for check in store.diagnose().await? {
        assert!(check.level != CheckLevel::Failed, "{check:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_asks_for_tls_and_a_password_is_used_with_both() -> Result<()> {
    let guarded = Guarded::start().await;
    // A user of the administration, and one of the database itself.
    for (user, options) in [("app", "authSource=admin"), ("local", "authSource=app")] {
        let store = guarded.open(user, options).await?;
        assert!(!format!("{store:?}").contains("hunter2"));
        works(&store).await?;
        store.close().await?;
        let mechanism = format!("{options}&authMechanism=SCRAM-SHA-1");
        assert!(guarded.open(user, &mechanism).await.is_ok());
    }
    // The source is the database in the path, when nothing else is said.
    guarded.open("local", "appName=test").await?.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_somebody_out_is_said_without_secrets() -> Result<()> {
    let guarded = Guarded::start().await;
    let credentials = format!("app:{ESCAPED}@");
    let wrong = |user: &str| guarded.url(user, "app", "authSource=admin", "ours");
    let port = guarded.server.port();
    let good_ca = guarded.url(&credentials, "app", "authSource=admin", "ours");
    let table = [
        ("the password", wrong("app:hunter2@"), ErrorKind::Invalid, "password"),
        ("the user", wrong(&format!("nobody:{ESCAPED}@")), ErrorKind::Invalid, "password"),
        (
            "the source",
            guarded.url(&credentials, "app", "authSource=app", "ours"),
            ErrorKind::Invalid,
            "authentication source",
        ),
        (
            "the authority",
            guarded.url(&credentials, "app", "authSource=admin", "theirs"),
            ErrorKind::Invalid,
            "tlsCAFile",
        ),
        (
            "the file of the authority",
            guarded.url(&credentials, "app", "authSource=admin", "nobody"),
            ErrorKind::Invalid,
            "TLS",
        ),
        (
            "no TLS",
            format!("mongodb://{credentials}127.0.0.1:{port}/app?authSource=admin"),
            ErrorKind::Unavailable,
            "tls=true",
        ),
        ("no user", guarded.url("", "app", "appName=test", "ours"), ErrorKind::Invalid, "user"),
        (
            "an option that the driver refuses",
            good_ca.replace("tls=true", "tls=perhaps"),
            ErrorKind::Invalid,
            "option",
        ),
    ];
    for (what, url, kind, says) in table {
        let error = open(&url).await.expect_err(what);
        assert_eq!(error.kind(), kind, "{what}: {error:?}");
        assert!(error.to_string().contains(says), "{what}: {error}");
        tells_no_secret(&error);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_write_is_told_which_right_is_missing() -> Result<()> {
    let guarded = Guarded::start().await;
    // What is there can be looked at.
    works(&guarded.open("app", "authSource=admin").await?).await?;
    let reader = guarded.open("reader", "authSource=admin").await?;
    assert_eq!(reader.list_nodes().await?.len(), 1);
    let request =
        JoinRequest { id: NodeId::from("node"), ttl: Duration::from_secs(60), info: NodeInfo::default() };
    let refused = reader.join(request).await.expect_err("it may only read");
    assert!(refused.to_string().contains("readWrite"), "{refused}");
    tells_no_secret(&refused);
    let checks = reader.diagnose().await?;
    assert!(checks.iter().any(|c| c.name == "writes" && c.level == CheckLevel::Failed), "{checks:?}");
    // Somebody of another database may not even read.
    let stranger = guarded.open("stranger", "authSource=admin").await;
    let refused = match stranger {
        Ok(store) => store.counts().await.expect_err("it may nothing here"),
        Err(error) => error,
    };
    assert!(refused.to_string().contains("readWrite"), "{refused}");
    tells_no_secret(&refused);
    Ok(())
}
