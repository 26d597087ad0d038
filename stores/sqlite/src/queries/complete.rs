//! Ends of executions, and all that follows from them, in one step each.

use rusqlite::{CachedStatement, params};
use unified_scheduler_core::Timestamp;
use unified_scheduler_core::store::{CompleteOutcome, Completion, FailureCount, NodeRef};

use super::executions::{append_logs, insert_follower};
use super::{executions, jobs, nodes};
use crate::error::Step;
use crate::rows::{json, key, nanos};
use crate::session::Session;

pub(crate) fn complete(
    session: &mut Session,
    node: &NodeRef,
    completions: &[Completion],
) -> Step<Vec<CompleteOutcome>> {
    Completion::check(completions)?;
    let alive = nodes::lease(session, node)?.is_some();
    let mut outcomes = Vec::with_capacity(completions.len());
    let mut ends = Ends::new(session)?;
    for completion in completions {
        let outcome = if alive { ends.end(node, completion)? } else { None };
        outcomes.push(match outcome {
            Some(paused) => CompleteOutcome::Applied { paused },
            None => earlier(session, node, alive, completion)?,
        });
    }
    let hint = ends.hint;
    drop(ends);
    session.hint |= hint;
    Ok(outcomes)
}

/// Ends one execution if `owner` owns it still; answers whether the job disabled itself, or `None` when
/// nothing was written.
pub(crate) fn end(session: &mut Session, owner: &NodeRef, completion: &Completion) -> Step<Option<bool>> {
    let mut ends = Ends::new(session)?;
    let outcome = ends.end(owner, completion)?;
    let hint = ends.hint;
    drop(ends);
    session.hint |= hint;
    Ok(outcome)
}

/// Ends of executions, one after another, with the statements that each needs at hand.
struct Ends<'s> {
    session: &'s Session,
    execution: CachedStatement<'s>,
    job: CachedStatement<'s>,
    now: Timestamp,
    /// Whether anything waits at all, in which case the end of an execution may let it run.
    waits: bool,
    hint: bool,
}

impl<'s> Ends<'s> {
    fn new(session: &'s Session) -> Step<Self> {
        let waiting = "SELECT 1 FROM @executions WHERE status = 'pending' LIMIT 1";
        // No `RETURNING`, which makes SQLite keep a journal of each statement.
        let execution = session.prepare(
            "UPDATE @executions SET status = ?5, reason = ?6, started_at = ?7, ended_at = ?8, duration_ns = ?9,
                 result = ?10, error = ?11
             WHERE id = ?1 AND status = 'running' AND node_id = ?2 AND epoch = ?3 AND claim = ?4",
        )?;
        let job = session.prepare(
            "UPDATE @job_state SET last_run_at = ?2, last_status = ?3, last_execution = ?4,
                 failures = failures * ?5 + ?6 WHERE n = (SELECT n FROM @jobs WHERE id = ?1)",
        )?;
        let waits = session.first(waiting, [], |_| Ok(()))?.is_some();
        Ok(Self { session, execution, job, now: session.now(), waits, hint: false })
    }

    fn end(&mut self, owner: &NodeRef, completion: &Completion) -> Step<Option<bool>> {
        let Completion { execution_id: id, .. } = completion;
        let ended = self.execution.execute(params![
            key(id),
            owner.id.as_str(),
            owner.epoch.0,
            completion.claim,
            completion.status.as_str(),
            completion.reason,
            completion.started_at.as_millis(),
            completion.ended_at.as_millis(),
            completion.duration.map(nanos),
            json(completion.result.as_ref())?,
            json(completion.error.as_ref())?
        ])?;
        if ended == 0 {
            return Ok(None);
        }
        let keeps_row = completion.keeps_row();
        if !(keeps_row && completion.logs.is_empty() && completion.retry.is_none()) {
            self.leave(completion, keeps_row)?;
        }
        for chained in &completion.chained {
            self.hint |= insert_follower(self.session, chained, true, self.now)?;
        }
        let paused = self.affect(completion)?;
        self.hint |= self.waits && has_pending(self.session, completion)?;
        Ok(Some(paused))
    }

