//! The claim: what was picked, as the planner says, written in one statement.
//!
//! Whoever makes an execution of a job running holds the lock of that job's state. So the write sees every one
//! that others have started, and starts nothing of a job that runs more often by now than the planner was told.

use std::collections::HashMap;
use std::sync::Arc;

use sqlx::Row as _;
use sqlx::postgres::PgArguments;
use unified_scheduler_core::Timestamp;
use unified_scheduler_core::execution::Execution;
use unified_scheduler_core::id::{ExecutionId, JobId};
use unified_scheduler_core::job::{Due, EndReason, Job};
use unified_scheduler_core::store::{
    ClaimBatch, ClaimOutcome, Claimed, Disposition, Live, NextDue, NodeRef, Plan, Planner,
};
use uuid::Uuid;

use super::jobs;
use super::pick::{Picked, PickedJob, pick};
use crate::cache::KnownJob;
use crate::error::Step;
use crate::rows::{at, execution, execution_columns, execution_id, int, json, key, missing, text};
use crate::session::{Session, bind, params};

/// What a node asks to be given.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) node: NodeRef,
    pub(crate) handlers: Vec<String>,
    pub(crate) limit: usize,
}

/// How soon to look again for what others held during this claim.
const HELD: i64 = 20;

/// $1 to $13 the records; $14 to $22 the jobs to move on: id, version, due time as it was; due and fire time, end,
/// skips and count as they are to be; how often it ran when it was picked; $23 and $24 the executions to start and
/// how often their jobs ran; $25 now, $26 and $27 the node.
///
/// A version stands for everything that an edit could have changed. `coalesce` keeps the planner from the index of
/// what is pending, which it takes for nearly empty: what is written is found by its id.
const WRITE: &str = concat!(
    "WITH alive AS MATERIALIZED (
        SELECT FROM @nodes WHERE id = $26 AND epoch = $27 AND dead_at IS NULL
    ), moved AS (
        UPDATE @job_state s SET due_at = p.next_due, fire_at = p.next_fire, ended = p.ended,
            skip_next = p.skip_next, n_fired = p.n_fired
        FROM unnest($14::text[], $15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[], $19::text[],
            $20::bigint[], $21::bigint[], $22::bigint[])
            AS p (id, version, due_at, next_due, next_fire, ended, skip_next, n_fired, running)
        WHERE EXISTS (SELECT FROM alive) AND s.id = p.id AND s.version = p.version
            AND s.due_at IS NOT DISTINCT FROM p.due_at
            AND (SELECT count(*) FILTER (WHERE x.status = 'running') FROM @executions x
                WHERE x.job_id = p.id AND x.ended_at IS NULL) <= p.running
        RETURNING s.id
    ), made AS (
        INSERT INTO @executions AS e (id, job_id, job_name, handler, status, reason, made_by, triggered_by,
            due_at, covers_until, n_occurrences, next_due_at, version, attempt, retries, crashes, nonce,
            priority, created_at, run_at, started_at, ended_at, node_id, epoch, claim, cancel_requested, result)
        SELECT r.id, r.job_id, r.job_name, r.handler, r.status, r.reason, 'schedule', 'scheduler', r.due_at,
            r.covers_until, r.n_occurrences, r.next_due_at, r.version, 1, 0, 0, '', r.priority, $25, $25,
            CASE WHEN r.status = 'running' THEN $25 END, CASE WHEN r.status = 'skipped' THEN $25 END,
            CASE WHEN r.status = 'running' THEN $26 END, CASE WHEN r.status = 'running' THEN $27 ELSE 0 END,
            CASE WHEN r.status = 'running' THEN 1 ELSE 0 END, false, r.result
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[],
            $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::integer[], $13::text[])
            AS r (id, job_id, job_name, handler, status, reason, due_at, covers_until, n_occurrences,
                next_due_at, version, priority, result)
        WHERE (r.job_id IN (SELECT id FROM moved)) IS TRUE
        ON CONFLICT DO NOTHING RETURNING e.id
    ), began AS (
        UPDATE @executions e SET status = 'running', started_at = $25, node_id = $26, epoch = $27,
            claim = e.claim + 1
        FROM unnest($23::uuid[], $24::bigint[]) AS p (id, running)
        WHERE EXISTS (SELECT FROM alive) AND e.id = p.id AND coalesce(e.status = 'pending', false)
            AND (SELECT count(*) FILTER (WHERE x.status = 'running') FROM @executions x
                WHERE x.job_id = e.job_id AND x.ended_at IS NULL) <= p.running
        RETURNING e.*
    )
    SELECT CASE WHEN (SELECT count(*) FROM moved) < cardinality($14::text[])
            THEN ARRAY(SELECT id FROM moved) END,
        CASE WHEN (SELECT count(*) FROM made) < cardinality($1::uuid[])
            THEN ARRAY(SELECT id FROM made) END, ",
    execution_columns!(),
    " FROM (SELECT) one LEFT JOIN began e ON false
    UNION ALL SELECT NULL, NULL, ",
    execution_columns!(),
    " FROM began e"
);

