//! Finding dead nodes, and ending what they left.

use rusqlite::params;
use unified_scheduler_core::Timestamp;
use unified_scheduler_core::execution::Execution;
use unified_scheduler_core::id::{Epoch, NodeId};
use unified_scheduler_core::job::Job;
use unified_scheduler_core::store::{Completion, NodeRef, ReapRequest, Reaped};

use super::complete::end;
use super::{executions, jobs};
use crate::consult::Asker;
use crate::error::Step;
use crate::rows::{execution, execution_columns, millis, size};
use crate::session::{Session, readable};

/// An execution that a dead node left, and its job if that can be read.
pub(crate) struct Orphan {
    pub(crate) job: Option<Job>,
    pub(crate) execution: Execution,
}

/// Orphans for the planner.
pub(crate) struct Questions {
    pub(crate) orphans: Vec<Orphan>,
    pub(crate) now: Timestamp,
}

/// The planner's end of a reaping: answers how each orphan ends, in order.
pub(crate) type EndAsker = Asker<Questions, Vec<(Execution, Completion)>>;

pub(crate) fn reap(session: &mut Session, request: ReapRequest, planner: &EndAsker) -> Step<Reaped> {
    let now = session.now();
    let mut reaped = Reaped { nodes: mark_dead(session, request, now)?, ..Reaped::default() };
    let mut left = request.limit;
    for owner in dead_owners(session)? {
        // Those that can't be ended are passed over, and hide nobody.
        let mut after = Vec::new();
        loop {
            let page = orphans(session, &owner, &after, left.min(500) + 1)?;
            if page.is_empty() {
                break;
            }
            if left == 0 {
                reaped.more = true;
                return Ok(reaped);
            }
            let page: Vec<_> = page.into_iter().take(left).collect();
            if let Some((last, _)) = page.last() {
                after.clone_from(last);
            }
            let orphans = page.into_iter().filter_map(|(_, orphan)| orphan).collect();
            for (execution, completion) in planner.ask(Questions { orphans, now })? {
                match session.nested(|session| end_orphan(session, &owner, &execution, &completion)) {
                    Ok(Some(ended)) => {
                        left -= 1;
                        reaped.ended.push(ended);
                    }
                    Ok(None) => {}
                    Err(error) => {
                        let id = execution.id;
                        tracing::error!(execution_id = %id, ?error, "could not end an execution of a dead node");
                    }
                }
            }
        }
    }
    Ok(reaped)
}

fn mark_dead(session: &Session, request: ReapRequest, now: Timestamp) -> Step<Vec<NodeRef>> {
    session.all(
        "UPDATE @nodes SET dead_at = ?1 WHERE dead_at IS NULL AND lease_until < ?2 RETURNING id, epoch",
        params![now.as_millis(), now.as_millis() - millis(request.grace)],
        |row| {
            let id: String = row.get(0)?;
            Ok(NodeRef { id: NodeId::from(id.as_str()), epoch: Epoch(row.get(1)?) })
        },
    )
}

/// Every node and epoch that something runs under by the file, and that is dead: marked so, followed by a
/// newer epoch, or forgotten. Skips from one to the next along the index.
pub(crate) fn dead_owners(session: &Session) -> Step<Vec<NodeRef>> {
    let mut dead = Vec::new();
    let mut last = (String::new(), i64::MIN);
    loop {
        let next = session.first(
            "SELECT node_id, epoch FROM @executions
             WHERE status = 'running' AND (node_id, epoch) > (?1, ?2) ORDER BY node_id, epoch LIMIT 1",
            params![last.0, last.1],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        let Some((id, epoch)) = next else { return Ok(dead) };
        last = (id, epoch);
        let node = NodeRef { id: NodeId::from(last.0.as_str()), epoch: Epoch(epoch) };
        if super::nodes::lease(session, &node)?.is_none() {
            dead.push(node);
        }
    }
}

/// What a dead owner left, each with its key; `None` for what can't be read, which is left to those who can.
fn orphans(
    session: &Session,
    owner: &NodeRef,
    after: &[u8],
    limit: usize,
) -> Step<Vec<(Vec<u8>, Option<Orphan>)>> {
    const SQL: &str = concat!(
        "SELECT ",
        execution_columns!(),
        " FROM @executions WHERE status = 'running' AND node_id = ?1 AND epoch = ?2 AND id > ?3 \
         ORDER BY id LIMIT ?4"
    );
    let params = params![owner.id.as_str(), owner.epoch.0, after, size(limit)];
    let found = session.all(SQL, params, |row| Ok((row.get(0)?, readable(execution(row))?)))?;
    let mut orphans = Vec::with_capacity(found.len());
    for (key, execution) in found {
        let orphan = match execution {
            None => None,
            Some(execution) => {
                let job = jobs::read(session, &execution.job_id)?.map(|(_, job)| job);
                Some(Orphan { job, execution })
            }
        };
        orphans.push((key, orphan));
    }
    Ok(orphans)
}

/// Ends one orphan; answers it as it is then, or `None` when it has ended meanwhile.
fn end_orphan(
    session: &mut Session,
    owner: &NodeRef,
    execution: &Execution,
    completion: &Completion,
) -> Step<Option<Execution>> {
    if end(session, owner, completion)?.is_none() {
        return Ok(None);
    }
    if let Some(ended) = executions::get(session, &execution.id)? {
        return Ok(Some(ended));
    }
    // The history does not keep it.
    let mut ended = execution.clone();
    ended.status = completion.status;
    ended.reason.clone_from(&completion.reason);
    ended.ended_at = Some(completion.ended_at);
    ended.error.clone_from(&completion.error);
    Ok(Some(ended))
}
