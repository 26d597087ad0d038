//! A replica set of three that loses its primary twice in the middle of work, once politely and once by a
//! kill: nothing is lost, and nothing runs twice.

#[path = "common/mongod.rs"]
mod mongod;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bson::{Document, doc};
use mongodb::Client;
use unified_scheduler_core::error::Result;
use unified_scheduler_core::id::JobId;
use unified_scheduler_core::job::{Job, JobDefinition};
use unified_scheduler_core::store::{CreateJobs, Store};
use unified_scheduler_core::verify::{VerifyOptions, verify};
use unified_scheduler_core::{Context, Schedule, Scheduler, Timestamp};
use unified_scheduler_mongodb::{MongodbConfig, MongodbStore};
use unified_scheduler_services::Program;

use mongod::mongod;

const N_JOBS: u32 = 40;

struct Set {
    members: Vec<Program>,
}

impl Set {
    async fn start() -> Self {
        let member = || {
            let settings = ["--replSet", "rs0", "--oplogSize", "64"];
            mongod(|_| settings.iter().map(|&text| text.to_owned()).collect())
        };
        let set = Self { members: (0..3).map(|_| member()).collect() };
        let members: Vec<Document> = (0_i32..)
            .zip(&set.members)
            .map(|(i, member)| doc! { "_id": i, "host": format!("127.0.0.1:{}", member.port()) })
            .collect();
        // Two seconds without a primary's word are enough for an election.
        let config = doc! {
            "_id": "rs0", "members": members, "settings": { "electionTimeoutMillis": 2000 },
        };
        set.ask(0, doc! { "replSetInitiate": config }).await.expect("initiated");
        set.primary().await;
        set
    }

    async fn ask(&self, member: usize, command: Document) -> Option<Document> {
        let port = self.members[member].port();
        let url = format!(
            "mongodb://127.0.0.1:{port}/?directConnection=true&serverSelectionTimeoutMS=1000&connectTimeoutMS=1000"
        );
        let client = Client::with_uri_str(url).await.ok()?;
        client.database("admin").run_command(command).await.ok()
    }

    /// Which one is primary, as soon as one is.
    async fn primary(&self) -> usize {
        let began = Instant::now();
        loop {
            for i in 0..self.members.len() {
                let hello = self.ask(i, doc! { "hello": 1 }).await;
                if hello.is_some_and(|hello| hello.get_bool("isWritablePrimary").unwrap_or(false)) {
                    return i;
                }
            }
            assert!(began.elapsed() < Duration::from_secs(60), "no primary");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn url(&self) -> String {
        let hosts: Vec<String> =
            self.members.iter().map(|member| format!("127.0.0.1:{}", member.port())).collect();
        format!("mongodb://{}/work?replicaSet=rs0&retryWrites=true", hosts.join(","))
    }
}

/// What ran, in a ledger that does not depend on the store.
type Effects = Arc<Mutex<BTreeMap<(JobId, Timestamp), u32>>>;

async fn node(set: &Set, name: &str, effects: &Effects) -> Result<(Scheduler, Arc<MongodbStore>)> {
    let store = Arc::new(MongodbStore::open(MongodbConfig::from_url(&set.url())?).await?);
    let effects = Arc::clone(effects);
    let handler = move |ctx: Context| {
        let key = (ctx.job_id().clone(), ctx.due_at());
        *effects.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default() += 1;
        async { tokio::time::sleep(Duration::from_millis(100)).await }
    };
    let scheduler = Scheduler::over(Arc::clone(&store) as Arc<dyn Store>)
        .node_name(name)
        .handler("work", handler)
        .start()
        .await?;
    Ok((scheduler, store))
}

#[tokio::test(flavor = "multi_thread")]
async fn losing_the_primary_loses_nothing_and_doubles_nothing() -> Result<()> {
    let mut set = Set::start().await;
    let effects = Effects::default();
    let (one, store) = node(&set, "one", &effects).await?;
    let (two, other) = node(&set, "two", &effects).await?;
    let now = store.now().await?;
    let first = now.saturating_add(Duration::from_secs(1));
    let jobs = (0..N_JOBS)
        .map(|i| {
            let every = Schedule::every(Duration::from_secs(1)).anchored_at(first);
            Job::new(
                JobId::from(format!("job-{i}")),
                JobDefinition::new(format!("job {i}"), "work", every),
                first,
            )
        })
        .collect();
    let _ = store.create_jobs(CreateJobs { jobs, unique_names: false, actor: "test".to_owned() }).await?;
    let ran = |effects: &Effects| effects.lock().unwrap_or_else(PoisonError::into_inner).len();
    let at_work = async |more: usize| {
        let (began, before) = (Instant::now(), ran(&effects));
        while ran(&effects) < before + more {
            assert!(began.elapsed() < Duration::from_secs(90), "the work does not go on");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let round = usize::try_from(N_JOBS).expect("a few");
    at_work(2 * round).await;
    // It drops its connections, so there need not be an answer.
    set.ask(set.primary().await, doc! { "replSetStepDown": 10, "secondaryCatchUpPeriodSecs": 5 }).await;
    at_work(2 * round).await;
    let primary = set.primary().await;
    set.members[primary].crash().expect("killed");
    at_work(2 * round).await;
    set.members[primary].restart().expect("started again");
    at_work(round).await;
    one.stop().await;
    two.stop().await;
    let doubled: Vec<_> = {
        let effects = effects.lock().unwrap_or_else(PoisonError::into_inner);
        effects.iter().filter(|(_, n)| **n > 1).map(|(key, n)| (key.clone(), *n)).collect()
    };
    assert!(doubled.is_empty(), "{doubled:?}");
    let report = verify(&*store, &VerifyOptions::default(), |_| {}).await?;
    assert!(report.is_whole(), "{:?}", report.problems);
    assert_eq!(report.jobs, u64::from(N_JOBS));
    let started = u64::try_from(ran(&effects)).expect("a few");
    assert!(report.started >= started, "{} recorded, {started} ran", report.started);
    other.close().await?;
    store.close().await
}
