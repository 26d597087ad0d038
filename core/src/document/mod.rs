//! Jobs as JSON documents: what export writes, what import, the API and the stores of documents read.
//!
//! [`read`] takes our own form and every variant in which the documents of older programs are found,
//! as they are or as `mongoexport` prints them. Where a meaning has several spellings, the first that
//! is present and not null wins. [`write()`] gives the document that people and programs are shown, with
//! the names that older readers know beside ours; [`export`] the one that [`read`] turns into the same
//! definition.

mod fields;
mod policies;
mod schedule;
mod write;

use serde_json::{Map, Value};

pub use write::{export, write};

use crate::error::Fault;
use crate::id::JobId;
use crate::job::{DEFAULT_TIMEOUT, Definition, JobDefinition, Origin};
use crate::schedule::Schedule;
use crate::time::Timestamp;
use fields::{Fields, id, integer, with_plain_numbers};

/// A job as a document says it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Its id, if it has one.
    pub id: Option<JobId>,
    /// What it is.
    pub definition: JobDefinition,
    /// Whether its schedule counts. A document that says nothing means yes, unless an older program
    /// stored it: that one ran only what said so.
    pub enabled: bool,
    /// By whom it was made.
    pub created_by: Option<String>,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// When it was last edited.
    pub updated_at: Option<Timestamp>,
    /// How often it was edited.
    pub version: Option<i64>,
    /// When its last finished execution started.
    pub last_run_at: Option<Timestamp>,
    /// How that ended, in the words of whoever wrote it.
    pub last_status: Option<String>,
    /// When it is due, as the field that counts (`nextRunAt`) says.
    pub next_run_at: Option<Timestamp>,
    /// The same in a spelling that the older programs did not look at. It counts only while it lies in
    /// the future, and only without the other: a value of last year must not fire a job today.
    pub next_run_hint: Option<Timestamp>,
    /// What was understood, but should be seen by somebody.
    pub warnings: Vec<String>,
}

impl Document {
    /// When the job is due, for one read at `now`; `None` when the document does not say, and the
    /// schedule decides. A hint that has passed is a point of the grid, and the next one counts.
    pub fn due_at(&self, now: Timestamp) -> Option<Timestamp> {
        let from_hint = |hint: Timestamp| {
            let id = self.id.clone().unwrap_or_else(|| JobId::from(""));
            let definition = Definition::new(id, self.definition.clone());
            if hint > now { Some(hint) } else { definition.compiled().ok()?.next_after(now, hint) }
        };
        self.next_run_at.or_else(|| self.next_run_hint.and_then(from_hint))
    }
}

/// Fields that only a document of ours has.
const OURS: [&str; 5] = ["misfire", "overlap", "history", "chains", "pause_after_failures"];

/// Fields that [`write()`] derives from others: known, and not read.
const DERIVED: [&str; 6] =
    ["ended", "execution_count", "failures_in_row", "fault", "last_execution_id", "skip_next"];