pub(crate) async fn claim(session: &mut Session, wish: &Wish, planner: &dyn Planner) -> Step<ClaimOutcome> {
    let Picked { now, alive, next_at, pending, due, left, blocked, calendars } =
        pick(session, &wish.node, &wish.handlers, wish.limit).await?;
    if !alive {
        return Ok(ClaimOutcome::Refused);
    }
    let calendars = jobs::calendars(session, calendars).await?;
    let states = pending.iter().map(|(_, job)| job).chain(&due).map(|job| &job.state);
    let known = jobs::known(session, states).await?;
    let mut draft = Draft::new(wish, now, known);
    for (id, job) in pending {
        draft.start(id, job);
    }
    for job in due {
        if let Some((job, live, seen)) = draft.readable(job) {
            let plan = planner.plan(&job, live, now, &calendars);
            draft.move_on(job, live, seen, plan);
        }
    }
    let mut batch = draft.write(session).await?;
    (batch.more, batch.blocked) = (batch.more || left, batch.blocked || blocked);
    let soon = (left && wish.limit > 0).then(|| Timestamp::from_millis(now.as_millis() + HELD));
    batch.next_at = batch.next_at.into_iter().chain(next_at).chain(soon).min();
    Ok(ClaimOutcome::Claimed(Box::new(batch)))
}

/// What is to be written, as it is put together.
struct Draft<'w> {
    wish: &'w Wish,
    now: Timestamp,
    known: HashMap<i64, Arc<KnownJob>>,
    /// Jobs of the executions to start.
    starts: HashMap<ExecutionId, (usize, Job)>,
    start_ids: Vec<Uuid>,
    start_running: Vec<i64>,
    /// What the starts so far change of what was counted.
    started: HashMap<JobId, Live>,
    moves: Vec<Move>,
    records: Vec<(usize, Disposition, Execution)>,
    set_aside: Vec<(JobId, String)>,
}

/// A job that moves on to its next occurrence.
struct Move {
    job: Job,
    due: Option<Due>,
    ended: Option<EndReason>,
    skip_next: u32,
    n_fired: u64,
    /// How often the job ran when it was picked.
    seen: u32,
    /// How often it runs with what was started before.
    running: u32,
    cancel_running: bool,
}

impl<'w> Draft<'w> {
    fn new(wish: &'w Wish, now: Timestamp, known: HashMap<i64, Arc<KnownJob>>) -> Self {
        Self {
            wish,
            now,
            known,
            starts: HashMap::new(),
            start_ids: Vec::new(),
            start_running: Vec::new(),
            started: HashMap::new(),
            moves: Vec::new(),
            records: Vec::new(),
            set_aside: Vec::new(),
        }
    }

    /// The job with its definition, what of it is open, and how often it ran when it was picked; `None` for one
    /// that can't be read and is to be set aside.
    fn readable(&mut self, picked: PickedJob) -> Option<(Job, Live, u32)> {
        let PickedJob { state, live, .. } = picked;
        let known = Arc::clone(self.known.get(&state.n)?);
        if let Some(why) = &known.unreadable {
            if !self.set_aside.iter().any(|(id, _)| *id == known.id) {
                self.set_aside.push((known.id.clone(), why.clone()));
            }
            return None;
        }
        let started = self.started.get(&known.id).copied().unwrap_or_default();
        let seen = live.running;
        let live = Live {
            running: live.running + started.running,
            queued: live.queued.saturating_sub(started.queued),
        };
        Some((state.into_job(&known), live, seen))
    }

    /// Starts a pending execution, if its job still has room for it.
    fn start(&mut self, id: ExecutionId, picked: PickedJob) {
        let (max, was_queued) = (picked.max_running, picked.was_queued);
        let Some((job, live, seen)) = self.readable(picked) else { return };
        if i64::from(live.running) >= max {
            return;
        }
        let started = self.started.entry(job.id.clone()).or_default();
        started.running += 1;
        started.queued += u32::from(was_queued);
        self.start_ids.push(key(&id));
        self.start_running.push(seen.into());
        self.starts.insert(id, (self.starts.len(), job));
    }

