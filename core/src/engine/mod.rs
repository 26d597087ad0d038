//! The engine: the loops that move data between the store, the planner and the handlers.
//!
//! Deciding is elsewhere ([`crate::plan`], [`crate::settle`]); the loops are thin. Each ends within one
//! store call of being asked to.
//!
//! | loop | sleeps until | does |
//! |---|---|---|
//! | [`ticker`] | the next due time, a hint, a free slot, or the poll interval | claims, and hands what it got to the runner |
//! | [`runner`] | (one task for each execution) | runs the handler, with its timeout and token |
//! | [`recorder`] | something ended, or has something to report | writes it, in batches; then tells |
//! | [`membership`] | 0.4 of the lease | renews the lease, passes on cancellations, reaps dead nodes |
//! | [`janitor`] | its interval | removes what the retention no longer keeps |
//!
//! When the store is away the engine is degraded: it goes on running what it has, keeps the ends of
//! executions until they can be written, and asks again with growing waits.

pub(crate) mod caught;
pub(crate) mod events;
#[cfg(test)]
mod faulty;
pub(crate) mod health;
pub(crate) mod janitor;
pub(crate) mod membership;
pub(crate) mod options;
pub(crate) mod owned;
pub(crate) mod recorder;
pub(crate) mod runner;
pub(crate) mod runtimes;
pub(crate) mod store_clock;
#[cfg(test)]
mod tests;
pub(crate) mod ticker;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::id::IdSource;
use crate::plan::EnginePlanner;
use crate::registry::Registry;
use crate::secret::Secrets;
use crate::store::{NodeInfo, NodeRef, Store};
use crate::time::Timestamp;

use self::events::Events;
use self::health::Health;
use self::options::Options;
use self::owned::Owned;
use self::recorder::Finished;
use self::runtimes::Runtimes;
use self::store_clock::StoreClock;

/// What the loops of one node share.
pub(crate) struct Engine {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<IdSource>,
    pub(crate) options: Options,
    pub(crate) registry: Arc<Registry>,
    pub(crate) secrets: Arc<dyn Secrets>,
    pub(crate) planner: EnginePlanner,
    pub(crate) events: Events,
    pub(crate) health: Health,
    pub(crate) owned: Owned,
    pub(crate) runtimes: Runtimes,
    /// This node in its present epoch; `None` before it has joined and after it was refused.
    pub(crate) node: watch::Sender<Option<NodeRef>>,
    /// Wakes the ticker: a slot is free, or something may be due.
    pub(crate) wake: Notify,
    /// Whether the last claim passed over something that the end of an execution would let run.
    pub(crate) blocked: AtomicBool,
    /// Whether the store may know of executions of this node that the node does not know of.
    pub(crate) reconcile: AtomicBool,
    /// Wakes the membership: renew now.
    pub(crate) renew: Notify,
    /// Wakes a ticker that was refused: the lease is renewed.
    pub(crate) renewed: Notify,
    /// Wakes the recorder: a handler has said something.
    pub(crate) dirty: Arc<Notify>,
    pub(crate) finished: mpsc::UnboundedSender<Finished>,
    /// Nothing new is claimed from here on.
    pub(crate) stopping: CancellationToken,
    /// The ticker has ended: nothing more can come in.
    pub(crate) quiet: CancellationToken,
    /// This node leaves: a claim that has no answer yet is given up.
    pub(crate) leaving: CancellationToken,
    /// All loops end.
    pub(crate) ended: CancellationToken,
    pub(crate) store_clock: Arc<StoreClock>,
}

impl Engine {
    #[expect(clippy::too_many_arguments, reason = "called once, by the builder, with what it was given")]
    pub(crate) fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        ids: Arc<IdSource>,
        options: Options,
        registry: Arc<Registry>,
        secrets: Arc<dyn Secrets>,
        runtimes: Runtimes,
        finished: mpsc::UnboundedSender<Finished>,
    ) -> Self {
        Self {
            planner: EnginePlanner::new(Arc::clone(&ids)).knowing(Arc::clone(&registry)),
            store_clock: Arc::new(StoreClock::new(Arc::clone(&clock))),
            store,
            clock,
            ids,
            options,
            registry,
            secrets,
            events: Events::new(),
            health: Health::default(),
            owned: Owned::default(),
            runtimes,
            node: watch::Sender::new(None),
            wake: Notify::new(),
            blocked: AtomicBool::new(false),
            reconcile: AtomicBool::new(false),
            renew: Notify::new(),
            renewed: Notify::new(),
            dirty: Arc::new(Notify::new()),
            finished,
            stopping: CancellationToken::new(),
            quiet: CancellationToken::new(),
            leaving: CancellationToken::new(),
            ended: CancellationToken::new(),
        }
    }

    /// The store's clock, as far as this node knows it.
    pub(crate) fn store_now(&self) -> Timestamp {
        self.store_clock.now()
    }

    pub(crate) fn skew_millis(&self) -> i64 {
        self.store_clock.skew_millis()
    }

    /// Learns the store's clock from an answer to a question that took from `asked` until now.
    pub(crate) fn learn_clock(&self, store_now: Timestamp, asked: Duration) {
        if self.store_clock.learn(store_now, asked, self.options.call_timeout) {
            self.wake.notify_one();
        }
    }

    /// Asks the store, with a deadline, and keeps the books on whether it can be reached.
    ///
    /// Dropping a call says nothing about whether it commits: see [`ticker`] for what follows.
    pub(crate) async fn call<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.call_within(self.options.call_timeout, operation, call).await
    }

    /// [`Self::call`] with another deadline.
    pub(crate) async fn call_within<T>(
        &self,
        timeout: Duration,
        operation: &'static str,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let deadline = self.clock.sleep(timeout);
        let answer = tokio::select! {
            biased;
            answer = call => answer.map_err(|e| e.during(operation)),
            () = deadline => {
                let seconds = timeout.as_secs_f64();
                Err(Error::unavailable(format!("no answer from the store within {seconds} s")).during(operation))
            }
        };
        match &answer {
            Ok(_) => self.health.reached(self),
            Err(e) if e.is_retryable() || matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::Internal) => {
                self.health.failed(self, e);
            }
            Err(_) => {}
        }
        answer
    }

    /// How long to wait before asking again after `n` failures in a row: from 50 ms, doubled up to 5 s,
    /// half of it drawn at random.
    pub(crate) fn backoff(&self, n: u32) -> Duration {
        let whole = Duration::from_millis(50).saturating_mul(1 << n.min(7)).min(Duration::from_secs(5));
        whole.mul_f64(0.5 + 0.5 * self.ids.fraction())
    }

    /// Sleeps, unless the engine ends before; `false` when it has.
    pub(crate) async fn sleep(&self, duration: Duration) -> bool {
        tokio::select! {
            biased;
            () = self.ended.cancelled() => false,
            () = self.clock.sleep(duration) => true,
        }
    }

    /// What this node tells of itself.
    pub(crate) fn info(&self) -> NodeInfo {
        NodeInfo {
            host: options::host_name(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            tzdb: crate::schedule::tzdb_version().to_owned(),
            handlers: self.registry.names().into_iter().collect(),
            concurrency: self.options.concurrency,
            running: self.owned.active(),
            clock_skew_ms: -self.skew_millis(),
            draining: self.stopping.is_cancelled(),
        }
    }
}
