//! The recorder: writes how executions ended, and what running ones say, in batches.
//!
//! One loop does both, so that a line logged before the end is never written after it. Whatever is there
//! is written at once; while one batch is being written the next gathers. An end that can't be written
//! is kept until it can be, or until the engine ends: then another node's reaper finds the execution.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;

use super::Engine;
use super::owned::Running;
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::execution::{Execution, Failure, JobResult};
use crate::settle::{self, Ending};
use crate::store::{CompleteOutcome, CompleteRequest, Completion, NodeRef, Report};

/// An execution whose handler has ended.
pub(crate) struct Finished {
    pub(crate) running: Arc<Running>,
    pub(crate) ending: Ending,
}

/// One node's recorder.
pub(crate) struct Recorder {
    engine: Arc<Engine>,
    finished: mpsc::UnboundedReceiver<Finished>,
}

impl Recorder {
    pub(crate) fn new(engine: Arc<Engine>, finished: mpsc::UnboundedReceiver<Finished>) -> Self {
        Self { engine, finished }
    }

    /// Writes until the engine ends.
    pub(crate) async fn run(mut self) {
        let engine = Arc::clone(&self.engine);
        let report_due = || async {
            engine.dirty.notified().await;
            engine.clock.sleep(engine.options.report_every).await;
        };
        let mut report = Box::pin(report_due());
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = engine.ended.cancelled() => return,
                // Before the ends, which may come without a pause; it is ready only now and then.
                () = &mut report => {
                    self.report().await;
                    report = Box::pin(report_due());
                }
                n = self.finished.recv_many(&mut batch, engine.options.record_batch) => {
                    if n == 0 {
                        return;
                    }
                    self.record(&mut batch).await;
                }
            }
        }
    }

    /// Writes the ends, one call for each epoch that owned some.
    async fn record(&self, batch: &mut Vec<Finished>) {
        while let Some(node) = batch.first().map(|f| f.running.node.clone()) {
            let mut group: Vec<Entry> = Vec::with_capacity(batch.len());
            for finished in batch.extract_if(.., |f| f.running.node == node) {
                group.push(self.settle(finished));
            }
            self.write(&node, group).await;
        }
    }

    fn settle(&self, finished: Finished) -> Entry {
        let Finished { running, mut ending } = finished;
        (ending.first_line, ending.logs, _) = running.ctx.take_news();
        let job = running.ctx.job();
        let mut execution = running.ctx.execution().clone();
        execution.cancel_requested |= running.stop_reason() == Some(super::owned::StopReason::Cancelled);
        let completion = settle::settle(Some(job), &execution, ending, &self.engine.ids);
        Entry { running, completion }
    }

    async fn write(&self, node: &NodeRef, group: Vec<Entry>) {
        let (mut owners, mut completions) = (Vec::new(), Vec::new());
        for entry in group {
            owners.push(entry.running);
            completions.push(entry.completion);
        }
        match self.complete(node, &completions).await {
            Ok(outcomes) => self.tell(&owners, completions, outcomes),
            Err(error) if error.kind() == ErrorKind::Stopped => {}
            Err(error) => {
                // One that the store can't take must not keep the others.
                tracing::error!(%error, n = completions.len(), "ends of executions can't be written together");
                for (owner, completion) in owners.into_iter().zip(completions) {
                    self.write_alone(node, owner, completion).await;
                }
            }
        }
    }

    async fn write_alone(&self, node: &NodeRef, owner: Arc<Running>, mut completion: Completion) {
        let mut failures = 0;
        loop {
            match self.complete(node, std::slice::from_ref(&completion)).await {
                Ok(outcomes) => return self.tell(&[owner], vec![completion], outcomes),
                Err(error) if error.kind() == ErrorKind::Stopped => return,
                Err(error) => {
                    // Kept, in its plainest form, until the store takes it or the node ends.
                    tracing::error!(%error, execution_id = %completion.execution_id, "an end can't be stored");
                    simplify(&mut completion, &error);
                    failures += 1;
                    if !self.engine.sleep(self.engine.backoff(failures)).await {
                        return;
                    }
                }
            }
        }
    }

    /// Asks until there is an answer, or the engine ends.
    async fn complete(
        &self,
        node: &NodeRef,
        completions: &[Completion],
    ) -> Result<Vec<CompleteOutcome>, Error> {
        let mut failures = 0;
        loop {
            let request = CompleteRequest { node, completions };
            let answer =
                self.engine.call("record the ends of executions", self.engine.store.complete(request)).await;
            match answer {
                Err(error) if error.is_retryable() => {
                    failures += 1;
                    if !self.engine.sleep(self.engine.backoff(failures)).await {
                        return Err(Error::stopped("the engine ended before the store could be reached"));
                    }
                }
                answer => return answer,
            }
        }
    }

    fn tell(&self, owners: &[Arc<Running>], completions: Vec<Completion>, outcomes: Vec<CompleteOutcome>) {
        let engine = &self.engine;
        engine.owned.release(completions.iter().map(|c| &c.execution_id));
        if engine.blocked.load(Ordering::Relaxed) {
            engine.wake.notify_one();
        }
        for ((owner, completion), outcome) in owners.iter().zip(completions).zip(outcomes) {
            let paused = matches!(outcome, CompleteOutcome::Applied { paused: true });
            let (job_id, reason) = (completion.job_id.clone(), completion.effect.set_aside.clone());
            match outcome {
                CompleteOutcome::Applied { .. } => engine.events.tell(|| {
                    let retry_at = completion.retry.as_ref().map(|r| r.run_at);
                    let execution = Box::new(ended(owner.ctx.execution().clone(), completion));
                    let notify = Some(owner.ctx.job().definition.notifications.clone());
                    Event::ExecutionEnded { execution, retry_at, notify }
                }),
                CompleteOutcome::Refused => {
                    tracing::warn!(execution_id = %completion.execution_id, "it belonged to another node by then");
                    // This node is most likely dead, and what else it runs belongs to others, too.
                    engine.renew.notify_one();
                    let execution = Box::new(owner.ctx.execution().clone());
                    engine.events.tell(|| Event::ExecutionRefused { execution });
                    continue;
                }
            }
            if paused {
                tracing::warn!(%job_id, "disabled after too many failures in a row");
                engine.events.tell(|| Event::JobPaused { job_id: job_id.clone() });
            }
            if let Some(reason) = reason {
                engine.events.tell(|| Event::JobSetAside { job_id, reason });
            }
        }
    }

    /// Writes what running executions have said since the last time.
    async fn report(&self) {
        let mut by_node: Vec<(NodeRef, Vec<Arc<Running>>, Vec<Report>)> = Vec::new();
        for running in self.engine.owned.all() {
            let (first_line, logs, progress) = running.ctx.take_news();
            if logs.is_empty() && progress.is_none() {
                continue;
            }
            let claim = running.ctx.execution().claim;
            let report = Report { execution_id: running.id(), claim, logs, first_line, progress };
            match by_node.iter_mut().find(|(node, ..)| *node == running.node) {
                Some((_, owners, reports)) => {
                    owners.push(running);
                    reports.push(report);
                }
                None => by_node.push((running.node.clone(), vec![running], vec![report])),
            }
        }
        for (node, owners, reports) in by_node {
            if self.engine.call("report", self.engine.store.report(&node, &reports)).await.is_err() {
                for (owner, report) in owners.iter().zip(reports) {
                    owner.ctx.return_news(report.logs, report.progress);
                }
            }
        }
    }
}

struct Entry {
    running: Arc<Running>,
    completion: Completion,
}

/// Takes out of a completion what a store may not be able to keep, and says so.
fn simplify(completion: &mut Completion, error: &Error) {
    let why = format!("the result could not be stored: {error}");
    completion.logs.clear();
    completion.result = Some(JobResult { message: why.clone(), ..JobResult::default() });
    if let Some(failure) = &mut completion.error {
        *failure = Failure { kind: failure.kind.clone(), message: why, trace: None };
    }
}

/// The execution as its completion leaves it.
pub(crate) fn ended(mut execution: Execution, completion: Completion) -> Execution {
    execution.status = completion.status;
    execution.reason = completion.reason;
    execution.ended_at = Some(completion.ended_at);
    execution.duration = completion.duration;
    execution.result = completion.result;
    execution.error = completion.error;
    execution
}