    /// Takes what the planner answered for one job.
    fn move_on(&mut self, job: Job, live: Live, seen: u32, plan: Plan) {
        let (due, ended) = plan.next.parts();
        let Plan { records, next, skip_next, n_fired, cancel_running } = plan;
        if let NextDue::SetAside(reason) = next {
            self.set_aside.push((job.id, reason));
            return;
        }
        let place = self.moves.len();
        for record in records {
            let disposition = record.disposition.clone();
            let execution = record.into_execution(&job, self.now, &self.wish.node);
            self.records.push((place, disposition, execution));
        }
        let running = live.running;
        self.moves.push(Move { job, due, ended, skip_next, n_fired, seen, running, cancel_running });
    }

    /// Writes it all, and answers what was won.
    async fn write(self, session: &mut Session) -> Step<ClaimBatch> {
        let Self { wish, now, starts, start_ids, start_running, moves, records, set_aside, .. } = self;
        let mut batch = ClaimBatch { now, ..ClaimBatch::default() };
        let mut won = Won::default();
        if !start_ids.is_empty() || !moves.is_empty() {
            let mut arguments = PgArguments::default();
            bind_records(&mut arguments, &records)?;
            bind_moves(&mut arguments, &moves)?;
            bind(&mut arguments, start_ids)?;
            bind(&mut arguments, start_running)?;
            bind(&mut arguments, now.as_millis())?;
            bind(&mut arguments, wish.node.id.as_str())?;
            bind(&mut arguments, wish.node.epoch.0)?;
            won = Won::read(&session.all(WRITE, arguments).await?)?;
        }
        let began = std::mem::take(&mut won.began);
        batch.more = began.len() < starts.len();
        let mut claimed: Vec<(usize, Claimed)> = Vec::with_capacity(began.len());
        for execution in began {
            let Some((place, job)) = starts.get(&execution.id) else { continue };
            claimed.push((*place, Claimed { execution, job: job.clone() }));
        }
        // In the order in which they were picked.
        claimed.sort_by_key(|(place, _)| *place);
        batch.claimed.extend(claimed.into_iter().map(|(_, claimed)| claimed));
        end_unreadable(session, &won.unreadable, now).await?;
        batch.set_aside = jobs::set_aside(session, &set_aside, now).await?;
        won.take(moves, records, &mut batch, session).await?;
        Ok(batch)
    }
}

/// The records, but for what is the same in all that a schedule makes.
fn bind_records(arguments: &mut PgArguments, records: &[(usize, Disposition, Execution)]) -> Step<()> {
    fn column<'a, T>(
        records: &'a [(usize, Disposition, Execution)],
        value: impl Fn(&'a Execution) -> T,
    ) -> Vec<T> {
        records.iter().map(|(_, _, execution)| value(execution)).collect()
    }
    let results: Step<Vec<_>> = records.iter().map(|(_, _, e)| json(e.result.as_ref())).collect();
    bind(arguments, column(records, |e| key(&e.id)))?;
    bind(arguments, column(records, |e| e.job_id.as_str()))?;
    bind(arguments, column(records, |e| text(&e.job_name)))?;
    bind(arguments, column(records, |e| e.handler.as_str()))?;
    bind(arguments, column(records, |e| e.status.as_str()))?;
    bind(arguments, column(records, |e| e.reason.as_deref()))?;
    bind(arguments, column(records, |e| e.due_at.as_millis()))?;
    bind(arguments, column(records, |e| at(e.covers_until)))?;
    bind(arguments, column(records, |e| int(e.n_occurrences)))?;
    bind(arguments, column(records, |e| at(e.next_due_at)))?;
    bind(arguments, column(records, |e| e.version))?;
    bind(arguments, column(records, |e| e.priority))?;
    bind(arguments, results?)
}

fn bind_moves(arguments: &mut PgArguments, moves: &[Move]) -> Step<()> {
    fn column<'a, T>(moves: &'a [Move], value: impl Fn(&'a Move) -> T) -> Vec<T> {
        moves.iter().map(value).collect()
    }
    let fire_at = |m: &Move| m.due.map(|due| due.fire_at.as_millis());
    bind(arguments, column(moves, |m| m.job.id.as_str()))?;
    bind(arguments, column(moves, |m| m.job.version))?;
    bind(arguments, column(moves, |m| m.job.due_at().map(Timestamp::as_millis)))?;
    bind(arguments, column(moves, |m| m.due.map(|due| due.due_at.as_millis())))?;
    bind(arguments, column(moves, fire_at))?;
    bind(arguments, column(moves, |m| m.ended.map(EndReason::as_str)))?;
    bind(arguments, column(moves, |m| i64::from(m.skip_next)))?;
    bind(arguments, column(moves, |m| int(m.n_fired)))?;
    bind(arguments, column(moves, |m| i64::from(m.seen)))
}

