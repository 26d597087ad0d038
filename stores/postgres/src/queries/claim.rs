//! The claim: what was picked, as the planner says, written in one statement.
//!
//! Whoever makes an execution of a job live holds the lock of that job's state, and writes to it. So what a claim was
//! told of a job that it has locked unchanged holds until it has written.

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
use super::pick::{Left, LiveIds, Picked, PickedJob, pick};
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

/// $1 to $13 the records; $14 to $24 the jobs to write to: place, id, version, due time as it was; due and fire time,
/// end, skips and count as they are to be; what is live then, as an array's text; whether the schedule moves on; $25 the
/// places of the executions to start; $26 now, $27 and $28 the node.
///
/// What this transaction has locked stays in its place. A version stands for everything that an edit could have
/// changed.
macro_rules! write {
    ($on_conflict:literal) => {
        concat!(
            "WITH alive AS MATERIALIZED (
        SELECT FROM @nodes WHERE id = $27 AND epoch = $28 AND dead_at IS NULL
    ), written AS (
        UPDATE @job_state s SET due_at = p.next_due, fire_at = p.next_fire, ended = p.ended,
            skip_next = p.skip_next, n_fired = p.n_fired, live = p.live::uuid[]
        FROM unnest($14::text[], $15::text[], $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[],
            $20::text[], $21::bigint[], $22::bigint[], $23::text[], $24::boolean[])
            AS p (place, id, version, due_at, next_due, next_fire, ended, skip_next, n_fired, live, moves)
        WHERE EXISTS (SELECT FROM alive) AND s.ctid = p.place::tid
            AND coalesce(s.id = p.id AND s.version = p.version AND s.due_at IS NOT DISTINCT FROM p.due_at, false)
        RETURNING s.id, p.moves
    ), made AS (
        INSERT INTO @executions AS e (id, job_id, job_name, handler, status, reason, made_by, triggered_by,
            due_at, covers_until, n_occurrences, next_due_at, version, attempt, retries, crashes, nonce,
            priority, created_at, run_at, started_at, ended_at, node_id, epoch, claim, cancel_requested, result)
        SELECT r.id, r.job_id, r.job_name, r.handler, r.status, r.reason, 'schedule', 'scheduler', r.due_at,
            r.covers_until, r.n_occurrences, r.next_due_at, r.version, 1, 0, 0, '', r.priority, $26, $26,
            CASE WHEN r.status = 'running' THEN $26 END, CASE WHEN r.status = 'skipped' THEN $26 END,
            CASE WHEN r.status = 'running' THEN $27 END, CASE WHEN r.status = 'running' THEN $28 ELSE 0 END,
            CASE WHEN r.status = 'running' THEN 1 ELSE 0 END, false, r.result
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[],
            $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::integer[], $13::text[])
            AS r (id, job_id, job_name, handler, status, reason, due_at, covers_until, n_occurrences,
                next_due_at, version, priority, result)
        WHERE (r.job_id IN (SELECT id FROM written)) IS TRUE",
            $on_conflict,
            " RETURNING e.id
    ), began AS (
        UPDATE @executions e SET status = 'running', started_at = $26, node_id = $27, epoch = $28,
            claim = e.claim + 1
        WHERE e.ctid = ANY ($25::text[]::tid[]) AND coalesce(e.status = 'pending', false)
            AND (e.job_id IN (SELECT id FROM written)) IS TRUE
        RETURNING e.*
    )
    SELECT CASE WHEN (SELECT count(*) FROM written) < cardinality($14::text[])
            THEN ARRAY(SELECT id FROM written WHERE moves) END,
        CASE WHEN (SELECT count(*) FROM made) < cardinality($1::uuid[])
            THEN ARRAY(SELECT id FROM made) END, ",
            execution_columns!(),
            " FROM (SELECT) one LEFT JOIN began e ON false
    UNION ALL SELECT NULL, NULL, ",
            execution_columns!(),
            " FROM began e"
        )
    };
}

/// Fails as a whole when an occurrence has its execution already.
const WRITE: &str = write!("");

/// Leaves out what has its execution already, which costs a search of each unique index for each row.
const WRITE_AGAIN: &str = write!(" ON CONFLICT DO NOTHING");

