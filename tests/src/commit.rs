//! The verbs as the witness carries them out: the call, what it changed, and what must hold of that.

use std::collections::BTreeSet;
use std::time::Duration;

use unified_scheduler_core::execution::Trigger;
use unified_scheduler_core::settle::Ending;
use unified_scheduler_core::store::{
    CancelOutcome, ClaimBatch, ClaimOutcome, ClaimRequest, Claimed, CompleteOutcome, CompleteRequest,
    Completion, CreateJobs, CreateOutcome, HeartbeatOutcome, HeartbeatRequest, JoinRequest, Joined,
    NewExecution, NextDue, NodeRef, ReapRequest, Reaped, Report, Store, TriggerOutcome, TriggerRequest,
    UpdateJob, UpdateOutcome,
};
use unified_scheduler_core::{ChainOn, Execution, ExecutionId, JobId, Result, Status, Timestamp};

use crate::reference;
use crate::witness::{Asked, Model, Witness, at_once, of_batch};

impl Witness {
    pub(crate) fn claim(
        &self,
        node: &NodeRef,
        handlers: &BTreeSet<String>,
        limit: usize,
    ) -> Result<ClaimOutcome> {
        let now = self.now();
        self.planner.take_asked();
        let outcome = at_once(self.store.claim(ClaimRequest { node, handlers, limit }, &self.planner))?;
        let asked = self.planner.take_asked();
        let mut model = self.model();
        let lease =
            model.nodes.get(&node.id).filter(|(epoch, _)| *epoch == node.epoch.0).map(|(_, until)| *until);
        let may = lease.is_some_and(|until| now < until);
        let ClaimOutcome::Claimed(batch) = &outcome else {
            if may {
                model.violate(format!("{now}: {} may claim, and was refused", node.id));
            }
            return Ok(outcome);
        };
        if !may {
            model.violate(format!("I7 {now}: {} claimed, and its lease was over", node.id));
        }
        if batch.claimed.len() > limit {
            model.violate(format!("I13 {now}: {} claimed for {limit} slots", batch.claimed.len()));
        }
        for asked in &asked {
            before_firing(&mut model, asked, batch, now);
        }
        for claimed in &batch.claimed {
            let e = &claimed.execution;
            let early = e.run_at > now || !handlers.contains(&e.handler);
            if early
                || e.started_at != Some(now)
                || e.node_id.as_ref() != Some(&node.id)
                || e.epoch != node.epoch
            {
                model.violate(format!("I6 {now}: {} claimed {e:?}", node.id));
            }
            if model.rows.get(&e.id).is_some_and(|row| row.execution.status != Status::Pending) {
                model.violate(format!("I20 {now}: claimed what is not pending: {e:?}"));
            }
        }
        drop(model);
        for id in of_batch(batch) {
            self.touch(&id);
        }
        for asked in &asked {
            self.touch_job(&asked.job.id);
        }
        let mut model = self.model();
        for claimed in &batch.claimed {
            let (id, job) = (claimed.execution.id, &claimed.job);
            if model.jobs.get(&job.id).is_none_or(|known| known.fault.is_some()) {
                model.violate(format!("I18 {now}: started {id} of a job that is gone or set aside"));
            }
            let running = model.live(&job.id).running;
            if running > job.definition.overlap.max_running() {
                model.violate(format!("I13 {now}: {running} of {} run at once", job.id));
            }
            if let Some(row) = model.rows.get_mut(&id) {
                row.job = Some(job.clone());
            }
            model.trace(&format!("claim {now} {id} {}", node.id));
        }
        for asked in &asked {
            after_firing(&mut model, asked, batch);
        }
        Ok(outcome)
    }

    pub(crate) fn owned(&self, node: &NodeRef) -> Result<Vec<Claimed>> {
        let owned = at_once(self.store.owned(node))?;
        let mut model = self.model();
        for claimed in &owned {
            if !model.may_write(node, &claimed.execution.id) {
                model.violate(format!("I7 {node:?} is told that it owns {:?}", claimed.execution));
            }
        }
        Ok(owned)
    }

