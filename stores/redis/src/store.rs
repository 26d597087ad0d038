//! The store: every verb of the contract, most of them one call of one script.

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use unified_scheduler_core::execution::{Execution, LogLine};
use unified_scheduler_core::id::{ExecutionId, IdSource, JobId};
use unified_scheduler_core::job::Job;
use unified_scheduler_core::schedule::Calendar;
use unified_scheduler_core::store::{
    AuditEntry, AuditQuery, CancelOutcome, Check, ClaimOutcome, ClaimRequest, Claimed, CompleteOutcome,
    CompleteRequest, Counts, CreateJobs, CreateOutcome, ExecutionQuery, HeartbeatOutcome, HeartbeatRequest,
    Import, Imported, JobQuery, JoinRequest, Joined, Node, NodeRef, Page, Planner, PruneRequest, ReapRequest,
    Reaped, Report, Store, StoreDescription, TriggerOutcome, TriggerRequest, UpdateJob, UpdateOutcome,
};
use unified_scheduler_core::{Result, Timestamp};

use crate::answers;
use crate::claim::KnownCalendars;
use crate::config::RedisConfig;
use crate::hints::Hints;
use crate::job::Cache;
use crate::link::Link;
use crate::rows::json;
use crate::scripts;

/// How long the opening waits for hints; without them polling goes on.
const LONGEST_WAIT_FOR_HINTS: Duration = Duration::from_secs(2);

/// A [`Store`] on a Redis server or a Redis Cluster.
///
/// ```no_run
/// # use unified_scheduler_redis::{RedisConfig, RedisStore};
/// use unified_scheduler_core::store::Store;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> unified_scheduler_core::Result<()> {
/// let store = RedisStore::open(RedisConfig::from_url("redis://127.0.0.1/")?).await?;
/// println!("{} jobs", store.counts().await?.jobs);
/// store.close().await
/// # }
/// ```
pub struct RedisStore {
    session: Session,
    listener: Mutex<Option<JoinHandle<()>>>,
    durable: bool,
}

/// What the verbs work with.
pub(crate) struct Session {
    pub(crate) link: Link,
    pub(crate) config: RedisConfig,
    pub(crate) cache: Cache,
    pub(crate) calendars: KnownCalendars,
    /// Whether the last claim found jobs that this process had not seen before.
    pub(crate) unseen: AtomicBool,
    /// Whether the last claim came to nothing, because something had moved meanwhile.
    pub(crate) must_hold: AtomicBool,
    /// How many hints there were at the last claim.
    pub(crate) hinted: AtomicU64,
    pub(crate) hints: Hints,
    pub(crate) ids: IdSource,
    /// Whether hints of other processes come in.
    pub(crate) listening: watch::Receiver<bool>,
}

impl std::fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisStore").field("config", &self.session.config).finish_non_exhaustive()
    }
}

impl RedisStore {
    /// Connects, looks at the server's settings, and begins to listen for hints.
    ///
    /// # Errors
    ///
    /// [`unified_scheduler_core::ErrorKind::Unavailable`] when the server can't be reached or loads its data;
    /// `Invalid` for a wrong password, a missing right, or a server that evicts keys; `Unsupported` for one
    /// that is too old.
    pub async fn open(config: RedisConfig) -> Result<RedisStore> {
        let url = config.url();
        Self::open_here(config).await.map_err(|e| e.during("open").with("store", url))
    }

    async fn open_here(config: RedisConfig) -> Result<RedisStore> {
        let ids = IdSource::new();
        let origin = format!("{:016x}", ids.random());
        let link = Link::open(&config, origin.clone()).await?;
        let (ready, listening) = watch::channel(false);
        let hints = Hints::new();
        let session = Session {
            link,
            config: config.clone(),
            cache: Cache::new(),
            calendars: Mutex::new(None),
            unseen: AtomicBool::new(true),
            must_hold: AtomicBool::new(false),
            hinted: AtomicU64::new(0),
            hints: hints.clone(),
            ids,
            listening: listening.clone(),
        };
        session.check_layout().await?;
        let settings = session.settings().await?;
        settings.refuse(config.allow_eviction)?;
        settings.warn(&config.url());
        let timeout = config.timeout.min(LONGEST_WAIT_FOR_HINTS);
        let listener = tokio::spawn(hints.listen(config.clients()?, config, origin, ready));
        // So that hints are told from the first edit on.
        let mut listening = listening;
        let ready = tokio::time::timeout(timeout, listening.wait_for(|ready| *ready)).await;
        drop(ready);
        Ok(RedisStore { session, listener: Mutex::new(Some(listener)), durable: settings.durable() })
    }
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        let listener = self.listener.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(listener) = listener.take() {
            listener.abort();
        }
    }
}

/// Names the operation in an error.
macro_rules! during {
    ($name:literal, $answer:expr) => {
        $answer.await.map_err(|e| e.during($name))
    };
}

