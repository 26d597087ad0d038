//! Every question is served by an index: what the server reads for a claim, a page of a list or a heartbeat
//! does not grow with what is stored. Told by the server's own plans of the statements that it ran.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bson::{Bson, Document, doc};
use mongodb::{Client, Database};
use unified_scheduler_core::Schedule;
use unified_scheduler_core::error::Result;
use unified_scheduler_core::execution::Status;
use unified_scheduler_core::id::{IdSource, JobId, NodeId};
use unified_scheduler_core::job::{Job, JobDefinition};
use unified_scheduler_core::plan::EnginePlanner;
use unified_scheduler_core::settle::{Ending, settle};
use unified_scheduler_core::store::{
    ClaimOutcome, ClaimRequest, CompleteRequest, CreateJobs, ExecutionQuery, ExecutionSort, HeartbeatRequest,
    JobQuery, JobSort, JoinRequest, NodeInfo, NodeRef, Store,
};
use unified_scheduler_mongodb::{MongodbConfig, MongodbStore};

use common::{STANDALONE, Scratch};

const BATCH: usize = 50;
const PAGE: usize = 20;

struct Site {
    store: MongodbStore,
    database: Database,
    node: NodeRef,
    ids: Arc<IdSource>,
    _scratch: Scratch,
}

impl Site {
    /// With so many jobs, of which [`BATCH`] are due.
    async fn with(n: usize) -> Result<Self> {
        let scratch = Scratch::new(STANDALONE)?;
        let config = MongodbConfig::from_url(&scratch.url)?.scan_interval(Duration::ZERO);
        let store = MongodbStore::open(config).await?;
        let client = Client::with_uri_str(&scratch.url).await.expect("the URL is good");
        let ids = Arc::new(IdSource::seeded(9));
        let request = JoinRequest {
            id: NodeId::from("node"),
            ttl: Duration::from_secs(600),
            info: NodeInfo::default(),
        };
        let node = NodeRef { id: "node".into(), epoch: store.join(request).await?.epoch };
        let now = store.now().await?;
        let jobs: Vec<Job> = (0..n)
            .map(|i| {
                let later = Duration::from_secs(if i < BATCH { 0 } else { 86_400 });
                let every =
                    Schedule::every(Duration::from_secs(86_400)).anchored_at(now.saturating_add(later));
                let definition = JobDefinition::new(format!("job {i}"), "work", every);
                Job::new(JobId::from(format!("job-{i}")), definition, now.saturating_add(later))
            })
            .collect();
        for jobs in jobs.chunks(2000) {
            let request = CreateJobs { jobs: jobs.to_vec(), unique_names: false, actor: "test".to_owned() };
            let _ = store.create_jobs(request).await?;
        }
        let database = client.database(&scratch.name);
        Ok(Self { store, database, node, ids, _scratch: scratch })
    }

    async fn claim_and_end(&self) -> Result<usize> {
        let planner = EnginePlanner::new(Arc::clone(&self.ids));
        let handlers: BTreeSet<String> = ["work".to_owned()].into();
        let request = ClaimRequest { node: &self.node, handlers: &handlers, limit: 100 };
        let ClaimOutcome::Claimed(batch) = self.store.claim(request, &planner).await? else {
            panic!("the node is alive");
        };
        let now = self.store.now().await?;
        let ends: Vec<_> = batch
            .claimed
            .iter()
            .map(|c| settle(Some(&c.job), &c.execution, Ending::new(Status::Success, now), &self.ids))
            .collect();
        let _ = self.store.complete(CompleteRequest { node: &self.node, completions: &ends }).await?;
        Ok(batch.claimed.len())
    }

