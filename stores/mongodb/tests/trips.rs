//! How many statements a claim and its completions are, whatever the size of the batch: counted by the
//! server's profiler.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bson::doc;
use mongodb::{Client, Database};
use unified_scheduler_core::Schedule;
use unified_scheduler_core::error::Result;
use unified_scheduler_core::execution::Status;
use unified_scheduler_core::id::{IdSource, NodeId};
use unified_scheduler_core::job::{Job, JobDefinition};
use unified_scheduler_core::plan::EnginePlanner;
use unified_scheduler_core::settle::{Ending, settle};
use unified_scheduler_core::store::{
    ClaimBatch, ClaimOutcome, ClaimRequest, CompleteRequest, Completion, CreateJobs, HeartbeatOutcome,
    HeartbeatRequest, JoinRequest, NodeInfo, NodeRef, Store,
};
use unified_scheduler_mongodb::{MongodbConfig, MongodbStore};

use common::{STANDALONE, Scratch};

/// The statements that the server has run since the last call.
async fn statements(database: &Database) -> Vec<String> {
    let off = database.run_command(doc! { "profile": 0 }).await;
    off.expect("the profiler can be switched off");
    let profile = database.collection::<bson::Document>("system.profile");
    let mut cursor = profile.find(doc! { "ns": { "$not": { "$regex": "system" } } }).await.expect("answered");
    let mut seen = BTreeSet::new();
    let mut list = Vec::new();
    while cursor.advance().await.expect("answered") {
        let entry = cursor.deserialize_current().expect("a document");
        let command = entry.get_document("command").cloned().unwrap_or_default();
        // An update of many documents has an entry for each of its statements.
        let session = command.get_document("lsid").map(ToString::to_string).unwrap_or_default();
        let op = entry.get_str("op").unwrap_or_default().to_owned();
        let ns = entry.get_str("ns").unwrap_or_default().to_owned();
        if op != "update" && op != "remove" || seen.insert((op.clone(), ns.clone(), session)) {
            list.push(format!("{op} {ns}"));
        }
    }
    profile.drop().await.expect("dropped");
    database.run_command(doc! { "profile": 2 }).await.expect("the profiler can be switched on");
    list
}

async fn claim(
    store: &MongodbStore,
    node: &NodeRef,
    ids: &Arc<IdSource>,
    limit: usize,
) -> Result<ClaimBatch> {
    let planner = EnginePlanner::new(Arc::clone(ids));
    let handlers: BTreeSet<String> = ["work".to_owned()].into();
    let ClaimOutcome::Claimed(batch) =
        store.claim(ClaimRequest { node, handlers: &handlers, limit }, &planner).await?
    else {
        panic!("the node is alive");
    };
    Ok(*batch)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_and_its_completions_are_a_few_statements_whatever_the_batch() -> Result<()> {
    let scratch = Scratch::new(STANDALONE)?;
    let store =
        MongodbStore::open(MongodbConfig::from_url(&scratch.url)?.scan_interval(Duration::from_secs(3600)))
            .await?;
    let database = Client::with_uri_str(&scratch.url).await.expect("the URL is good").database(&scratch.name);
    let ids = Arc::new(IdSource::seeded(5));
    let request =
        JoinRequest { id: NodeId::from("node"), ttl: Duration::from_secs(60), info: NodeInfo::default() };
    let node = NodeRef { id: "node".into(), epoch: store.join(request).await?.epoch };
    let now = store.now().await?;
    let jobs: Vec<Job> = (0..2200)
        .map(|i| {
            let every = Schedule::every(Duration::from_secs(3600));
            Job::new(ids.job(now), JobDefinition::new(format!("job {i}"), "work", every), now)
        })
        .collect();
    let _ = store.create_jobs(CreateJobs { jobs, unique_names: false, actor: "test".to_owned() }).await?;
    // The first claim also looks for strangers' documents.
    let first = claim(&store, &node, &ids, 1).await?.claimed;
    let end = settle(Some(&first[0].job), &first[0].execution, Ending::new(Status::Success, now), &ids);
    let _ = store.complete(CompleteRequest { node: &node, completions: &[end] }).await?;
    // What is many is written in two parts, which go at once.
    for (limit, parts) in [(1, 1), (50, 1), (399, 1), (500, 2), (1000, 2)] {
        statements(&database).await;
        let claimed = claim(&store, &node, &ids, limit).await?.claimed;
        assert_eq!(claimed.len(), limit);
        let of_claim = statements(&database).await;
        assert!(of_claim.len() <= 1 + 3 * parts, "{limit}: one question and three writes: {of_claim:?}");
        let ends: Vec<Completion> = claimed
            .iter()
            .map(|c| settle(Some(&c.job), &c.execution, Ending::new(Status::Success, now), &ids))
            .collect();
        let _ = store.complete(CompleteRequest { node: &node, completions: &ends }).await?;
        let of_ends = statements(&database).await;
        assert!(of_ends.len() <= 1 + 2 * parts, "{limit}: one question and two writes: {of_ends:?}");
    }
    statements(&database).await;
    let idle = claim(&store, &node, &ids, 0).await?;
    assert!(idle.claimed.is_empty());
    let of_nothing = statements(&database).await;
    assert!(of_nothing.len() <= 1, "one question when there is nothing to do: {of_nothing:?}");
    for (most, why) in [(2, "one update, and a question for news"), (1, "nothing runs, and nobody came")] {
        let info = NodeInfo::default();
        let beat = HeartbeatRequest { node: node.clone(), ttl: Duration::from_secs(60), info };
        assert!(matches!(store.heartbeat(beat).await?, HeartbeatOutcome::Renewed { .. }));
        let of_heartbeat = statements(&database).await;
        assert!(of_heartbeat.len() <= most, "{why}: {of_heartbeat:?}");
    }
    Ok(())
}
