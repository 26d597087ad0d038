//! Ends of executions, and all that follows from them, in one step each.

use rusqlite::params;
use unified_scheduler_core::Timestamp;
use unified_scheduler_core::execution::Status;
use unified_scheduler_core::id::{Epoch, NodeId};
use unified_scheduler_core::store::{CompleteOutcome, Completion, FailureCount, NodeRef};

use super::executions::{append_logs, insert_follower};
use super::{jobs, nodes};
use crate::error::Step;
use crate::rows::{json, key, nanos};
use crate::session::Session;

pub(crate) fn complete(
    session: &mut Session,
    node: &NodeRef,
    completions: &[Completion],
) -> Step<Vec<CompleteOutcome>> {
    let alive = nodes::lease(session, node)?.is_some();
    let mut outcomes = Vec::with_capacity(completions.len());
    for completion in completions {
        let outcome = if alive { end(session, node, completion)? } else { None };
        outcomes.push(match outcome {
            Some(paused) => CompleteOutcome::Applied { paused },
            None if was_applied(session, node, completion)? => CompleteOutcome::Applied { paused: false },
            None => CompleteOutcome::Refused,
        });
    }
    Ok(outcomes)
}

/// Ends one execution if `owner` owns it still; answers whether the job disabled itself, or `None` when
/// nothing was written.
pub(crate) fn end(session: &mut Session, owner: &NodeRef, completion: &Completion) -> Step<Option<bool>> {
    let now = session.now();
    let ended: Option<i64> = session.first(
        "UPDATE @executions SET status = ?5, reason = ?6, started_at = ?7, ended_at = ?8, duration_ns = ?9,
             result = ?10, error = ?11
         WHERE id = ?1 AND status = 'running' AND node_id = ?2 AND epoch = ?3 AND claim = ?4
         RETURNING n",
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
        |row| row.get(0),
    )?;
    let Some(n) = ended else { return Ok(None) };
    if completion.keeps_row() {
        append_logs(session, n, &completion.logs)?;
    } else {
        session.execute("DELETE FROM @logs WHERE execution = ?1", [n])?;
        session.execute("DELETE FROM @executions WHERE n = ?1", [n])?;
    }
    let mut made = false;
    for retry in &completion.retry {
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
    session.hint |= made;
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
    let sql = "UPDATE @job_state SET enabled = 0 WHERE n = ?1 AND enabled = 1 AND failures >= ?2";
    let paused = session.execute(sql, params![job, most])? > 0;
    if paused {
        jobs::note(session, job, "paused", &format!("{most} failures in a row"), now)?;
    }
    Ok(paused)
}

/// The next occurrence of a job that counts from its last end; only as long as nobody has set another.
fn set_next(session: &Session, job: i64, completion: &Completion) -> Step<bool> {
    let Some((version, due)) = completion.next else { return Ok(false) };
    let set = session.execute(
        "UPDATE @job_state SET due_at = ?3, fire_at = ?4
         WHERE n = ?1 AND version = ?2 AND due_at IS NULL AND ended IS NULL",
        params![job, version, due.due_at.as_millis(), due.fire_at.as_millis()],
    )?;
    Ok(set > 0)
}

/// Whether an earlier call has recorded this very end. Of an execution that the history does not keep
/// there is only what its job remembers.
fn was_applied(session: &Session, node: &NodeRef, completion: &Completion) -> Step<bool> {
    let row = session.first(
        "SELECT node_id, epoch, claim, status FROM @executions WHERE id = ?1",
        [key(&completion.execution_id)],
        |row| {
            let node_id: Option<String> = row.get(0)?;
            let owner =
                NodeRef { id: NodeId::from(node_id.unwrap_or_default().as_str()), epoch: Epoch(row.get(1)?) };
            Ok((owner, row.get::<_, u32>(2)?, row.get::<_, String>(3)?))
        },
    )?;
    if let Some((owner, claim, status)) = row {
        let status: Status = status.parse()?;
        return Ok(owner == *node && claim == completion.claim && status == completion.status);
    }
    let remembered = session.first(
        "SELECT 1 FROM @jobs j JOIN @job_state s USING (n)
         WHERE j.id = ?1 AND s.last_execution = ?2 AND s.last_status = ?3",
        params![completion.job_id.as_str(), key(&completion.execution_id), completion.status.as_str()],
        |_| Ok(()),
    )?;
    Ok(remembered.is_some() && !completion.keeps_row())
}
