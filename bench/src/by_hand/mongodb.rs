//! MongoDB: one update gives a batch of due jobs a token of its owner and moves them on (the next due time is
//! computed in the pipeline), one find reads them, one insert writes their executions; one update for each
//! collection completes them. The fields and the indexes are those of the store, so what is left behind is
//! what the store leaves; the executions are copies of what the store writes.

use async_trait::async_trait;
use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, doc};
use mongodb::options::{Acknowledgment, WriteConcern};
use mongodb::{Client, Collection};

use super::ByHand;
use crate::Failure;
use crate::ground::Plot;
use crate::jobs::HANDLER;

pub(super) struct Mongodb {
    jobs: Collection<Document>,
    executions: Collection<Document>,
    /// An execution of the store's, as it is while it runs, and what its end sets.
    model: Document,
}

impl Mongodb {
    pub(super) async fn connect(plot: &Plot) -> Result<Self, Failure> {
        let client = Client::with_uri_str(&plot.server_url).await?;
        let database = client.database(&plot.namespace);
        let majority = WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build();
        let options = mongodb::options::CollectionOptions::builder().write_concern(majority).build();
        let executions: Collection<Document> =
            database.collection_with_options("job_executions", options.clone());
        let model = executions.find_one(doc! {}).await?.ok_or("the store has written no execution yet")?;
        Ok(Self { jobs: database.collection_with_options("dynamic_jobs", options), executions, model })
    }
}

/// One server has one journal, so the next write waits for both.
fn with_the_next() -> WriteConcern {
    WriteConcern::builder().w(Acknowledgment::Nodes(1)).build()
}

#[async_trait]
impl ByHand for Mongodb {
    async fn batch(&mut self, now: i64, size: usize) -> Result<usize, Failure> {
        let now = DateTime::from_millis(now);
        let token = ObjectId::new();
        let mut ids: Vec<Bson> = Vec::with_capacity(size);
        let due = doc! { "unified_scheduler.handler": HANDLER, "unified_scheduler.fire": { "$lte": now } };
        let order = doc! { "unified_scheduler.priority": -1, "unified_scheduler.fire": 1 };
        let found = self.jobs.find(due).sort(order).limit(i64::try_from(size)?);
        let mut cursor = found.projection(doc! { "_id": 1 }).batch_size(u32::try_from(size + 1)?).await?;
        while cursor.advance().await? {
            ids.extend(cursor.deserialize_current()?.remove("_id"));
        }
        if ids.is_empty() {
            return Ok(0);
        }
        let by_id = doc! { "_id": 1 };
        let next = doc! { "$add": ["$unified_scheduler.fire", 86_400_000_i64] };
        let one_more = |field: &str| doc! { "$add": [field, 1_i64] };
        let claim = vec![doc! { "$set": { "unified_scheduler": {
            "token": token, "due": next.clone(), "fire_at": next.clone(), "fire": next,
            "fired": one_more("$unified_scheduler.fired"), "rev": one_more("$unified_scheduler.rev"),
        } } }];
        let mine = doc! { "_id": { "$in": &ids }, "unified_scheduler.fire": { "$lte": now } };
        self.jobs
            .update_many(mine, claim)
            .hint(mongodb::options::Hint::Keys(by_id.clone()))
            .write_concern(with_the_next())
            .await?;
        let won = doc! { "_id": { "$in": &ids }, "unified_scheduler.token": token };
        let mut won = self.jobs.find(won).batch_size(u32::try_from(size + 1)?).await?;
        let mut rows = Vec::with_capacity(ids.len());
        let mut jobs: Vec<Bson> = Vec::with_capacity(ids.len());
        while won.advance().await? {
            let job = won.deserialize_current()?;
            let id = job.get("_id").cloned().unwrap_or(Bson::Null);
            let due = job.get_document("unified_scheduler").ok().and_then(|own| own.get("due").cloned());
            let mut row = self.model.clone();
            row.insert("_id", ObjectId::new());
            row.insert("job_id", id.clone());
            row.insert("scheduled_for", due.unwrap_or(Bson::Null));
            row.insert("status", "running");
            row.insert("completed_at", Bson::Null);
            rows.push(row);
            jobs.push(id);
        }
        if rows.is_empty() {
            return Ok(0);
        }
        let executions = self.executions.insert_many(&rows).ordered(false).await?;
        let executions: Vec<Bson> = executions.inserted_ids.into_values().collect();
        let ended = doc! { "$set": { "status": "success", "completed_at": now, "duration_seconds": 0.001 } };
        self.executions
            .update_many(doc! { "_id": { "$in": executions }, "status": "running" }, ended)
            .hint(mongodb::options::Hint::Keys(by_id.clone()))
            .write_concern(with_the_next())
            .await?;
        let ran = doc! {
            "$set": { "lastRunAt": now, "lastStatus": "success", "unified_scheduler.last": token.to_hex() },
            "$inc": { "unified_scheduler.rev": 1_i64 },
        };
        self.jobs
            .update_many(doc! { "_id": { "$in": &jobs } }, ran)
            .hint(mongodb::options::Hint::Keys(by_id))
            .await?;
        Ok(rows.len())
    }
}
