//! Ends of executions, and all that follows from them, in one step each.

use rusqlite::params;
use unified_scheduler_core::store::{CompleteOutcome, Completion, FailureCount, NodeRef};
use unified_scheduler_core::{Error, Timestamp};

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
    if let Some(open) = completions.iter().find(|completion| !completion.status.is_final()) {
        return Err(Error::invalid(format!("`{}` is no end of an execution", open.status))
            .with("execution_id", open.execution_id)
            .into());
    }
    let alive = nodes::lease(session, node)?.is_some();
    let mut outcomes = Vec::with_capacity(completions.len());
    for completion in completions {
        let outcome = if alive { end(session, node, completion)? } else { None };
        outcomes.push(match outcome {
            Some(paused) => CompleteOutcome::Applied { paused },
            None => earlier(session, node, alive, completion)?,
        });
    }
    Ok(outcomes)
}

/// Ends one execution if `owner` owns it still; answers whether the job disabled itself, or `None` when
/// nothing was written.
pub(crate) fn end(session: &mut Session, owner: &NodeRef, completion: &Completion) -> Step<Option<bool>> {
    let now = session.now();
    let ended: Option<(i64, bool)> = session.first(
        "UPDATE @executions SET status = ?5, reason = ?6, started_at = ?7, ended_at = ?8, duration_ns = ?9,
             result = ?10, error = ?11
         WHERE id = ?1 AND status = 'running' AND node_id = ?2 AND epoch = ?3 AND claim = ?4
         RETURNING n, cancel_requested",
        params![
            key(&completion.execution_id),
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
        ],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let Some((n, called_off)) = ended else { return Ok(None) };
    if completion.keeps_row() {
        append_logs(session, n, completion.first_line, &completion.logs)?;
    } else {
        session.execute("DELETE FROM @logs WHERE execution = ?1", [n])?;
        session.execute("DELETE FROM @executions WHERE n = ?1", [n])?;
    }
    let mut made = false;
    // Somebody called it off, and the node did not know yet.
    if let Some(retry) = completion.retry.as_ref().filter(|_| !called_off) {
        made |= insert_follower(session, retry, false, now)?;
    }
    for chained in &completion.chained {
        made |= insert_follower(session, chained, true, now)?;
    }
    let paused = match jobs::number(session, &completion.job_id)? {
        Some(job) => {
            made |= set_next(session, job, completion)?;
            affect(session, job, completion, now)?
        }
        None => false,
    };
    session.hint |= made || has_pending(session, completion)?;
    Ok(Some(paused))
}

/// What the end means for the job: its last run, its failures in a row, its fault.
fn affect(session: &Session, job: i64, completion: &Completion, now: Timestamp) -> Step<bool> {
    let (keep, add, pause_after) = match completion.effect.failures {
        FailureCount::Keep => (1, 0, None),
        FailureCount::Reset => (0, 0, None),
        FailureCount::Increment { pause_after } => (1, 1, pause_after),
    };
    session.execute(
        "UPDATE @job_state SET last_run_at = ?2, last_status = ?3, last_execution = ?4,
             failures = failures * ?5 + ?6 WHERE n = ?1",
        params![
            job,
            completion.started_at.as_millis(),
            completion.status.as_str(),
            key(&completion.execution_id),
            keep,
            add
        ],
    )?;
    if let Some(reason) = &completion.effect.set_aside {
        jobs::set_aside(session, job, reason, now)?;
    }
    let Some(most) = pause_after else { return Ok(false) };
    let paused = session.execute(
        "UPDATE @job_state SET enabled = 0, version = version + 1, updated_at = ?3
         WHERE n = ?1 AND enabled = 1 AND failures >= ?2",
        params![job, most, now.as_millis()],
    )?;
    if paused > 0 {
        let detail = serde_json::json!({ "execution_id": completion.execution_id, "failures": most });
        jobs::note(session, job, "paused", &detail, now)?;
    }
    Ok(paused > 0)
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
    let same = known.node_id.as_ref() == Some(&node.id)
        && (known.epoch, known.claim) == (node.epoch, completion.claim)
        && (known.status, known.ended_at) == (completion.status, Some(completion.ended_at));
    if !same {
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
