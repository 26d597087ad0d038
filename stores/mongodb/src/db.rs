//! The database as the verbs use it: collections by their names, batches of writes as one command each,
//! and the store's clock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bson::{Bson, Document, RawArrayBuf, RawDocumentBuf, doc};
use futures_util::TryStreamExt;
use mongodb::options::FindOptions;
use mongodb::{Client, Collection, Database};
use unified_scheduler_core::clock::Clock;
use unified_scheduler_core::{Error, ErrorKind, Timestamp};

use crate::cache::Cache;
use crate::error::{DUPLICATE_KEY, Step, of_code};
use crate::value::{count, time};

/// The names of the collections.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    /// The existing backend's, of dynamic jobs.
    pub(crate) jobs: String,
    /// Of jobs registered in code.
    pub(crate) statics: String,
    /// The existing backend's, of every execution.
    pub(crate) executions: String,
    pub(crate) nodes: String,
    pub(crate) audit: String,
    pub(crate) calendars: String,
    pub(crate) meta: String,
}

impl Names {
    pub(crate) fn new(namespace: &str) -> Self {
        let prefix = if namespace.is_empty() { String::new() } else { format!("{namespace}_") };
        let name = |name: &str| format!("{prefix}{name}");
        Self {
            jobs: name("dynamic_jobs"),
            statics: name("unified_scheduler_jobs"),
            executions: name("job_executions"),
            nodes: name("unified_scheduler_nodes"),
            audit: name("unified_scheduler_audit"),
            calendars: name("unified_scheduler_calendars"),
            meta: name("unified_scheduler_meta"),
        }
    }

    /// The collection of the job with this id.
    pub(crate) fn of_job(&self, id: &unified_scheduler_core::id::JobId) -> &str {
        if crate::ids::is_static(id) { &self.statics } else { &self.jobs }
    }

    /// Both collections of jobs.
    pub(crate) fn of_jobs(&self) -> [&str; 2] {
        [&self.jobs, &self.statics]
    }
}

/// When a write counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// When a majority has it in its journal.
    Full,
    /// When the primary has it: for what is done again where it was lost.
    Light,
}

/// What a batch of writes came to.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Documents that were matched, inserted or removed.
    pub(crate) n: u64,
    /// Whether a key was there already.
    pub(crate) duplicates: bool,
}

/// Statements in one command, at most, and their bytes; the server takes 100,000 and 16 MB.
const STATEMENTS: usize = 1000;
const BYTES: usize = 12 << 20;

/// The connection, the names, and what is known.
#[derive(Debug)]
pub(crate) struct Db {
    pub(crate) client: Client,
    pub(crate) database: Database,
    pub(crate) names: Names,
    pub(crate) clock: Option<Arc<dyn Clock>>,
    pub(crate) cache: Cache,
    pub(crate) deadline: Duration,
}

impl Db {
    pub(crate) fn collection(&self, name: &str) -> Collection<Document> {
        self.database.collection(name)
    }

    /// The store's clock.
    pub(crate) async fn now(&self) -> Step<Timestamp> {
        if let Some(clock) = &self.clock {
            return Ok(clock.now());
        }
        let hello = self.database.run_command(doc! { "hello": 1 }).await?;
        Ok(time(hello.get("localTime"))
            .ok_or_else(|| Error::new(ErrorKind::Corrupt, "the server does not tell its time"))?)
    }

    /// The store's clock inside a command.
    pub(crate) fn now_in_command(&self) -> Bson {
        match &self.clock {
            Some(clock) => crate::value::date(clock.now()),
            None => Bson::String("$$NOW".to_owned()),
        }
    }

    /// Updates, each with its filter `q` and its change `u`, in order.
    pub(crate) async fn update(
        &self,
        collection: &str,
        mut updates: Vec<Document>,
        how: Durability,
    ) -> Step<Written> {
        for update in &mut updates {
            if update.get_document("q").is_ok_and(|q| q.contains_key("_id")) {
                // Otherwise the server weighs this index against others, for each statement.
                update.insert("hint", doc! { "_id": 1 });
            }
        }
        self.write(("update", "updates"), collection, updates, how).await
    }

    /// Inserts what is not there yet.
    pub(crate) async fn insert(
        &self,
        collection: &str,
        docs: Vec<Document>,
        how: Durability,
    ) -> Step<Written> {
        self.write(("insert", "documents"), collection, docs, how).await
    }

    /// Removes every document that fits.
    pub(crate) async fn delete(&self, collection: &str, filter: Document) -> Step<u64> {
        let delete = vec![doc! { "q": filter, "limit": 0 }];
        Ok(self.write(("delete", "deletes"), collection, delete, Durability::Full).await?.n)
    }

