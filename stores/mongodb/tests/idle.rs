//! What an idle node asks, in real time, counted by the server's profiler: at most twelve statements a
//! minute in all, whatever is stored.

mod common;

use std::sync::Arc;
use std::time::Duration;

use bson::doc;
use mongodb::Client;
use unified_scheduler_core::error::Result;
use unified_scheduler_core::id::JobId;
use unified_scheduler_core::job::{Job, JobDefinition};
use unified_scheduler_core::store::{CreateJobs, Store};
use unified_scheduler_core::{Context, Schedule, Scheduler};
use unified_scheduler_mongodb::{MongodbConfig, MongodbStore};

use common::{STANDALONE, Scratch};

async fn an_idle_node_asks_little(variable: &str) -> Result<()> {
    let scratch = Scratch::new(variable)?;
    let store = Arc::new(MongodbStore::open(MongodbConfig::from_url(&scratch.url)?).await?);
    let later = store.now().await?.saturating_add(Duration::from_secs(86_400));
    let jobs = (0..1000)
        .map(|i| {
            let every = Schedule::every(Duration::from_secs(86_400)).anchored_at(later);
            Job::new(
                JobId::from(format!("job-{i}")),
                JobDefinition::new(format!("{i}"), "work", every),
                later,
            )
        })
        .collect();
    let _ = store.create_jobs(CreateJobs { jobs, unique_names: false, actor: "test".to_owned() }).await?;
    let scheduler = Scheduler::over(Arc::clone(&store) as Arc<dyn Store>)
        .handler("work", |_: Context| async {})
        .start()
        .await?;
    let client = Client::with_uri_str(&scratch.url).await.expect("the URL is good");
    let database = client.database(&scratch.name);
    // Until it has found out that there is nothing to do.
    tokio::time::sleep(Duration::from_secs(14)).await;
    database.run_command(doc! { "profile": 2 }).await.expect("the profiler can be switched on");
    tokio::time::sleep(Duration::from_secs(30)).await;
    database.run_command(doc! { "profile": 0 }).await.expect("the profiler can be switched off");
    let profile = database.collection::<bson::Document>("system.profile");
    let mut cursor = profile.find(doc! { "ns": { "$not": { "$regex": "system" } } }).await.expect("answered");
    let mut asked = Vec::new();
    while cursor.advance().await.expect("answered") {
        let entry = cursor.deserialize_current().expect("a document");
        let word = |key: &str| entry.get_str(key).unwrap_or_default().to_owned();
        // What switched the profiler.
        if !entry.get_document("command").is_ok_and(|command| command.contains_key("profile")) {
            asked.push(format!("{} {}", word("op"), word("ns")));
        }
    }
    scheduler.stop().await;
    store.close().await?;
    assert!(!asked.is_empty(), "it renews its lease");
    assert!(asked.len() <= 6, "half of twelve in half a minute: {asked:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_node_on_a_standalone_server_asks_little() -> Result<()> {
    an_idle_node_asks_little(STANDALONE).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_node_on_a_replica_set_asks_little() -> Result<()> {
    an_idle_node_asks_little("TEST_MONGODB_REPLICA_URL").await
}
