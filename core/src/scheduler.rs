//! The scheduler: one node, its jobs, and what it can be asked.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use crate::builder::SchedulerBuilder;
use crate::engine::Engine;
use crate::engine::caught::supervised;
use crate::engine::janitor;
use crate::engine::membership::Membership;
use crate::engine::owned::StopReason;
use crate::engine::recorder::Recorder;
use crate::engine::ticker::Ticker;
use crate::error::Result;
use crate::event::Event;
use crate::execution::{Execution, LogLine};
use crate::id::ExecutionId;
use crate::jobs::Jobs;
use crate::registry::Registry;
use crate::static_job::StaticJob;
use crate::store::{CancelOutcome, ExecutionQuery, Node, NodeRef, Page, Store};

/// A running scheduler: one node over one store. Cheap to clone; all clones are the same scheduler.
///
/// Dropping the last clone ends it at once, without waiting for what runs; [`Self::stop`] drains.
///
/// ```
/// use std::time::Duration;
/// use unified_scheduler_core::{Scheduler, every, store::MemoryStore};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), unified_scheduler_core::Error> {
/// let (seen, mut first) = tokio::sync::mpsc::unbounded_channel();
/// let scheduler = Scheduler::builder(MemoryStore::new())
///     .job(every("greet", Duration::from_secs(60)).run(move |ctx: unified_scheduler_core::Context| {
///         let seen = seen.clone();
///         async move {
///             ctx.info("hello");
///             let _ = seen.send(ctx.job_name().to_owned());
///         }
///     }))
///     .start()
///     .await?;
/// assert_eq!(first.recv().await.as_deref(), Some("greet"));
/// scheduler.stop().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Scheduler(Arc<Running>);

// The last handle ends the loops: they themselves hold only the engine.
struct Running {
    engine: Arc<Engine>,
    loops: Mutex<Vec<JoinHandle<()>>>,
    /// Whether it has been stopped; held while it is being stopped.
    stopped: tokio::sync::Mutex<bool>,
}

impl Scheduler {
    /// A scheduler over a store, to be set up and started.
    pub fn builder(store: impl Store) -> SchedulerBuilder {
        SchedulerBuilder::new(Arc::new(store))
    }

    /// The same, over a store that somebody else holds too.
    pub fn over(store: Arc<dyn Store>) -> SchedulerBuilder {
        SchedulerBuilder::new(store)
    }

    /// Starts the loops. Called by the builder when everything is registered.
    pub(crate) fn launch(engine: Arc<Engine>, recorder: Recorder) -> Self {
        let loops = vec![
            spawn(&engine, "membership", Membership::new(Arc::clone(&engine)).run()),
            spawn(&engine, "ticker", Ticker::new(Arc::clone(&engine)).run()),
            spawn(&engine, "recorder", recorder.run()),
            spawn(&engine, "janitor", janitor::run(Arc::clone(&engine))),
        ];
        Self(Arc::new(Running { engine, loops: Mutex::new(loops), stopped: tokio::sync::Mutex::new(false) }))
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.0.engine
    }

    /// The jobs: create, edit, list, run.
    pub fn jobs(&self) -> Jobs {
        let engine = self.engine();
        Jobs::new(
            Arc::clone(&engine.store),
            Arc::clone(&engine.registry),
            Arc::clone(&engine.ids),
            engine.events.clone(),
        )
    }