/// Reads one job. Its schedule is not compiled and its parameters are not checked; see
/// [`Definition::validate`] and [`crate::registry::Registry::check`].
///
/// # Errors
///
/// Everything that is wrong with it, each with the path of the field as it stands in the document.
pub fn read(value: &Value) -> Result<Document, Vec<Fault>> {
    let value = with_plain_numbers(value);
    let Value::Object(map) = &value else {
        return Err(vec![
            Fault::new("", format!("is {}", fields::shown(&value)))
                .help("a job is an object with `name`, `template_type` and `schedule`"),
        ]);
    };
    let mut top = Fields::new(map, "");
    let foreign = is_foreign(map);
    let job_id = top.get(&["_id", "id"], "a text of 1 to 200 bytes without control characters", id);
    let (schedule, names) = schedule::schedule(&mut top, foreign);
    let definition = definition(&mut top, foreign, schedule.clone().unwrap_or_else(Schedule::manual));
    let enabled = top.flag(&["enabled", "isEnabled"]);
    if enabled.is_none() && foreign {
        top.warnings.push("enabled: is missing; the job is not scheduled until it is enabled".to_owned());
    }
    let mut document = Document {
        id: job_id.map(JobId::from),
        definition,
        enabled: enabled.unwrap_or(!foreign),
        created_by: top.told(&["created_by", "createdBy"], "a text", id),
        created_at: top.instant(&["createdAt", "created_at"]),
        updated_at: top.instant(&["updatedAt", "updated_at"]),
        version: top.told(&["version"], "a whole number", integer),
        last_run_at: top.instant(&["lastRunAt", "last_run_at", "lastRun", "last_run"]),
        last_status: top.told(&["lastStatus", "last_status", "last_run_status"], "a text", id),
        next_run_at: top.instant(&["nextRunAt"]),
        next_run_hint: top.instant(&["next_run_at", "nextRun", "next_run"]),
        warnings: Vec::new(),
    };
    top.take(&DERIVED);
    let unknown: Vec<_> = top.unknown().map(|(key, value)| (key.clone(), value.clone())).collect();
    document.definition.extra.extend(unknown);
    refuse(&mut top, &document, schedule.is_some(), &names);
    if top.faults.is_empty() {
        document.warnings = top.warnings;
        return Ok(document);
    }
    Err(top.faults)
}

/// Whether an older program stored it: what it says of priority and tags is not ours to interpret.
fn is_foreign(map: &Map<String, Value>) -> bool {
    let stored = map.contains_key("_id");
    let marked = |key: &str, field: &str| map.get(key).is_some_and(|v| v.get(field).is_some());
    stored
        && !OURS.iter().any(|key| map.contains_key(*key))
        && !marked("schedule", "dialect")
        && !marked("retry_policy", "explicit")
}

fn definition(top: &mut Fields<'_>, foreign: bool, schedule: Schedule) -> JobDefinition {
    let name = required(top, "name", &["name"]);
    let handler = required(top, "template_type", &["templateType", "template_type", "template"]);
    let mut job = JobDefinition::new(name, handler, schedule);
    job.description = top.text(&["description"]).unwrap_or_default();
    if let Some((_, parameters)) = top.object(&["parameters"]) {
        job.parameters.clone_from(parameters);
    }
    job.timeout = top.seconds(&["timeout_seconds", "timeout"]).unwrap_or(DEFAULT_TIMEOUT);
    job.retry = policies::retry(top);
    job.notifications = policies::notifications(top);
    if foreign {
        // Who wrote it never followed a policy, so nobody has chosen one; see `Retry::explicit`.
        job.retry.explicit = false;
        return job;
    }
    let origins = [("static", Origin::Static), ("dynamic", Origin::Dynamic)];
    job.origin = top.choice(&["origin"], &origins).unwrap_or_default();
    job.misfire = policies::misfire(top);
    job.overlap = policies::overlap(top);
    job.priority = top.integer(&["priority"], "a whole number from -100 to 100").unwrap_or_default();
    job.pause_after_failures = top.integer(&["pause_after_failures"], "a whole number from 1");
    job.history = policies::history(top);
    job.chains = policies::chains(top);
    job.tags = top.texts(&["tags"]).unwrap_or_default();
    if let Some((_, extra)) = top.object(&["extra"]) {
        job.extra.clone_from(extra);
    }
    job
}

fn required(top: &mut Fields<'_>, name: &str, names: &[&str]) -> String {
    if names.iter().all(|name| !top.has(name)) {
        top.fault(name, "is missing", "every job has one");
    }
    top.text(names).unwrap_or_default()
}

/// Adds what is wrong with the values, so that one answer names everything; where nothing is wrong
/// with the form, only what does not need the schedule compiled.
fn refuse(top: &mut Fields<'_>, document: &Document, has_schedule: bool, names: &schedule::Names) {
    let own = document.definition.own_faults();
    let known: Vec<String> = top.faults.iter().map(|fault| fault.field.clone()).collect();
    for mut fault in own {
        if let Some((name, _)) = aliases(&fault.field).and_then(|spellings| top.take(spellings)) {
            name.clone_into(&mut fault.field);
        }
        if !known.contains(&fault.field) {
            top.faults.push(fault);
        }
    }
    if !top.faults.is_empty() && has_schedule {
        let id = document.id.clone().unwrap_or_else(|| JobId::from("new"));
        if let Err(faults) = Definition::new(id, document.definition.clone()).compiled() {
            top.faults.extend(faults.iter().cloned().map(|fault| names.in_document(fault)));
        }
    }
}

