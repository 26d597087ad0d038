//! The store itself: opening, closing, and the verbs, each within its deadline.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bson::doc;
use mongodb::options::{Acknowledgment, ClientOptions, ReadPreference, SelectionCriteria, WriteConcern};
use mongodb::{Client, Database};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use unified_scheduler_core::execution::{Execution, LogLine};
use unified_scheduler_core::id::{ExecutionId, JobId};
use unified_scheduler_core::job::Job;
use unified_scheduler_core::schedule::Calendar;
use unified_scheduler_core::store::{
    AuditEntry, AuditQuery, CancelOutcome, Check, ClaimOutcome, ClaimRequest, Claimed, CompleteOutcome,
    CompleteRequest, Counts, CreateJobs, CreateOutcome, ExecutionQuery, HeartbeatOutcome, HeartbeatRequest,
    Import, Imported, JobQuery, JoinRequest, Joined, Node, NodeRef, Page, Planner, PruneRequest, ReapRequest,
    Reaped, Report, Store, StoreDescription, TriggerOutcome, TriggerRequest, UpdateJob, UpdateOutcome,
};
use unified_scheduler_core::{Error, Result, Timestamp};

use crate::cache::Cache;
use crate::config::MongodbConfig;
use crate::db::{Db, Names, Seen};
use crate::error::{Fail, Step};
use crate::hints::Hints;
use crate::queries::board;
use crate::queries::calendars::{self, Known};
use crate::queries::nodes::Beating;
use crate::queries::{
    claim, complete, create, diagnose, edit, executions, history, import, list, logs, nodes, read, reap,
    trigger,
};
use crate::schema;
use crate::scout::Scout;

/// A [`Store`] in a MongoDB database.
///
/// ```no_run
/// # use unified_scheduler_mongodb::{MongodbConfig, MongodbStore};
/// use unified_scheduler_core::store::Store;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> unified_scheduler_core::Result<()> {
/// let store = MongodbStore::open(MongodbConfig::from_url("mongodb://localhost/app")?).await?;
/// println!("{:?}", store.counts().await?);
/// store.close().await
/// # }
/// ```
pub struct MongodbStore {
    config: MongodbConfig,
    db: Arc<Db>,
    hints: Hints,
    /// Whether other processes can be told of what happens here.
    replicated: bool,
    calendars: Known,
    scout: Arc<Scout>,
    /// Whether a claim has passed over something that waits for another's end.
    blocked: AtomicBool,
    closed: AtomicBool,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl std::fmt::Debug for MongodbStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MongodbStore").field("config", &self.config).finish_non_exhaustive()
    }
}

impl MongodbStore {
    /// Connects, makes the indexes that are missing, and begins to watch for others' changes where there is
    /// a replica set.
    ///
    /// # Errors
    ///
    /// [`unified_scheduler_core::ErrorKind::Invalid`] for settings that the driver refuses or a wrong
    /// password, `Unavailable` when no server answers within the deadline.
    pub async fn open(config: MongodbConfig) -> Result<MongodbStore> {
        let during = |error: Error| error.during("open").with("store", config.url());
        let connecting = connect(&config);
        let connected = tokio::time::timeout(config.deadline, connecting).await;
        let (client, database, replicated) =
            connected.map_err(|_| during(late()))?.map_err(|fail| during(fail.into()))?;
        let db = Arc::new(Db {
            client,
            database,
            runtime: Handle::current(),
            names: Names::new(&config.namespace),
            clock: config.clock.clone(),
            cache: Cache::default(),
            deadline: config.deadline,
            beating: Beating::default(),
            seen: Seen::expecting(config.expects_strangers),
            replicated,
        });
        // Asks for something that takes the right to read.
        let asked = Instant::now();
        let board = tokio::time::timeout(config.deadline, board::read(&db)).await;
        let board = board.map_err(|_| during(late()))?.map_err(|fail| during(fail.into()))?;
        db.saw(&board, asked);
        if config.indexes {
            schema::make(&db).await;
        }
        let hints = Hints::of(&format!("{} {}", config.url, config.namespace));
        let scout = Arc::new(Scout::new(config.scan_interval));
        let mut tasks = vec![tokio::spawn(Arc::clone(&scout).run(Arc::clone(&db), hints.clone()))];
        if replicated {
            tasks.push(tokio::spawn(hints.clone().watch(Arc::clone(&db), Arc::clone(&scout))));
        }
        Ok(MongodbStore {
            config,
            db,
            hints,
            replicated,
            calendars: Known::default(),
            scout,
            blocked: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            tasks: Mutex::new(tasks),
        })
    }

