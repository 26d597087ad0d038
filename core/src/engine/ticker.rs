//! The ticker: claims what is due, as soon as it is due.
//!
//! A claim may commit and lose its reply. Then executions are recorded as running on this node that it
//! knows nothing of. So after every claim without an answer the ticker asks the store what this node
//! owns, and starts what it did not know. A call that was given up can still commit at any time later,
//! and a network may repeat one; so each heartbeat tells how much is recorded as running here, and when
//! that is more than the node knows of, and is again a little later, the ticker asks as well.

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
}

/// How long to wait at most when there is more that could not be taken.
const MORE: Duration = Duration::from_secs(1);

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
        Self { engine, hints, failures: 0 }
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
                self.engine.reconcile.store(true, Ordering::Relaxed);
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
        let asked = engine.clock.steady();
        if engine.reconcile.swap(false, Ordering::Relaxed) {
            engine.owned.begin_listing();
            let listed = engine.call("list owned executions", engine.store.owned(node)).await?;
            let unknown = engine.owned.end_listing(listed);
            if !self.still_owns(node, asked) {
                engine.reconcile.store(true, Ordering::Relaxed);
                return Ok(Wait::Member(Some(node.clone())));
            }
            for claimed in unknown {
                tracing::info!(execution_id = %claimed.execution.id, "found a claim whose reply was lost");
                runner::start(engine, node, claimed);
            }
        }
        let handlers = engine.registry.ready();
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
                if !self.still_owns(node, asked) {
                    engine.reconcile.store(true, Ordering::Relaxed);
                    return Ok(Wait::Member(Some(node.clone())));
                }
                engine.learn_clock(batch.now, asked);
                engine.health.claimed(batch.now);
                engine.blocked.store(batch.blocked, Ordering::Relaxed);
                Ok(self.take(node, *batch))
            }
        }
    }

    /// Whether what an answer to a question of `asked` says is owned is owned still. One that was handled
    /// late, by a process that stood still, may speak of an epoch that is dead, or about to be found so:
    /// then nothing of it is started. If the epoch lives, it is found again among what the node owns.
    fn still_owns(&self, node: &NodeRef, asked: Duration) -> bool {
        let engine = &self.engine;
        let late = engine.clock.steady().saturating_sub(asked) >= engine.options.lease;
        if late {
            engine.renew.notify_one();
        }
        !late && engine.node.borrow().as_ref() == Some(node)
    }

    /// Starts what was claimed, tells what was decided, and says how long there is nothing to do.
    fn take(&self, node: &NodeRef, batch: ClaimBatch) -> Wait {
        let engine = &self.engine;
        let decided = batch.claimed.len() + batch.skipped.len() + batch.queued.len();
        let progress = decided + batch.set_aside.len() + batch.ended.len() > 0;
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
        // What is due and could not be taken now is asked for again soon.
        let poll = if batch.more { engine.options.poll.min(MORE) } else { engine.options.poll };
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
                    () = engine.clock.sleep(engine.options.poll) => {}
                }
            }
            Wait::Member(refused) => {
                let mut node = engine.node.subscribe();
                tokio::select! {
                    biased;
                    () = engine.stopping.cancelled() => {}
                    _ = node.wait_for(|node| node.is_some() && *node != refused) => {}
                    // The lease may have been renewed in the same epoch.
                    () = engine.renewed.notified() => {}
                    () = engine.clock.sleep(engine.options.lease / 4), if refused.is_some() => {}
                }
            }
        }
    }
}
