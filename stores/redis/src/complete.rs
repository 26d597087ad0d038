//! Ends of executions, and the reaping of what dead nodes left.

use redis::Value;
use unified_scheduler_core::execution::{Execution, LogLine};
use unified_scheduler_core::id::{Epoch, JobId, NodeId};
use unified_scheduler_core::job::Job;
use unified_scheduler_core::store::{
    CompleteOutcome, CompleteRequest, Completion, FailureCount, NewExecution, NodeRef, Planner, ReapRequest,
    Reaped, Report,
};
use unified_scheduler_core::{Error, Result};

use crate::answers::{self, Answer, key};
use crate::error::odd;
use crate::job::{KnownJob, Run, State};
use crate::packed::Writer;
use crate::rows::{ended, ending_of, int, json, millis, new_row, running};
use crate::scripts;
use crate::store::Session;

/// The most that one script ends: so much that the server is not held up for long.
const PAGE: usize = 500;

/// An end, and who owns what it ends.
type Owned<'a> = (&'a NodeRef, &'a Completion);

/// What a script answered of one end: the outcome, and for a reaper the row.
type Ended = (CompleteOutcome, Option<Vec<u8>>);

impl Session {
    pub(crate) async fn complete(&self, request: CompleteRequest<'_>) -> Result<Vec<CompleteOutcome>> {
        if let Some(open) = request.completions.iter().find(|completion| !completion.status.is_final()) {
            return Err(Error::invalid(format!("`{}` is no end of an execution", open.status))
                .with("execution_id", open.execution_id));
        }
        let mut outcomes = Vec::with_capacity(request.completions.len());
        for page in request.completions.chunks(PAGE) {
            let owned: Vec<Owned<'_>> = page.iter().map(|completion| (request.node, completion)).collect();
            outcomes.extend(self.end(&owned, false).await?.into_iter().map(|(outcome, _)| outcome));
        }
        Ok(outcomes)
    }