    /// Runs one verb within its deadline.
    async fn verb<T>(
        &self,
        operation: &'static str,
        step: impl Future<Output = Step<T>> + Send,
    ) -> Result<T> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::stopped("the store is closed").during(operation));
        }
        match tokio::time::timeout(self.config.deadline, pin!(step)).await {
            Ok(done) => done.map_err(|fail: Fail| Error::from(fail).during(operation)),
            Err(_) => Err(late().during(operation)),
        }
    }

    fn end_tasks(&self) {
        for task in self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
    }

    async fn hint(&self) {
        self.hints.tell_all(&self.db, self.replicated).await;
    }
}

fn late() -> Error {
    Error::unavailable("the server did not answer in time")
}

/// How long the driver may look for a server: it must give up before the call's deadline, because only
/// the driver knows why no server could be used.
fn patience(asked: Option<Duration>, deadline: Duration) -> Duration {
    asked.unwrap_or(Duration::from_secs(5)).min(deadline * 3 / 4)
}

async fn connect(config: &MongodbConfig) -> Step<(Client, Database, bool)> {
    let mut options = ClientOptions::parse(&config.url).await.map_err(|error| {
        // The driver's own words may repeat the URL.
        let _ = error;
        Error::invalid("the URL holds something that the driver refuses; check hosts and options")
    })?;
    options.app_name.get_or_insert_with(|| "unified-scheduler".to_owned());
    options.server_selection_timeout = Some(patience(options.server_selection_timeout, config.deadline));
    options.connect_timeout.get_or_insert(Duration::from_secs(5));
    options.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
    options.write_concern = Some(WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build());
    let client = Client::with_options(options)?;
    let database = client.database(&config.database);
    let hello = database.run_command(doc! { "hello": 1 }).await?;
    Ok((client, database, diagnose::is_replica_set(&hello)))
}

impl Drop for MongodbStore {
    fn drop(&mut self) {
        self.end_tasks();
    }
}

#[async_trait]
impl Store for MongodbStore {
    fn describe(&self) -> StoreDescription {
        StoreDescription {
            kind: "mongodb".to_owned(),
            location: self.config.url(),
            shared: true,
            durable: true,
        }
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.hints.subscribe()
    }

    async fn now(&self) -> Result<Timestamp> {
        self.verb("now", self.db.now()).await
    }

    async fn create_jobs(&self, request: CreateJobs) -> Result<CreateOutcome> {
        let outcome = self.verb("create_jobs", create::create(&self.db, &request)).await?;
        if outcome == CreateOutcome::Created && !request.jobs.is_empty() {
            self.hint().await;
        }
        Ok(outcome)
    }

    async fn update_job(&self, request: UpdateJob) -> Result<UpdateOutcome> {
        let outcome = self.verb("update_job", edit::update(&self.db, &request)).await?;
        if matches!(outcome, UpdateOutcome::Updated(_)) {
            self.hint().await;
        }
        Ok(outcome)
    }

    async fn delete_job(&self, id: &JobId, actor: &str) -> Result<bool> {
        let gone = self.verb("delete_job", edit::delete(&self.db, id, actor)).await?;
        if gone {
            self.hint().await;
        }
        Ok(gone)
    }

    async fn get_job(&self, id: &JobId) -> Result<Option<Job>> {
        self.verb("get_job", async {
            let now = self.db.now().await?;
            Ok(read::job(&self.db, id, now).await?.map(|row| row.job))
        })
        .await
    }

    async fn list_jobs(&self, query: &JobQuery) -> Result<Page<Job>> {
        self.verb("list_jobs", list::list(&self.db, query)).await
    }

    async fn put_calendar(&self, calendar: &Calendar) -> Result<()> {
        self.verb("put_calendar", calendars::put(&self.db, calendar)).await?;
        self.hint().await;
        Ok(())
    }

    async fn delete_calendar(&self, name: &str) -> Result<bool> {
        let gone = self.verb("delete_calendar", calendars::delete(&self.db, name)).await?;
        if gone {
            self.hint().await;
        }
        Ok(gone)
    }

    async fn list_calendars(&self) -> Result<Vec<Calendar>> {
        self.verb("list_calendars", calendars::list(&self.db)).await
    }

    async fn list_audit(&self, query: &AuditQuery) -> Result<Vec<AuditEntry>> {
        self.verb("list_audit", history::audit(&self.db, query)).await
    }

    async fn claim(&self, request: ClaimRequest<'_>, planner: &dyn Planner) -> Result<ClaimOutcome> {
        let outcome = self
            .verb("claim", async {
                let claiming = self.db.beating.claim(request.node);
                let scan = self.scout.is_time();
                let (outcome, quiet) =
                    claim::claim(&self.db, &self.calendars, request, planner, scan).await?;
                claiming.answered(quiet);
                Ok(outcome)
            })
            .await?;
        if let ClaimOutcome::Claimed(batch) = &outcome {
            self.blocked.store(batch.blocked, Ordering::Relaxed);
        }
        Ok(outcome)
    }

