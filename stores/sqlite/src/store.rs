//! The store itself: its threads, and the verbs, each of which is one message to one of them.

use std::path::PathBuf;
use std::sync::mpsc::{self, Sender, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{oneshot, watch};
use unified_scheduler_core::execution::{Execution, LogLine};
use unified_scheduler_core::id::{ExecutionId, JobId};
use unified_scheduler_core::job::Job;
use unified_scheduler_core::schedule::Calendar;
use unified_scheduler_core::store::{
    AuditEntry, AuditQuery, CancelOutcome, Check, CheckLevel, ClaimOutcome, ClaimRequest, Claimed,
    CompleteOutcome, CompleteRequest, Counts, CreateJobs, CreateOutcome, ExecutionQuery, HeartbeatOutcome,
    HeartbeatRequest, Import, Imported, JobQuery, JoinRequest, Joined, Node, NodeRef, Page, Planner,
    PruneRequest, ReapRequest, Reaped, Report, Store, StoreDescription, TriggerOutcome, TriggerRequest,
    UpdateJob, UpdateOutcome,
};
use unified_scheduler_core::{Error, Result, Timestamp};

use crate::config::{Place, SqliteConfig, Synchronous};
use crate::connection::{self, Role, wal_path};
use crate::consult::consultation;
use crate::error::{Fail, Step};
use crate::hints::{Hints, Keeper};
use crate::queries::{claim, complete, diagnose, edit, executions, find, history, import, jobs, nodes, reap};
use crate::reader::{self, READERS};
use crate::schema;
use crate::session::Session;
use crate::writer::{Task, Writer, task};

/// How many parsed definitions the writer keeps.
const CACHED_JOBS: usize = 8192;

/// How many executions one transaction of a pruning removes.
const PRUNE_STEP: usize = 500;

/// A [`Store`] in an SQLite file, or in memory.
///
/// ```
/// # use unified_scheduler_sqlite::{SqliteConfig, SqliteStore};
/// use unified_scheduler_core::store::Store;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> unified_scheduler_core::Result<()> {
/// let store = SqliteStore::open(SqliteConfig::from_url("sqlite::memory:")?).await?;
/// assert_eq!(store.counts().await?.jobs, 0);
/// store.close().await
/// # }
/// ```
pub struct SqliteStore {
    config: SqliteConfig,
    hints: Hints,
    threads: Mutex<Option<Threads>>,
}

/// The ends of the threads' queues: dropping them ends the threads.
struct Threads {
    writer: Sender<Box<dyn Task>>,
    /// `None` for a database in memory, which has one connection.
    readers: Option<Sender<Box<dyn Task>>>,
    keeper: Option<SyncSender<()>>,
    /// Each is gone when its thread has ended.
    ended: Vec<oneshot::Receiver<()>>,
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore").field("config", &self.config).finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Opens the database, makes it where there is none, brings its schema up to date, and starts the
    /// threads.
    ///
    /// # Errors
    ///
    /// [`unified_scheduler_core::ErrorKind::Invalid`] for a file of another program or a missing
    /// directory, `Unsupported` for a newer schema or a network file system, `Corrupt` for a damaged file,
    /// `Unavailable` for one that can't be written or that stays locked.
    pub async fn open(config: SqliteConfig) -> Result<SqliteStore> {
        let (sender, receiver) = oneshot::channel();
        drop(spawn("open", move || drop(sender.send(Self::open_here(config))))?);
        receiver.await.map_err(|_| Error::internal("the thread that opens the database has died"))?
    }

    fn open_here(config: SqliteConfig) -> Result<SqliteStore> {
        let mut connection = connection::open(&config, Role::Writer)?;
        let now = config.clock.now().as_millis();
        let during = |fail: Fail| Error::from(fail).during("open").with("store", config.url());
        schema::migrate(&mut connection, &config.prefix(), now).map_err(during)?;
        connection.busy_timeout(Duration::ZERO).map_err(|e| during(e.into()))?;
        let session =
            |connection, cached| Session::new(connection, config.prefix(), Arc::clone(&config.clock), cached);
        let hints = Hints::new();
        let (writer, queue) = mpsc::channel();
        let mut ended = Vec::new();
        let file = match &config.place {
            Place::File(path) => Some(path.clone()),
            Place::Memory => None,
        };
        let (readers, keeper) = match &file {
            Some(path) => {
                let keeper = connection::open(&config, Role::Keeper)?;
                // While it waited for readers to cut the log, it would keep the writer from writing.
                keeper.busy_timeout(Duration::ZERO).map_err(|e| during(e.into()))?;
                let keeper = session(keeper, 0);
                let mut reading = Vec::with_capacity(READERS);
                for _ in 0..READERS {
                    reading.push(session(connection::open(&config, Role::Reader)?, 0));
                }
                let keeper = Keeper { session: keeper, hints: hints.clone(), wal: wal_path(path) };
                (Some(start_readers(reading, &mut ended)?), Some(start_keeper(keeper, &mut ended)?))
            }
            None => (None, None),
        };
        let thread = Writer::new(session(connection, CACHED_JOBS), hints.clone(), config.busy_timeout);
        ended.push(spawn("writer", move || thread.serve(&queue))?);
        let threads = Mutex::new(Some(Threads { writer, readers, keeper, ended }));
        Ok(SqliteStore { config, hints, threads })
    }

    fn threads(&self) -> MutexGuard<'_, Option<Threads>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `step` on the writer's thread; answers when it is on the disk.
    async fn write<T: Send + 'static>(
        &self,
        operation: &'static str,
        step: impl FnOnce(&mut Session) -> Step<T> + Send + 'static,
    ) -> Result<T> {
        let (task, answer) = task(step);
        let sent = match &*self.threads() {
            Some(threads) => threads.writer.send(task).is_ok(),
            None => false,
        };
        if !sent {
            return Err(closed().during(operation));
        }
        answer.await.map_err(|_| closed())?.map_err(|e| e.during(operation))
    }

    /// Runs `step` on a reader's thread.
    async fn read<T: Send + 'static>(
        &self,
        operation: &'static str,
        step: impl FnOnce(&Session) -> Step<T> + Send + 'static,
    ) -> Result<T> {
        let (task, answer) = task(|session: &mut Session| step(session));
        let sent = match &*self.threads() {
            Some(Threads { readers: Some(readers), .. }) => readers.send(task).is_ok(),
            Some(threads) => threads.writer.send(task).is_ok(),
            None => false,
        };
        if !sent {
            return Err(closed().during(operation));
        }
        answer.await.map_err(|_| closed())?.map_err(|e| e.during(operation))
    }
}

