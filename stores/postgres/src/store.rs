//! The store: each verb of the contract, on a connection of the pool, within its time.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use unified_scheduler_core::clock::{Clock, SystemClock};
use unified_scheduler_core::execution::{Execution, LogLine};
use unified_scheduler_core::id::{ExecutionId, JobId};
use unified_scheduler_core::job::Job;
use unified_scheduler_core::schedule::Calendar;
use unified_scheduler_core::store::{
    AuditEntry, AuditQuery, CancelOutcome, Check, CheckLevel, ClaimOutcome, ClaimRequest, Claimed,
    CompleteOutcome, CompleteRequest, Completion, Counts, CreateJobs, CreateOutcome, ExecutionQuery,
    HeartbeatOutcome, HeartbeatRequest, Import, Imported, JobQuery, JoinRequest, Joined, Node, NodeRef, Page,
    Planner, PruneRequest, ReapRequest, Reaped, Report, Store, StoreDescription, TriggerOutcome,
    TriggerRequest, UpdateJob, UpdateOutcome,
};
use unified_scheduler_core::{Error, Result, Timestamp};
use uuid::Uuid;

use crate::config::PostgresConfig;
use crate::error::{Fail, Step};
use crate::pool::closed;
use crate::queries::complete::{self, End};
use crate::queries::{claim, diagnose, edit, executions, find, history, import, jobs, look, nodes, reap};
use crate::schema;
use crate::session::{Session, Shared};

/// How often a call is tried that collides with others.
const TRIES: usize = 5;

/// What the engine does and others wait for: for these, two connections are always left.
const ENGINE: [&str; 9] =
    ["now", "claim", "complete", "report", "owned", "join", "heartbeat", "leave", "reap"];

/// How long a new store waits for its listener: with it, no change made by others is missed from the start.
const LISTENER: Duration = Duration::from_secs(2);

/// How many executions one transaction of a pruning removes.
const PRUNE_STEP: usize = 1000;

/// A [`Store`] in a PostgreSQL database.
///
/// ```no_run
/// # use unified_scheduler_postgres::{PostgresConfig, PostgresStore};
/// use unified_scheduler_core::store::Store;
///
/// # async fn example() -> unified_scheduler_core::Result<()> {
/// let config = PostgresConfig::from_url("postgres://app:secret@localhost/app")?;
/// let store = PostgresStore::open(config).await?;
/// assert_eq!(store.counts().await?.jobs, 0);
/// store.close().await
/// # }
/// ```
pub struct PostgresStore {
    shared: Arc<Shared>,
    closed: AtomicBool,
    listener: Mutex<Option<JoinHandle<()>>>,
    /// The connections that are not kept for the engine.
    guests: Semaphore,
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresStore").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

impl PostgresStore {
    /// Connects, brings the schema up to date, and starts to listen for changes made by others. Behind a pooler that
    /// refuses what a session is to be set to it goes on as with [`PostgresConfig::statement_cache`] 0.
    ///
    /// # Errors
    ///
    /// [`unified_scheduler_core::ErrorKind::Invalid`] for a wrong password, a database that does not exist, or
    /// a user without rights; `Unsupported` for a newer schema; `Unavailable` for a server that can't be
    /// reached.
    pub async fn open(config: PostgresConfig) -> Result<PostgresStore> {
        let mut shared = Arc::new(Shared::new(config));
        let limit = shared.config.timeout;
        let url = shared.config.url();
        let during = |error: Error| error.during("open").with("store", url);
        let migrated = tokio::time::timeout(limit, async {
            match schema::migrate(&shared).await {
                Err(fail) if fail.is_of_pooler() && !shared.config.is_pooled() => {
                    tracing::warn!(
                        "this is a pooler that gives each transaction another session: no statement is kept, and \
                         changes made by other nodes are found by polling; `?statement_cache=0` says so at once"
                    );
                    shared = Arc::new(Shared::new(shared.config.clone().statement_cache(0)));
                    schema::migrate(&shared).await
                }
                migrated => migrated,
            }
        });
        match migrated.await {
            Ok(migrated) => migrated.map_err(|fail| during(fail.into()))?,
            Err(_) => return Err(during(late())),
        }
        // Behind a pooler the server's session would go on to listen, for whoever is given it next.
        let listener = if shared.config.is_pooled() {
            None
        } else {
            let listen = shared.hints.clone().listen(shared.config.connect_options());
            let listener = tokio::spawn(listen);
            // Without it the store works too.
            let _ = tokio::time::timeout(LISTENER, shared.hints.tried()).await;
            Some(listener)
        };
        let listener = Mutex::new(listener);
        let guests = usize::try_from(shared.config.max_connections.saturating_sub(2)).unwrap_or(1).max(1);
        let guests = Semaphore::new(guests);
        Ok(Self { shared, closed: AtomicBool::new(false), listener, guests })
    }

