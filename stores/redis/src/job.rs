//! Jobs as the records that `scripts/prelude.lua` describes, and definitions that were parsed before.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use redis::Value;
use serde_json::Map;
use unified_scheduler_core::execution::Status;
use unified_scheduler_core::id::{ExecutionId, JobId};
use unified_scheduler_core::job::{Definition, Due, EndReason, Job, JobDefinition};
use unified_scheduler_core::schedule::Schedule;
use unified_scheduler_core::{Error, Result, Timestamp};

use crate::answers::{bytes, key};
use crate::packed::{Reader, Writer};
use crate::rows::{at, count, int, json, millis, small, time_or_none};

/// A job's state: record `s`.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) version: i64,
    pub(crate) enabled: bool,
    pub(crate) due: Option<Due>,
    pub(crate) ended: Option<EndReason>,
    pub(crate) fault: Option<String>,
    pub(crate) skip_next: u32,
    pub(crate) n_fired: u64,
    pub(crate) updated_at: Timestamp,
    pub(crate) handler: String,
    pub(crate) priority: i32,
    pub(crate) max_running: u32,
    pub(crate) name: String,
    max_age: Option<i64>,
    max_count: Option<i64>,
    /// Tells apart jobs that had the same id one after another.
    pub(crate) generation: i64,
    /// Of the schedule's own first attempts none is due later than this, in milliseconds; `None` when
    /// nobody knows.
    pub(crate) recorded: Option<i64>,
    /// What a newer version has added: how many values, packed. It is kept.
    more: (usize, Vec<u8>),
}

/// How many values of a state this version knows.
const KNOWN: usize = 17;

/// The numbers of those fields of [`State`] that an edit names, as Lua counts them.
pub(crate) mod field {
    pub(crate) const ENABLED: i64 = 2;
    pub(crate) const DUE: i64 = 3;
    pub(crate) const FIRE: i64 = 4;
    pub(crate) const ENDED: i64 = 5;
    pub(crate) const FAULT: i64 = 6;
    pub(crate) const SKIP_NEXT: i64 = 7;
    pub(crate) const N_FIRED: i64 = 8;
    pub(crate) const HANDLER: i64 = 10;
    pub(crate) const PRIORITY: i64 = 11;
    pub(crate) const MAX_RUNNING: i64 = 12;
    pub(crate) const NAME: i64 = 13;
    pub(crate) const MAX_AGE: i64 = 14;
    pub(crate) const MAX_COUNT: i64 = 15;
}

/// What a definition says of how long its executions are kept: milliseconds, and a number.
pub(crate) fn retention(definition: &JobDefinition) -> (Option<i64>, Option<i64>) {
    (definition.history.max_age.map(millis), definition.history.max_count.map(i64::from))
}

impl State {
    pub(crate) fn of(job: &Job, generation: i64) -> Self {
        let definition = &job.definition;
        let (max_age, max_count) = retention(definition);
        Self {
            version: job.version,
            enabled: job.enabled,
            due: job.due,
            ended: job.ended,
            fault: job.fault.clone(),
            skip_next: job.skip_next,
            n_fired: job.n_fired,
            updated_at: job.updated_at,
            handler: definition.handler.clone(),
            priority: definition.priority,
            max_running: definition.overlap.max_running(),
            name: definition.name.clone(),
            max_age,
            max_count,
            generation,
            recorded: None,
            more: (0, Vec::new()),
        }
    }

    /// One that stands for a state that can't be read.
    pub(crate) fn unreadable(id: &JobId, why: &Error) -> Self {
        let definition = JobDefinition::new(id.as_str(), "", Schedule::manual());
        let mut job = Job::new(id.clone(), definition, Timestamp::EPOCH);
        job.enabled = false;
        job.fault = Some(format!(
            "its stored state can't be read ({}); delete the job and make it again",
            why.message()
        ));
        Self::of(&job, 0)
    }

    pub(crate) fn pack(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.array(KNOWN + self.more.0)
            .int(self.version)
            .bool(self.enabled)
            .int_or(at(self.due.map(|due| due.due_at)))
            .int_or(at(self.due.map(|due| due.fire_at)))
            .text_or(self.ended.map(EndReason::as_str))
            .text_or(self.fault.as_deref())
            .int(self.skip_next.into())
            .int(int(self.n_fired))
            .int(self.updated_at.as_millis())
            .text(&self.handler)
            .int(self.priority.into())
            .int(self.max_running.into())
            .text(&self.name)
            .int_or(self.max_age)
            .int_or(self.max_count)
            .int(self.generation)
            .int_or(self.recorded)
            .raw(&self.more.1);
        w.finish()
    }

