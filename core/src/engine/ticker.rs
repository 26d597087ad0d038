//! The ticker: claims what is due, as soon as it is due.
//!
//! A claim may commit and lose its reply. Then executions are recorded as running on this node that it
//! knows nothing of. So after every claim without an answer the ticker asks the store what this node
//! owns, and starts what it did not know. A call that was given up can still commit at any time later,
//! and a network may repeat one; so it also asks once in each lease, whatever has happened.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;

use super::owned::StopReason;
use super::{Engine, runner};
use crate::error::Result;
use crate::event::Event;
use crate::store::{ClaimBatch, ClaimOutcome, ClaimRequest, NodeRef};

/// One node's ticker.
pub(crate) struct Ticker {
    engine: Arc<Engine>,
    hints: watch::Receiver<u64>,
    failures: u32,
    /// When, by the steady clock, to ask what this node owns.
    reconcile_at: Duration,
}

/// What to wait for before the next step.
enum Wait {
    /// Nothing: there is more to do.
    None,
    /// This long, or until something changes.
    AtMost(Duration),
    /// Until a slot is free.
    Slot,
    /// Until this node is a member with another epoch than this one.
    Member(Option<NodeRef>),
}

impl Ticker {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        let hints = engine.store.hints();
        let reconcile_at = engine.clock.steady().saturating_add(engine.options.lease);
        Self { engine, hints, failures: 0, reconcile_at }
    }

    /// Claims until the engine stops. An answer that is on its way then is still waited for, until the node
    /// leaves: what it brings is to be run, and to be waited for.
    pub(crate) async fn run(mut self) {
        let engine = Arc::clone(&self.engine);
        while !engine.stopping.is_cancelled() {
            tokio::select! {
                biased;
                () = engine.leaving.cancelled() => break,
                wait = self.run_once() => self.wait(wait).await,
            }
        }
        engine.quiet.cancel();
    }

    async fn run_once(&mut self) -> Wait {
        let Some(node) = self.engine.node.borrow().clone() else { return Wait::Member(None) };
        if self.free() == 0 {
            return Wait::Slot;
        }
        // What changes from here on is seen by the claim, or rings again.
        self.hints.mark_unchanged();
        match self.step(&node).await {
            Ok(wait) => {
                self.failures = 0;
                wait
            }
            Err(error) => {
                if !error.is_retryable() {
                    tracing::error!(%error, "a claim failed");
                }
                self.reconcile_at = Duration::ZERO;
                self.failures = self.failures.saturating_add(1);
                Wait::AtMost(self.engine.backoff(self.failures))
            }
        }
    }

    fn free(&self) -> usize {
        self.engine.options.concurrency.saturating_sub(self.engine.owned.active())
    }

    async fn step(&mut self, node: &NodeRef) -> Result<Wait> {
        let engine = &self.engine;
        if engine.clock.steady() >= self.reconcile_at {
            engine.owned.begin_listing();
            let listed = engine.call("list owned executions", engine.store.owned(node)).await?;
            for claimed in engine.owned.end_listing(listed) {
                tracing::info!(execution_id = %claimed.execution.id, "found a claim whose reply was lost");
                runner::start(engine, node, claimed);
            }
            self.reconcile_at = engine.clock.steady().saturating_add(engine.options.lease);
        }
        let handlers = engine.registry.names();
        let free = self.free();
        if free == 0 || engine.stopping.is_cancelled() {
            return Ok(Wait::Slot);
        }
        let limit = free.min(engine.options.claim_batch);
        let request = ClaimRequest { node, handlers: &handlers, limit };
        let asked = engine.clock.steady();
        match engine.call("claim", engine.store.claim(request, &engine.planner)).await? {
            ClaimOutcome::Refused => {
                engine.renew.notify_one();
                Ok(Wait::Member(Some(node.clone())))
            }
            ClaimOutcome::Claimed(batch) => {
                engine.learn_clock(batch.now, asked);
                engine.health.claimed(batch.now);
                engine.blocked.store(batch.blocked, Ordering::Relaxed);
                Ok(self.take(node, *batch))
            }
        }
    }

    /// Starts what was claimed, tells what was decided, and says how long there is nothing to do.
    fn take(&self, node: &NodeRef, batch: ClaimBatch) -> Wait {
        let engine = &self.engine;
        let progress = !(batch.claimed.is_empty() && batch.skipped.is_empty() && batch.queued.is_empty());
        for claimed in batch.claimed {
            runner::start(engine, node, claimed);
        }
        for execution in batch.skipped.into_iter().chain(batch.queued) {
            engine.events.tell(|| Event::OccurrenceRecorded { execution: Box::new(execution) });
        }
        for id in batch.cancel {
            if let Some(running) = engine.owned.get(&id) {
                running.stop(StopReason::Cancelled);
            }
        }
        for (job_id, reason) in batch.set_aside {
            tracing::error!(%job_id, %reason, "a job can't be used and was set aside");
            engine.events.tell(|| Event::JobSetAside { job_id, reason });
        }
        for (job_id, reason) in batch.ended {
            engine.events.tell(|| Event::JobEnded { job_id, reason });
        }
        if batch.more && progress {
            return Wait::None;
        }
        let poll = engine.options.poll;
        Wait::AtMost(batch.next_at.map_or(poll, |next| {
            // At least a millisecond: a clock that is a little behind must not make a busy loop.
            next.since(engine.store_now()).clamp(Duration::from_millis(1), poll)
        }))
    }

    async fn wait(&mut self, wait: Wait) {
        let engine = &self.engine;
        match wait {
            Wait::None => tokio::task::yield_now().await,
            Wait::AtMost(duration) => {
                tokio::select! {
                    biased;
                    () = engine.stopping.cancelled() => {}
                    _ = self.hints.changed() => {}
                    () = engine.wake.notified() => {}
                    () = engine.clock.sleep(duration) => {}
                }
            }
            Wait::Slot => {
                tokio::select! {
                    biased;
                    () = engine.stopping.cancelled() => {}
                    () = engine.wake.notified() => {}
                }
            }
            Wait::Member(refused) => {
                let mut node = engine.node.subscribe();
                tokio::select! {
                    biased;
                    () = engine.stopping.cancelled() => {}
                    _ = node.wait_for(|node| node.is_some() && *node != refused) => {}
                    // The lease may have been renewed in the same epoch.
                    () = engine.clock.sleep(engine.options.lease / 3), if refused.is_some() => {}
                }
            }
        }
    }
}