    /// Runs `work` within the time of a call, again when it collides with others.
    async fn call<T, F: Future<Output = Step<T>>>(
        &self,
        operation: &'static str,
        work: impl Fn() -> F,
    ) -> Result<T> {
        if self.closed.load(Ordering::Acquire) {
            return Err(closed().during(operation));
        }
        let tries = async {
            // Lists and edits leave connections to what the engine itself must do in time.
            let guest = (!ENGINE.contains(&operation)).then(|| self.guests.acquire());
            let _turn = match guest {
                Some(turn) => Some(turn.await.map_err(|_| closed())?),
                None => None,
            };
            let mut tried = 1;
            loop {
                match work().await {
                    Err(fail) if fail.is_collision() && tried < TRIES => tried += 1,
                    done => return done.map_err(Fail::while_open),
                }
            }
        };
        let done = tokio::time::timeout(self.shared.config.timeout, tries).await;
        let done = done.unwrap_or_else(|_| {
            // When the server has gone without a word, each idle connection would cost as much time again.
            self.shared.pool.forget_idle();
            Err(late())
        });
        done.map_err(|error| error.during(operation))
    }

    /// Ends those of `ends` that are not plain, with all that follows, in one transaction.
    async fn end_all(&self, ends: &[End<'_>]) -> Result<std::collections::HashMap<ExecutionId, bool>> {
        self.call("complete", || async {
            let mut session = Session::begin(&self.shared).await?;
            let ended = complete::end_all(&mut session, ends, true).await?;
            session.finish().await?;
            Ok(ended)
        })
        .await
    }

    /// Ends what dead nodes left, in one transaction.
    async fn end_lost(&self, lost: &[reap::Lost]) -> Result<Vec<Execution>> {
        self.call("reap", || async {
            let mut session = Session::begin(&self.shared).await?;
            let ended = reap::end(&mut session, lost).await?;
            session.finish().await?;
            Ok(ended)
        })
        .await
    }
}

fn late() -> Error {
    Error::unavailable("the server did not answer in time; what was asked may have happened or not")
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(listener) = listener {
            listener.abort();
        }
    }
}

/// One verb: a session, `single` statements or in a `transaction`, a step on it, and its end.
macro_rules! verb {
    ($store:expr, $operation:literal, single, |$session:ident| $step:expr) => {
        verb!($store, $operation, open, $session, $step)
    };
    ($store:expr, $operation:literal, transaction, |$session:ident| $step:expr) => {
        verb!($store, $operation, begin, $session, $step)
    };
    ($store:expr, $operation:literal, $start:ident, $session:ident, $step:expr) => {
        $store
            .call($operation, || async {
                let mut opened = Session::$start(&$store.shared).await?;
                let $session = &mut opened;
                let answer = $step.await?;
                opened.finish().await?;
                Ok(answer)
            })
            .await
    };
}

#[async_trait]
impl Store for PostgresStore {
    fn describe(&self) -> StoreDescription {
        StoreDescription {
            kind: "postgres".to_owned(),
            location: self.shared.config.url(),
            shared: true,
            durable: true,
        }
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.shared.hints.subscribe()
    }

    async fn now(&self) -> Result<Timestamp> {
        verb!(self, "now", single, |s| s.now())
    }

    async fn create_jobs(&self, request: CreateJobs) -> Result<CreateOutcome> {
        verb!(self, "create_jobs", transaction, |s| edit::create(s, &request))
    }

    async fn update_job(&self, request: UpdateJob) -> Result<UpdateOutcome> {
        verb!(self, "update_job", transaction, |s| edit::update(s, &request))
    }

    async fn delete_job(&self, id: &JobId, actor: &str) -> Result<bool> {
        verb!(self, "delete_job", transaction, |s| edit::delete(s, id, actor))
    }

    async fn get_job(&self, id: &JobId) -> Result<Option<Job>> {
        verb!(self, "get_job", single, |s| jobs::read(s, id))
    }

    async fn list_jobs(&self, query: &JobQuery) -> Result<Page<Job>> {
        verb!(self, "list_jobs", single, |s| find::jobs(s, query))
    }

    async fn put_calendar(&self, calendar: &Calendar) -> Result<()> {
        verb!(self, "put_calendar", transaction, |s| edit::put_calendar(s, calendar))
    }

