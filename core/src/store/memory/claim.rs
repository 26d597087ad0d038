//! Claims: pending executions first, then due jobs, as the planner says.

use std::collections::BTreeMap;

use super::State;
use crate::id::{ExecutionId, JobId};
use crate::store::{
    ClaimBatch, ClaimOutcome, ClaimRequest, Claimed, Disposition, NextDue, NodeRef, Plan, Planner,
};
use crate::time::Timestamp;

/// The pending executions that a claim starts.
#[derive(Default)]
struct Picked {
    ids: Vec<ExecutionId>,
    /// Whether there are more that could start.
    more: bool,
    /// Whether one was passed over.
    blocked: bool,
}

impl State {
    pub(super) fn claim(
        &mut self,
        request: ClaimRequest<'_>,
        planner: &dyn Planner,
        now: Timestamp,
    ) -> ClaimOutcome {
        if !self.nodes.may_claim(request.node, now) {
            return ClaimOutcome::Refused;
        }
        let mut batch = ClaimBatch { now, ..ClaimBatch::default() };
        let picked = self.pick_pending(request, now);
        for id in picked.ids {
            batch.claimed.extend(self.start(&id, request.node, now));
        }
        let room = request.limit.saturating_sub(batch.claimed.len());
        let due: Vec<JobId> = self.jobs.due.due(request.handlers, now).take(room).cloned().collect();
        for id in due {
            self.fire(&id, request.node, planner, &mut batch);
        }
        let queued_can_start = batch.queued.iter().any(|queued| self.free_slots(&queued.job_id) > 0);
        let jobs_left = self.jobs.due.due(request.handlers, now).next().is_some();
        batch.more = picked.more || jobs_left || queued_can_start;
        batch.blocked = picked.blocked || batch.queued.iter().any(|q| self.free_slots(&q.job_id) == 0);
        let next_job = self.jobs.due.next_after(request.handlers, now);
        let next_pending = self.executions.states.waiting.next_after(request.handlers, now);
        batch.next_at = next_job.into_iter().chain(next_pending).min();
        ClaimOutcome::Claimed(Box::new(batch))
    }

    /// The pending executions to start, at most as many as asked for.
    fn pick_pending(&self, request: ClaimRequest<'_>, now: Timestamp) -> Picked {
        let mut picked = Picked::default();
        let mut slots: BTreeMap<&JobId, u32> = BTreeMap::new();
        for id in self.executions.states.waiting.due(request.handlers, now) {
            let Some(execution) = self.executions.get(id) else { continue };
            let job = &execution.job_id;
            let free = slots.entry(job).or_insert_with(|| self.free_slots(job));
            if *free == 0 {
                picked.blocked = true;
                continue;
            }
            if picked.ids.len() >= request.limit {
                picked.more = true;
                break;
            }
            *free -= 1;
            picked.ids.push(*id);
        }
        picked
    }

    /// How many more executions of the job may run now; none while it is set aside.
    pub(super) fn free_slots(&self, id: &JobId) -> u32 {
        let job = self.jobs.get(id).filter(|job| job.fault.is_none());
        let running = self.executions.live(id).running;
        job.map_or(0, |job| job.definition.overlap.max_running().saturating_sub(running))
    }

    fn start(&mut self, id: &ExecutionId, node: &NodeRef, now: Timestamp) -> Option<Claimed> {
        let execution = self.executions.change(id, |execution| execution.own(node, now))?.clone();
        let job = self.jobs.get(&execution.job_id)?.clone();
        Some(Claimed { execution, job })
    }

    /// Asks the planner about one due job and writes what it answers.
    fn fire(&mut self, id: &JobId, node: &NodeRef, planner: &dyn Planner, batch: &mut ClaimBatch) {
        let Some(job) = self.jobs.get(id).cloned() else { return };
        let now = batch.now;
        let live = self.executions.live(id);
        let Plan { records, next, skip_next, n_fired, cancel_running } =
            planner.plan(&job, live, now, self.jobs.prepared_calendars());
        if let NextDue::SetAside(reason) = next {
            self.set_aside(id, &reason, now);
            batch.set_aside.push((id.clone(), reason));
            return;
        }
        if cancel_running {
            batch.cancel.extend(self.cancel_running(id));
        }
        for record in records {
            let disposition = record.disposition.clone();
            let execution = record.into_execution(&job, now, node);
            // An occurrence that has its execution already, because an edit set the job back, keeps it.
            if !self.executions.insert(execution.clone(), None) {
                continue;
            }
            match disposition {
                Disposition::Start => batch.claimed.push(Claimed { execution, job: job.clone() }),
                Disposition::Queue => batch.queued.push(execution),
                Disposition::Skip(..) => batch.skipped.push(execution),
            }
        }
        let (due, ended) = next.parts();
        batch.ended.extend(ended.map(|reason| (id.clone(), reason)));
        self.jobs.change(id, |job| {
            (job.due, job.ended) = (due, ended);
            (job.skip_next, job.n_fired) = (skip_next, n_fired);
        });
    }

    pub(super) fn set_aside(&mut self, id: &JobId, reason: &str, now: Timestamp) {
        let detail = serde_json::json!({ "reason": reason });
        self.change_by_scheduler(id, "set_aside", detail, now, |job| job.fault = Some(reason.to_owned()));
    }

    /// Asks what runs of a job to stop.
    fn cancel_running(&mut self, id: &JobId) -> Vec<ExecutionId> {
        let running: Vec<ExecutionId> =
            self.executions.open(id).into_iter().flat_map(|open| open.running.iter().copied()).collect();
        for execution in &running {
            self.executions.change(execution, |e| e.cancel_requested = true);
        }
        running
    }

    pub(super) fn owned(&self, node: &NodeRef) -> Vec<Claimed> {
        if !self.nodes.is_alive(node) {
            return Vec::new();
        }
        let owned = self.executions.owned_by(node);
        owned
            .map(|execution| match self.jobs.get(&execution.job_id) {
                Some(job) => Claimed { execution: execution.clone(), job: job.clone() },
                None => Claimed::of_deleted_job(execution.clone()),
            })
            .collect()
    }
}