    async fn owned(&self, node: &NodeRef) -> Result<Vec<Claimed>> {
        self.verb("owned", executions::owned(&self.db, node)).await
    }

    async fn complete(&self, request: CompleteRequest<'_>) -> Result<Vec<CompleteOutcome>> {
        let (outcomes, hint) = self.verb("complete", complete::complete(&self.db, request)).await?;
        if hint {
            self.hint().await;
        } else if self.blocked.load(Ordering::Relaxed) {
            self.hints.tell();
        }
        Ok(outcomes)
    }

    async fn report(&self, node: &NodeRef, reports: &[Report]) -> Result<usize> {
        self.verb("report", complete::report(&self.db, node, reports)).await
    }

    async fn trigger(&self, request: TriggerRequest) -> Result<TriggerOutcome> {
        let outcome = self.verb("trigger", trigger::trigger(&self.db, &request)).await?;
        if matches!(outcome, TriggerOutcome::Created(_)) {
            self.hint().await;
        }
        Ok(outcome)
    }

    async fn cancel(&self, id: &ExecutionId, actor: &str) -> Result<CancelOutcome> {
        let outcome = self.verb("cancel", trigger::cancel(&self.db, id, actor)).await?;
        if matches!(outcome, CancelOutcome::Cancelled | CancelOutcome::Requested) {
            self.hint().await;
        }
        Ok(outcome)
    }

    async fn join(&self, request: JoinRequest) -> Result<Joined> {
        self.verb("join", nodes::join(&self.db, request)).await
    }

    async fn heartbeat(&self, request: HeartbeatRequest) -> Result<HeartbeatOutcome> {
        self.verb("heartbeat", nodes::heartbeat(&self.db, request)).await
    }

    async fn leave(&self, node: &NodeRef) -> Result<()> {
        self.verb("leave", nodes::leave(&self.db, node)).await
    }

    async fn reap(&self, request: ReapRequest, planner: &dyn Planner) -> Result<Reaped> {
        let (reaped, hint) = self.verb("reap", reap::reap(&self.db, request, planner)).await?;
        if hint || !reaped.ended.is_empty() {
            self.hint().await;
        }
        Ok(reaped)
    }

    async fn list_nodes(&self) -> Result<Vec<Node>> {
        self.verb("list_nodes", nodes::list(&self.db)).await
    }

    async fn get_execution(&self, id: &ExecutionId) -> Result<Option<Execution>> {
        self.verb("get_execution", executions::get(&self.db, id)).await
    }

    async fn list_executions(&self, query: &ExecutionQuery) -> Result<Page<Execution>> {
        self.verb("list_executions", executions::list(&self.db, query)).await
    }

    async fn list_logs(&self, id: &ExecutionId, skip: u64, limit: usize) -> Result<Vec<LogLine>> {
        self.verb("list_logs", logs::list(&self.db, id, skip, limit)).await
    }

    async fn delete_executions(&self, ids: &[ExecutionId]) -> Result<u64> {
        self.verb("delete_executions", executions::delete(&self.db, ids)).await
    }

    async fn prune(&self, request: PruneRequest) -> Result<u64> {
        self.verb("prune", history::prune(&self.db, request)).await
    }

    async fn import(&self, import: Import) -> Result<Imported> {
        import.check()?;
        let imported = self.verb("import", import::import(&self.db, &import)).await?;
        if imported != Imported::default() {
            self.hint().await;
        }
        Ok(imported)
    }

    async fn counts(&self) -> Result<Counts> {
        self.verb("counts", history::counts(&self.db)).await
    }

    async fn diagnose(&self) -> Result<Vec<Check>> {
        let location = self.config.url();
        self.verb("diagnose", diagnose::diagnose(&self.db, &location)).await
    }

    async fn close(&self) -> Result<()> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.end_tasks();
        let client = self.db.client.clone();
        // What is under way gets its answer first, within the deadline.
        drop(tokio::time::timeout(self.config.deadline, client.shutdown()).await);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drivers_reason_comes_before_the_deadline() {
        let seconds = Duration::from_secs;
        assert_eq!(patience(None, seconds(4)), seconds(3));
        assert_eq!(patience(None, seconds(60)), seconds(5));
        assert_eq!(patience(Some(seconds(1)), seconds(4)), seconds(1));
        assert_eq!(patience(Some(seconds(30)), seconds(4)), seconds(3));
    }
}