/// What the write came to.
#[derive(Default)]
struct Won {
    /// The jobs that moved on; `None` when all did.
    moved: Option<Vec<String>>,
    /// The records that are new; `None` when all are.
    made: Option<Vec<Uuid>>,
    /// Pending executions that run now.
    began: Vec<Execution>,
    /// Those of them that nobody here can read.
    unreadable: Vec<Uuid>,
}

impl Won {
    fn read(rows: &[sqlx::postgres::PgRow]) -> Step<Self> {
        let (first, began) = rows.split_first().ok_or_else(missing)?;
        let mut won = Self { moved: first.try_get(0)?, made: first.try_get(1)?, ..Self::default() };
        for row in began {
            match execution(row, 2) {
                Err(fail) if fail.is_corrupt() => won.unreadable.push(row.try_get(2)?),
                read => won.began.push(read?),
            }
        }
        Ok(won)
    }

    /// Sorts the records into the batch, and asks running executions to stop where a policy says so.
    async fn take(
        self,
        moves: Vec<Move>,
        records: Vec<(usize, Disposition, Execution)>,
        batch: &mut ClaimBatch,
        session: &mut Session,
    ) -> Step<()> {
        let won: Vec<bool> = match &self.moved {
            None => vec![true; moves.len()],
            Some(ids) => moves.iter().map(|m| ids.iter().any(|id| id == m.job.id.as_str())).collect(),
        };
        let mut running: Vec<u32> = moves.iter().map(|m| m.running).collect();
        let mut queued: Vec<bool> = vec![false; moves.len()];
        let mut new = Vec::new();
        for (place, disposition, execution) in records {
            let is_made = self.made.as_ref().is_none_or(|made| made.contains(&key(&execution.id)));
            if !won[place] || !is_made {
                continue; // It has its record already, because an edit set the job back.
            }
            new.push(key(&execution.id));
            match disposition {
                Disposition::Start => {
                    running[place] += 1;
                    batch.claimed.push(Claimed { execution, job: moves[place].job.clone() });
                }
                Disposition::Queue => {
                    queued[place] = true;
                    batch.queued.push(execution);
                }
                Disposition::Skip(..) => batch.skipped.push(execution),
            }
        }
        let mut cancelling = Vec::new();
        for (place, m) in moves.into_iter().enumerate() {
            if !won[place] {
                batch.more = true;
                continue;
            }
            if queued[place] {
                let free = m.job.definition.overlap.max_running() > running[place];
                batch.more |= free;
                batch.blocked |= !free;
            }
            batch.ended.extend(m.ended.map(|reason| (m.job.id.clone(), reason)));
            if let Some(due) = m.due {
                batch.more |= due.fire_at <= batch.now;
                let later = Some(due.fire_at).filter(|fire_at| *fire_at > batch.now);
                batch.next_at = batch.next_at.into_iter().chain(later).min();
            }
            if m.cancel_running {
                cancelling.push(m.job.id);
            }
        }
        batch.cancel = cancel_running(session, &cancelling, &new).await?;
        Ok(())
    }
}

/// Ends what was started and can't be read, since nobody here can run it.
async fn end_unreadable(session: &mut Session, ids: &[Uuid], now: Timestamp) -> Step<()> {
    const SQL: &str = "UPDATE @executions SET status = 'failed', reason = 'error', ended_at = $2,
            error = '{\"kind\":\"error\",\"message\":\"the stored execution can''t be read\"}'
        WHERE id = ANY ($1) AND status = 'running'";
    if !ids.is_empty() {
        tracing::error!(?ids, "pending executions can't be read, and end as failed");
        session.execute(SQL, params![ids, now.as_millis()]).await?;
    }
    Ok(())
}

/// Asks the executions of these jobs that ran before to stop.
async fn cancel_running(session: &mut Session, jobs: &[JobId], new: &[Uuid]) -> Step<Vec<ExecutionId>> {
    const SQL: &str = "UPDATE @executions e SET cancel_requested = true
        FROM unnest($1::text[]) AS c (job_id)
        WHERE e.job_id = c.job_id AND e.ended_at IS NULL AND coalesce(e.status = 'running', false) AND e.id <> ALL ($2) RETURNING e.id";
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let mut ids: Vec<&str> = jobs.iter().map(JobId::as_str).collect();
    ids.sort_unstable();
    let rows = session.all(SQL, params![ids, new]).await?;
    rows.iter().map(|row| execution_id(row, 0)).collect()
}