    pub(crate) fn complete(
        &self,
        node: &NodeRef,
        completions: &[Completion],
    ) -> Result<Vec<CompleteOutcome>> {
        let now = self.now();
        let mut outcomes = Vec::with_capacity(completions.len());
        // One by one: what holds of a batch holds of its parts, and the changes can be told apart.
        for completion in completions {
            let id = &completion.execution_id;
            let owned = self.model().may_write(node, id);
            let before = self.model().rows.get(id).cloned();
            let completions = std::slice::from_ref(completion);
            let outcome = at_once(self.store.complete(CompleteRequest { node, completions }))?[0];
            outcomes.push(outcome);
            let applied = matches!(outcome, CompleteOutcome::Applied { .. });
            if applied && owned {
                self.ended(completion, now);
            } else if owned {
                self.model().violate(format!("I7 {now}: the owner {} of {id} was refused", node.id));
            } else if applied && let Some(row) = before {
                let e = &row.execution;
                let repeat = e.status == completion.status && e.node_id.as_ref() == Some(&node.id);
                if !repeat || e.epoch != node.epoch {
                    self.model().violate(format!("I7 {now}: {} ended {e:?}", node.id));
                }
                if !row.removed {
                    self.touch(id);
                }
            }
            self.model().trace(&format!("end {now} {id} {} {applied}", completion.status));
        }
        Ok(outcomes)
    }

    /// Follows up one end of an execution that took effect.
    fn ended(&self, completion: &Completion, now: Timestamp) {
        let id = &completion.execution_id;
        let Some(row) = self.model().rows.get(id).cloned() else { return };
        self.touch(id);
        if self.row(id).is_none() {
            self.model().ended_without_record(id, completion.status);
            if completion.keeps_row() {
                self.model().violate(format!("I8 the record of {id} is gone"));
            }
        }
        self.check_retry(&row.execution, completion, now);
        let retry: Option<&NewExecution> = completion.retry.as_ref();
        let job_is_there = self.job(&completion.job_id).is_some();
        if let Some(new) = retry {
            self.touch(&new.id);
            // What somebody has called off is not tried again, although its node did not know.
            let wanted = job_is_there && !row.execution.cancel_requested;
            if self.row(&new.id).is_some() != wanted {
                self.model().violate(format!("I12 the retry of {id} is not as it should be"));
            }
        }
        for link in &completion.chained {
            let wanted = self.job(&link.job_id).is_some_and(|job| job.enabled);
            self.touch(&link.id);
            if self.row(&link.id).is_some() != wanted {
                self.model().violate(format!("I12 the chained {} of {id} is not as it should be", link.id));
            }
        }
        let before = self.model().jobs.get(&completion.job_id).cloned();
        self.touch_job(&completion.job_id);
        let mut model = self.model();
        if let (Some(before), Some(after)) = (before, model.jobs.get(&completion.job_id).cloned()) {
            if before.due.is_some() && after.due != before.due {
                model
                    .violate(format!("I17 {now}: the end of {id} moved {:?} to {:?}", before.due, after.due));
            }
            let failures = match completion.status {
                // A node that stops says nothing about the job.
                Status::Failed if completion.reason.as_deref() == Some("interrupted") => {
                    before.failures_in_row
                }
                Status::Failed | Status::Timeout | Status::Lost => before.failures_in_row + 1,
                Status::Skipped | Status::Cancelled => before.failures_in_row,
                _ => 0,
            };
            let pause = after.definition.pause_after_failures.is_some_and(|most| failures >= most);
            if after.failures_in_row != failures
                || after.enabled != (before.enabled && !(pause && failures > before.failures_in_row))
            {
                model.violate(format!("I12 {now}: after {id} {} the job is {after:?}", completion.status));
            }
        }
    }

