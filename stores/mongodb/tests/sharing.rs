//! Nodes that are after the same jobs keep out of one another's way, whoever else lives.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use unified_scheduler_core::Schedule;
use unified_scheduler_core::error::Result;
use unified_scheduler_core::id::{ExecutionId, IdSource, JobId};
use unified_scheduler_core::job::{Job, JobDefinition};
use unified_scheduler_core::plan::EnginePlanner;
use unified_scheduler_core::store::{
    ClaimBatch, ClaimOutcome, ClaimRequest, CreateJobs, JoinRequest, NodeInfo, NodeRef, Store,
};
use unified_scheduler_mongodb::{MongodbConfig, MongodbStore};

use common::{STANDALONE, Scratch};

const LIMIT: usize = 100;

/// A process of its own, as far as the store can tell.
struct Process {
    store: MongodbStore,
    node: NodeRef,
    ids: Arc<IdSource>,
}

impl Process {
    async fn join(url: &str, name: &str) -> Result<Self> {
        let store = MongodbStore::open(MongodbConfig::from_url(url)?).await?;
        let ttl = Duration::from_secs(600);
        let request = JoinRequest { id: name.into(), ttl, info: NodeInfo::default() };
        let node = NodeRef { id: name.into(), epoch: store.join(request).await?.epoch };
        Ok(Self { store, node, ids: Arc::new(IdSource::new()) })
    }

    async fn claim(&self) -> Result<ClaimBatch> {
        let planner = EnginePlanner::new(Arc::clone(&self.ids));
        let handlers: BTreeSet<String> = ["work".to_owned()].into();
        let request = ClaimRequest { node: &self.node, handlers: &handlers, limit: LIMIT };
        match self.store.claim(request, &planner).await? {
            ClaimOutcome::Claimed(batch) => Ok(*batch),
            ClaimOutcome::Refused => panic!("the node is alive"),
        }
    }
}

async fn store_due(store: &MongodbStore, n: usize) -> Result<()> {
    let past = store.now().await?.saturating_sub(Duration::from_secs(1));
    let every = Schedule::every(Duration::from_secs(86_400)).anchored_at(past);
    let jobs = (0..n).map(|i| {
        let definition = JobDefinition::new(format!("job {i}"), "work", every.clone());
        Job::new(JobId::from(format!("job-{i}")), definition, past)
    });
    let request = CreateJobs { jobs: jobs.collect(), unique_names: false, actor: "test".to_owned() };
    let _ = store.create_jobs(request).await?;
    Ok(())
}

fn enter(claimed: &mut BTreeSet<ExecutionId>, batch: &ClaimBatch) {
    for one in &batch.claimed {
        assert!(claimed.insert(one.execution.id), "claimed twice: {}", one.execution.id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_claim_is_lost_to_another_node_while_there_is_enough_for_both() -> Result<()> {
    let scratch = Scratch::new(STANDALONE)?;
    let (one, other) =
        (Process::join(&scratch.url, "one").await?, Process::join(&scratch.url, "other").await?);
    store_due(&one.store, 20 * LIMIT).await?;
    let mut claimed = BTreeSet::new();
    for _ in 0..6 {
        let (a, b) = tokio::join!(one.claim(), other.claim());
        let (a, b) = (a?, b?);
        assert!(!a.claimed.is_empty() && !b.claimed.is_empty(), "{} {}", a.claimed.len(), b.claimed.len());
        assert!(a.more && b.more);
        enter(&mut claimed, &a);
        enter(&mut claimed, &b);
    }
    assert!(claimed.len() > 10 * LIMIT, "{}", claimed.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_the_share_of_a_node_that_does_not_claim_is_claimed_by_others() -> Result<()> {
    let scratch = Scratch::new(STANDALONE)?;
    let one = Process::join(&scratch.url, "one").await?;
    let idle = Process::join(&scratch.url, "idle").await?;
    let other = Process::join(&scratch.url, "other").await?;
    let n = 20 * LIMIT;
    store_due(&one.store, n).await?;
    let mut claimed = BTreeSet::new();
    let mut left = [true, true];
    while left != [false, false] {
        let (a, b) = tokio::join!(one.claim(), other.claim());
        for (left, batch) in left.iter_mut().zip([a?, b?]) {
            *left = batch.more;
            enter(&mut claimed, &batch);
        }
    }
    assert_eq!(claimed.len(), n);
    assert_eq!(idle.claim().await?.claimed.len(), 0);
    Ok(())
}