#[async_trait]
impl Store for RedisStore {
    fn describe(&self) -> StoreDescription {
        StoreDescription {
            kind: "redis".to_owned(),
            location: self.session.config.url(),
            shared: true,
            durable: self.durable,
        }
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.session.hints.subscribe()
    }

    async fn now(&self) -> Result<Timestamp> {
        during!("now", self.session.now())
    }

    async fn create_jobs(&self, request: CreateJobs) -> Result<CreateOutcome> {
        during!("create_jobs", self.session.create_jobs(&request))
    }

    async fn update_job(&self, request: UpdateJob) -> Result<UpdateOutcome> {
        during!("update_job", self.session.update_job(&request))
    }

    async fn delete_job(&self, id: &JobId, actor: &str) -> Result<bool> {
        during!("delete_job", self.session.delete_job(id, actor))
    }

    async fn get_job(&self, id: &JobId) -> Result<Option<Job>> {
        during!("get_job", self.session.get_job(id))
    }

    async fn list_jobs(&self, query: &JobQuery) -> Result<Page<Job>> {
        during!("list_jobs", self.session.list_jobs(query))
    }

    async fn put_calendar(&self, calendar: &Calendar) -> Result<()> {
        let text = json(Some(calendar))?.unwrap_or_default();
        let mut call = self.session.link.call(&scripts::CALENDARS);
        call.arg("put").arg(&calendar.name).arg(text);
        during!("put_calendar", self.session.link.run(&call))?;
        self.session.hints.tell();
        Ok(())
    }

    async fn delete_calendar(&self, name: &str) -> Result<bool> {
        let mut call = self.session.link.call(&scripts::CALENDARS);
        call.arg("delete").arg(name);
        let gone = answers::int(&during!("delete_calendar", self.session.link.run(&call))?)? == 1;
        if gone {
            self.session.hints.tell();
        }
        Ok(gone)
    }

    async fn list_calendars(&self) -> Result<Vec<Calendar>> {
        during!("list_calendars", self.session.list_calendars())
    }

    async fn list_audit(&self, query: &AuditQuery) -> Result<Vec<AuditEntry>> {
        during!("list_audit", self.session.list_audit(query))
    }

    async fn claim(&self, request: ClaimRequest<'_>, planner: &dyn Planner) -> Result<ClaimOutcome> {
        during!("claim", self.session.claim(request, planner))
    }

    async fn owned(&self, node: &NodeRef) -> Result<Vec<Claimed>> {
        during!("owned", self.session.owned(node))
    }

    async fn complete(&self, request: CompleteRequest<'_>) -> Result<Vec<CompleteOutcome>> {
        during!("complete", self.session.complete(request))
    }

    async fn report(&self, node: &NodeRef, reports: &[Report]) -> Result<usize> {
        during!("report", self.session.report(node, reports))
    }

    async fn trigger(&self, request: TriggerRequest) -> Result<TriggerOutcome> {
        during!("trigger", self.session.trigger(request))
    }

    async fn cancel(&self, id: &ExecutionId, actor: &str) -> Result<CancelOutcome> {
        during!("cancel", self.session.cancel(id, actor))
    }

    async fn join(&self, request: JoinRequest) -> Result<Joined> {
        during!("join", self.session.join(request))
    }

    async fn heartbeat(&self, request: HeartbeatRequest) -> Result<HeartbeatOutcome> {
        during!("heartbeat", self.session.heartbeat(request))
    }

    async fn leave(&self, node: &NodeRef) -> Result<()> {
        during!("leave", self.session.leave(node))
    }

    async fn reap(&self, request: ReapRequest, planner: &dyn Planner) -> Result<Reaped> {
        during!("reap", self.session.reap(request, planner))
    }

    async fn list_nodes(&self) -> Result<Vec<Node>> {
        during!("list_nodes", self.session.list_nodes())
    }

    async fn get_execution(&self, id: &ExecutionId) -> Result<Option<Execution>> {
        during!("get_execution", self.session.get_execution(id))
    }

    async fn list_executions(&self, query: &ExecutionQuery) -> Result<Page<Execution>> {
        during!("list_executions", self.session.list_executions(query))
    }

    async fn list_logs(&self, id: &ExecutionId, skip: u64, limit: usize) -> Result<Vec<LogLine>> {
        during!("list_logs", self.session.list_logs(id, skip, limit))
    }

    async fn delete_executions(&self, ids: &[ExecutionId]) -> Result<u64> {
        during!("delete_executions", self.session.delete_executions(ids))
    }

    async fn prune(&self, request: PruneRequest) -> Result<u64> {
        during!("prune", self.session.prune(request))
    }

    async fn import(&self, import: Import) -> Result<Imported> {
        during!("import", self.session.import(&import))
    }

    async fn counts(&self) -> Result<Counts> {
        during!("counts", self.session.counts())
    }

    async fn diagnose(&self) -> Result<Vec<Check>> {
        during!("diagnose", self.session.diagnose())
    }

    async fn close(&self) -> Result<()> {
        self.session.link.close();
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(listener) = listener {
            listener.abort();
        }
        Ok(())
    }
}