    /// The retry and the chains of an end, against the policies of the job as it was claimed.
    fn check_retry(&self, execution: &Execution, completion: &Completion, now: Timestamp) {
        let row = self.model().rows.get(&execution.id).and_then(|row| row.job.clone());
        // What was lost is judged by the job as it is now.
        let job = if completion.status == Status::Lost { self.job(&execution.job_id) } else { row };
        // What a lost claim started of a job that was deleted since is only called off.
        let Some(job) = job.filter(|job| self.job(&job.id).is_some()) else { return };
        let mut ending = Ending::new(completion.status, completion.ended_at);
        let wish = completion.error.as_ref().and_then(|e| e.message.strip_prefix("again in ")?.parse().ok());
        ending.retry_after = wish.map(Duration::from_secs);
        ending.error.clone_from(&completion.error);
        let expected = reference::retry_after(&job.definition.retry, execution, &ending);
        let retry = completion.retry.as_ref();
        let mut model = self.model();
        let fits = match (expected, retry) {
            (None, None) => true,
            (Some((retries, crashes, least, most)), Some(new)) => {
                let wait = new.run_at.since(completion.ended_at);
                (new.retries, new.crashes) == (retries, crashes) && least <= wait + MS && wait <= most + MS
            }
            // The node may know of a cancellation that the store does not: the policy's, or the user's own.
            (Some(_), None) => completion.status == Status::Cancelled,
            (None, Some(_)) => execution.cancel_requested && completion.status != Status::Lost,
        };
        if !fits {
            model.violate(format!("I16 {now}: {expected:?} expected after {completion:?} of {execution:?}"));
        }
        let wanted: Vec<&JobId> = job
            .definition
            .chains
            .iter()
            .filter(|c| applies(c.on, completion.status))
            .map(|c| &c.job)
            .collect();
        let chained: Vec<&JobId> = completion.chained.iter().map(|c| &c.job_id).collect();
        if chained != if retry.is_some() { Vec::new() } else { wanted } {
            model.violate(format!("I12 {now}: {} chains {chained:?}", execution.id));
        }
    }

    pub(crate) fn reap(&self, request: ReapRequest) -> Result<Reaped> {
        // One by one: so the changes can be told apart.
        let mut all = Reaped::default();
        for _ in 0..request.limit {
            let reaped = self.reap_one(ReapRequest { limit: 1, ..request })?;
            all.nodes.extend(reaped.nodes);
            all.ended.extend(reaped.ended);
            all.more = reaped.more;
            if !all.more {
                break;
            }
        }
        Ok(all)
    }

    fn reap_one(&self, request: ReapRequest) -> Result<Reaped> {
        let now = self.now();
        self.planner.take_lost();
        let reaped = at_once(self.store.reap(request, &self.planner))?;
        let lost = self.planner.take_lost();
        let mut model = self.model();
        for node in &reaped.nodes {
            let over = model.nodes.get(&node.id).filter(|(epoch, _)| *epoch == node.epoch.0);
            if over.is_none_or(|(_, until)| now <= until.saturating_add(request.grace)) {
                model.violate(format!("I9 {now}: {node:?} was buried alive"));
            }
            model.nodes.remove(&node.id);
        }
        for e in &reaped.ended {
            let node = e.node_id.clone().map(|id| NodeRef { id, epoch: e.epoch });
            let was_running = model.rows.get(&e.id).is_some_and(|r| r.execution.status == Status::Running);
            if !was_running || node.is_none_or(|node| model.is_alive(&node)) {
                model.violate(format!("I9 {now}: reaped {e:?}"));
            }
            model.trace(&format!("reap {now} {}", e.id));
        }
        drop(model);
        for completion in &lost {
            self.ended(completion, now);
        }
        Ok(reaped)
    }