fn closed() -> Error {
    Error::stopped("the store is closed")
}

/// Starts a thread; what is answered is gone when it has ended.
fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<oneshot::Receiver<()>> {
    let (running, ended) = oneshot::channel::<()>();
    let work = move || {
        work();
        drop(running);
    };
    thread::Builder::new()
        .name(format!("sqlite-{name}"))
        .spawn(work)
        .map(|_| ended)
        .map_err(|e| Error::unavailable("the operating system starts no thread").caused_by(e))
}

fn start_readers(
    sessions: Vec<Session>,
    ended: &mut Vec<oneshot::Receiver<()>>,
) -> Result<Sender<Box<dyn Task>>> {
    let (sender, queue) = mpsc::channel();
    let queue = Arc::new(Mutex::new(queue));
    for session in sessions {
        let queue = Arc::clone(&queue);
        ended.push(spawn("reader", move || reader::serve(session, &queue))?);
    }
    Ok(sender)
}

fn start_keeper(keeper: Keeper, ended: &mut Vec<oneshot::Receiver<()>>) -> Result<SyncSender<()>> {
    let (stop, stopped) = mpsc::sync_channel(0);
    ended.push(spawn("keeper", move || keeper.keep(&stopped))?);
    Ok(stop)
}

#[async_trait]
impl Store for SqliteStore {
    fn describe(&self) -> StoreDescription {
        let in_file = self.config.place != Place::Memory;
        StoreDescription {
            kind: "sqlite".to_owned(),
            location: self.config.url(),
            shared: in_file,
            durable: in_file && self.config.synchronous == Synchronous::Full,
        }
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.hints.subscribe()
    }