    pub(crate) fn read(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let r = &mut reader;
        let more = r.begin(KNOWN)?;
        let (version, enabled) = (r.int()?, r.bool()?);
        let (due_at, fire_at) = (time_or_none(r)?, time_or_none(r)?);
        Ok(Self {
            version,
            enabled,
            due: due_at.map(|due_at| Due { due_at, fire_at: fire_at.unwrap_or(due_at) }),
            ended: r.text_or()?.map(|reason| match reason {
                "limit" => EndReason::Limit,
                _ => EndReason::Exhausted,
            }),
            fault: r.text_or()?.map(str::to_owned),
            skip_next: small(r.int()?)?,
            n_fired: count(r.int()?),
            updated_at: Timestamp::from_millis(r.int()?),
            handler: r.text()?.to_owned(),
            priority: i32::try_from(r.int()?).unwrap_or_default(),
            max_running: small(r.int()?)?,
            name: r.text()?.to_owned(),
            max_age: r.int_or()?,
            max_count: r.int_or()?,
            generation: r.int()?,
            recorded: r.int_or()?,
            more: (more, r.rest().to_vec()),
        })
    }
}

/// The job's last run: record `r`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Run {
    pub(crate) at: Option<Timestamp>,
    pub(crate) status: Option<Status>,
    pub(crate) execution: Option<ExecutionId>,
    pub(crate) failures: u32,
}

impl Run {
    fn pack(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.array(4)
            .int_or(at(self.at))
            .text_or(self.status.map(Status::as_str))
            .bytes_or(self.execution.as_ref().map(key))
            .int(self.failures.into());
        w.finish()
    }

    /// How the record begins: up to, and without, the id of the execution, which the script adds, with the
    /// failures.
    pub(crate) fn beginning(at: Timestamp, status: Status) -> Vec<u8> {
        let mut w = Writer::new();
        w.array(4).int(at.as_millis()).text(status.as_str()).head_of_bytes(16);
        w.finish()
    }

    /// What can't be read is as if the job had never run.
    fn read(value: Value) -> Self {
        let Some(bytes) = bytes(value) else { return Self::default() };
        let read = Reader::new(&bytes).record(4, |r| {
            Ok(Self {
                at: time_or_none(r)?,
                status: r.text_or()?.and_then(|status| status.parse().ok()),
                execution: r.bytes_or()?.map(crate::answers::id).transpose()?,
                failures: small(r.int()?)?,
            })
        });
        read.unwrap_or_default()
    }

    /// The record of a job; empty for one that never ran.
    pub(crate) fn packed(job: &Job) -> Vec<u8> {
        let ran = job.last_run_at.is_some() || job.last_status.is_some() || job.failures_in_row > 0;
        if ran { Self::of(job).pack() } else { Vec::new() }
    }

    fn of(job: &Job) -> Self {
        Self {
            at: job.last_run_at,
            status: job.last_status,
            execution: job.last_execution_id,
            failures: job.failures_in_row,
        }
    }
}

/// The definition as it is stored: when and by whom the job was made, and the JSON.
pub(crate) fn pack_definition(
    created_at: Timestamp,
    created_by: Option<&str>,
    definition: &JobDefinition,
) -> Result<Vec<u8>> {
    let mut w = Writer::new();
    let text = json(Some(&without_defaults(definition)?))?.unwrap_or_default();
    w.array(3).int(created_at.as_millis()).text_or(created_by).text(&text);
    Ok(w.finish())
}