    /// The handlers and templates; may grow while the scheduler runs.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.0.engine.registry
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.0.engine.store
    }

    /// Registers a static job, and stores it if it is new or has changed. One that is stored as it is
    /// keeps its due time, its pause and its history.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::Invalid`] with everything that is wrong with it; the store's own.
    pub async fn register(&self, job: StaticJob) -> Result<()> {
        let (definition, handler) = job.into_parts();
        self.registry().insert_handler(definition.handler.clone(), handler);
        self.jobs().register(definition).await.map(drop)?;
        self.engine().wake.notify_one();
        Ok(())
    }

    /// Looks at once for what is due: a handler that was not ready, see [`crate::Handler::is_ready`], is so
    /// again.
    pub fn look(&self) {
        self.engine().wake.notify_one();
    }

    /// What happens from now on. A receiver that is too slow loses the oldest events, and is told so.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.engine().events.subscribe()
    }

    /// A page of executions.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn executions(&self, query: &ExecutionQuery) -> Result<Page<Execution>> {
        self.store().list_executions(query).await
    }

    /// One execution, if there is one.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn execution(&self, id: &ExecutionId) -> Result<Option<Execution>> {
        self.store().get_execution(id).await
    }

    /// The log of an execution, oldest line first; the lines of a running one come within
    /// [`crate::Options::report_every`].
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn logs(&self, id: &ExecutionId) -> Result<Vec<LogLine>> {
        self.store().list_logs(id, 0, crate::context::MAX_LOG_LINES + 1).await
    }

    /// Ends a pending execution, or asks a running one to stop, on whichever node it runs.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn cancel(&self, id: &ExecutionId, actor: &str) -> Result<CancelOutcome> {
        let outcome = self.store().cancel(id, actor).await?;
        if outcome == CancelOutcome::Requested
            && let Some(running) = self.engine().owned.get(id)
        {
            running.stop(StopReason::Cancelled);
        }
        Ok(outcome)
    }

    /// The nodes that share the store.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn nodes(&self) -> Result<Vec<Node>> {
        self.store().list_nodes().await
    }

    /// This node in its present epoch; `None` while it is not a member.
    pub fn node(&self) -> Option<NodeRef> {
        self.engine().node.borrow().clone()
    }

    /// How many executions run on this node now.
    pub fn n_running(&self) -> usize {
        self.engine().owned.active()
    }

    /// Stops with the grace of [`crate::Options::stop_grace`].
    pub async fn stop(&self) {
        self.stop_within(self.engine().options.stop_grace).await;
    }

    /// Stops: nothing new is claimed from this instant; what runs may end within `grace`, then is asked
    /// to stop and recorded as interrupted; then the node leaves. Returns when all is written; without a
    /// store that answers, after `grace` and some seconds. A second call waits for the same end.
    ///
    /// Cancelling this future leaves the scheduler stopping, and not yet stopped; a later call goes on.
    pub async fn stop_within(&self, grace: Duration) {
        let engine = self.engine();
        let mut stopped = self.0.stopped.lock().await;
        if *stopped {
            return;
        }
        engine.stopping.cancel();
        // The lease is renewed until the last execution has ended; others see that this node drains.
        engine.renew.notify_one();
        if !self.drained(grace).await {
            for running in engine.owned.all() {
                running.stop(StopReason::Shutdown);
            }
            self.drained(Duration::from_secs(3)).await;
        }
        engine.leaving.cancel();
        let node = engine.node.borrow().clone();
        if let Some(node) = node {
            let left = engine.call("leave", engine.store.leave(&node));
            tokio::select! {
                biased;
                _ = left => {}
                () = engine.clock.sleep(Duration::from_secs(2)) => {}
            }
        }
        engine.ended.cancel();
        let loops = std::mem::take(&mut *self.0.loops.lock().unwrap_or_else(PoisonError::into_inner));
        for task in loops {
            // An error means that it was aborted; it has ended either way.
            let _ = task.await;
        }
        // What an answer brought that came while the node left belongs to others now.
        for running in engine.owned.all() {
            running.stop(StopReason::LeaseLost);
        }
        engine.events.tell(|| Event::Stopped);
        engine.runtimes.shut_down();
        *stopped = true;
    }

    /// Waits until this node owns nothing; `false` when `grace` is over before.
    async fn drained(&self, grace: Duration) -> bool {
        tokio::select! {
            biased;
            () = async {
                // A claim may be on its way: what it brings is owned, too.
                self.engine().quiet.cancelled().await;
                self.engine().owned.empty().await;
            } => true,
            () = self.engine().clock.sleep(grace) => false,
        }
    }

    /// Ends everything at once, as a crash would: nothing more is written, no lease is given back. For
    /// tests of what others do then.
    pub fn kill(&self) {
        self.0.end();
    }
}

fn spawn(
    engine: &Arc<Engine>,
    name: &'static str,
    work: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    engine.runtimes.spawn_loop(supervised(Arc::clone(engine), name, work))
}

impl Running {
    fn end(&self) {
        self.engine.stopping.cancel();
        self.engine.ended.cancel();
        for task in self.loops.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
        for running in self.engine.owned.all() {
            running.stop(StopReason::LeaseLost);
        }
        self.engine.runtimes.shut_down();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

impl std::fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scheduler").field("node", &self.node()).field("store", self.store()).finish()
    }
}