    async fn write(
        &self,
        (verb, list): (&str, &str),
        collection: &str,
        statements: Vec<Document>,
        how: Durability,
    ) -> Step<Written> {
        let mut written = Written::default();
        let mut batch = RawArrayBuf::new();
        let (mut len, mut bytes) = (0, 0);
        for statement in statements {
            let raw = RawDocumentBuf::try_from(&statement)?;
            let size = raw.as_bytes().len();
            if len > 0 && (len == STATEMENTS || bytes + size > BYTES) {
                let full = std::mem::replace(&mut batch, RawArrayBuf::new());
                self.send((verb, list), collection, full, how, &mut written).await?;
                (len, bytes) = (0, 0);
            }
            batch.push(raw);
            len += 1;
            bytes += size;
        }
        if len > 0 {
            self.send((verb, list), collection, batch, how, &mut written).await?;
        }
        Ok(written)
    }

    async fn send(
        &self,
        (verb, list): (&str, &str),
        collection: &str,
        statements: RawArrayBuf,
        how: Durability,
        written: &mut Written,
    ) -> Step<()> {
        let wait = i32::try_from(self.deadline.as_millis()).unwrap_or(i32::MAX);
        let mut concern = RawDocumentBuf::new();
        match how {
            Durability::Full => {
                concern.append(bson::cstr!("w"), "majority");
                concern.append(bson::cstr!("j"), true);
                concern.append(bson::cstr!("wtimeout"), wait);
            }
            Durability::Light => concern.append(bson::cstr!("w"), 1),
        }
        let mut command = RawDocumentBuf::new();
        command.append(bson::raw::CString::try_from(verb)?, collection);
        command.append(bson::raw::CString::try_from(list)?, statements);
        command.append(bson::cstr!("ordered"), false);
        command.append(bson::cstr!("writeConcern"), concern);
        let reply = self.database.run_raw_command(command).await?;
        written.n += count::<u64>(reply.get("n"));
        for error in reply.get_array("writeErrors").map_or(&[][..], Vec::as_slice) {
            let Some(error) = error.as_document() else { continue };
            let code: i32 = count(error.get("code"));
            if code == DUPLICATE_KEY {
                written.duplicates = true;
                continue;
            }
            return Err(of_code(code, crate::value::text(error, "errmsg").unwrap_or_default()).into());
        }
        if let Ok(error) = reply.get_document("writeConcernError") {
            return Err(of_code(64, crate::value::text(error, "errmsg").unwrap_or_default()).into());
        }
        Ok(())
    }

    /// Everything that a search finds.
    pub(crate) async fn find(
        &self,
        collection: &str,
        filter: Document,
        options: FindOptions,
    ) -> Step<Vec<Document>> {
        let mut options = options;
        // All in one answer where it fits, not 101 first.
        let most = options.limit.and_then(|limit| u32::try_from(limit).ok()).unwrap_or(2000);
        options.batch_size = Some(most.saturating_add(1).min(5000));
        Ok(self.collection(collection).find(filter).with_options(options).await?.try_collect().await?)
    }

    /// The first that a search finds.
    pub(crate) async fn find_one(&self, collection: &str, filter: Document) -> Step<Option<Document>> {
        Ok(self.collection(collection).find_one(filter).await?)
    }

    /// Everything that a pipeline gives.
    pub(crate) async fn aggregate(
        &self,
        collection: &str,
        pipeline: Vec<Document>,
        most: usize,
    ) -> Step<Vec<Document>> {
        let batch = u32::try_from(most).unwrap_or(u32::MAX).saturating_add(101);
        let cursor = self.collection(collection).aggregate(pipeline).batch_size(batch).await?;
        Ok(cursor.try_collect().await?)
    }

    /// The different values of a field.
    pub(crate) async fn distinct(&self, collection: &str, field: &str, filter: Document) -> Step<Vec<Bson>> {
        Ok(self.collection(collection).distinct(field, filter).await?)
    }
}

/// A search that gives at most so many.
pub(crate) fn at_most(limit: usize) -> FindOptions {
    FindOptions::builder().limit(i64::try_from(limit).unwrap_or(i64::MAX)).build()
}

/// A search that gives only these fields.
pub(crate) fn only(fields: Document) -> FindOptions {
    FindOptions::builder().projection(fields).build()
}

/// Refuses to go on with what was read too long ago, as by a process that was stopped in between: what it
/// would carry out may have been carried out, and removed again, since.
pub(crate) fn still_fresh(read_at: Instant) -> Step<()> {
    const TOO_OLD: Duration = Duration::from_secs(3);
    if read_at.elapsed() > TOO_OLD {
        return Err(Error::unavailable("this process was held up for too long; nothing was written").into());
    }
    Ok(())
}