    pub(crate) fn join(&self, request: JoinRequest) -> Result<Joined> {
        let (id, ttl) = (request.id.clone(), request.ttl);
        let joined = at_once(self.store.join(request))?;
        let mut model = self.model();
        let until = self.now().saturating_add(ttl);
        model.nodes.insert(id.clone(), (joined.epoch.0, until));
        model.trace(&format!("join {id} {}", joined.epoch));
        Ok(joined)
    }

    pub(crate) fn heartbeat(&self, request: HeartbeatRequest) -> Result<HeartbeatOutcome> {
        let (node, ttl) = (request.node.clone(), request.ttl);
        let outcome = at_once(self.store.heartbeat(request))?;
        let mut model = self.model();
        let renewed = matches!(outcome, HeartbeatOutcome::Renewed { .. });
        if renewed != model.is_alive(&node) {
            model.violate(format!("I9 {node:?}: {outcome:?}"));
        }
        if renewed {
            let until = self.now().saturating_add(ttl);
            model.nodes.insert(node.id, (node.epoch.0, until));
        }
        Ok(outcome)
    }

    pub(crate) fn leave(&self, node: &NodeRef) -> Result<()> {
        at_once(self.store.leave(node))?;
        let mut model = self.model();
        if model.is_alive(node) {
            model.nodes.remove(&node.id);
        }
        Ok(())
    }

    pub(crate) fn report(&self, node: &NodeRef, reports: &[Report]) -> Result<usize> {
        let may = |r: &&Report| self.model().may_write(node, &r.execution_id);
        let expected = reports.iter().filter(may).count();
        let applied = at_once(self.store.report(node, reports))?;
        if applied != expected {
            self.model().violate(format!("I7 {applied} reports of {} counted, not {expected}", node.id));
        }
        for report in reports {
            if self.model().owns(node, &report.execution_id) {
                self.touch(&report.execution_id);
            }
        }
        Ok(applied)
    }

    pub(crate) fn create_jobs(&self, request: CreateJobs) -> Result<CreateOutcome> {
        let ids: Vec<JobId> = request.jobs.iter().map(|job| job.id.clone()).collect();
        let outcome = at_once(self.store.create_jobs(request))?;
        for id in &ids {
            self.touch_job(id);
        }
        Ok(outcome)
    }

    fn touch_open(&self, job: &JobId) {
        let open: Vec<ExecutionId> = self.model().open.get(job).into_iter().flatten().copied().collect();
        for id in &open {
            self.touch(id);
        }
    }

    pub(crate) fn update_job(&self, request: UpdateJob) -> Result<UpdateOutcome> {
        let (id, version) = (request.id.clone(), request.expected_version);
        let known = self.model().jobs.get(&id).map(|job| job.version);
        let outcome = at_once(self.store.update_job(request))?;
        let updated = matches!(outcome, UpdateOutcome::Updated(_));
        if updated != (known == Some(version)) {
            self.model().violate(format!("I18 an edit of version {version} of {known:?}: {outcome:?}"));
        }
        self.touch_job(&id);
        // What waits gets the job's new handler and priority.
        self.touch_open(&id);
        let now = self.now();
        self.model().trace(&format!("edit {now} {id} {version} {updated}"));
        Ok(outcome)
    }

    pub(crate) fn delete_job(&self, id: &JobId, actor: &str) -> Result<bool> {
        let answer = at_once(self.store.delete_job(id, actor))?;
        self.touch_job(id);
        self.touch_open(id);
        let live = self.model().live(id);
        if live.queued > 0 {
            self.model().violate(format!("I20 {id} is deleted, and something of it waits"));
        }
        Ok(answer)
    }

