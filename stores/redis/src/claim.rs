//! The claim: reserve, plan, commit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use redis::Value;
use unified_scheduler_core::execution::{Execution, Status};
use unified_scheduler_core::id::{ExecutionId, JobId};
use unified_scheduler_core::job::Job;
use unified_scheduler_core::schedule::{Calendar, Calendars};
use unified_scheduler_core::store::{
    ClaimBatch, ClaimOutcome, ClaimRequest, Claimed, Disposition, Live, NextDue, NodeRef, Plan, Planner,
};
use unified_scheduler_core::{Result, Timestamp};

use crate::answers::{self, Answer, key};
use crate::job::{KnownJob, State};
use crate::rows::{at, count, row, small};
use crate::scripts;
use crate::store::Session;

/// The most that one script takes: so much that the server is not held up for long.
const PAGE: usize = 500;

/// How long a reserved job is out of the reach of others, in milliseconds, when its node does not come back.
const HOLD_MS: i64 = 5000;

/// The calendars as a planner takes them, with the number of changes they were read at.
pub(crate) type KnownCalendars = Mutex<Option<(i64, Arc<Calendars>)>>;

/// A job that is due and reserved.
struct DueJob {
    id: JobId,
    before: Vec<u8>,
    state: State,
    run: Value,
    live: Live,
}

/// What is to be written for one due job.
struct Move {
    before: Vec<u8>,
    after: State,
    job: Job,
    live: Live,
    /// Why the job is set aside.
    fault: Option<String>,
    cancel_running: bool,
    made: Vec<(Execution, Disposition)>,
}

impl Session {
    pub(crate) async fn claim(
        &self,
        request: ClaimRequest<'_>,
        planner: &dyn Planner,
    ) -> Result<ClaimOutcome> {
        let mut batch = ClaimBatch::default();
        let mut left = request.limit;
        let mut first = true;
        loop {
            let page = left.min(PAGE);
            let Some(taken) = self.claim_page(request, planner, page, &mut batch).await? else {
                if first {
                    return Ok(ClaimOutcome::Refused);
                }
                break;
            };
            first = false;
            left -= taken.min(left);
            if taken < page || left == 0 {
                break;
            }
        }
        Ok(ClaimOutcome::Claimed(Box::new(batch)))
    }

    /// Claims a page; answers how much of the limit it used, or `None` when the node may not claim.
    async fn claim_page(
        &self,
        request: ClaimRequest<'_>,
        planner: &dyn Planner,
        page: usize,
        batch: &mut ClaimBatch,
    ) -> Result<Option<usize>> {
        let mut call = self.link.call(&scripts::RESERVE);
        call.arg(request.node.id.as_str()).arg(request.node.epoch.0).arg(page).arg(HOLD_MS);
        for handler in request.handlers {
            call.arg(handler);
        }
        let mut answer = Answer::of(self.link.run(&call).await?)?;
        if answer.int()? == 0 {
            return Ok(None);
        }
        batch.now = answer.time()?;
        let calendars = answer.int()?;
        let started = answer.list()?;
        batch.more = answer.bool();
        batch.blocked |= answer.bool();
        let more_jobs = answer.bool();
        let next_at = answer.time_or_none()?;
        let n_started = started.len();
        let due = due_jobs(&mut answer)?;
        let used = n_started + due.len();
        self.take_started(request.node, started, batch).await?;
        if due.is_empty() {
            batch.more |= more_jobs;
            batch.next_at = next_at;
            return Ok(Some(used));
        }
        let wanted = due.iter().map(|due| (due.id.clone(), due.state.clone())).collect();
        let known = self.known(wanted).await?;
        let calendars = self.calendars_at(calendars).await?;
        let now = batch.now;
        let moves = due
            .into_iter()
            .filter_map(|due| {
                let known = known.get(&due.id)?;
                Some(plan(planner, request.node, due, known, now, &calendars))
            })
            .collect();
        let committed = self.commit(request, moves, batch).await?;
        Ok(committed.then_some(used))
    }