/// What a definition says that a new one does not say anyway: that is most of it, and each byte of it costs memory
/// and time. A default that changes needs a new layout, see `FORMAT` in `scripts/prelude.lua`; a test guards it.
fn without_defaults(definition: &JobDefinition) -> Result<Map<String, serde_json::Value>> {
    static DEFAULTS: LazyLock<serde_json::Value> = LazyLock::new(|| {
        serde_json::to_value(JobDefinition::new("", "", Schedule::manual())).unwrap_or_default()
    });
    let whole = serde_json::to_value(definition)
        .map_err(|e| Error::internal("a definition can't be written as JSON").caused_by(e))?;
    let serde_json::Value::Object(mut fields) = whole else { return Ok(Map::new()) };
    let needed = ["name", "template_type", "schedule"];
    fields.retain(|name, value| needed.contains(&name.as_str()) || DEFAULTS.get(name) != Some(value));
    Ok(fields)
}

/// The definition in what is stored, if it can be read.
pub(crate) fn read_definition(stored: &[u8]) -> Result<JobDefinition> {
    Reader::new(stored).record(3, |r| {
        r.int()?;
        r.text_or()?;
        serde_json::from_slice(r.bytes()?).map_err(|e| Error::corrupt(e.to_string()))
    })
}

/// What does not change between two edits of a job, parsed.
#[derive(Debug)]
pub(crate) struct KnownJob {
    /// One that stands for it, where it can't be read.
    definition: Definition,
    /// Why it can't be read.
    pub(crate) unreadable: Option<String>,
    created_at: Timestamp,
    created_by: Option<String>,
}

impl KnownJob {
    pub(crate) fn read(id: &JobId, state: &State, stored: &[u8]) -> Self {
        let mut made = (Timestamp::EPOCH, None);
        let parsed = Reader::new(stored).record(3, |r| {
            made = (Timestamp::from_millis(r.int()?), r.text_or()?.map(str::to_owned));
            serde_json::from_slice::<JobDefinition>(r.bytes()?).map_err(|e| Error::corrupt(e.to_string()))
        });
        let (definition, unreadable) = match parsed {
            Ok(definition) => (definition, None),
            Err(why) => {
                let stand_in = JobDefinition::new(&state.name, &state.handler, Schedule::manual());
                (stand_in, Some(format!("the stored definition can't be read: {}", why.message())))
            }
        };
        Self {
            definition: Definition::new(id.clone(), definition),
            unreadable,
            created_at: made.0,
            created_by: made.1,
        }
    }

    /// The whole job.
    pub(crate) fn job(&self, id: &JobId, state: &State, run: Value) -> Job {
        let run = Run::read(run);
        Job {
            id: id.clone(),
            definition: self.definition.clone(),
            enabled: state.enabled,
            version: state.version,
            due: state.due,
            ended: state.ended,
            fault: state.fault.clone().or_else(|| self.unreadable.clone()),
            skip_next: state.skip_next,
            n_fired: state.n_fired,
            failures_in_row: run.failures,
            created_at: self.created_at,
            updated_at: state.updated_at,
            created_by: self.created_by.clone(),
            last_run_at: run.at,
            last_status: run.status,
            last_execution_id: run.execution,
        }
    }
}

/// How many parsed definitions are kept.
const CACHED: usize = 16_384;

/// Parsed definitions, each in the place that the hash of its id gives. An entry counts only for the generation
/// and version it was made from, which every edit changes; so nothing needs to be invalidated.
#[derive(Debug)]
pub(crate) struct Cache {
    slots: Mutex<Vec<Option<Slot>>>,
}

#[derive(Debug, Clone)]
struct Slot {
    id: JobId,
    generation: i64,
    version: i64,
    job: Arc<KnownJob>,
}

impl Cache {
    pub(crate) fn new() -> Self {
        Self { slots: Mutex::new(vec![None; CACHED]) }
    }

    fn place(id: &JobId) -> usize {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        usize::try_from(hasher.finish() % CACHED as u64).unwrap_or_default()
    }