    async fn end(&self, ends: &[Owned<'_>], reaper: bool) -> Result<Vec<Ended>> {
        let rare: Vec<Vec<u8>> =
            ends.iter().map(|(_, completion)| rare(completion)).collect::<Result<_>>()?;
        let ends_with_rare: Vec<_> = ends.iter().zip(&rare).collect();
        // Only neighbours are put together: the ends of one job count in the order they came.
        let groups: Vec<_> = ends_with_rare
            .chunk_by(|(a, rare_a), (b, rare_b)| alike(a, b) && rare_a.is_empty() == rare_b.is_empty())
            .collect();
        let mut call = self.link.call(&scripts::COMPLETE);
        call.arg(i32::from(reaper)).arg(ends.len()).arg(groups.len());
        for group in groups {
            let Some(((owner, completion), rare)) = group.first() else { continue };
            call.arg(group.len())
                .arg(owner.id.as_str())
                .arg(owner.epoch.0)
                .arg(running(owner, completion.claim))
                .arg(ended(owner, completion))
                .arg(completion.status.as_str())
                .arg(completion.ended_at.as_millis())
                .arg(i32::from(completion.keeps_row()))
                .arg(failures(completion))
                .arg(Run::beginning(completion.started_at, completion.status))
                .arg(completion.started_at.as_millis())
                .arg(i32::from(!rare.is_empty()));
            for ((_, completion), rare) in group {
                call.arg(key(&completion.execution_id))
                    .arg(completion.job_id.as_str())
                    .arg(ending_of(completion)?);
                if !rare.is_empty() {
                    call.arg(&rare[..]);
                }
            }
        }
        let mut answer = Answer::of(self.link.run(&call).await?)?;
        let outcomes = answer.list()?;
        if answer.bool() {
            self.hints.tell();
        }
        let mut rows = answer.list()?.into_iter();
        outcomes
            .iter()
            .map(|outcome| {
                let row = rows.next().and_then(answers::bytes);
                Ok(match answers::int(outcome)? {
                    0 => (CompleteOutcome::Refused, None),
                    n => (CompleteOutcome::Applied { paused: n == 2 }, row),
                })
            })
            .collect()
    }

    pub(crate) async fn report(&self, node: &NodeRef, reports: &[Report]) -> Result<usize> {
        if reports.is_empty() {
            return Ok(0);
        }
        let mut call = self.link.call(&scripts::REPORT);
        call.arg(node.id.as_str()).arg(node.epoch.0);
        for report in reports {
            let mut lines = Writer::new();
            pack_lines(&mut lines, &report.logs)?;
            call.arg(key(&report.execution_id))
                .arg(report.claim)
                .arg(report.first_line)
                .arg(lines.finish())
                .arg(json(report.progress.as_ref())?.unwrap_or_default());
        }
        let applied = answers::int(&self.link.run(&call).await?)?;
        usize::try_from(applied).map_err(|_| odd("count"))
    }

    pub(crate) async fn reap(&self, request: ReapRequest, planner: &dyn Planner) -> Result<Reaped> {
        let mut reaped = Reaped::default();
        let mut after = (Vec::new(), Vec::new());
        let mut left = request.limit;
        loop {
            let page = left.saturating_add(1).min(PAGE);
            let mut call = self.link.call(&scripts::REAP);
            call.arg(millis(request.grace)).arg(page).arg(&after.0).arg(&after.1);
            let mut answer = Answer::of(self.link.run(&call).await?)?;
            let now = answer.time()?;
            for node in answer.list()? {
                let mut node = Answer::of(node)?;
                let id = NodeId::from(node.text()?.as_str());
                reaped.nodes.push(NodeRef { id, epoch: Epoch(node.int()?) });
            }
            let orphans = answer.list()?;
            let last = orphans.len() < page;
            let mut ends: Vec<(NodeRef, Completion)> = Vec::new();
            for orphan in orphans {
                if left == ends.len() {
                    reaped.more = true;
                    break;
                }
                let mut orphan = Answer::of(orphan)?;
                after = (orphan.bytes().unwrap_or_default(), orphan.bytes().unwrap_or_default());
                // One that can't be read is passed over, and hides nobody.
                match self.orphan(&after, orphan) {
                    Ok((owner, execution, job)) => {
                        ends.push((owner, planner.lost(job.as_ref(), &execution, now)));
                    }
                    Err(error) => tracing::error!(?error, "could not read what a dead node left"),
                }
            }
            let owned: Vec<Owned<'_>> = ends.iter().map(|(owner, end)| (owner, end)).collect();
            let ended = if owned.is_empty() { Vec::new() } else { self.end(&owned, true).await? };
            for ((_, end), (_, row)) in ends.iter().zip(ended) {
                if let Some(row) = row {
                    left -= 1;
                    reaped.ended.push(crate::rows::execution(end.execution_id, &row)?);
                }
            }
            if last || reaped.more {
                return Ok(reaped);
            }
        }
    }

    /// The owner, the execution and the job of what a dead node left.
    fn orphan(
        &self,
        (owner, id): &(Vec<u8>, Vec<u8>),
        mut rest: Answer,
    ) -> Result<(NodeRef, Execution, Option<Job>)> {
        let owner = std::str::from_utf8(owner).map_err(|_| odd("node"))?;
        let (node, epoch) = owner.split_once('\0').ok_or_else(|| odd("node"))?;
        let epoch = Epoch(epoch.parse().map_err(|_| odd("epoch"))?);
        let execution =
            crate::rows::execution(answers::id(id)?, &rest.bytes().ok_or_else(|| odd("execution"))?)?;
        let job = self.job(&execution.job_id, rest.next(), rest.next(), rest.next());
        Ok((NodeRef { id: NodeId::from(node), epoch }, execution, job))
    }

    /// A job from its three records, if it is there. One whose state can't be read has a fault that says so.
    pub(crate) fn job(&self, id: &JobId, state: Value, run: Value, definition: Value) -> Option<Job> {
        let (state, stored) = (answers::bytes(state)?, answers::bytes(definition)?);
        Some(match State::read(&state) {
            Ok(state) => self.cache.read(id, &state, &stored).job(id, &state, run),
            Err(error) => {
                let state = State::unreadable(id, &error);
                KnownJob::read(id, &state, &stored).job(id, &state, run)
            }
        })
    }
}

/// Whether two ends differ in nothing but the execution, its job and its answer.
fn alike((owner, a): &Owned<'_>, (other, b): &Owned<'_>) -> bool {
    owner == other
        && (a.claim, a.status, a.started_at, a.ended_at) == (b.claim, b.status, b.started_at, b.ended_at)
        && a.reason == b.reason
        && a.keeps_row() == b.keeps_row()
        && a.effect.failures == b.effect.failures
}

/// What becomes of the failures in a row, in the script's words.
fn failures(completion: &Completion) -> String {
    match completion.effect.failures {
        FailureCount::Keep => "k".to_owned(),
        FailureCount::Reset => "r".to_owned(),
        FailureCount::Increment { pause_after: None } => "i".to_owned(),
        FailureCount::Increment { pause_after: Some(most) } => format!("i{most}"),
    }
}

pub(crate) fn pack_lines(w: &mut Writer, lines: &[LogLine]) -> Result<()> {
    w.array(lines.len());
    for line in lines {
        w.text(&json(Some(line))?.unwrap_or_default());
    }
    Ok(())
}

fn pack_new(w: &mut Writer, new: &NewExecution) -> Result<()> {
    let (row, rest) = new_row(new)?;
    w.array(3).bytes(key(&new.id)).bytes(&row).bytes(&rest);
    Ok(())
}

/// What most ends do not have; empty when there is nothing of it.
fn rare(completion: &Completion) -> Result<Vec<u8>> {
    let Completion { logs, retry, chained, effect, next, .. } = completion;
    let pause_after = match effect.failures {
        FailureCount::Increment { pause_after } => pause_after,
        _ => None,
    };
    let nothing = logs.is_empty()
        && retry.is_none()
        && chained.is_empty()
        && effect.set_aside.is_none()
        && pause_after.is_none()
        && next.is_none();
    if nothing {
        return Ok(Vec::new());
    }
    let mut w = Writer::new();
    w.array(9).int(int(completion.first_line));
    pack_lines(&mut w, logs)?;
    match retry {
        Some(retry) => pack_new(&mut w, retry)?,
        None => {
            w.none();
        }
    }
    w.array(chained.len());
    for link in chained {
        pack_new(&mut w, link)?;
    }
    let detail = effect.set_aside.as_ref().map(|why| serde_json::json!({ "reason": why }).to_string());
    let pause = serde_json::json!({ "execution_id": completion.execution_id, "failures": pause_after });
    w.text_or(effect.set_aside.as_deref())
        .text_or(detail.as_deref())
        .text(&pause.to_string())
        .int_or(next.map(|due| due.due_at.as_millis()))
        .int_or(next.map(|due| due.fire_at.as_millis()));
    Ok(w.finish())
}