/// In a transaction. With `again` it was tried before, and some occurrence had its execution already.
pub(crate) async fn claim(
    session: &mut Session,
    wish: &Wish,
    again: bool,
    planner: &dyn Planner,
) -> Step<ClaimOutcome> {
    let Picked { now, alive, next_at, pending, due, left, blocked, calendars, live } =
        pick(session, &wish.node, &wish.handlers, wish.limit).await?;
    if !alive {
        return Ok(ClaimOutcome::Refused);
    }
    let calendars = jobs::calendars(session, calendars).await?;
    let states = pending.iter().map(|(_, job)| job).chain(&due).map(|job| &job.state);
    let known = jobs::known(session, states).await?;
    let mut draft = Draft::new(wish, now, known, live);
    for (id, job) in pending {
        draft.start(id, job);
    }
    for job in due {
        if let Some((job, live)) = draft.readable(job) {
            let plan = planner.plan(&job, live, now, &calendars);
            draft.move_on(job, live, plan);
        }
    }
    let mut batch = draft.write(session, again).await?;
    batch.more |= left != Left::Nothing;
    batch.blocked |= blocked;
    let soon = match left {
        Left::Unseen => Some(now),
        Left::Some if wish.limit > 0 => Some(Timestamp::from_millis(now.as_millis() + HELD)),
        Left::Some | Left::Nothing => None,
    };
    batch.next_at = batch.next_at.into_iter().chain(next_at).chain(soon).min();
    Ok(ClaimOutcome::Claimed(Box::new(batch)))
}

/// What is to be written, as it is put together.
struct Draft<'w> {
    wish: &'w Wish,
    now: Timestamp,
    known: HashMap<i64, Arc<KnownJob>>,
    /// What is live of each job, with what was started here.
    live: HashMap<JobId, LiveIds>,
    /// Jobs of the executions to start.
    starts: HashMap<ExecutionId, (usize, Job)>,
    /// Where the rows of jobs are.
    places: HashMap<JobId, String>,
    /// Where the executions to start are.
    start_places: Vec<String>,
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
    /// How often it runs with what was started before.
    running: u32,
    /// What ran before, and is asked to stop.
    cancel: Vec<Uuid>,
}

impl<'w> Draft<'w> {
    fn new(
        wish: &'w Wish,
        now: Timestamp,
        known: HashMap<i64, Arc<KnownJob>>,
        live: HashMap<JobId, LiveIds>,
    ) -> Self {
        Self {
            wish,
            now,
            known,
            live,
            starts: HashMap::new(),
            places: HashMap::new(),
            start_places: Vec::new(),
            moves: Vec::new(),
            records: Vec::new(),
            set_aside: Vec::new(),
        }
    }

    /// The job with its definition, and what of it is live; `None` for one that can't be read and is to be set aside.
    fn readable(&mut self, picked: PickedJob) -> Option<(Job, Live)> {
        let state = picked.state;
        let known = Arc::clone(self.known.get(&state.n)?);
        if let Some(why) = &known.unreadable {
            if !self.set_aside.iter().any(|(id, _)| *id == known.id) {
                self.set_aside.push((known.id.clone(), why.clone()));
            }
            return None;
        }
        let live = self.live.get(&known.id).map_or_else(Live::default, LiveIds::count);
        self.places.insert(known.id.clone(), picked.place);
        Some((state.into_job(&known), live))
    }

    /// Starts a pending execution, if its job still has room for it.
    fn start(&mut self, id: ExecutionId, mut picked: PickedJob) {
        let max = picked.max_running;
        let Some(place) = picked.execution_place.take() else { return };
        let Some((job, live)) = self.readable(picked) else { return };
        if i64::from(live.running) >= max {
            return;
        }
        let live = self.live.entry(job.id.clone()).or_default();
        live.queued.retain(|queued| *queued != key(&id));
        live.running.push(key(&id));
        self.start_places.push(place);
        self.starts.insert(id, (self.starts.len(), job));
    }

    /// Takes what the planner answered for one job.
    fn move_on(&mut self, job: Job, live: Live, plan: Plan) {
        let (due, ended) = plan.next.parts();
        let Plan { records, next, skip_next, n_fired, cancel_running } = plan;
        if let NextDue::SetAside(reason) = next {
            self.set_aside.push((job.id, reason));
            return;
        }
        let place = self.moves.len();
        let ids =
            (cancel_running || !records.is_empty()).then(|| self.live.entry(job.id.clone()).or_default());
        let mut cancel = Vec::new();
        if let Some(ids) = ids {
            if cancel_running {
                cancel.clone_from(&ids.running);
            }
            for record in &records {
                match record.disposition {
                    Disposition::Start => ids.running.push(key(&record.id)),
                    Disposition::Queue => ids.queued.push(key(&record.id)),
                    Disposition::Skip(..) => {}
                }
            }
        }
        for record in records {
            let disposition = record.disposition.clone();
            let execution = record.into_execution(&job, self.now, &self.wish.node);
            self.records.push((place, disposition, execution));
        }
        let running = live.running;
        self.moves.push(Move { job, due, ended, skip_next, n_fired, running, cancel });
    }

