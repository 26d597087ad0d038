//! The claim: reserve, plan, commit.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use redis::Value;
use unified_scheduler_core::id::{ExecutionId, JobId};
use unified_scheduler_core::schedule::{Calendar, Calendars};
use unified_scheduler_core::store::{
    ClaimBatch, ClaimOutcome, ClaimRequest, Claimed, Live, NextDue, NodeRef, Plan, Planner,
};
use unified_scheduler_core::{Result, Timestamp};

use crate::answers::{self, Answer, key};
use crate::commit::{Move, reason};
use crate::job::{KnownJob, State};
use crate::scripts;
use crate::store::Session;

/// The most that one script takes: so much that the server is not held up for long.
const PAGE: usize = 500;

/// How long a reserved job is out of the reach of others, in milliseconds, when its node does not come back.
const HOLD_MS: i64 = 5000;

/// The calendars as a planner takes them, with the number of changes they were read at.
pub(crate) type KnownCalendars = Mutex<Option<(i64, Arc<Calendars>)>>;

/// A job that is due and held.
struct DueJob {
    id: JobId,
    state: State,
    run: Value,
    live: Live,
    /// Its definition, where that was asked for.
    stored: Value,
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
        let mut again = true;
        loop {
            let page = left.min(PAGE);
            let Some(taken) = self.claim_page(request, planner, page, &mut batch).await? else {
                if first {
                    return Ok(ClaimOutcome::Refused);
                }
                break;
            };
            first = false;
            if again && self.must_hold.load(Ordering::Relaxed) {
                // Something moved while this was planned: once more, and out of the reach of others.
                again = false;
                continue;
            }
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
        // Jobs that are new to this process are to be expected after an edit, and where there were some before.
        let hint = self.hints.count();
        let edited = self.hinted.swap(hint, Ordering::Relaxed) != hint;
        call.arg(i32::from(edited || self.unseen.load(Ordering::Relaxed)));
        call.arg(self.known_calendars().map_or(0, |known| known.0));
        call.arg(i32::from(self.must_hold.load(Ordering::Relaxed)));
        for handler in request.handlers {
            call.arg(handler);
        }
        let mut answer = Answer::of(self.link.run(&call).await?)?;
        if answer.int()? == 0 {
            return Ok(None);
        }
        batch.now = answer.time()?;
        let calendars = self.calendars_of(Answer::of(answer.next())?)?;
        let started = answer.list()?;
        batch.more = answer.bool();
        batch.blocked |= answer.bool();
        let n_started = started.len();
        let hold = match answer.next() {
            Value::BulkString(hold) => hold,
            more => {
                let next_at = answer.time_or_none()?;
                self.take_started(request.node, started, batch).await?;
                batch.more |= more != Value::Nil;
                batch.next_at = next_at;
                return Ok(Some(n_started));
            }
        };
        let mut due = due_jobs(&mut answer)?;
        let used = n_started + due.n;
        self.take_started(request.node, started, batch).await?;
        if !due.unreadable.is_empty() {
            self.park(request, &due.unreadable, batch).await?;
        }
        let wanted = due.jobs.iter_mut().map(|due| (&due.id, &due.state, std::mem::take(&mut due.stored)));
        let known = self.known(wanted.collect()).await?;
        let now = batch.now;
        let moves = due
            .jobs
            .into_iter()
            .zip(known)
            .filter_map(|(due, known)| Some(plan(planner, request.node, due, &*known?, now, &calendars)))
            .collect();
        let committed = self.commit(request, &hold, moves, batch).await?;
        Ok(committed.then_some(used))
    }