    async fn now(&self) -> Result<Timestamp> {
        if self.threads().is_none() {
            return Err(closed().during("now"));
        }
        Ok(self.config.clock.now())
    }

    async fn create_jobs(&self, request: CreateJobs) -> Result<CreateOutcome> {
        self.write("create_jobs", move |s| edit::create(s, &request)).await
    }

    async fn update_job(&self, request: UpdateJob) -> Result<UpdateOutcome> {
        self.write("update_job", move |s| edit::update(s, &request)).await
    }

    async fn delete_job(&self, id: &JobId, actor: &str) -> Result<bool> {
        let (id, actor) = (id.clone(), actor.to_owned());
        self.write("delete_job", move |s| edit::delete(s, &id, &actor)).await
    }

    async fn get_job(&self, id: &JobId) -> Result<Option<Job>> {
        let id = id.clone();
        self.read("get_job", move |s| Ok(jobs::read(s, &id)?.map(|(_, job)| job))).await
    }

    async fn list_jobs(&self, query: &JobQuery) -> Result<Page<Job>> {
        let query = query.clone();
        self.read("list_jobs", move |s| find::jobs(s, &query)).await
    }

    async fn put_calendar(&self, calendar: &Calendar) -> Result<()> {
        let calendar = calendar.clone();
        self.write("put_calendar", move |s| edit::put_calendar(s, &calendar)).await
    }

    async fn delete_calendar(&self, name: &str) -> Result<bool> {
        let name = name.to_owned();
        self.write("delete_calendar", move |s| edit::delete_calendar(s, &name)).await
    }

    async fn list_calendars(&self) -> Result<Vec<Calendar>> {
        self.read("list_calendars", edit::list_calendars).await
    }

    async fn list_audit(&self, query: &AuditQuery) -> Result<Vec<AuditEntry>> {
        let query = query.clone();
        self.read("list_audit", move |s| history::audit(s, &query)).await
    }

    async fn claim(&self, request: ClaimRequest<'_>, planner: &dyn Planner) -> Result<ClaimOutcome> {
        let wish = claim::Wish {
            node: request.node.clone(),
            handlers: request.handlers.iter().cloned().collect(),
            limit: request.limit,
        };
        let (asker, adviser) = consultation();
        let step = self.write("claim", move |s| claim::claim(s, &wish, &asker));
        adviser
            .attend(step, |questions: claim::Questions| {
                let claim::Questions { jobs, now, calendars } = questions;
                let plan = |due: claim::DueJob| {
                    let plan = planner.plan(&due.job, due.live, now, &calendars);
                    (due, plan)
                };
                jobs.into_iter().map(plan).collect()
            })
            .await
    }

    async fn owned(&self, node: &NodeRef) -> Result<Vec<Claimed>> {
        let node = node.clone();
        self.read("owned", move |s| executions::owned(s, &node)).await
    }

    async fn complete(&self, request: CompleteRequest<'_>) -> Result<Vec<CompleteOutcome>> {
        let (node, completions) = (request.node.clone(), request.completions.to_vec());
        self.write("complete", move |s| complete::complete(s, &node, &completions)).await
    }

    async fn report(&self, node: &NodeRef, reports: &[Report]) -> Result<usize> {
        let (node, reports) = (node.clone(), reports.to_vec());
        self.write("report", move |s| executions::report(s, &node, &reports)).await
    }

    async fn trigger(&self, request: TriggerRequest) -> Result<TriggerOutcome> {
        self.write("trigger", move |s| executions::trigger(s, request)).await
    }

    async fn cancel(&self, id: &ExecutionId, actor: &str) -> Result<CancelOutcome> {
        let (id, actor) = (*id, actor.to_owned());
        self.write("cancel", move |s| executions::cancel(s, &id, &actor)).await
    }