    /// Writes it all, and answers what was won.
    async fn write(self, session: &mut Session, again: bool) -> Step<ClaimBatch> {
        let Self { wish, now, live, starts, places, start_places, moves, records, set_aside, .. } = self;
        let mut batch = ClaimBatch { now, ..ClaimBatch::default() };
        let mut won = Won::default();
        if !starts.is_empty() || !moves.is_empty() {
            let mut arguments = PgArguments::default();
            bind_records(&mut arguments, &records)?;
            bind_jobs(&mut arguments, &moves, &starts, &live, &places)?;
            bind(&mut arguments, start_places)?;
            bind(&mut arguments, now.as_millis())?;
            bind(&mut arguments, wish.node.id.as_str())?;
            bind(&mut arguments, wish.node.epoch.0)?;
            let sql = if again { WRITE_AGAIN } else { WRITE };
            won = Won::read(&session.all(sql, arguments).await?)?;
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

/// The jobs to write to: those that move on, and those that only start what was pending.
fn bind_jobs(
    arguments: &mut PgArguments,
    moves: &[Move],
    starts: &HashMap<ExecutionId, (usize, Job)>,
    live: &HashMap<JobId, LiveIds>,
    places: &HashMap<JobId, String>,
) -> Step<()> {
    fn column<'a, T>(jobs: &'a [Written<'a>], value: impl Fn(&'a Written<'a>) -> T) -> Vec<T> {
        jobs.iter().map(value).collect()
    }
    let mut others: HashMap<&JobId, &Job> = starts.values().map(|(_, job)| (&job.id, job)).collect();
    for m in moves {
        others.remove(&m.job.id);
    }
    let as_it_is =
        |job| Written { job, due: job.due, ended: job.ended, skip_next: job.skip_next, n_fired: job.n_fired };
    let n_moves = moves.len();
    let jobs: Vec<Written<'_>> =
        moves.iter().map(Written::of).chain(others.into_values().map(as_it_is)).collect();
    bind(arguments, column(&jobs, |w| places.get(&w.job.id).map_or("", String::as_str)))?;
    bind(arguments, column(&jobs, |w| w.job.id.as_str()))?;
    bind(arguments, column(&jobs, |w| w.job.version))?;
    bind(arguments, column(&jobs, |w| w.job.due_at().map(Timestamp::as_millis)))?;
    bind(arguments, column(&jobs, |w| w.due.map(|due| due.due_at.as_millis())))?;
    bind(arguments, column(&jobs, |w| w.due.map(|due| due.fire_at.as_millis())))?;
    bind(arguments, column(&jobs, |w| w.ended.map(EndReason::as_str)))?;
    bind(arguments, column(&jobs, |w| i64::from(w.skip_next)))?;
    bind(arguments, column(&jobs, |w| int(w.n_fired)))?;
    bind(arguments, column(&jobs, |w| live.get(&w.job.id).map_or_else(|| "{}".to_owned(), LiveIds::array)))?;
    bind(arguments, (0..jobs.len()).map(|place| place < n_moves).collect::<Vec<bool>>())
}

/// What is written to a job's state.
struct Written<'a> {
    job: &'a Job,
    due: Option<Due>,
    ended: Option<EndReason>,
    skip_next: u32,
    n_fired: u64,
}

impl<'a> Written<'a> {
    fn of(m: &'a Move) -> Self {
        Self { job: &m.job, due: m.due, ended: m.ended, skip_next: m.skip_next, n_fired: m.n_fired }
    }
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
        for (place, disposition, execution) in records {
            let is_made = self.made.as_ref().is_none_or(|made| made.contains(&key(&execution.id)));
            if !won[place] || !is_made {
                continue; // It has its record already, because an edit set the job back.
            }
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
        let mut cancelling: Vec<(JobId, Uuid)> = Vec::new();
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
            let job = m.job.id;
            cancelling.extend(m.cancel.into_iter().map(|id| (job.clone(), id)));
        }
        batch.cancel = cancel_running(session, cancelling).await?;
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

/// Asks these executions to stop; answers which still ran.
async fn cancel_running(session: &mut Session, mut ids: Vec<(JobId, Uuid)>) -> Step<Vec<ExecutionId>> {
    const SQL: &str = "UPDATE @executions e SET cancel_requested = true
        FROM unnest($1::text[], $2::uuid[]) AS c (job_id, id)
        WHERE e.id = c.id AND e.job_id = c.job_id AND coalesce(e.status = 'running', false) RETURNING e.id";
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    ids.sort_unstable();
    let (jobs, ids): (Vec<String>, Vec<Uuid>) =
        ids.into_iter().map(|(job, id)| (job.as_str().to_owned(), id)).unzip();
    let rows = session.all(SQL, params![jobs, ids]).await?;
    rows.iter().map(|row| execution_id(row, 0)).collect()
}