    /// Takes jobs whose state can't be read out of the way.
    async fn park(
        &self,
        request: ClaimRequest<'_>,
        jobs: &[(JobId, String)],
        batch: &mut ClaimBatch,
    ) -> Result<()> {
        let mut call = self.link.call(&scripts::PARK);
        call.arg(jobs.len());
        for (id, _) in jobs {
            call.arg(id.as_str());
        }
        for handler in request.handlers {
            call.arg(handler);
        }
        self.link.run(&call).await?;
        batch.set_aside.extend_from_slice(jobs);
        Ok(())
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
            let stored = one.next();
            match (crate::rows::execution(id, &row), state) {
                (Ok(execution), Ok(state)) => rows.push((execution, job, state, run, stored)),
                (Err(error), _) | (_, Err(error)) => {
                    tracing::error!(execution_id = %id, ?error, "could not read what is due");
                    unreadable.push(id);
                }
            }
        }
        let wanted = rows.iter_mut().map(|(_, id, state, _, stored)| (&*id, &*state, std::mem::take(stored)));
        let known = self.known(wanted.collect()).await?;
        for ((execution, id, state, run, _), known) in rows.into_iter().zip(known) {
            match known.as_deref() {
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

    /// The definitions of these jobs: from the cache, or what came with them, or else from the server.
    async fn known(&self, wanted: Vec<(&JobId, &State, Value)>) -> Result<Vec<Option<KnownRef>>> {
        let mut found = Vec::with_capacity(wanted.len());
        let mut missing: Vec<(usize, &JobId, &State)> = Vec::new();
        let mut unseen = false;
        for (place, (id, state, stored)) in wanted.into_iter().enumerate() {
            let mut known = self.cache.get(id, state);
            if known.is_none() {
                unseen = true;
                match answers::bytes(stored) {
                    Some(stored) => known = Some(self.cache.read(id, state, &stored)),
                    None => missing.push((place, id, state)),
                }
            }
            found.push(known);
        }
        // As long as some are new to this process, definitions are asked for with what is due.
        self.unseen.store(unseen, Ordering::Relaxed);
        if missing.is_empty() {
            return Ok(found);
        }
        let mut call = self.link.call(&scripts::JOBS);
        call.arg("1");
        for (_, id, _) in &missing {
            call.arg(id.as_str());
        }
        let mut answer = Answer::of(self.link.run(&call).await?)?;
        let (states, _, definitions) = (answer.list()?, answer.list()?, answer.list()?);
        for (((place, id, wanted), state), definition) in missing.into_iter().zip(states).zip(definitions) {
            let (Some(state), Some(stored)) = (answers::bytes(state), answers::bytes(definition)) else {
                continue;
            };
            // An edit in between wins: what was held before it is not planned.
            let state = State::read(&state)?;
            if (state.generation, state.version) == (wanted.generation, wanted.version) {
                found[place] = Some(self.cache.read(id, &state, &stored));
            }
        }
        Ok(found)
    }

    fn known_calendars(&self) -> Option<(i64, Arc<Calendars>)> {
        self.calendars.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The calendars: as they came with a claim, or else as they are known.
    fn calendars_of(&self, mut answer: Answer) -> Result<Arc<Calendars>> {
        let (changes, stored) = (answer.int()?, answer.next());
        if stored == Value::Nil {
            return Ok(self.known_calendars().map(|known| known.1).unwrap_or_default());
        }
        let mut calendars = Calendars::default();
        for calendar in &read_calendars(stored)? {
            if let Err(error) = calendars.insert(calendar) {
                tracing::warn!(calendar = calendar.name, ?error, "a calendar can't be used");
            }
        }
        let calendars = Arc::new(calendars);
        let mut known = self.calendars.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some((changes, Arc::clone(&calendars)));
        Ok(calendars)
    }

    pub(crate) async fn list_calendars(&self) -> Result<Vec<Calendar>> {
        let mut call = self.link.call(&scripts::CALENDARS);
        read_calendars(self.link.run(call.arg("list")).await?)
    }
}

/// Calendars in names and texts in turn, by name.
fn read_calendars(stored: Value) -> Result<Vec<Calendar>> {
    let mut calendars = Vec::new();
    for pair in answers::list(stored)?.chunks(2) {
        let Some(Value::BulkString(text)) = pair.get(1) else { continue };
        match serde_json::from_slice::<Calendar>(text) {
            Ok(calendar) => calendars.push(calendar),
            Err(error) => tracing::warn!(?error, "a calendar can't be read"),
        }
    }
    calendars.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(calendars)
}

type KnownRef = Arc<KnownJob>;

/// What is due and held.
#[derive(Default)]
struct Due {
    jobs: Vec<DueJob>,
    /// Jobs whose state can't be read, and why.
    unreadable: Vec<(JobId, String)>,
    /// How many there were.
    n: usize,
}

fn due_jobs(answer: &mut Answer) -> Result<Due> {
    let (ids, states, runs, opens) = (answer.list()?, answer.list()?, answer.list()?, answer.list()?);
    let mut definitions = answer.list()?.into_iter();
    let mut due = Due { n: ids.len(), ..Due::default() };
    due.jobs.reserve(ids.len());
    for (((id, state), run), open) in ids.into_iter().zip(states).zip(runs).zip(opens) {
        let id = JobId::from(answers::text(id)?);
        let stored = definitions.next().unwrap_or_default();
        let live = live(&answers::bytes(open).unwrap_or_default());
        match State::read(&answers::bytes(state).unwrap_or_default()) {
            Ok(state) => due.jobs.push(DueJob { id, state, run, live, stored }),
            Err(error) => {
                let why = format!("its stored state can't be read: {}", error.message());
                due.unreadable.push((id, why));
            }
        }
    }
    Ok(due)
}

/// How much of a job is open, by the text that `scripts/prelude.lua` describes.
fn live(open: &[u8]) -> Live {
    let mut live = Live::default();
    for entry in open.chunks(17) {
        match entry.first() {
            Some(b'r') => live.running += 1,
            _ => live.queued += 1,
        }
    }
    live
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
    let DueJob { id, state, run, live, .. } = due;
    let recorded = state.recorded;
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
            return Move { recorded, after, job, live, fault: Some(fault), cancel_running: false, made };
        }
    };
    (after.due, after.ended, after.skip_next, after.n_fired) = (due, ended, skip_next, n_fired);
    let made = records.into_iter().map(|record| {
        let disposition = record.disposition.clone();
        (record.into_execution(&job, now, node), disposition)
    });
    let made: Vec<_> = made.collect();
    let last = made.iter().map(|(execution, _)| execution.due_at.as_millis()).max();
    after.recorded = after.recorded.max(last.filter(|_| recorded.is_some()));
    Move { recorded, after, job, live, fault: None, cancel_running, made }
}