    pub(crate) fn get(&self, id: &JobId, state: &State) -> Option<Arc<KnownJob>> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slots[Self::place(id)].as_ref()?;
        let same = slot.id == *id && slot.generation == state.generation && slot.version == state.version;
        same.then(|| Arc::clone(&slot.job))
    }

    /// Parses what is stored, or takes what was parsed before.
    pub(crate) fn read(&self, id: &JobId, state: &State, stored: &[u8]) -> Arc<KnownJob> {
        if let Some(known) = self.get(id, state) {
            return known;
        }
        let job = Arc::new(KnownJob::read(id, state, stored));
        let slot = Slot {
            id: id.clone(),
            generation: state.generation,
            version: state.version,
            job: Arc::clone(&job),
        };
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots[Self::place(id)] = Some(slot);
        job
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Job {
        let definition = JobDefinition::new("name", "handler", Schedule::manual());
        Job::new("a".into(), definition, Timestamp::from_millis(7))
    }

    #[test]
    fn an_entry_counts_only_for_its_generation_and_version() {
        let (cache, job) = (Cache::new(), job());
        let state = State::of(&job, 5);
        let stored = pack_definition(job.created_at, Some("me"), &job.definition).unwrap();
        assert!(cache.get(&job.id, &state).is_none());
        let known = cache.read(&job.id, &state, &stored);
        assert_eq!(known.job(&job.id, &state, Value::Nil).definition, job.definition);
        assert!(cache.get(&job.id, &state).is_some());
        assert!(cache.get(&job.id, &State { version: 2, ..state.clone() }).is_none());
        assert!(cache.get(&job.id, &State { generation: 6, ..state }).is_none());
    }

    #[test]
    fn what_a_definition_leaves_out_comes_back() {
        let plain =
            JobDefinition::new("name", "handler", Schedule::every(std::time::Duration::from_secs(60)));
        let mut special = plain.clone();
        special.priority = -3;
        special.timeout = std::time::Duration::from_millis(1500);
        special.misfire = unified_scheduler_core::Misfire::RunAll { limit: 7 };
        special.history.max_count = Some(5);
        for definition in [plain, special] {
            let stored = pack_definition(Timestamp::EPOCH, None, &definition).unwrap();
            assert_eq!(read_definition(&stored).unwrap(), definition);
            assert!(stored.len() < 300, "{}", stored.len());
        }
    }

    #[test]
    fn the_defaults_that_stored_definitions_rely_on_are_these() {
        let all = serde_json::to_value(JobDefinition::new("", "", Schedule::manual())).unwrap();
        let read: JobDefinition = serde_json::from_value(
            serde_json::json!({"name": "", "template_type": "", "schedule": all["schedule"]}),
        )
        .unwrap();
        assert_eq!(read, JobDefinition::new("", "", Schedule::manual()));
        let mut all = all;
        all.as_object_mut().unwrap().remove("schedule");
        let these = serde_json::json!({
            "history": {"keep": "all"},
            "misfire": {"policy": "run_once"},
            "name": "",
            "notifications": {"on_failure": [], "on_success": []},
            "origin": "dynamic",
            "overlap": {"policy": "skip"},
            "parameters": {},
            "priority": 0,
            "retry_policy": {
                "backoff": "fixed", "crash_limit": 3, "explicit": true, "jitter": 0.0, "max_delay_seconds": 3600,
                "max_retries": 0, "on_failure": true, "on_lost": false, "on_timeout": true,
                "retry_delay_seconds": 300,
            },
            "template_type": "",
            "timeout_seconds": 3600,
        });
        assert_eq!(all, these, "a changed default needs a new layout");
    }

    #[test]
    fn what_a_newer_version_has_added_to_a_state_is_kept() {
        let bytes = State::of(&job(), 5).pack();
        let mut newer = vec![0xdc, 0, 19];
        // The array had its length in five bytes.
        newer.extend_from_slice(&bytes[5..]);
        newer.extend_from_slice(&[0x07, 0xa1, b'x']);
        let again = State::read(&newer).unwrap().pack();
        assert_eq!(again[5..], newer[3..]);
        assert_eq!(again[..5], [0xdd, 0, 0, 0, 19]);
    }

    #[test]
    fn a_state_comes_back_and_a_definition_that_can_not_be_read_is_a_fault() {
        let mut job = job();
        job.n_fired = 5_000_000_000;
        job.ended = Some(EndReason::Limit);
        job.failures_in_row = 3;
        let state = State::read(&State::of(&job, 5).pack()).unwrap();
        let run = Value::BulkString(Run::of(&job).pack());
        let stored = pack_definition(job.created_at, None, &job.definition).unwrap();
        assert_eq!(KnownJob::read(&job.id, &state, &stored).job(&job.id, &state, run), job);
        let broken = KnownJob::read(&job.id, &state, b"broken").job(&job.id, &state, Value::Nil);
        assert!(broken.fault.is_some());
        assert_eq!(broken.definition.name, "name");
    }
}
