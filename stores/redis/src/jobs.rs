//! Jobs: create, edit, delete, read, list.

use std::collections::{HashMap, HashSet};

use redis::Value;
use unified_scheduler_core::execution::JobResult;
use unified_scheduler_core::id::JobId;
use unified_scheduler_core::job::{EndReason, Job, JobDefinition};
use unified_scheduler_core::store::{
    ConflictKind, CreateConflict, CreateJobs, CreateOutcome, UpdateJob, UpdateOutcome,
};
use unified_scheduler_core::{Error, Result, Timestamp};

use crate::answers::{self, Answer};
use crate::error::odd;
use crate::job::{Run, State, field, pack_definition, read_definition, retention};
use crate::packed::Writer;
use crate::rows::{ending, int};
use crate::scripts;
use crate::store::Session;

/// How often a creation looks again when jobs come and go beside it.
const TRIES: usize = 5;

/// What is in the way of jobs, as the server sees it.
#[derive(Default)]
struct Found {
    definitions: HashMap<JobId, Vec<u8>>,
    named: HashMap<JobId, JobId>,
}

impl Session {
    pub(crate) async fn create_jobs(&self, request: &CreateJobs) -> Result<CreateOutcome> {
        let conflicts = conflicts(request, &Found::default());
        // Within the request the first of an id counts; another like it is its repeat.
        let mut seen = HashSet::new();
        let distinct: Vec<&Job> = request.jobs.iter().filter(|job| seen.insert(&job.id)).collect();
        if !conflicts.is_empty() {
            // What the server has may be in the way too: it is asked, and nothing is written, since the same
            // jobs would conflict again.
            let found = self.found(request, &distinct).await?;
            return Ok(CreateOutcome::Refused(self::conflicts(request, &found)));
        }
        let mut found = Found::default();
        for _ in 0..TRIES {
            match self.try_create(request, &distinct, &found, false).await? {
                None => {
                    self.hints.tell();
                    return Ok(CreateOutcome::Created);
                }
                Some(in_the_way) => found = in_the_way,
            }
            let conflicts = self::conflicts(request, &found);
            if !conflicts.is_empty() {
                return Ok(CreateOutcome::Refused(conflicts));
            }
        }
        Err(Error::unavailable("others keep making and removing the same jobs"))
    }

    /// A number by which jobs that have the same id one after another are told apart.
    pub(crate) fn generation(&self) -> i64 {
        i64::try_from(self.ids.random() & 0xffff_ffff_ffff).unwrap_or_default()
    }

    async fn found(&self, request: &CreateJobs, distinct: &[&Job]) -> Result<Found> {
        let found = self.try_create(request, distinct, &Found::default(), true).await?;
        Ok(found.unwrap_or_default())
    }

    /// Stores the jobs but for those that are there as in `known`; or answers what is in the way.
    async fn try_create(
        &self,
        request: &CreateJobs,
        jobs: &[&Job],
        known: &Found,
        only_look: bool,
    ) -> Result<Option<Found>> {
        let mut pairs = Writer::new();
        pairs.array(known.definitions.len());
        for (id, stored) in &known.definitions {
            pairs.array(2).text(id.as_str()).bytes(stored);
        }
        let mut call = self.link.call(&scripts::CREATE);
        call.arg(&request.actor)
            .arg(i32::from(request.unique_names))
            .arg(pairs.finish())
            .arg(i32::from(only_look))
            .arg(jobs.len());
        for job in jobs {
            call.arg(job.id.as_str())
                .arg(State::of(job, self.generation()).pack())
                .arg(Run::packed(job))
                .arg(pack_definition(job.created_at, job.created_by.as_deref(), &job.definition)?);
        }
        let mut answer = Answer::of(self.link.run(&call).await?)?;
        if answer.int()? == 1 {
            return Ok(None);
        }
        let (definitions, named) = (answer.list()?, answer.list()?);
        let mut found = Found::default();
        for ((job, definition), named) in jobs.iter().zip(definitions).zip(named) {
            if let Some(stored) = answers::bytes(definition) {
                found.definitions.insert(job.id.clone(), stored);
            }
            if named != Value::Nil {
                found.named.insert(job.id.clone(), JobId::from(answers::text(named)?));
            }
        }
        Ok(Some(found))
    }

    pub(crate) async fn update_job(&self, request: &UpdateJob) -> Result<UpdateOutcome> {
        let definition = match &request.definition {
            Some(definition) => pack_definition(Timestamp::EPOCH, None, definition)?,
            None => Vec::new(),
        };
        let mut call = self.link.call(&scripts::UPDATE);
        call.arg(request.id.as_str())
            .arg(request.expected_version)
            .arg(edits(request))
            .arg(definition)
            .arg(i32::from(request.unique_name))
            .arg(i32::from(request.reset.failures))
            .arg(&request.actor)
            .arg(&request.action);
        let mut answer = Answer::of(self.link.run(&call).await?)?;
        let outcome = answer.int()?;
        match outcome {
            0 => return Ok(UpdateOutcome::NotFound),
            2 => return Ok(UpdateOutcome::NameTaken(JobId::from(answer.text()?))),
            _ => {}
        }
        let mut job = Answer::of(answer.next())?;
        let job = self.job(&request.id, job.next(), job.next(), job.next()).ok_or_else(|| odd("job"))?;
        if outcome == 1 {
            return Ok(UpdateOutcome::Stale(Box::new(job)));
        }
        self.hints.tell();
        Ok(UpdateOutcome::Updated(Box::new(job)))
    }