/// The spellings of a field that has several.
fn aliases(field: &str) -> Option<&'static [&'static str]> {
    match field {
        "template_type" => Some(&["templateType", "template_type", "template"]),
        "timeout_seconds" => Some(&["timeout_seconds", "timeout"]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::job::Job;
    use crate::policy::{Chain, ChainOn, History, Keep, Misfire, Overlap, Retry};

    fn minimal(more: &Value) -> Value {
        let mut value = json!({"name": "n", "template_type": "t", "schedule": "0 3 * * *"});
        for (key, field) in more.as_object().unwrap() {
            value[key] = field.clone();
        }
        value
    }

    fn faults(value: &Value) -> Vec<String> {
        read(value).unwrap_err().iter().map(|f| format!("{}: {}", f.field, f.message)).collect()
    }

    #[test]
    fn a_document_of_mongoexport_is_read_as_it_is() {
        let relaxed = json!({
            "_id": {"$oid": "64b0c0ffee64b0c0ffee64b0"}, "name": "Purge", "description": "old logs",
            "template_type": "database_cleanup",
            "parameters": {"custom_filter": {"at": {"$lt": {"$date": "2025-01-01T00:00:00Z"}}}, "n": {"$numberInt": "7"}},
            "schedule": {"type": "interval", "interval_seconds": {"$numberLong": "3600"}, "expression": null, "timezone": "UTC"},
            "enabled": true, "timeout_seconds": 300.0,
            "retry_policy": {"max_retries": {"$numberInt": "3"}, "retry_delay_seconds": 300},
            "notifications": {"on_success": [], "on_failure": ["ops@example.org"]},
            "created_by": "admin", "createdAt": {"$date": {"$numberLong": "1767323045678"}},
            "updatedAt": {"$date": "2026-01-02T03:04:05.678Z"}, "lastRunAt": null,
            "nextRunAt": {"$date": "2026-01-02T04:00:00Z"}, "lastStatus": "success", "version": 3,
            "priority": "high", "tags": [1], "runCount": 12, "displayName": "Purge it",
        });
        let document = read(&relaxed).unwrap();
        assert_eq!(document.id.unwrap().as_str(), "64b0c0ffee64b0c0ffee64b0");
        let job = &document.definition;
        assert_eq!(job.handler, "database_cleanup");
        assert_eq!(job.schedule, Schedule::every(Duration::from_secs(3600)));
        assert_eq!(job.timeout, Duration::from_secs(300));
        assert_eq!(job.parameters["n"], 7);
        assert_eq!(job.parameters["custom_filter"]["at"]["$lt"]["$date"], "2025-01-01T00:00:00Z");
        assert_eq!((job.retry.max_retries, job.retry.explicit), (3, false));
        assert_eq!(job.notifications.on_failure, ["ops@example.org"]);
        let extra: Vec<&String> = job.extra.keys().collect();
        assert_eq!(extra, ["displayName", "priority", "runCount", "tags"]);
        assert!(document.enabled);
        assert_eq!(document.created_at, Some(Timestamp::from_millis(1_767_323_045_678)));
        assert_eq!(document.updated_at, document.created_at);
        assert_eq!(document.next_run_at.unwrap().to_string(), "2026-01-02T04:00:00.000Z");
        assert_eq!((document.last_run_at, document.last_status.as_deref()), (None, Some("success")));
        assert_eq!((document.version, document.warnings.len()), (Some(3), 0));
    }

    #[test]
    fn the_first_spelling_that_is_present_and_not_null_wins() {
        let document = read(&json!({
            "_id": 7, "name": "n", "templateType": "a", "template_type": "b", "isEnabled": true,
            "schedule": {}, "scheduleType": "cron", "cronExpression": null, "cron_expression": "0 3 * * *",
            "timezone": "Europe/Berlin", "timeout": 60, "createdBy": "x", "created_at": "2026-01-02T03:04:05",
            "next_run": "2026-01-02T03:04:05Z", "retry_config": {"max_retries": 2, "retry_delay": 10},
        }))
        .unwrap();
        let job = &document.definition;
        assert_eq!(job.handler, "a");
        assert_eq!(job.schedule.to_document()["timezone"], "Europe/Berlin");
        assert_eq!(job.schedule.to_document()["dialect"], "croniter");
        assert_eq!(
            (job.retry.max_retries, job.retry.delay, job.retry.explicit),
            (2, Duration::from_secs(10), false)
        );
        assert_eq!(job.timeout, Duration::from_secs(60));
        assert!(document.enabled && job.extra.is_empty());
        assert_eq!(document.next_run_at, None);
        let hint = document.next_run_hint.unwrap();
        assert!(document.due_at(hint).unwrap() > hint, "one that has passed fires nothing");
        assert_eq!(document.due_at(hint.saturating_sub(Duration::from_secs(1))), Some(hint));
    }

    #[test]
    fn a_schedule_is_read_in_each_of_its_old_forms() {
        let hourly = Schedule::every(Duration::from_secs(3600)).to_document();
        let nightly = read(&minimal(&json!({}))).unwrap().definition.schedule.to_document();
        assert_eq!(nightly["expression"], "0 3 * * *");
        for (form, expected) in [
            (json!({"schedule": {"type": "cron", "value": "0 3 * * *", "interval_seconds": 5}}), &nightly),
            (json!({"schedule": {"type": "cron", "expression": "0 3 * * *", "timezone": null}}), &nightly),
            (json!({"schedule": {"interval_seconds": null, "expression": "x"}}), &hourly),
            (json!({"schedule": null, "interval": 3600}), &hourly),
            (json!({"schedule": null, "schedule_type": "interval"}), &hourly),
        ] {
            let document = read(&minimal(&form)).unwrap_or_else(|e| panic!("{form}: {e:?}"));
            assert_eq!(&document.definition.schedule.to_document(), expected, "{form}");
        }
        // An older program ran one that says nothing each hour; a new one has to say something.
        let nothing = json!({"schedule": null});
        assert_eq!(read(&minimal(&nothing)).unwrap_err()[0].field, "schedule");
        let stored = read(&minimal(&json!({"_id": "a", "schedule": null}))).unwrap();
        assert_eq!(&stored.definition.schedule.to_document(), &hourly);
    }

    #[test]
    fn a_job_that_says_nothing_of_being_enabled_is_so_only_when_it_is_new() {
        assert!(read(&minimal(&json!({}))).unwrap().enabled);
        let stored = read(&minimal(&json!({"_id": "a"}))).unwrap();
        assert!(!stored.enabled && stored.warnings[0].contains("enabled"));
    }

    #[test]
    fn what_only_tells_of_the_past_keeps_no_job_from_running() {
        let document = read(&minimal(&json!({
            "_id": "a", "enabled": true, "version": "one", "createdBy": {"$oid": "64b0"}, "lastStatus": {},
            "lastRunAt": "yesterday", "nextRunAt": "soon",
        })))
        .unwrap();
        assert_eq!((document.version, document.created_by.as_deref()), (None, Some("64b0")));
        assert_eq!((document.next_run_at, document.warnings.len()), (None, 4));
    }

    #[test]
    fn the_retry_policy_that_nobody_chose_is_told_from_one_that_was() {
        let retry =
            |policy: Value| read(&minimal(&json!({ "retry_policy": policy }))).unwrap().definition.retry;
        assert!(!retry(json!({"max_retries": 3, "retry_delay_seconds": 300})).explicit);
        assert!(retry(json!({"max_retries": 3, "retry_delay_seconds": 300, "explicit": true})).explicit);
        assert!(
            retry(json!({"max_retries": 3, "retry_delay_seconds": 300, "backoff": "exponential"})).explicit
        );
        assert!(retry(json!({"max_retries": 2, "retry_delay_seconds": 300})).explicit);
        assert!(retry(json!({"max_retries": 2})).on_lost);
        let stored = minimal(&json!({"_id": "a", "retry_policy": {"max_retries": 2}}));
        let retry_of_older_program = read(&stored).unwrap().definition.retry;
        assert_eq!((retry_of_older_program.max_retries, retry_of_older_program.explicit), (2, false));
        assert_eq!(retry(json!(null)), Retry::never());
    }

    #[test]
    fn a_policy_may_be_its_name_alone() {
        let job = read(&minimal(&json!({"misfire": "skip", "overlap": "queue_one"}))).unwrap().definition;
        assert_eq!(job.misfire, Misfire::Skip { grace: Duration::from_secs(60) });
        assert_eq!(job.overlap, Overlap::QueueOne);
        assert_eq!(faults(&minimal(&json!({"overlap": "allow"}))), ["overlap.max: is missing"]);
        assert_eq!(faults(&minimal(&json!({"misfire": "run_all"}))), ["misfire.limit: is missing"]);
        assert_eq!(
            faults(&minimal(&json!({"misfire": {"policy": "often"}}))),
            ["misfire: there is no policy `often`"]
        );
    }

    #[test]
    fn everything_wrong_is_told_at_once_where_it_stands() {
        let found = faults(&json!({
            "_id": "", "templateType": 5, "timeout": 0, "parameters": [], "enabled": "yes",
            "schedule": {"type": "cron", "value": 5, "often": true, "dialect": "standard"},
            "misfire": {"policy": "skip", "grace": 1}, "overlap": {"policy": "allow", "max": 0},
            "history": {"keep": "some", "age": 1}, "chains": [{"job": "a"}, {"on": "never"}],
            "retry_policy": {"max_retries": -1, "jitter": 2}, "notifications": {"on_failure": [1]},
            "tags": {}, "priority": 101,
        }));
        let fields: Vec<&str> = found.iter().map(|f| f.split(':').next().unwrap()).collect();
        for field in [
            "_id",
            "name",
            "templateType",
            "timeout",
            "parameters",
            "enabled",
            "schedule.value",
            "schedule.often",
            "misfire.grace",
            "overlap.max",
            "history.keep",
            "history.age",
            "chains.1.on",
            "chains.1.job",
            "retry_policy.max_retries",
            "retry_policy.jitter",
            "notifications.on_failure",
            "tags",
            "priority",
        ] {
            assert_eq!(fields.iter().filter(|f| **f == field).count(), 1, "{field} in {found:#?}");
        }
    }

    #[test]
    fn a_refused_job_is_told_of_its_expression_too() {
        let found = faults(
            &json!({"name": "", "template_type": "t", "schedule": {"type": "cron", "value": "99 * * * *"}}),
        );
        assert!(found.iter().any(|f| f.starts_with("schedule.value: ")), "{found:?}");
        let found = faults(&json!({"name": "", "template_type": "t", "schedule": "99 * * * *"}));
        assert!(found.iter().any(|f| f.starts_with("schedule: ")), "{found:?}");
        let found = faults(
            &json!({"name": "", "template_type": "t", "cronExpression": "99 * * * *", "scheduleType": "cron"}),
        );
        assert!(found.iter().any(|f| f.starts_with("cronExpression: ")), "{found:?}");
        assert!(faults(&json!([]))[0].contains("a list"));
    }

    fn full() -> JobDefinition {
        let mut job = JobDefinition::new("Nightly", "webhook_trigger", Schedule::cron("0 0 3 * * MON-FRI"));
        "at night".clone_into(&mut job.description);
        job.parameters.insert("url".into(), json!("https://example.org"));
        job.misfire = Misfire::RunAll { limit: 7 };
        job.overlap = Overlap::Allow { max: 3 };
        job.retry =
            Retry::times(3, Duration::from_millis(1500)).exponential(Duration::from_secs(60)).jitter(0.25);
        job.timeout = Duration::from_millis(250);
        job.priority = -5;
        job.pause_after_failures = Some(4);
        job.history =
            History { keep: Keep::Failures, max_age: Some(Duration::from_secs(60)), max_count: Some(9) };
        job.chains = vec![Chain { on: ChainOn::Any, job: "other".into() }];
        job.notifications.on_success = vec!["a@example.org".into()];
        job.tags = vec!["x".into()];
        job.extra =
            json!({"displayName": "N", "priority": "high", "extra": {"a": 1}}).as_object().cloned().unwrap();
        job
    }

    #[test]
    fn what_is_exported_is_read_back_the_same() {
        let now = Timestamp::from_millis(1_767_323_045_678);
        let unchosen = read(&minimal(
            &json!({"_id": "b", "enabled": false, "tags": 7, "retry_policy": {"max_retries": 3, "retry_delay_seconds": 300}}),
        ));
        for definition in [
            full(),
            JobDefinition::new("n", "t", Schedule::manual()),
            JobDefinition::new("n", "t", Schedule::once(now)),
            unchosen.unwrap().definition,
        ] {
            let mut job = Job::new(JobId::from("j1"), definition.clone(), now);
            job.enabled = false;
            job.created_by = Some("me".into());
            let document = read(&export(&job)).unwrap();
            assert_eq!(document.definition, definition);
            assert_eq!((document.id, document.enabled), (Some(job.id.clone()), false));
            assert_eq!((document.created_by, document.created_at), (job.created_by.clone(), Some(now)));
            assert_eq!(document.warnings, [""; 0]);
            assert_eq!(document.next_run_hint, job.due.map(|due| due.due_at));
        }
        // What the API shows may come back whole in an edit.
        let shown = read(&write(&Job::new(JobId::from("j1"), full(), now))).unwrap();
        assert_eq!(shown.definition, full());
    }

    #[test]
    fn what_is_shown_carries_the_names_that_older_readers_know() {
        let now = Timestamp::from_millis(1_767_323_045_678);
        let mut job = Job::new(JobId::from("j1"), full(), now);
        job.last_run_at = Some(now);
        job.last_status = Some(crate::execution::Status::Failed);
        let shown = write(&job);
        assert_eq!(shown["created_at"], "2026-01-02T03:04:05.678+00:00");
        for (one, other) in [
            ("_id", "id"),
            ("createdAt", "created_at"),
            ("updatedAt", "updated_at"),
            ("nextRunAt", "next_run_at"),
            ("lastRunAt", "last_run_at"),
            ("lastStatus", "last_run_status"),
            ("last_status", "last_run_status"),
        ] {
            assert!(!shown[one].is_null() && shown[one] == shown[other], "{one} {shown:#}");
        }
        assert_eq!(shown["last_run_status"], "failed");
        assert_eq!((&shown["schedule_type"], &shown["interval_seconds"]), (&json!("cron"), &json!(null)));
        assert_eq!(shown["cron_expression"], shown["schedule"]["expression"]);
        assert_eq!((&shown["displayName"], &shown["priority"]), (&json!("N"), &json!(-5)));
    }

    #[test]
    fn restoring_an_old_export_fires_nothing() {
        let now = Timestamp::from_secs(1_767_225_600);
        let day = std::time::Duration::from_secs(86_400);
        let every = JobDefinition::new("every", "h", Schedule::every(std::time::Duration::from_secs(60)));
        let job = crate::Job::new(JobId::from("every"), every, now);
        let later = now.saturating_add(day).saturating_add(std::time::Duration::from_secs(7));
        let due = read(&export(&job)).unwrap().due_at(later).unwrap();
        assert_eq!(due.since(later), std::time::Duration::from_secs(53), "the next on the old grid");
        let mut once =
            crate::Job::new(JobId::from("o"), JobDefinition::new("o", "h", Schedule::once(now)), now);
        (once.due, once.ended) = (None, Some(crate::job::EndReason::Exhausted));
        assert!(!read(&export(&once)).unwrap().enabled);
    }
}
