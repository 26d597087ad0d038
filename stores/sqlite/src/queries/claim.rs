//! The claim: pending executions first, then due jobs, lane by lane.

use std::sync::Arc;

use rusqlite::{CachedStatement, params};
use unified_scheduler_core::Timestamp;
use unified_scheduler_core::execution::Status;
use unified_scheduler_core::id::ExecutionId;
use unified_scheduler_core::job::{EndReason, Job};
use unified_scheduler_core::schedule::Calendars;
use unified_scheduler_core::store::{
    ClaimBatch, ClaimOutcome, Claimed, Disposition, Live, NextDue, NodeRef, Plan,
};

use super::pending::lanes;
use super::{jobs, nodes, pending};
use crate::consult::Asker;
use crate::error::Step;
use crate::rows::{JobState, execution_id, insert_with, insertion, int, size, state_columns};
use crate::session::Session;

/// A job that is due, with its row number.
pub(crate) struct DueJob {
    n: i64,
    pub(crate) job: Job,
    pub(crate) live: Live,
}

/// Due jobs for the planner.
pub(crate) struct Questions {
    pub(crate) jobs: Vec<DueJob>,
    pub(crate) now: Timestamp,
    pub(crate) calendars: Arc<Calendars>,
}

/// The planner's end of a claim: answers one plan for each job, in order.
pub(crate) type PlanAsker = Asker<Questions, Vec<(DueJob, Plan)>>;

/// What a node asks to be given.
pub(crate) struct Wish {
    pub(crate) node: NodeRef,
    pub(crate) handlers: Vec<String>,
    pub(crate) limit: usize,
}

/// Jobs that a claim looks at beyond its limit, so that a long row of occurrences to skip, which start
/// nothing, does not take as many claims.
const SPARE: usize = 256;

/// Jobs that the planner is asked about at once: so few that it answers in time even when each has been
/// missed for months.
const AT_ONCE: usize = 512;

pub(crate) fn claim(session: &mut Session, wish: &Wish, planner: &PlanAsker) -> Step<ClaimOutcome> {
    let now = session.now();
    if nodes::lease(session, &wish.node)?.is_none_or(|until| until <= now) {
        return Ok(ClaimOutcome::Refused);
    }
    let taken = pending::take(session, &wish.node, &wish.handlers, wish.limit, now)?;
    let mut batch = ClaimBatch {
        now,
        claimed: taken.claimed,
        set_aside: taken.set_aside,
        more: taken.more,
        blocked: taken.blocked,
        ..ClaimBatch::default()
    };
    let calendars = jobs::calendars(session)?;
    let mut budget = wish.limit + SPARE;
    while batch.claimed.len() < wish.limit && budget > 0 {
        let page = (wish.limit - batch.claimed.len()).min(budget);
        let due = due_jobs(session, &wish.handlers, page, now)?;
        if due.is_empty() {
            break;
        }
        budget -= due.len();
        let mut questions = readable(session, due, now, &mut batch)?;
        while !questions.is_empty() {
            let rest = questions.split_off(questions.len().min(AT_ONCE));
            let plans = planner.ask(Questions { jobs: questions, now, calendars: Arc::clone(&calendars) })?;
            let mut writes = Writes { moved: session.prepare(MOVE)?, insertion: insertion(session)? };
            for (due, plan) in plans {
                apply(session, &mut writes, &wish.node, due.n, &due.job, plan, &mut batch)?;
            }
            questions = rest;
        }
    }
    look_ahead(session, &wish.handlers, &mut batch)?;
    Ok(ClaimOutcome::Claimed(Box::new(batch)))
}

/// The next lower priority of a handler's scheduled jobs.
const JOB_LANE: &str = "SELECT priority FROM @job_state
    WHERE enabled = 1 AND fault IS NULL AND fire_at IS NOT NULL AND handler = ?1 AND priority < ?2
    ORDER BY priority DESC LIMIT 1";

/// Up to `limit` due jobs, by priority, then fire time.
fn due_jobs(session: &Session, handlers: &[String], limit: usize, now: Timestamp) -> Step<Vec<JobState>> {
    const SQL: &str = concat!(
        "SELECT ",
        state_columns!(),
        " FROM @job_state s WHERE enabled = 1 AND fault IS NULL AND fire_at IS NOT NULL AND handler = ?1 \
         AND priority = ?2 AND fire_at <= ?3 ORDER BY fire_at LIMIT ?4"
    );
    let mut found = Vec::new();
    for (priority, handlers) in lanes(session, handlers, JOB_LANE)? {
        let mut lane = Vec::new();
        let wanted = limit - found.len();
        for handler in &handlers {
            let params = params![handler, priority, now.as_millis(), size(wanted)];
            lane.extend(session.all(SQL, params, JobState::read)?);
        }
        lane.sort_by_key(|state| (state.due.map(|due| due.fire_at), state.n));
        lane.truncate(wanted);
        found.append(&mut lane);
        if found.len() == limit {
            break;
        }
    }
    Ok(found)
}