    async fn delete_calendar(&self, name: &str) -> Result<bool> {
        verb!(self, "delete_calendar", transaction, |s| edit::delete_calendar(s, name))
    }

    async fn list_calendars(&self) -> Result<Vec<Calendar>> {
        verb!(self, "list_calendars", single, |s| jobs::list_calendars(s))
    }

    async fn list_audit(&self, query: &AuditQuery) -> Result<Vec<AuditEntry>> {
        verb!(self, "list_audit", single, |s| history::audit(s, query))
    }

    async fn claim(&self, request: ClaimRequest<'_>, planner: &dyn Planner) -> Result<ClaimOutcome> {
        let wish = claim::Wish {
            node: request.node.clone(),
            handlers: request.handlers.iter().cloned().collect(),
            limit: request.limit,
        };
        self.call("claim", || async {
            let hints = self.shared.hints.count();
            if look::is_expected(&self.shared, &wish) {
                let mut session = Session::open(&self.shared).await?;
                let looked = look::look(&mut session, &wish).await?;
                session.finish().await?;
                if let Some(outcome) = looked {
                    look::remember(&self.shared, &wish, hints, &outcome);
                    return Ok(outcome);
                }
            }
            let mut session = Session::begin(&self.shared).await?;
            let claimed = match claim::claim(&mut session, &wish, false, planner).await {
                Err(fail) if fail.is_duplicate() => {
                    session.start_again().await?;
                    claim::claim(&mut session, &wish, true, planner).await?
                }
                claimed => claimed?,
            };
            session.finish().await?;
            look::remember(&self.shared, &wish, hints, &claimed);
            Ok(claimed)
        })
        .await
    }

    async fn owned(&self, node: &NodeRef) -> Result<Vec<Claimed>> {
        verb!(self, "owned", single, |s| executions::owned(s, node))
    }

    async fn complete(&self, request: CompleteRequest<'_>) -> Result<Vec<CompleteOutcome>> {
        let CompleteRequest { node, completions } = request;
        Completion::check(completions).map_err(|error| error.during("complete"))?;
        let ends: Vec<End<'_>> =
            completions.iter().map(|completion| End { owner: node, completion }).collect();
        let is_plain = complete::plain(&ends);
        let (mut plain, mut others) = (Vec::new(), Vec::new());
        for (end, is_plain) in ends.into_iter().zip(is_plain) {
            if is_plain { plain.push(end) } else { others.push(end) }
        }
        let mut ended: std::collections::HashMap<ExecutionId, bool> = std::collections::HashMap::new();
        if !plain.is_empty() {
            let done = verb!(self, "complete", single, |s| complete::end_plain(s, node, &plain))?;
            ended.extend(done.into_iter().map(|id| (id, false)));
        }
        if !others.is_empty() {
            ended.extend(self.end_all(&others).await?);
        }
        let mut outcomes: Vec<Option<CompleteOutcome>> = completions
            .iter()
            // Once: of two ends of one execution in a request the first counts.
            .map(|c| ended.remove(&c.execution_id).map(|paused| CompleteOutcome::Applied { paused }))
            .collect();
        let open: Vec<&Completion> =
            completions.iter().zip(&outcomes).filter(|(_, o)| o.is_none()).map(|(c, _)| c).collect();
        if !open.is_empty() {
            let earlier = verb!(self, "complete", single, |s| complete::earlier(s, node, &open))?;
            let places = outcomes.iter_mut().filter(|outcome| outcome.is_none());
            for (place, outcome) in places.zip(earlier) {
                *place = Some(outcome);
            }
        }
        Ok(outcomes.into_iter().map(|outcome| outcome.unwrap_or(CompleteOutcome::Refused)).collect())
    }

    async fn report(&self, node: &NodeRef, reports: &[Report]) -> Result<usize> {
        if reports.is_empty() {
            return Ok(0);
        }
        verb!(self, "report", transaction, |s| executions::report(s, node, reports))
    }

    async fn trigger(&self, request: TriggerRequest) -> Result<TriggerOutcome> {
        verb!(self, "trigger", transaction, |s| executions::trigger(s, &request))
    }

    async fn cancel(&self, id: &ExecutionId, actor: &str) -> Result<CancelOutcome> {
        verb!(self, "cancel", transaction, |s| executions::cancel(s, id, actor))
    }

    async fn join(&self, request: JoinRequest) -> Result<Joined> {
        verb!(self, "join", single, |s| nodes::join(s, &request))
    }

