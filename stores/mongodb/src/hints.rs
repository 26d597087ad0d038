//! Hints that something may be due: in this process at once, from others by a change stream where there is
//! a replica set.
//!
//! Whoever makes something due moves one counter, in a document that the stream watches; it also shows
//! documents that strangers insert among the jobs. The stream is supervised: it is opened again, with
//! growing waits, for as long as the store is open. Correctness never depends on it.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::Duration;

use bson::oid::ObjectId;
use bson::{Document, doc};
use tokio::sync::watch;
use unified_scheduler_core::Error;

use crate::db::{Db, Durability};
use crate::error::Step;
use crate::scout::Scout;
use crate::value::text;

type Sender = watch::Sender<u64>;

/// How long the server waits for something to tell before it says that there was nothing: so often an idle
/// node asks.
const AWAITED: Duration = Duration::from_secs(300);
/// How much later than that an answer may come.
const OVERDUE: Duration = Duration::from_secs(15);

/// The counters of this process, by place: two stores on one database share theirs.
static PLACES: LazyLock<Mutex<HashMap<String, Weak<Sender>>>> = LazyLock::new(Mutex::default);

/// The counter that [`unified_scheduler_core::store::Store::hints`] gives.
#[derive(Debug, Clone)]
pub(crate) struct Hints {
    sender: Arc<Sender>,
}

/// By which this process knows its own hints.
static PROCESS: LazyLock<ObjectId> = LazyLock::new(ObjectId::new);

impl Hints {
    pub(crate) fn of(place: &str) -> Self {
        let mut places = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
        places.retain(|_, sender| sender.strong_count() > 0);
        let sender = places.get(place).and_then(Weak::upgrade).unwrap_or_else(|| {
            let sender = Arc::new(Sender::new(0));
            places.insert(place.to_owned(), Arc::downgrade(&sender));
            sender
        });
        Self { sender }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.sender.subscribe()
    }

    /// Tells this process.
    pub(crate) fn tell(&self) {
        self.sender.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Tells every process. It is a hint, so one that is lost is no error.
    pub(crate) async fn tell_all(&self, db: &Db, shared: bool) {
        self.tell();
        if !shared {
            return;
        }
        let by = format!("{}:{}", *PROCESS, ObjectId::new());
        let hint = doc! { "$set": { "by": by } };
        let statement = doc! { "q": { "_id": "hints" }, "u": hint, "upsert": true };
        if let Err(error) = db.update(&db.names.meta, vec![statement], Durability::Light).await {
            tracing::debug!(?error, "a hint was lost");
        }
    }

    /// Watches for others' hints until the task is ended.
    pub(crate) async fn watch(self, db: Arc<Db>, scout: Arc<Scout>) {
        let mut wait = Duration::from_millis(100);
        loop {
            let begun = std::time::Instant::now();
            if let Err(error) = self.follow(&db, &scout).await {
                tracing::debug!(?error, "the change stream broke; it is opened again");
            }
            // What happened meanwhile is not known.
            self.tell();
            if begun.elapsed() > Duration::from_secs(60) {
                wait = Duration::from_millis(100);
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(30));
        }
    }

    async fn follow(&self, db: &Db, scout: &Scout) -> Step<()> {
        let names = &db.names;
        // This process has told itself.
        let others = doc! { "$not": { "$regex": format!("^{}:", *PROCESS) } };
        let wanted = doc! { "$or": [
            {
                "ns.coll": &names.meta, "documentKey._id": "hints",
                "updateDescription.updatedFields.by": others.clone(), "fullDocument.by": others,
            },
            {
                "ns.coll": &names.jobs, "operationType": { "$in": ["insert", "replace"] },
                "fullDocument.unified_scheduler": { "$exists": false },
            },
        ] };
        let small = doc! { "$project": { "_id": 1, "operationType": 1, "ns": 1, "documentKey": 1 } };
        let stages = vec![doc! { "$match": wanted }, small];
        let watch = db.database.watch().pipeline(stages).max_await_time(AWAITED);
        let mut stream = watch.await?.with_type::<Document>();
        // The server answers within the time it was given, or the connection is dead.
        while let Ok(event) = tokio::time::timeout(AWAITED + OVERDUE, stream.next_if_any()).await {
            let Some(event) = event? else { continue };
            if event.get_document("ns").is_ok_and(|ns| text(ns, "coll") == Some(&names.jobs)) {
                scout.look_next();
            }
            self.tell();
        }
        Err(Error::unavailable("the change stream has fallen silent").into())
    }
}