    pub(crate) async fn delete_job(&self, id: &JobId, actor: &str) -> Result<bool> {
        let message = format!("its job was deleted by {actor}");
        let why = JobResult { message, ..JobResult::default() };
        let mut call = self.link.call(&scripts::DELETE);
        call.arg(id.as_str()).arg(actor).arg(ending(None, Some(&why), None)?);
        let gone = answers::int(&self.link.run(&call).await?)? == 1;
        if gone {
            self.hints.tell();
        }
        Ok(gone)
    }

    pub(crate) async fn get_job(&self, id: &JobId) -> Result<Option<Job>> {
        Ok(self.read_jobs(std::slice::from_ref(id)).await?.into_iter().next())
    }

    /// Those of these jobs that are there.
    pub(crate) async fn read_jobs(&self, ids: &[JobId]) -> Result<Vec<Job>> {
        let mut call = self.link.call(&scripts::JOBS);
        call.arg("1");
        for id in ids {
            call.arg(id.as_str());
        }
        let mut answer = Answer::of(self.link.run(&call).await?)?;
        let (states, runs, definitions) = (answer.list()?, answer.list()?, answer.list()?);
        let all = ids.iter().zip(states).zip(runs.into_iter().zip(definitions));
        Ok(all.filter_map(|((id, state), (run, definition))| self.job(id, state, run, definition)).collect())
    }
}

/// Why these jobs can't be stored, given what the server has.
fn conflicts(request: &CreateJobs, found: &Found) -> Vec<CreateConflict> {
    let mut ids: HashMap<&JobId, &JobDefinition> = HashMap::new();
    let mut names: HashMap<&str, &JobId> = HashMap::new();
    let mut conflicts = Vec::new();
    for (index, job) in request.jobs.iter().enumerate() {
        let name = job.definition.name.as_str();
        let stored = found.definitions.get(&job.id).map(|stored| read_definition(stored));
        let same = match (&stored, ids.get(&job.id)) {
            (Some(Ok(stored)), _) => Some(*stored == *job.definition),
            (Some(Err(_)), _) => Some(false),
            (None, Some(twin)) => Some(**twin == *job.definition),
            (None, None) => None,
        };
        if same == Some(false) {
            conflicts.push(CreateConflict { index, conflict: ConflictKind::Id });
        } else if same.is_none() && request.unique_names {
            let taken = found.named.get(&job.id).or_else(|| names.get(name).copied());
            let conflict = taken.map(|id| ConflictKind::Name(id.clone()));
            conflicts.extend(conflict.map(|conflict| CreateConflict { index, conflict }));
        }
        ids.entry(&job.id).or_insert(&job.definition);
        names.entry(name).or_insert(&job.id);
    }
    conflicts
}

/// The fields that an edit sets, as pairs of number and value.
fn edits(request: &UpdateJob) -> Vec<u8> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    let mut set = |field: i64, write: &dyn Fn(&mut Writer)| {
        let mut w = Writer::new();
        w.array(2).int(field);
        write(&mut w);
        all.push(w.finish());
    };
    if let Some(definition) = &request.definition {
        let (max_age, max_count) = retention(definition);
        set(field::HANDLER, &|w| {
            w.text(&definition.handler);
        });
        set(field::PRIORITY, &|w| {
            w.int(definition.priority.into());
        });
        set(field::MAX_RUNNING, &|w| {
            w.int(definition.overlap.max_running().into());
        });
        set(field::NAME, &|w| {
            w.text(&definition.name);
        });
        set(field::MAX_AGE, &|w| {
            w.int_or(max_age);
        });
        set(field::MAX_COUNT, &|w| {
            w.int_or(max_count);
        });
    }
    if let Some((due, ended)) = request.due {
        set(field::DUE, &|w| {
            w.int_or(due.map(|due| due.due_at.as_millis()));
        });
        set(field::FIRE, &|w| {
            w.int_or(due.map(|due| due.fire_at.as_millis()));
        });
        set(field::ENDED, &|w| {
            w.text_or(ended.map(EndReason::as_str));
        });
    }
    if let Some(enabled) = request.enabled {
        set(field::ENABLED, &|w| {
            w.bool(enabled);
        });
    }
    if let Some(skip_next) = request.skip_next {
        set(field::SKIP_NEXT, &|w| {
            w.int(skip_next.into());
        });
    }
    if request.reset.fault {
        set(field::FAULT, &|w| {
            w.none();
        });
    }
    if request.reset.n_fired {
        set(field::N_FIRED, &|w| {
            w.int(int(0));
        });
    }
    let mut w = Writer::new();
    w.array(all.len());
    for edit in all {
        w.raw(&edit);
    }
    w.finish()
}