    async fn heartbeat(&self, request: HeartbeatRequest) -> Result<HeartbeatOutcome> {
        verb!(self, "heartbeat", single, |s| nodes::heartbeat(s, &request))
    }

    async fn leave(&self, node: &NodeRef) -> Result<()> {
        verb!(self, "leave", single, |s| nodes::leave(s, node))
    }

    async fn reap(&self, request: ReapRequest, planner: &dyn Planner) -> Result<Reaped> {
        let nodes = verb!(self, "reap", single, |s| reap::mark_dead(s, request))?;
        let mut reaped = Reaped { nodes, ..Reaped::default() };
        let mut after = Uuid::nil();
        // Those that can't be ended are passed over, and hide nobody.
        loop {
            let left = request.limit.saturating_sub(reaped.ended.len());
            let (n_found, last, found) =
                verb!(self, "reap", single, |s| reap::orphans(s, after, left.max(1)))?;
            if n_found == 0 {
                return Ok(reaped);
            }
            if left == 0 {
                reaped.more = true;
                return Ok(reaped);
            }
            after = last;
            let ends = self
                .call("reap", || async {
                    let mut session = Session::open(&self.shared).await?;
                    let now = session.now().await?;
                    let ends = reap::plan(&mut session, found.clone(), planner, now).await?;
                    session.finish().await?;
                    Ok(ends)
                })
                .await?;
            match self.end_lost(&ends).await {
                Ok(ended) => reaped.ended.extend(ended),
                Err(error) if error.is_retryable() => return Err(error),
                Err(_) => {
                    for one in &ends {
                        match self.end_lost(std::slice::from_ref(one)).await {
                            Ok(ended) => reaped.ended.extend(ended),
                            Err(error) if error.is_retryable() => return Err(error),
                            Err(error) => {
                                let id = one.execution.id;
                                tracing::error!(execution_id = %id, %error, "could not end an execution of a dead node");
                            }
                        }
                    }
                }
            }
        }
    }

    async fn list_nodes(&self) -> Result<Vec<Node>> {
        verb!(self, "list_nodes", single, |s| nodes::list(s))
    }

    async fn get_execution(&self, id: &ExecutionId) -> Result<Option<Execution>> {
        verb!(self, "get_execution", single, |s| executions::get(s, id))
    }

    async fn list_executions(&self, query: &ExecutionQuery) -> Result<Page<Execution>> {
        verb!(self, "list_executions", single, |s| find::executions(s, query))
    }

    async fn list_logs(&self, id: &ExecutionId, skip: u64, limit: usize) -> Result<Vec<LogLine>> {
        verb!(self, "list_logs", single, |s| history::logs(s, id, skip, limit))
    }

    async fn delete_executions(&self, ids: &[ExecutionId]) -> Result<u64> {
        let ids: Vec<Uuid> = ids.iter().map(|id| *id.as_uuid()).collect();
        verb!(self, "delete_executions", single, |s| history::remove_ended(s, &ids))
    }

    async fn prune(&self, request: PruneRequest) -> Result<u64> {
        let found = verb!(self, "prune", single, |s| history::outdated(s, request))?;
        let mut gone = 0;
        for step in found.chunks(PRUNE_STEP) {
            gone += verb!(self, "prune", single, |s| history::remove_ended(s, step))?;
        }
        Ok(gone)
    }

    async fn import(&self, import: Import) -> Result<Imported> {
        import.check()?;
        verb!(self, "import", transaction, |s| import::import(s, &import))
    }

    async fn counts(&self) -> Result<Counts> {
        verb!(self, "counts", single, |s| history::counts(s))
    }

    async fn diagnose(&self) -> Result<Vec<Check>> {
        if self.closed.load(Ordering::Acquire) {
            return Err(closed().during("diagnose"));
        }
        let here =
            self.shared.config.clock.as_ref().map_or_else(|| SystemClock::new().now(), |clock| clock.now());
        let read = verb!(self, "diagnose", single, |s| diagnose::read(s, here));
        let mut checks = match read {
            Ok(checks) => checks,
            Err(error) => return Ok(vec![Check::new("reachable", CheckLevel::Failed, error.to_string())]),
        };
        checks.push(diagnose::writable(verb!(self, "diagnose", transaction, |s| diagnose::probe(s))));
        checks.push(diagnose::notifications(&self.shared).await);
        Ok(checks)
    }

    async fn close(&self) -> Result<()> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(listener) = listener {
            listener.abort();
        }
        // A call that hangs ends with its own time.
        let _ = tokio::time::timeout(self.shared.config.timeout, self.shared.pool.close()).await;
        Ok(())
    }
}