    /// What the end leaves behind: log lines, or nothing, and the next attempt.
    fn leave(&mut self, completion: &Completion, keeps_row: bool) -> Step<()> {
        let found = self.session.first(
            "SELECT n, cancel_requested FROM @executions WHERE id = ?1",
            [key(&completion.execution_id)],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?)),
        )?;
        let Some((n, called_off)) = found else { return Ok(()) };
        if keeps_row {
            append_logs(self.session, n, completion.first_line, &completion.logs)?;
        } else {
            self.session.execute("DELETE FROM @logs WHERE execution = ?1", [n])?;
            self.session.execute("DELETE FROM @executions WHERE n = ?1", [n])?;
        }
        // Somebody called it off, and the node did not know yet: then it is not tried again.
        if let Some(retry) = completion.retry.as_ref().filter(|_| !called_off) {
            self.hint |= insert_follower(self.session, retry, false, self.now)?;
        }
        Ok(())
    }

    /// What the end means for the job: its last run, its failures in a row, its fault, what is next.
    fn affect(&mut self, completion: &Completion) -> Step<bool> {
        let (keep, add, pause_after) = match completion.effect.failures {
            FailureCount::Keep => (1, 0, None),
            FailureCount::Reset => (0, 0, None),
            FailureCount::Increment { pause_after } => (1, 1, pause_after),
        };
        let found = self.job.execute(params![
            completion.job_id.as_str(),
            completion.started_at.as_millis(),
            completion.status.as_str(),
            key(&completion.execution_id),
            keep,
            add
        ])?;
        let more =
            completion.next.is_some() || completion.effect.set_aside.is_some() || pause_after.is_some();
        if found == 0 || !more {
            return Ok(false);
        }
        let Some(job) = jobs::number(self.session, &completion.job_id)? else { return Ok(false) };
        self.hint |= set_next(self.session, job, completion)?;
        if let Some(reason) = &completion.effect.set_aside {
            jobs::set_aside(self.session, job, reason, self.now)?;
        }
        let Some(most) = pause_after else { return Ok(false) };
        let paused = self.session.execute(
            "UPDATE @job_state SET enabled = 0, version = version + 1, updated_at = ?3
             WHERE n = ?1 AND enabled = 1 AND failures >= ?2",
            params![job, most, self.now.as_millis()],
        )?;
        if paused > 0 {
            let detail = serde_json::json!({ "execution_id": completion.execution_id, "failures": most });
            jobs::note(self.session, job, "paused", &detail, self.now)?;
        }
        Ok(paused > 0)
    }
}

/// Whether another execution of the job waits, for which there may be a free slot now.
fn has_pending(session: &Session, completion: &Completion) -> Step<bool> {
    let waiting = session.first(
        "SELECT 1 FROM @executions
         WHERE job_id = ?1 AND status = 'pending' AND status IN ('pending', 'running') LIMIT 1",
        [completion.job_id.as_str()],
        |_| Ok(()),
    )?;
    Ok(waiting.is_some())
}

/// The next occurrence of a job that counts from its last end; only as long as nobody has set another.
fn set_next(session: &Session, job: i64, completion: &Completion) -> Step<bool> {
    let Some(due) = completion.next else { return Ok(false) };
    let set = session.execute(
        "UPDATE @job_state SET due_at = ?2, fire_at = ?3
         WHERE n = ?1 AND due_at IS NULL AND ended IS NULL",
        params![job, due.due_at.as_millis(), due.fire_at.as_millis()],
    )?;
    Ok(set > 0)
}

/// What an earlier call with this completion, whose reply was lost, has come to; refused if there was none.
fn earlier(session: &Session, node: &NodeRef, alive: bool, completion: &Completion) -> Step<CompleteOutcome> {
    let Some(known) = executions::get(session, &completion.execution_id)? else {
        // What a live node ran can have gone only by its own completion, so this is its repeat.
        let repeat = alive && !completion.keeps_row();
        return Ok(if repeat {
            CompleteOutcome::Applied { paused: false }
        } else {
            CompleteOutcome::Refused
        });
    };
    if !completion.is_repeat(&known, node) {
        return Ok(CompleteOutcome::Refused);
    }
    let paused = session.first(
        "SELECT 1 FROM @audit WHERE job_id = ?1 AND action = 'paused'
             AND detail ->> '$.execution_id' = ?2 LIMIT 1",
        params![completion.job_id.as_str(), completion.execution_id.to_string()],
        |_| Ok(()),
    )?;
    Ok(CompleteOutcome::Applied { paused: paused.is_some() })
}
