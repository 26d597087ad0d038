//! A database as the existing backend leaves it, and a node of ours on it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, doc};
use mongodb::{Client, Collection};
use unified_scheduler_core::clock::{Clock, ManualClock};
use unified_scheduler_core::error::Result;
use unified_scheduler_core::execution::Status;
use unified_scheduler_core::id::{IdSource, JobId, NodeId};
use unified_scheduler_core::job::Job;
use unified_scheduler_core::plan::EnginePlanner;
use unified_scheduler_core::settle::{Ending, settle};
use unified_scheduler_core::store::{
    ClaimBatch, ClaimOutcome, ClaimRequest, Claimed, CompleteRequest, JoinRequest, NodeInfo, NodeRef, Store,
};
use unified_scheduler_mongodb::{MongodbConfig, MongodbStore};

use crate::common::{STANDALONE, Scratch};

pub(crate) struct Backend {
    pub(crate) store: MongodbStore,
    pub(crate) clock: ManualClock,
    pub(crate) jobs: Collection<Document>,
    pub(crate) executions: Collection<Document>,
    pub(crate) node: NodeRef,
    pub(crate) ids: Arc<IdSource>,
    _scratch: Scratch,
}

impl Backend {
    pub(crate) async fn new() -> Result<Self> {
        let scratch = Scratch::new(STANDALONE)?;
        let clock = ManualClock::at("2026-03-29T12:00:00.000Z".parse()?);
        let config = MongodbConfig::from_url(&scratch.url)?
            .clock(Arc::new(clock.clone()))
            .scan_interval(Duration::ZERO);
        let store = MongodbStore::open(config).await?;
        let client = Client::with_uri_str(&scratch.url).await.expect("the URL is good");
        let database = client.database(&scratch.name);
        let request = JoinRequest {
            id: NodeId::from("node"),
            ttl: Duration::from_secs(86_400 * 365),
            info: NodeInfo::default(),
        };
        let joined = store.join(request).await?;
        Ok(Self {
            node: NodeRef { id: "node".into(), epoch: joined.epoch },
            store,
            clock,
            jobs: database.collection("dynamic_jobs"),
            executions: database.collection("job_executions"),
            ids: Arc::new(IdSource::seeded(1)),
            _scratch: scratch,
        })
    }

    pub(crate) fn in_hours(&self, hours: f64) -> Bson {
        #[expect(clippy::cast_possible_truncation, reason = "a few hours")]
        let millis = (hours * 3_600_000.0) as i64;
        Bson::DateTime(DateTime::from_millis(self.clock.now().as_millis() + millis))
    }

    /// Inserts a job as the backend does, with changes.
    pub(crate) async fn insert(&self, changes: Document) -> JobId {
        let key = ObjectId::new();
        let mut job = doc! {
            "_id": key, "name": "purge", "description": "", "template_type": "work",
            "parameters": { "days": 7 },
            "schedule": { "type": "interval", "interval_seconds": 3600, "expression": Bson::Null, "timezone": "UTC" },
            "enabled": true, "timeout_seconds": 300,
            "retry_policy": { "max_retries": 3, "retry_delay_seconds": 300 },
            "notifications": { "on_success": [], "on_failure": [] }, "created_by": "admin",
            "createdAt": self.in_hours(-9.0), "updatedAt": self.in_hours(-9.0), "lastRunAt": Bson::Null,
            "nextRunAt": self.in_hours(-0.5), "lastStatus": Bson::Null, "version": 1,
        };
        for (field, value) in changes {
            if value == Bson::Undefined {
                job.remove(&field)
            } else {
                job.insert(field, value)
            };
        }
        self.jobs.insert_one(job).await.expect("inserted");
        JobId::from(key.to_hex())
    }

    pub(crate) async fn claim(&self) -> Result<ClaimBatch> {
        let planner = EnginePlanner::new(Arc::clone(&self.ids));
        let handlers: BTreeSet<String> = ["work".to_owned()].into();
        let mut all = ClaimBatch::default();
        loop {
            let request = ClaimRequest { node: &self.node, handlers: &handlers, limit: 50 };
            let ClaimOutcome::Claimed(batch) = self.store.claim(request, &planner).await? else {
                panic!("the node is alive");
            };
            all.claimed.extend(batch.claimed);
            all.set_aside.extend(batch.set_aside);
            all.skipped.extend(batch.skipped);
            if !batch.more {
                return Ok(all);
            }
        }
    }

    pub(crate) async fn end(&self, claimed: &Claimed) -> Result<()> {
        let ending = Ending::new(Status::Success, self.clock.now());
        let end = settle(Some(&claimed.job), &claimed.execution, ending, &self.ids);
        let _ = self.store.complete(CompleteRequest { node: &self.node, completions: &[end] }).await?;
        Ok(())
    }

    pub(crate) async fn job(&self, id: &JobId) -> Result<Job> {
        Ok(self.store.get_job(id).await?.expect("it is there"))
    }

    pub(crate) async fn document(&self, id: &JobId) -> Document {
        let key = ObjectId::parse_str(id.as_str()).expect("an id of the backend");
        self.jobs.find_one(doc! { "_id": key }).await.expect("answered").expect("it is there")
    }

    /// What the existing backend's loop would run now.
    pub(crate) async fn old_loop(&self) -> u64 {
        let now = DateTime::from_millis(self.clock.now().as_millis());
        self.jobs
            .count_documents(doc! { "enabled": true, "nextRunAt": { "$lte": now } })
            .await
            .expect("answered")
    }
}
