//! The database as the verbs use it: collections by their names, batches of writes as one command each,
//! and the store's clock.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bson::{Bson, Document, RawArrayBuf, RawDocumentBuf, doc};
use futures_util::TryStreamExt;
use futures_util::future::{Future, join_all};
use mongodb::options::FindOptions;
use mongodb::{Client, Collection, Database};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;
use unified_scheduler_core::clock::Clock;
use unified_scheduler_core::{Error, ErrorKind, Timestamp};

use crate::cache::Cache;
use crate::error::{DUPLICATE_KEY, Step, of_code};
use crate::queries::board::Board;
use crate::queries::nodes::Beating;
use crate::sharing::Sharing;
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
    /// Along with the next full write of the same call: one server writes one journal, in order, so the
    /// second wait is one for both. Between two members of a replica set there is no such order when the
    /// primary changes, so there it is full. Whoever uses it asks [`Db::must_look_again`] in the end.
    Next,
}

/// What a batch of writes came to.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Documents that were matched, inserted or removed.
    pub(crate) n: u64,
    /// Whether a key was there already.
    pub(crate) duplicates: bool,
    /// The statements that their document does not take, by number, and why; in a lenient write.
    pub(crate) refused: Vec<(usize, Error)>,
}

impl Written {
    /// An error where a statement was refused.
    fn whole(mut self) -> Step<Self> {
        match self.refused.pop() {
            Some((_, error)) => Err(error.into()),
            None => Ok(self),
        }
    }
}

/// A batch of twice this and more is written in parts, which go at once.
const PART: usize = 200;

/// How many parts, at most: while the server writes one, the other is made ready or read. More of them are
/// more statements, and gain little.
const PARTS: usize = 2;

/// The parts of a batch, in order, each with its share. Where nodes are in one another's way the server has
/// enough to write at once, and a part would only be one more statement.
pub(crate) fn parts<T>(db: &Db, batch: Vec<T>) -> Vec<Vec<T>> {
    let most = if db.seen.sharing.is_on() { 1 } else { PARTS };
    let n = (batch.len() / PART).clamp(1, most);
    let size = batch.len().div_ceil(n).max(1);
    let mut batch = batch.into_iter();
    (0..n).map(|_| batch.by_ref().take(size).collect()).collect()
}

/// Does something with every part at once: while the server writes one, the next is made ready. All have
/// ended when this has, also where one has failed.
pub(crate) async fn at_once<T, F: Future<Output = Step<T>>>(parts: impl Iterator<Item = F>) -> Step<Vec<T>> {
    join_all(parts).await.into_iter().collect()
}

/// Statements in one command, at most, and their bytes; the server takes 100,000 and 16 MB.
const STATEMENTS: usize = 1000;
const BYTES: usize = 12 << 20;

/// The connection, the names, and what is known.
#[derive(Debug)]
pub(crate) struct Db {
    pub(crate) client: Client,
    pub(crate) database: Database,
    /// Where the driver lives. Commands are sent from there, so that they are on their way while the caller
    /// makes the next ones ready.
    pub(crate) runtime: Handle,
    pub(crate) names: Names,
    pub(crate) clock: Option<Arc<dyn Clock>>,
    pub(crate) cache: Cache,
    pub(crate) deadline: Duration,
    pub(crate) beating: Beating,
    pub(crate) seen: Seen,
    /// Whether there is a replica set.
    pub(crate) replicated: bool,
}

/// What the board showed last.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The store's clock, and when it was asked for.
    clock: Mutex<Option<(Timestamp, Instant)>>,
    strangers: AtomicBool,
    /// The epochs of all nodes, the eldest first.
    living: Mutex<Vec<i64>>,
    pub(crate) sharing: Sharing,
}

impl Seen {
    /// Nothing yet; where other programs are expected to write jobs, as if some had been met.
    pub(crate) fn expecting(strangers: bool) -> Self {
        Self { strangers: AtomicBool::new(strangers), ..Self::default() }
    }

    /// Whether other programs are known to write jobs here.
    pub(crate) fn strangers(&self) -> bool {
        self.strangers.load(Ordering::Relaxed)
    }

    /// The epoch of the node that has lived longest.
    pub(crate) fn eldest(&self) -> i64 {
        let living = self.living.lock().unwrap_or_else(PoisonError::into_inner);
        living.first().copied().unwrap_or_default()
    }

