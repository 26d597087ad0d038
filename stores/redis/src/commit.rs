//! The second half of a claim: what was planned is written.

use std::sync::atomic::Ordering;

use unified_scheduler_core::Result;
use unified_scheduler_core::execution::Execution;
use unified_scheduler_core::job::Job;
use unified_scheduler_core::store::{ClaimBatch, ClaimRequest, Claimed, Disposition, Live};

use crate::answers::{self, Answer, key};
use crate::job::State;
use crate::link::Call;
use crate::rows::{count, row};
use crate::scripts;
use crate::store::Session;

/// What is to be written for one due job.
pub(crate) struct Move {
    /// What was recorded of it before, as in [`State::recorded`].
    pub(crate) recorded: Option<i64>,
    pub(crate) after: State,
    pub(crate) job: Job,
    pub(crate) live: Live,
    /// Why the job is set aside.
    pub(crate) fault: Option<String>,
    pub(crate) cancel_running: bool,
    pub(crate) made: Vec<(Execution, Disposition)>,
}

/// The times of a plain start, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Start {
    next_due: i64,
    due: i64,
}

impl Move {
    fn lane(&self) -> (i32, &str) {
        (self.after.priority, &self.after.handler)
    }

    fn place(&self) -> ((i32, &str), Option<Start>) {
        (self.lane(), self.only_starts())
    }

    /// The times of a job of which all there is to write is one execution that starts, and that nobody can have
    /// recorded yet, and the next due time, when it fires.
    fn only_starts(&self) -> Option<Start> {
        let [(execution, Disposition::Start)] = &self.made[..] else { return None };
        let due = self.after.due.filter(|due| due.fire_at == due.due_at)?;
        let plain = self.live == Live::default()
            && self.fault.is_none()
            && !self.cancel_running
            && !self.may_be_recorded(execution);
        plain.then(|| Start { next_due: due.due_at.as_millis(), due: execution.due_at.as_millis() })
    }

    fn may_be_recorded(&self, execution: &Execution) -> bool {
        self.recorded.is_none_or(|last| execution.due_at.as_millis() <= last)
    }
}

impl Session {
    /// Writes what was planned; `false` when the node may not claim any more.
    pub(crate) async fn commit(
        &self,
        request: ClaimRequest<'_>,
        hold: &[u8],
        moves: Vec<Move>,
        batch: &mut ClaimBatch,
    ) -> Result<bool> {
        // Jobs of one lane stand together, and in it those that are written alike. The order among what was claimed
        // is that in which it was due.
        let mut order: Vec<usize> = (0..moves.len()).collect();
        order.sort_by_cached_key(|one| moves[*one].place());
        let lanes: Vec<&[usize]> = order.chunk_by(|a, b| moves[*a].lane() == moves[*b].lane()).collect();
        let mut call = self.link.call(&scripts::COMMIT);
        call.arg(request.node.id.as_str())
            .arg(request.node.epoch.0)
            .arg(batch.now.as_millis())
            .arg(hold)
            .arg(request.handlers.len())
            .arg(lanes.len());
        for handler in request.handlers {
            call.arg(handler);
        }
        for lane in lanes {
            let (priority, handler) = lane.first().map(|first| moves[*first].lane()).unwrap_or_default();
            let groups: Vec<&[usize]> =
                lane.chunk_by(|a, b| moves[*a].only_starts() == moves[*b].only_starts()).collect();
            call.arg(handler).arg(priority).arg(groups.len());
            for group in groups {
                write_group(&mut call, group, &moves)?;
            }
        }
        let mut answer = Answer::of(self.link.run(&call).await?)?;
        if answer.int()? == 0 {
            return Ok(false);
        }
        let mut wins: Vec<Option<Vec<u8>>> = vec![None; moves.len()];
        for (one, won) in order.into_iter().zip(answer.list()?) {
            wins[one] = answers::bytes(won);
        }
        // Edits that come faster than plans must not keep them from being written: then jobs are held.
        self.must_hold.store(!moves.is_empty() && wins.iter().all(Option::is_none), Ordering::Relaxed);
        for cancelled in answer.list()? {
            batch.cancel.push(answers::id(&answers::bytes(cancelled).unwrap_or_default())?);
        }
        batch.more |= answer.bool();
        batch.next_at = answer.time_or_none()?;
        for (one, won) in moves.into_iter().zip(wins) {
            if let Some(won) = won {
                note(one, &won, batch);
            }
        }
        Ok(true)
    }
}

/// What is to be written for jobs that are written alike, as `scripts/commit.lua` takes it.
fn write_group(call: &mut Call, group: &[usize], moves: &[Move]) -> Result<()> {
    call.arg(group.len());
    match group.first().and_then(|first| moves[*first].only_starts()) {
        Some(start) => call.arg(start.next_due).arg(start.due),
        None => call.arg("").arg(""),
    };
    for one in group {
        write(call, &moves[*one])?;
    }
    Ok(())
}

fn write(call: &mut Call, one: &Move) -> Result<()> {
    call.arg(one.job.id.as_str()).arg(one.after.pack());
    if one.only_starts().is_some()
        && let [(execution, _)] = &one.made[..]
    {
        call.arg(key(&execution.id)).arg(row(execution)?);
        return Ok(());
    }
    call.arg(one.made.len());
    match one.after.due {
        Some(due) => call.arg(due.due_at.as_millis()).arg(due.fire_at.as_millis()),
        None => call.arg("").arg(""),
    };
    call.arg(one.live.running)
        .arg(one.live.queued)
        .arg(i32::from(one.cancel_running))
        .arg(one.fault.as_deref().map(reason).unwrap_or_default());
    for (execution, _) in &one.made {
        call.arg(key(&execution.id))
            .arg(row(execution)?)
            .arg(execution.due_at.as_millis())
            .arg(execution.status.as_str())
            .arg(i32::from(one.may_be_recorded(execution)));
    }
    Ok(())
}

/// Why, as the audit tells it.
pub(crate) fn reason(why: &str) -> String {
    serde_json::json!({ "reason": why }).to_string()
}

/// Notes what was written; `won` has a `1` for each record that was.
fn note(one: Move, won: &[u8], batch: &mut ClaimBatch) {
    let Move { after, job, live, fault, made, .. } = one;
    if let Some(fault) = fault {
        batch.set_aside.push((job.id, fault));
        return;
    }
    if let Some(reason) = after.ended {
        batch.ended.push((job.id.clone(), reason));
    }
    let mut running = u64::from(live.running);
    let mut queued = false;
    for ((execution, disposition), won) in made.into_iter().zip(won) {
        if *won != b'1' {
            // An occurrence that has its execution already, because an edit set the job back, keeps it.
            tracing::debug!(job_id = %job.id, due_at = %execution.due_at, "occurrence was recorded before");
            continue;
        }
        match disposition {
            Disposition::Start => {
                running += count(1);
                batch.claimed.push(Claimed { execution, job: job.clone() });
            }
            Disposition::Queue => {
                queued = true;
                batch.queued.push(execution);
            }
            Disposition::Skip(..) => batch.skipped.push(execution),
        }
    }
    if queued {
        let free = running < u64::from(after.max_running);
        batch.more |= free;
        batch.blocked |= !free;
    }
}