/// The jobs whose definition can be read, as questions; the others are set aside.
fn readable(
    session: &mut Session,
    due: Vec<JobState>,
    now: Timestamp,
    batch: &mut ClaimBatch,
) -> Step<Vec<DueJob>> {
    let mut questions = Vec::with_capacity(due.len());
    for state in due {
        let n = state.n;
        let Some(known) = jobs::known(session, &state)? else {
            // A state without a job: somebody removed half of it. The other half goes.
            session.execute("DELETE FROM @job_state WHERE n = ?1", [n])?;
            continue;
        };
        if let Some(why) = &known.unreadable {
            jobs::set_aside(session, n, why, now)?;
            batch.set_aside.push((known.id.clone(), why.clone()));
            continue;
        }
        let live = live(session, known.id.as_str())?;
        questions.push(DueJob { n, job: state.into_job(&known), live });
    }
    Ok(questions)
}

/// The open executions of a job, over all nodes.
fn live(session: &Session, job_id: &str) -> Step<Live> {
    let mut statement = session.prepare(
        "SELECT status = 'running', made_by = 'schedule' AND attempt = 1 FROM @executions
         WHERE job_id = ?1 AND status IN ('pending', 'running')",
    )?;
    let mut rows = statement.query([job_id])?;
    let mut live = Live::default();
    while let Some(row) = rows.next()? {
        if row.get(0)? {
            live.running += 1;
        } else if row.get(1)? {
            live.queued += 1;
        }
    }
    Ok(live)
}

/// Compare and set: an edit since the job was read would win.
const MOVE: &str = "UPDATE @job_state SET due_at = ?4, fire_at = ?5, ended = ?6, skip_next = ?7, n_fired = ?8
     WHERE n = ?1 AND version = ?2 AND due_at IS ?3 AND enabled = 1 AND fault IS NULL";

/// The statements that each planned job needs, at hand.
struct Writes<'s> {
    moved: CachedStatement<'s>,
    insertion: CachedStatement<'s>,
}

/// Writes what the planner answered for one job.
fn apply(
    session: &Session,
    writes: &mut Writes<'_>,
    node: &NodeRef,
    n: i64,
    job: &Job,
    plan: Plan,
    batch: &mut ClaimBatch,
) -> Step<()> {
    if let NextDue::SetAside(reason) = plan.next {
        jobs::set_aside(session, n, &reason, batch.now)?;
        batch.set_aside.push((job.id.clone(), reason));
        return Ok(());
    }
    let (due, ended) = plan.next.parts();
    let moved = writes.moved.execute(params![
        n,
        job.version,
        job.due.map(|due| due.due_at.as_millis()),
        due.map(|due| due.due_at.as_millis()),
        due.map(|due| due.fire_at.as_millis()),
        ended.map(EndReason::as_str),
        plan.skip_next,
        int(plan.n_fired)
    ])?;
    if moved == 0 {
        return Ok(());
    }
    if let Some(reason) = ended {
        batch.ended.push((job.id.clone(), reason));
    }
    let queued_before = batch.queued.len();
    if plan.cancel_running {
        batch.cancel.extend(cancel_running(session, job.id.as_str())?);
    }
    for record in plan.records {
        let starts = record.disposition == Disposition::Start;
        let execution = record.into_execution(job, batch.now, node);
        if !insert_with(&mut writes.insertion, &execution, None)? {
            // It has its record already, because an edit set the job back: it does not fire again.
            tracing::debug!(job_id = %job.id, due_at = %execution.due_at, "occurrence was recorded before");
        } else if starts {
            batch.claimed.push(Claimed { execution, job: job.clone() });
        } else if execution.status == Status::Pending {
            batch.queued.push(execution);
        } else {
            batch.skipped.push(execution);
        }
    }
    if batch.queued.len() > queued_before {
        let free = pending::free_slots(session, job)? > 0;
        batch.more |= free;
        batch.blocked |= !free;
    }
    Ok(())
}

/// Asks the running executions of a job to stop.
fn cancel_running(session: &Session, job_id: &str) -> Step<Vec<ExecutionId>> {
    session.all(
        "UPDATE @executions SET cancel_requested = 1
         WHERE job_id = ?1 AND status = 'running' AND status IN ('pending', 'running') RETURNING id",
        [job_id],
        |row| Ok(execution_id(row, 0)?),
    )
}

/// Finds out whether more is due now, and when something is due next.
fn look_ahead(session: &Session, handlers: &[String], batch: &mut ClaimBatch) -> Step<()> {
    let now = batch.now.as_millis();
    let mut next = pending::next_at(session, handlers, batch.now)?;
    for (priority, handlers) in lanes(session, handlers, JOB_LANE)? {
        for handler in &handlers {
            batch.more |= fire_time(session, handler, priority, i64::MIN)?.is_some_and(|t| t <= now);
            let later = fire_time(session, handler, priority, now)?.map(Timestamp::from_millis);
            next = next.into_iter().chain(later).min();
        }
    }
    batch.next_at = next;
    Ok(())
}

/// The first fire time in a lane after `after`.
fn fire_time(session: &Session, handler: &str, priority: i64, after: i64) -> Step<Option<i64>> {
    session.first(
        "SELECT fire_at FROM @job_state
         WHERE enabled = 1 AND fault IS NULL AND fire_at IS NOT NULL AND handler = ?1 AND priority = ?2
             AND fire_at > ?3
         ORDER BY fire_at LIMIT 1",
        params![handler, priority, after],
        |row| row.get(0),
    )
}