    async fn join(&self, request: JoinRequest) -> Result<Joined> {
        self.write("join", move |s| nodes::join(s, &request)).await
    }

    async fn heartbeat(&self, request: HeartbeatRequest) -> Result<HeartbeatOutcome> {
        self.write("heartbeat", move |s| nodes::heartbeat(s, &request)).await
    }

    async fn leave(&self, node: &NodeRef) -> Result<()> {
        let node = node.clone();
        self.write("leave", move |s| nodes::leave(s, &node)).await
    }

    async fn reap(&self, request: ReapRequest, planner: &dyn Planner) -> Result<Reaped> {
        let (asker, adviser) = consultation();
        let step = self.write("reap", move |s| reap::reap(s, request, &asker));
        adviser
            .attend(step, |questions: reap::Questions| {
                let reap::Questions { orphans, now } = questions;
                let lost = |orphan: reap::Orphan| {
                    let end = planner.lost(orphan.job.as_ref(), &orphan.execution, now);
                    (orphan.execution, end)
                };
                orphans.into_iter().map(lost).collect()
            })
            .await
    }

    async fn list_nodes(&self) -> Result<Vec<Node>> {
        self.read("list_nodes", nodes::list).await
    }

    async fn get_execution(&self, id: &ExecutionId) -> Result<Option<Execution>> {
        let id = *id;
        self.read("get_execution", move |s| executions::get(s, &id)).await
    }

    async fn list_executions(&self, query: &ExecutionQuery) -> Result<Page<Execution>> {
        let query = query.clone();
        self.read("list_executions", move |s| find::executions(s, &query)).await
    }

    async fn list_logs(&self, id: &ExecutionId, skip: u64, limit: usize) -> Result<Vec<LogLine>> {
        let id = *id;
        self.read("list_logs", move |s| history::logs(s, &id, skip, limit)).await
    }

    async fn delete_executions(&self, ids: &[ExecutionId]) -> Result<u64> {
        let ids = ids.to_vec();
        self.write("delete_executions", move |s| history::delete(s, &ids)).await
    }

    async fn prune(&self, request: PruneRequest) -> Result<u64> {
        // What goes is looked for beside the writer, who is then held up only for short steps.
        let mut gone = 0;
        let found = self.read("prune", move |s| history::outdated(s, request)).await?;
        for step in found.chunks(PRUNE_STEP) {
            let step = step.to_vec();
            gone += self.write("prune", move |s| history::remove_all(s, &step)).await?;
        }
        Ok(gone)
    }

    async fn import(&self, import: Import) -> Result<Imported> {
        import.check()?;
        self.write("import", move |s| import::import(s, &import)).await
    }

    async fn counts(&self) -> Result<Counts> {
        self.read("counts", history::counts).await
    }

    async fn diagnose(&self) -> Result<Vec<Check>> {
        let path: Option<PathBuf> = match &self.config.place {
            Place::File(path) => Some(path.clone()),
            Place::Memory => None,
        };
        let prefix = self.config.prefix();
        let mut checks =
            match self.read("diagnose", move |s| diagnose::read(s, path.as_deref(), &prefix)).await {
                Ok(checks) => checks,
                Err(error) => vec![Check::new("reachable", CheckLevel::Failed, error.to_string())],
            };
        checks.push(diagnose::writable(self.write("diagnose", diagnose::probe).await));
        Ok(checks)
    }

    async fn close(&self) -> Result<()> {
        let Some(threads) = self.threads().take() else { return Ok(()) };
        let Threads { writer, readers, keeper, mut ended } = threads;
        // Each thread does what it was asked before, and ends. The writer, which was started last, comes
        // last: only a connection that may write moves the log into the file when it is the last to close.
        let writing = ended.pop();
        drop((readers, keeper));
        for thread in ended {
            // The error says that it has ended.
            let _ = thread.await;
        }
        drop(writer);
        if let Some(thread) = writing {
            let _ = thread.await;
        }
        Ok(())
    }
}