    /// The epochs of the nodes that live, in order.
    pub(crate) fn living(&self) -> Vec<i64> {
        self.living.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Db {
    pub(crate) fn collection(&self, name: &str) -> Collection<Document> {
        self.database.collection(name)
    }

    /// Whether a write that was to be durable along with the next one may have been lost in between: the
    /// server may have crashed, and be back, since it was sent at this instant. No server is that fast in
    /// less time.
    pub(crate) fn must_look_again(&self, sent: Instant) -> bool {
        const FASTEST_RESTART: Duration = Duration::from_millis(250);
        !self.replicated && sent.elapsed() > FASTEST_RESTART
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

    /// The store's clock, by what the board showed last: near enough to ask with, when the answer says
    /// what it really was.
    pub(crate) async fn about_now(&self) -> Step<Timestamp> {
        let known = *self.seen.clock.lock().unwrap_or_else(PoisonError::into_inner);
        match known.filter(|_| self.clock.is_none()) {
            Some((then, asked)) => Ok(then.saturating_add(asked.elapsed())),
            None => self.now().await,
        }
    }

    /// Takes note of what the board shows, which was asked for at this instant.
    pub(crate) fn saw(&self, board: &Board, asked: Instant) {
        *self.seen.clock.lock().unwrap_or_else(PoisonError::into_inner) = Some((board.now, asked));
        self.seen.strangers.fetch_or(board.strangers, Ordering::Relaxed);
        let mut living = board.living();
        living.sort_unstable();
        *self.seen.living.lock().unwrap_or_else(PoisonError::into_inner) = living;
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
        updates: Vec<Document>,
        how: Durability,
    ) -> Step<Written> {
        self.update_leniently(collection, updates, how).await?.whole()
    }

    /// The same; what a document does not take harms no other.
    pub(crate) async fn update_leniently(
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
        self.write(("insert", "documents"), collection, docs, how).await?.whole()
    }

    /// Removes every document that fits.
    pub(crate) async fn delete(&self, collection: &str, filter: Document) -> Step<u64> {
        let delete = vec![doc! { "q": filter, "limit": 0 }];
        let deleted = self.write(("delete", "deletes"), collection, delete, Durability::Full).await?;
        Ok(deleted.whole()?.n)
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
        let (mut len, mut bytes, mut begin) = (0, 0, 0);
        for statement in statements {
            let raw = RawDocumentBuf::try_from(&statement)?;
            let size = raw.as_bytes().len();
            if len > 0 && (len == STATEMENTS || bytes + size > BYTES) {
                let full = std::mem::replace(&mut batch, RawArrayBuf::new());
                self.send((verb, list), collection, full, how, begin, &mut written).await?;
                (len, bytes, begin) = (0, 0, begin + len);
            }
            batch.push(raw);
            len += 1;
            bytes += size;
        }
        if len > 0 {
            self.send((verb, list), collection, batch, how, begin, &mut written).await?;
        }
        Ok(written)
    }

    async fn send(
        &self,
        (verb, list): (&str, &str),
        collection: &str,
        statements: RawArrayBuf,
        how: Durability,
        begin: usize,
        written: &mut Written,
    ) -> Step<()> {
        let wait = i32::try_from(self.deadline.as_millis()).unwrap_or(i32::MAX);
        let mut concern = RawDocumentBuf::new();
        if how == Durability::Full || (how == Durability::Next && self.replicated) {
            concern.append(bson::cstr!("w"), "majority");
            concern.append(bson::cstr!("j"), true);
            concern.append(bson::cstr!("wtimeout"), wait);
        } else {
            concern.append(bson::cstr!("w"), 1);
        }
        let mut command = RawDocumentBuf::new();
        command.append(bson::raw::CString::try_from(verb)?, collection);
        command.append(bson::raw::CString::try_from(list)?, statements);
        command.append(bson::cstr!("ordered"), false);
        command.append(bson::cstr!("writeConcern"), concern);
        let database = self.database.clone();
        let sent = self.runtime.spawn(async move { database.run_raw_command(command).await });
        let gone = |_| Error::unavailable("the runtime in which the store was opened has ended");
        let reply = AbortOnDropHandle::new(sent).await.map_err(gone)??;
        written.n += count::<u64>(reply.get("n"));
        for error in reply.get_array("writeErrors").map_or(&[][..], Vec::as_slice) {
            let Some(error) = error.as_document() else { continue };
            let code: i32 = count(error.get("code"));
            if code == DUPLICATE_KEY {
                written.duplicates = true;
                continue;
            }
            let refusal = of_code(code, crate::value::text(error, "errmsg").unwrap_or_default());
            if refusal.kind() != ErrorKind::Invalid {
                return Err(refusal.into());
            }
            written.refused.push((begin + count::<usize>(error.get("index")), refusal));
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
        let raw = self.database.collection::<RawDocumentBuf>(collection);
        read(raw.find(filter).with_options(options).await?).await
    }

    /// The first that a search finds.
    pub(crate) async fn find_one(&self, collection: &str, filter: Document) -> Step<Option<Document>> {
        let raw = self.database.collection::<RawDocumentBuf>(collection);
        Ok(raw.find_one(filter).await?.map(|raw| Document::try_from(&raw)).transpose()?)
    }

    /// Everything that a pipeline gives.
    pub(crate) async fn aggregate(
        &self,
        collection: &str,
        pipeline: Vec<Document>,
        most: usize,
    ) -> Step<Vec<Document>> {
        let batch = u32::try_from(most).unwrap_or(u32::MAX).saturating_add(101);
        let of = self.collection(collection);
        let aggregate = of.aggregate(pipeline).batch_size(batch).with_type::<RawDocumentBuf>();
        read(aggregate.await?).await
    }

    /// The different values of a field.
    pub(crate) async fn distinct(&self, collection: &str, field: &str, filter: Document) -> Step<Vec<Bson>> {
        Ok(self.collection(collection).distinct(field, filter).await?)
    }
}

/// The documents as they are. Read by way of serde, a field of anybody's that is called `$date` would be
/// taken for a date, and one that holds none would be an error.
async fn read(cursor: mongodb::Cursor<RawDocumentBuf>) -> Step<Vec<Document>> {
    let raw: Vec<RawDocumentBuf> = cursor.try_collect().await?;
    Ok(raw.iter().map(Document::try_from).collect::<Result<_, _>>()?)
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