    /// Notes the pending executions that now run. One whose job can't be read is made pending again, and the
    /// job is set aside.
    async fn take_started(&self, node: &NodeRef, started: Vec<Value>, batch: &mut ClaimBatch) -> Result<()> {
        let mut rows = Vec::with_capacity(started.len());
        let mut unreadable: Vec<ExecutionId> = Vec::new();
        for one in started {
            let mut one = Answer::of(one)?;
            let id = one.id()?;
            let row = one.bytes().unwrap_or_default();
            let job = JobId::from(one.text()?);
            let (state, run) = (State::read(&one.bytes().unwrap_or_default()), one.next());
            match (crate::rows::execution(id, &row), state) {
                (Ok(execution), Ok(state)) => rows.push((execution, job, state, run)),
                (Err(error), _) | (_, Err(error)) => {
                    tracing::error!(execution_id = %id, ?error, "could not read what is due");
                    unreadable.push(id);
                }
            }
        }
        let wanted = rows.iter().map(|(_, id, state, _)| (id.clone(), state.clone())).collect();
        let known = self.known(wanted).await?;
        for (execution, id, state, run) in rows {
            match known.get(&id).map(|known| &**known) {
                Some(KnownJob { unreadable: Some(why), .. }) => {
                    unreadable.push(execution.id);
                    if self.set_aside(&id, state.version, why).await? {
                        batch.set_aside.push((id, why.clone()));
                    }
                }
                Some(known) => {
                    batch.claimed.push(Claimed { job: known.job(&id, &state, run), execution });
                }
                None => unreadable.push(execution.id),
            }
        }
        if !unreadable.is_empty() {
            let mut call = self.link.call(&scripts::RELEASE);
            call.arg(node.id.as_str()).arg(node.epoch.0);
            for id in &unreadable {
                call.arg(key(id));
            }
            self.link.run(&call).await?;
        }
        Ok(())
    }

    async fn set_aside(&self, id: &JobId, version: i64, why: &str) -> Result<bool> {
        let mut call = self.link.call(&scripts::SET_ASIDE);
        call.arg(id.as_str()).arg(version).arg(why).arg(reason(why));
        Ok(answers::int(&self.link.run(&call).await?)? == 1)
    }