    pub(crate) fn trigger(&self, request: TriggerRequest) -> Result<TriggerOutcome> {
        let key = request.idempotency_key.clone().map(|key| (request.execution.job_id.clone(), key));
        let outcome = at_once(self.store.trigger(request))?;
        if let TriggerOutcome::Created(e) | TriggerOutcome::Exists(e) = &outcome {
            self.touch(&e.id);
            let mut model = self.model();
            let before = key.and_then(|key| model.keys.insert(key, e.id)).filter(|before| *before != e.id);
            // A key is known as long as its execution is kept.
            if before.is_some_and(|before| self.row(&before).is_some()) {
                model.violate(format!("I19 the same key gave {before:?} and {}", e.id));
            }
            model.trace(&format!("trigger {}", e.id));
        }
        Ok(outcome)
    }

    pub(crate) fn cancel(&self, id: &ExecutionId, actor: &str) -> Result<CancelOutcome> {
        let outcome = at_once(self.store.cancel(id, actor))?;
        self.touch(id);
        Ok(outcome)
    }
}

const MS: Duration = Duration::from_millis(1);

fn applies(on: ChainOn, status: Status) -> bool {
    let well =
        matches!(status, Status::Success | Status::Completed | Status::Partial | Status::PartialSuccess);
    let badly = matches!(status, Status::Failed | Status::Timeout | Status::Lost);
    match on {
        ChainOn::Success => well,
        ChainOn::Failure => badly,
        ChainOn::Any => true,
    }
}

/// What must hold of a job that a claim fires, before its rows are taken over.
fn before_firing(model: &mut Model, asked: &Asked, batch: &ClaimBatch, now: Timestamp) {
    let job = &asked.job;
    let known = model.jobs.get(&job.id);
    if known != Some(job) {
        let text = format!("I18 {now}: planned from {job:?}, and the job is {known:?}");
        model.violate(text);
    }
    if !job.is_scheduled() || job.due.is_none_or(|due| due.fire_at > now) {
        model.violate(format!("I6 {now}: fired too early, or while it does not count: {job:?}"));
    }
    for fault in &asked.faults {
        let policies = (&job.definition.schedule, job.definition.misfire, job.definition.overlap);
        model.violate(format!("I14 {now}: {fault}; {policies:?} {:?} {:?}", asked.live, asked.plan));
    }
    // The pending executions of this claim count, and what it fires of the job comes after.
    let mut live = model.live(&job.id);
    for claimed in &batch.claimed {
        let e = &claimed.execution;
        let known = model.rows.get(&e.id);
        if e.job_id == job.id && known.is_some() {
            live.running += 1;
            live.queued -= u32::from(e.trigger == Trigger::Schedule && e.attempt == 1).min(live.queued);
        }
    }
    if live != asked.live {
        model.violate(format!("I13 {now}: planned with {:?}, and there are {live:?}", asked.live));
    }
}

/// What must hold of a job that a claim has fired: what was planned is there, and the job has moved on.
fn after_firing(model: &mut Model, asked: &Asked, batch: &ClaimBatch) {
    let (job, plan) = (&asked.job, &asked.plan);
    let made: BTreeSet<ExecutionId> = of_batch(batch).into_iter().collect();
    for record in &plan.records {
        let known = model.occurrences.contains_key(&(job.id.clone(), record.due_at));
        if !known || (made.contains(&record.id) && !model.rows.contains_key(&record.id)) {
            model.violate(format!("I2 {} has no record for {}", job.id, record.due_at));
        }
    }
    let Some(after) = model.jobs.get(&job.id) else { return };
    let due = match plan.next {
        NextDue::At(due) => Some(due),
        NextDue::SetAside(_) => job.due,
        _ => None,
    };
    let later = due.is_none() || due.map(|d| d.due_at) > job.due.map(|d| d.due_at);
    let aside = matches!(plan.next, NextDue::SetAside(_));
    if after.due != due || (!later && !aside) || (!aside && after.version != job.version) {
        let text = format!("I3 {:?} is followed by {:?}, and {due:?} was planned", job.due, after.due);
        model.violate(text);
    }
}