    /// How many documents and keys the server has read for the statements since the last call. None of them
    /// may read a whole collection that grows.
    async fn read(&self) -> u64 {
        self.database.run_command(doc! { "profile": 0 }).await.expect("the profiler can be switched off");
        let profile = self.database.collection::<Document>("system.profile");
        let statements = doc! { "ns": { "$not": { "$regex": "system" } } };
        let mut cursor = profile.find(statements).await.expect("answered");
        let mut read = 0;
        while cursor.advance().await.expect("answered") {
            let entry = cursor.deserialize_current().expect("a document");
            let plan = entry.get_str("planSummary").unwrap_or_default();
            let ns = entry.get_str("ns").unwrap_or_default();
            let grows = ns.ends_with("jobs") || ns.ends_with("executions");
            assert!(!grows || !plan.contains("COLLSCAN"), "{entry}");
            for key in ["docsExamined", "keysExamined"] {
                read += entry.get(key).and_then(number).unwrap_or_default();
            }
            // Parts of a pipeline that ask other collections are not counted there.
            let mut command = entry.get_document("command").cloned().unwrap_or_default();
            if command.contains_key("aggregate") {
                command.retain(|key| !["lsid", "$db", "$readPreference", "writeConcern"].contains(&key));
                let explain = doc! { "explain": command, "verbosity": "executionStats" };
                let plan = self.database.run_command(explain).await.expect("explained");
                read += walk(&Bson::Document(plan));
            }
        }
        profile.drop().await.expect("dropped");
        self.database.run_command(doc! { "profile": 2 }).await.expect("the profiler can be switched on");
        read
    }
}

trait Retain {
    fn retain(&mut self, keep: impl Fn(&str) -> bool);
}

impl Retain for Document {
    fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        *self = std::mem::take(self).into_iter().filter(|(key, _)| keep(key)).collect();
    }
}

fn number(value: &Bson) -> Option<u64> {
    let n = value.as_i64().or_else(|| value.as_i32().map(i64::from))?;
    u64::try_from(n).ok()
}

/// What a plan has read in all its parts.
fn walk(plan: &Bson) -> u64 {
    match plan {
        Bson::Document(doc) => {
            let of = |key: &str| doc.get(key).and_then(number).unwrap_or_default();
            let here = of("totalDocsExamined") + of("totalKeysExamined");
            here + doc.iter().map(|(_, value)| walk(value)).sum::<u64>()
        }
        Bson::Array(list) => list.iter().map(walk).sum(),
        _ => 0,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_does_not_grow_with_what_is_stored() -> Result<()> {
    let mut of_sizes: Vec<Vec<(String, u64)>> = Vec::new();
    for n in [500, 5000] {
        let site = Site::with(n).await?;
        let mut read = Vec::new();
        site.read().await;
        assert_eq!(site.claim_and_end().await?, BATCH);
        read.push(("a claim and its ends".to_owned(), site.read().await));
        assert_eq!(site.claim_and_end().await?, 0);
        read.push(("a claim of nothing".to_owned(), site.read().await));
        let beat = HeartbeatRequest {
            node: site.node.clone(),
            ttl: Duration::from_secs(600),
            info: NodeInfo::default(),
        };
        let _ = site.store.heartbeat(beat).await?;
        read.push(("a heartbeat".to_owned(), site.read().await));
        for sort in [JobSort::Name, JobSort::CreatedAt, JobSort::DueAt, JobSort::LastRunAt, JobSort::Id] {
            for descending in [false, true] {
                let query = JobQuery { sort, descending, limit: PAGE, ..JobQuery::default() };
                assert_eq!(site.store.list_jobs(&query).await?.items.len(), PAGE);
                read.push((format!("jobs by {sort:?}, descending {descending}"), site.read().await));
            }
        }
        let one = JobQuery { name: Some("job 7".to_owned()), ..JobQuery::default() };
        assert_eq!(site.store.list_jobs(&one).await?.items.len(), 1);
        read.push(("a job by its name".to_owned(), site.read().await));
        let queries = [
            ExecutionQuery { limit: PAGE, ..ExecutionQuery::default() },
            ExecutionQuery { limit: PAGE, job_id: Some("job-3".into()), ..ExecutionQuery::default() },
            ExecutionQuery { limit: PAGE, statuses: vec![Status::Success], ..ExecutionQuery::default() },
            ExecutionQuery {
                limit: PAGE,
                job_id: Some("job-3".into()),
                sort: ExecutionSort::DueAt,
                ..ExecutionQuery::default()
            },
        ];
        for query in queries {
            assert!(!site.store.list_executions(&query).await?.items.is_empty());
            read.push((format!("{query:?}"), site.read().await));
        }
        of_sizes.push(read);
    }
    for (few, many) in of_sizes[0].iter().zip(&of_sizes[1]) {
        assert_eq!(few.0, many.0);
        assert!(many.1 <= few.1 + 10, "{}: {} of 500, {} of 5000", few.0, few.1, many.1);
        assert!(many.1 <= 1500, "{}: {}", many.0, many.1);
    }
    Ok(())
}