    /// The definitions of these jobs, from the cache or else from the server.
    async fn known(&self, wanted: Vec<(JobId, State)>) -> Result<HashMap<JobId, KnownRef>> {
        let mut found = HashMap::with_capacity(wanted.len());
        let mut missing: Vec<(JobId, State)> = Vec::new();
        for (id, state) in wanted {
            match self.cache.get(&id, &state) {
                Some(known) => drop(found.insert(id, known)),
                None => missing.push((id, state)),
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        let mut call = self.link.call(&scripts::JOBS);
        call.arg("1");
        for (id, _) in &missing {
            call.arg(id.as_str());
        }
        let mut answer = Answer::of(self.link.run(&call).await?)?;
        let (states, _, definitions) = (answer.list()?, answer.list()?, answer.list()?);
        for (((id, wanted), state), definition) in missing.into_iter().zip(states).zip(definitions) {
            let (Some(state), Some(stored)) = (answers::bytes(state), answers::bytes(definition)) else {
                continue;
            };
            // An edit in between wins: what was reserved before it is not planned.
            let state = State::read(&state)?;
            if (state.generation, state.version) == (wanted.generation, wanted.version) {
                found.insert(id.clone(), self.cache.read(&id, &state, &stored));
            }
        }
        Ok(found)
    }

    /// The calendars, read anew when they have changed.
    async fn calendars_at(&self, changes: i64) -> Result<Arc<Calendars>> {
        {
            let known = self.calendars.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((at, calendars)) = &*known
                && *at == changes
            {
                return Ok(Arc::clone(calendars));
            }
        }
        let (changes, all) = self.read_calendars().await?;
        let mut calendars = Calendars::default();
        for calendar in &all {
            if let Err(error) = calendars.insert(calendar) {
                tracing::warn!(calendar = calendar.name, ?error, "a calendar can't be used");
            }
        }
        let calendars = Arc::new(calendars);
        let mut known = self.calendars.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some((changes, Arc::clone(&calendars)));
        Ok(calendars)
    }

    /// Every calendar, by name, and the number of changes there were.
    pub(crate) async fn read_calendars(&self) -> Result<(i64, Vec<Calendar>)> {
        let mut call = self.link.call(&scripts::CALENDARS);
        let mut answer = Answer::of(self.link.run(call.arg("list")).await?)?;
        let changes = answer.int()?;
        let mut calendars = Vec::new();
        for pair in answer.list()?.chunks(2) {
            let Some(Value::BulkString(text)) = pair.get(1) else { continue };
            match serde_json::from_slice::<Calendar>(text) {
                Ok(calendar) => calendars.push(calendar),
                Err(error) => tracing::warn!(?error, "a calendar can't be read"),
            }
        }
        calendars.sort_by(|a, b| a.name.cmp(&b.name));
        Ok((changes, calendars))
    }

    /// Writes what was planned; `false` when the node may not claim any more.
    async fn commit(
        &self,
        request: ClaimRequest<'_>,
        moves: Vec<Move>,
        batch: &mut ClaimBatch,
    ) -> Result<bool> {
        let mut call = self.link.call(&scripts::COMMIT);
        call.arg(request.node.id.as_str())
            .arg(request.node.epoch.0)
            .arg(batch.now.as_millis())
            .arg(request.handlers.len())
            .arg(moves.len());
        for handler in request.handlers {
            call.arg(handler);
        }
        let time = |time: Option<Timestamp>| at(time).map_or_else(String::new, |millis| millis.to_string());
        for one in &moves {
            let after = &one.after;
            call.arg(one.job.id.as_str())
                .arg(&one.before)
                .arg(after.pack())
                .arg(one.live.running)
                .arg(one.live.queued)
                .arg(time(after.due.map(|due| due.due_at)))
                .arg(time(after.due.map(|due| due.fire_at)))
                .arg(&after.handler)
                .arg(after.priority)
                .arg(i32::from(one.cancel_running))
                .arg(one.fault.as_deref().map(reason).unwrap_or_default())
                .arg(one.made.len());
            for (execution, _) in &one.made {
                let score = match execution.status {
                    Status::Running => 1,
                    Status::Pending => 2,
                    _ => 0,
                };
                call.arg(key(&execution.id))
                    .arg(row(execution)?)
                    .arg(score)
                    .arg(execution.status.as_str())
                    .arg(execution.due_at.as_millis());
            }
        }
        let mut answer = Answer::of(self.link.run(&call).await?)?;
        if answer.int()? == 0 {
            return Ok(false);
        }
        let wins = answer.list()?;
        for cancelled in answer.list()? {
            batch.cancel.push(answers::id(&answers::bytes(cancelled).unwrap_or_default())?);
        }
        batch.more |= answer.bool();
        batch.next_at = answer.time_or_none()?;
        for (one, won) in moves.into_iter().zip(wins) {
            if let Some(won) = answers::bytes(won) {
                note(one, &won, batch);
            }
        }
        Ok(true)
    }
}

type KnownRef = Arc<KnownJob>;

fn reason(why: &str) -> String {
    serde_json::json!({ "reason": why }).to_string()
}

fn due_jobs(answer: &mut Answer) -> Result<Vec<DueJob>> {
    let (ids, states, runs) = (answer.list()?, answer.list()?, answer.list()?);
    let (running, queued) = (answer.list()?, answer.list()?);
    let mut due = Vec::with_capacity(ids.len());
    let rows = ids.into_iter().zip(states).zip(runs).zip(running.iter().zip(&queued));
    for (((id, state), run), (running, queued)) in rows {
        // A job that was deleted in the same instant has no state.
        let Some(before) = answers::bytes(state) else { continue };
        let id = JobId::from(answers::text(id)?);
        let state = match State::read(&before) {
            Ok(state) => state,
            Err(error) => {
                tracing::error!(job_id = %id, ?error, "could not read the state of a job");
                continue;
            }
        };
        let live = Live { running: small(answers::int(running)?)?, queued: small(answers::int(queued)?)? };
        due.push(DueJob { id, before, state, run, live });
    }
    Ok(due)
}

/// Asks the planner about one job.
fn plan(
    planner: &dyn Planner,
    node: &NodeRef,
    due: DueJob,
    known: &KnownJob,
    now: Timestamp,
    calendars: &Calendars,
) -> Move {
    let DueJob { id, before, state, run, live } = due;
    let job = known.job(&id, &state, run);
    let Plan { records, next, skip_next, n_fired, cancel_running } = match &known.unreadable {
        None => planner.plan(&job, live, now, calendars),
        Some(why) => Plan {
            records: Vec::new(),
            next: NextDue::SetAside(why.clone()),
            skip_next: 0,
            n_fired: 0,
            cancel_running: false,
        },
    };
    let mut after = state;
    let (due, ended) = match next {
        NextDue::At(due) => (Some(due), None),
        NextDue::Ended(reason) => (None, Some(reason)),
        NextDue::AfterCompletion => (None, None),
        NextDue::SetAside(fault) => {
            after.fault = Some(fault.clone());
            let made = Vec::new();
            return Move { before, after, job, live, fault: Some(fault), cancel_running: false, made };
        }
    };
    (after.due, after.ended, after.skip_next, after.n_fired) = (due, ended, skip_next, n_fired);
    let made = records.into_iter().map(|record| {
        let disposition = record.disposition.clone();
        (record.into_execution(&job, now, node), disposition)
    });
    let made = made.collect();
    Move { before, after, job, live, fault: None, cancel_running, made }
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
