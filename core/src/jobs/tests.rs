//! The service for jobs, over a store in memory.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::*;
use crate::clock::Clock;
use crate::execution::{Execution, Status};
use crate::fixture::{Fixture, HANDLER, MINUTE, START, at, definition};
use crate::handler::{HandlerError, Outcome};
use crate::job::EndReason;
use crate::policy::Misfire;
use crate::schedule::Schedule;
use crate::store::{AuditQuery, ExecutionQuery};
use crate::template::{Template, TemplateMetadata};

fn minutely(name: &str) -> JobDefinition {
    definition(name, Schedule::every(MINUTE))
}

fn fields(error: &Error) -> Vec<&str> {
    error.faults().iter().map(|fault| fault.field.as_str()).collect()
}

async fn due(fixture: &Fixture, id: &JobId) -> Option<Timestamp> {
    fixture.job(id).await.due.map(|due| due.due_at)
}

#[tokio::test]
async fn everything_wrong_with_new_jobs_is_told_at_once_and_nothing_is_stored() {
    let fixture = Fixture::new().await;
    let mut wrong = definition(" ", Schedule::cron("61 * * * *"));
    wrong.timeout = Duration::ZERO;
    wrong.priority = 1000;
    let error = fixture.jobs.create(wrong.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(fields(&error), ["name", "timeout_seconds", "priority", "schedule.expression"]);
    let many = vec![minutely("fine").into(), wrong.into(), minutely("").into()];
    let error = fixture.jobs.create_all(many).await.unwrap_err();
    let expected = ["[1].name", "[1].timeout_seconds", "[1].priority", "[1].schedule.expression", "[2].name"];
    assert_eq!(fields(&error), expected);
    assert!(fixture.jobs.list(&JobQuery::default()).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn a_name_is_given_once() {
    let fixture = Fixture::new().await;
    let first = fixture.jobs.create(minutely("one")).await.unwrap();
    let error = fixture.jobs.create(minutely("one")).await.unwrap_err();
    assert_eq!(fields(&error), ["name"]);
    assert!(error.to_string().contains(first.id.as_str()), "{error}");
    let error = fixture.jobs.create_all(vec![minutely("two").into(), minutely("two").into()]).await;
    assert_eq!(fields(&error.unwrap_err()), ["[1].name"]);
    let second = fixture.jobs.create(minutely("two")).await.unwrap();
    let error = fixture.jobs.edit(&second.id, |d| d.name = "one".into()).await.unwrap_err();
    assert_eq!(fields(&error), ["name"]);
    fixture.jobs.edit(&second.id, |d| d.name = "three".into()).await.unwrap();
}

#[tokio::test]
async fn a_job_is_found_by_id_then_by_a_name_that_only_it_has() {
    let fixture = Fixture::new().await;
    let by_id = fixture.jobs.create(minutely("one")).await.unwrap();
    assert_eq!(fixture.jobs.find("one").await.unwrap().id, by_id.id);
    assert_eq!(fixture.jobs.find(by_id.id.as_str()).await.unwrap().id, by_id.id);
    assert_eq!(fixture.jobs.find("two").await.unwrap_err().kind(), ErrorKind::NotFound);
    // A static job does not look at the names of others.
    let mut twin = minutely("one");
    twin.origin = crate::Origin::Static;
    fixture.jobs.register(twin).await.unwrap();
    assert_eq!(fixture.jobs.find("one").await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(fixture.jobs.find("static:one").await.unwrap().id, JobId::of_static("one"));
}

#[tokio::test]
async fn an_edit_keeps_the_due_time_unless_the_schedule_is_another() {
    let fixture = Fixture::new().await;
    let job = fixture.jobs.create(minutely("job")).await.unwrap();
    fixture.run_through(0..=4).await;
    fixture.clock.advance(Duration::from_secs(30));
    let edited = fixture.jobs.edit(&job.id, |d| d.priority = 7).await.unwrap();
    assert_eq!((edited.due.unwrap().due_at, edited.version, edited.n_fired), (at(5), 2, 5));
    let same = fixture.jobs.edit(&job.id, |d| d.priority = 7).await.unwrap();
    assert_eq!(same.version, 2, "nothing changes");
    let other = fixture.jobs.edit(&job.id, |d| d.schedule = Schedule::every(MINUTE * 2)).await.unwrap();
    let next = fixture.clock.now().saturating_add(MINUTE * 2);
    assert_eq!((other.due.unwrap().due_at, other.n_fired), (next, 0));
    let bounded = fixture.jobs.edit(&job.id, |d| d.schedule.end = Some(at(90))).await.unwrap();
    assert_eq!(bounded.due, other.due, "bounds leave the grid as it is");
    fixture.clock.advance(MINUTE * 3);
    let late = fixture.jobs.edit(&job.id, |d| d.schedule.jitter = MINUTE).await.unwrap();
    assert_eq!(late.due.unwrap().due_at, next, "what is due already stays due");
}

#[tokio::test]
async fn an_edit_that_is_wrong_changes_nothing() {
    let fixture = Fixture::new().await;
    let job = fixture.jobs.create(minutely("job")).await.unwrap();
    let error = fixture.jobs.edit(&job.id, |d| d.schedule = Schedule::cron("never")).await.unwrap_err();
    assert_eq!(fields(&error), ["schedule.expression"]);
    assert_eq!(fixture.job(&job.id).await, job);
    let missing = JobId::from("missing");
    assert_eq!(fixture.jobs.edit(&missing, |_| {}).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn an_edit_takes_up_a_job_that_was_set_aside_or_has_ended() {
    let fixture = Fixture::new().await;
    let job = fixture.jobs.create(definition("job", Schedule::every(MINUTE).limit(2))).await.unwrap();
    fixture.run_through(0..=5).await;
    assert_eq!(fixture.job(&job.id).await.ended, Some(EndReason::Limit));
    let again = fixture.jobs.edit(&job.id, |d| d.schedule.limit = Some(3)).await.unwrap();
    assert_eq!((again.ended, again.n_fired, again.is_scheduled()), (None, 2, true));
}

#[tokio::test]
async fn registering_again_changes_nothing() {
    let fixture = Fixture::new().await;
    let mut code = minutely("job");
    code.origin = crate::Origin::Static;
    let id = fixture.jobs.register(code.clone()).await.unwrap().id;
    assert_eq!(id, JobId::of_static("job"));
    fixture.run_through(0..=3).await;
    fixture.jobs.disable(&id).await.unwrap();
    let before = fixture.job(&id).await;
    fixture.go_to(10);
    fixture.jobs.register(code.clone()).await.unwrap();
    assert_eq!(fixture.job(&id).await, before);
    assert_eq!(fixture.executions(&id).await.len(), 4);
    code.schedule = Schedule::every(MINUTE * 5);
    let changed = fixture.jobs.register(code).await.unwrap();
    assert_eq!((changed.due.unwrap().due_at, changed.enabled), (at(15), false));
    assert_eq!(fixture.executions(&id).await.len(), 4);
    let query = AuditQuery { job_id: Some(id), ..AuditQuery::default() };
    let audit = fixture.store.list_audit(&query).await.unwrap();
    let told: Vec<_> = audit.iter().map(|e| (e.action.as_str(), e.actor.as_str())).collect();
    assert_eq!(told, [("updated", "code"), ("disabled", "api"), ("created", "code")]);
}

#[tokio::test]
async fn enabling_goes_on_in_the_future_or_with_what_was_missed() {
    let fixture = Fixture::new().await;
    let job = fixture.jobs.create(minutely("job")).await.unwrap();
    fixture.run_through(0..=2).await;
    fixture.jobs.disable(&job.id).await.unwrap();
    fixture.go_to(5);
    assert!(fixture.claim().await.claimed.is_empty());
    fixture.clock.advance(Duration::from_secs(20));
    let enabled = fixture.jobs.enable(&job.id).await.unwrap();
    assert_eq!(enabled.due.unwrap().due_at, at(6), "on the grid that it has");
    assert_eq!(fixture.jobs.enable(&job.id).await.unwrap().version, enabled.version);
    fixture.jobs.disable(&job.id).await.unwrap();
    fixture.go_to(9);
    let missed = fixture.jobs.enable_with_missed(&job.id).await.unwrap();
    assert_eq!(missed.due.unwrap().due_at, at(6));
    let batch = fixture.claim().await;
    assert_eq!(batch.claimed[0].execution.n_occurrences, 4);
}

#[tokio::test]
async fn a_single_time_that_passes_while_disabled_is_kept() {
    let fixture = Fixture::new().await;
    let job = fixture.jobs.create(definition("job", Schedule::once(at(3)))).await.unwrap();
    fixture.jobs.disable(&job.id).await.unwrap();
    fixture.go_to(10);
    assert_eq!(fixture.jobs.enable(&job.id).await.unwrap().due.unwrap().due_at, at(3));
    assert_eq!(fixture.claim().await.claimed.len(), 1);
    assert_eq!(fixture.job(&job.id).await.ended, Some(EndReason::Exhausted));
    fixture.jobs.disable(&job.id).await.unwrap();
    let ended = fixture.jobs.enable(&job.id).await.unwrap();
    assert_eq!((ended.due, ended.ended), (None, Some(EndReason::Exhausted)), "it does not run twice");
}

#[tokio::test]
async fn one_counted_from_completion_that_was_disabled_while_it_ran_fires_again() {
    let fixture = Fixture::new().await;
    let every = crate::schedule::Recurrence::Interval { every: MINUTE, anchor: None, from_completion: true };
    let job = fixture.jobs.create(definition("job", Schedule::new(every))).await.unwrap();
    let batch = fixture.claim().await;
    fixture.jobs.disable(&job.id).await.unwrap();
    fixture.go_to(3);
    fixture.jobs.enable(&job.id).await.unwrap();
    fixture.end(&batch, Status::Success).await;
    let due = due(&fixture, &job.id).await.unwrap();
    assert!(due > at(3) && due <= at(4), "{due}");
}

#[tokio::test]
async fn skips_are_recorded() {
    let fixture = Fixture::new().await;
    let job = fixture.jobs.create(minutely("job")).await.unwrap();
    assert_eq!(fixture.jobs.skip_next(&job.id, 2).await.unwrap().skip_next, 2);
    fixture.run_through(0..=2).await;
    let statuses = |all: Vec<Execution>| all.into_iter().map(|e| e.status).collect::<Vec<_>>();
    let skipped = [Status::Skipped, Status::Skipped, Status::Success];
    assert_eq!(statuses(fixture.executions(&job.id).await), skipped);
    let by_date = fixture.jobs.skip_date(&job.id, "2026-01-01").await.unwrap();
    assert_eq!(by_date.due.unwrap().due_at, at(3), "the due time stays");
    fixture.run_at(3).await;
    let last = fixture.executions(&job.id).await.pop().unwrap();
    assert_eq!((last.status, last.reason.as_deref()), (Status::Skipped, Some("excluded")));
    let again = fixture.jobs.skip_date(&job.id, "2026-01-01").await.unwrap();
    assert_eq!(again.definition.schedule.exclude.dates.len(), 1);
    let error = fixture.jobs.skip_date(&job.id, "2026-02-30").await.unwrap_err();
    assert_eq!((error.kind(), fields(&error)), (ErrorKind::Invalid, vec!["date"]));
}

#[tokio::test]
async fn a_copy_is_disabled_and_has_no_past() {
    let fixture = Fixture::new().await;
    let mut code = minutely("job");
    code.origin = crate::Origin::Static;
    let id = fixture.jobs.register(code).await.unwrap().id;
    fixture.run_through(0..=2).await;
    let copy = fixture.jobs.clone().by("ann").clone_as(&id, "copy").await.unwrap();
    assert_eq!((copy.enabled, copy.n_fired, copy.version), (false, 0, 1));
    assert_eq!((copy.definition.origin, copy.created_by.as_deref()), (crate::Origin::Dynamic, Some("ann")));
    assert_eq!(fields(&fixture.jobs.clone_as(&id, "copy").await.unwrap_err()), ["name"]);
}

#[tokio::test]
async fn a_run_by_hand_moves_no_schedule_and_is_made_once_for_a_key() {
    let fixture = Fixture::new().await;
    let job = fixture.jobs.create(minutely("job")).await.unwrap();
    fixture.run_at(0).await;
    fixture.jobs.disable(&job.id).await.unwrap();
    let options = RunOptions {
        parameters: Some(serde_json::json!({"a": 1})),
        at: Some(at(9)),
        idempotency_key: Some("key".into()),
        unless_open: false,
    };
    let run = fixture.jobs.clone().by("ann").run(&job.id, options.clone()).await.unwrap();
    assert_eq!((run.run_at, run.triggered_by.as_str()), (at(9), "manual:ann"));
    assert_eq!(fixture.jobs.run(&job.id, options).await.unwrap().id, run.id);
    let busy = RunOptions { unless_open: true, ..RunOptions::default() };
    assert_eq!(fixture.jobs.run(&job.id, busy).await.unwrap_err().kind(), ErrorKind::Conflict);
    fixture.run_at(8).await;
    assert_eq!(fixture.store.get_execution(&run.id).await.unwrap().unwrap().status, Status::Pending);
    fixture.run_at(9).await;
    let ended = fixture.store.get_execution(&run.id).await.unwrap().unwrap();
    assert_eq!((ended.status, ended.parameters), (Status::Success, run.parameters));
    assert_eq!(due(&fixture, &job.id).await, Some(at(1)));
    let no_object = RunOptions { parameters: Some(Value::Null), ..RunOptions::default() };
    assert_eq!(fixture.jobs.run(&job.id, no_object).await.unwrap_err().kind(), ErrorKind::Invalid);
    let missing = fixture.jobs.run(&JobId::from("missing"), RunOptions::default()).await;
    assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_retry_by_hand_is_the_next_attempt_and_is_made_once() {
    let fixture = Fixture::new().await;
    let job = fixture.jobs.create(minutely("job")).await.unwrap();
    let batch = fixture.claim().await;
    let first = batch.claimed[0].execution.clone();
    assert_eq!(fixture.jobs.retry(&first.id).await.unwrap_err().kind(), ErrorKind::Conflict);
    fixture.end(&batch, Status::Failed).await;
    let again = fixture.jobs.retry(&first.id).await.unwrap();
    assert_eq!((again.attempt, again.root_id, again.due_at), (2, first.root_id, first.due_at));
    assert_eq!(fixture.jobs.retry(&first.id).await.unwrap_err().kind(), ErrorKind::Conflict);
    fixture.jobs.skip_next(&job.id, 1).await.unwrap();
    fixture.run_at(1).await;
    let skipped = fixture.executions(&job.id).await.pop().unwrap();
    assert_eq!(skipped.status, Status::Skipped);
    assert_eq!(fixture.jobs.retry(&skipped.id).await.unwrap().attempt, 1);
    fixture.run_at(1).await;
    let query = ExecutionQuery { statuses: vec![Status::Success], ..ExecutionQuery::default() };
    assert_eq!(fixture.store.list_executions(&query).await.unwrap().items.len(), 2);
    let unknown = IdSource::seeded(9).execution(START);
    assert_eq!(fixture.jobs.retry(&unknown).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn an_edit_that_others_overtake_is_made_from_what_they_left() {
    let fixture = Fixture::new().await;
    let job = fixture.jobs.create(minutely("job")).await.unwrap();
    let tries = AtomicU32::new(0);
    let overtaken = |times: u32| {
        let (jobs, id, tries) = (&fixture.jobs, &job.id, &tries);
        move |d: &mut JobDefinition| {
            let n = tries.fetch_add(1, Ordering::Relaxed);
            if n < times {
                // Between the read and the write of this edit; the store in memory answers at once.
                let other = jobs.edit(id, |d| d.description = format!("edit {n}"));
                futures_now(other).unwrap();
            }
            d.priority = 5;
        }
    };
    let edited = fixture.jobs.edit(&job.id, overtaken(3)).await.unwrap();
    assert_eq!((edited.definition.priority, edited.definition.description.as_str()), (5, "edit 2"));
    assert_eq!(edited.version, 5);
    tries.store(0, Ordering::Relaxed);
    let error = fixture
        .jobs
        .edit(&job.id, |d| {
            overtaken(u32::MAX)(d);
            d.priority = -5;
        })
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(tries.load(Ordering::Relaxed), u32::try_from(EDIT_ATTEMPTS).unwrap());
}

#[tokio::test]
async fn an_edit_during_a_claim_keeps_what_the_claim_moved() {
    let fixture = Fixture::new().await;
    let job = fixture.jobs.create(minutely("job")).await.unwrap();
    let edited = fixture
        .jobs
        .edit(&job.id, |d| {
            futures_now(fixture.claim());
            d.misfire = Misfire::Skip { grace: MINUTE };
        })
        .await
        .unwrap();
    assert_eq!((edited.due.unwrap().due_at, edited.n_fired), (at(1), 1));
}

/// The answer of a future that has one at once.
fn futures_now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(answer) => answer,
        std::task::Poll::Pending => panic!("the store in memory answers at once"),
    }
}

struct Mail;

#[async_trait::async_trait]
impl Template for Mail {
    fn metadata(&self) -> TemplateMetadata {
        let schema = serde_json::json!({
            "type": "object",
            "required": ["to"],
            "properties": {"to": {"type": "string", "pattern": "@"}, "n": {"type": "integer", "maximum": 3}}
        });
        TemplateMetadata { parameters_schema: schema, ..TemplateMetadata::new(HANDLER, "Mail") }
    }

    fn check(&self, parameters: &mut serde_json::Map<String, Value>) -> Vec<crate::Fault> {
        parameters.entry("n").or_insert(Value::from(1));
        if parameters["n"] == 2 { vec![crate::Fault::new("n", "is even")] } else { Vec::new() }
    }

    async fn run(&self, _: crate::Context) -> Result<Outcome, HandlerError> {
        Ok(().into())
    }
}

#[tokio::test]
async fn parameters_are_checked_and_mended_by_their_template() {
    let fixture = Fixture::new().await;
    let registry = Arc::new(Registry::new());
    registry.template(Arc::new(Mail)).unwrap();
    let jobs = Jobs::of(fixture.store.clone(), Some(registry));
    let with = |parameters: Value| {
        let Value::Object(parameters) = parameters else { panic!("an object") };
        JobDefinition { parameters, ..minutely("job") }
    };
    let error = jobs.create(with(serde_json::json!({"to": "nobody", "n": 2}))).await.unwrap_err();
    assert_eq!(fields(&error), ["parameters.to"]);
    let error = jobs.create(with(serde_json::json!({"to": "a@b", "n": 2}))).await.unwrap_err();
    assert_eq!(fields(&error), ["parameters.n"]);
    let unknown = JobDefinition { handler: "other".into(), ..minutely("job") };
    let error = jobs.create(unknown).await.unwrap_err();
    assert!(error.to_string().contains(HANDLER), "{error}");
    let job = jobs.create(with(serde_json::json!({"to": "a@b"}))).await.unwrap();
    assert_eq!(job.definition.parameters["n"], 1);
    let wrong = RunOptions { parameters: Some(serde_json::json!({"n": 1})), ..RunOptions::default() };
    assert_eq!(jobs.run(&job.id, wrong).await.unwrap_err().kind(), ErrorKind::Invalid);
    let fine = RunOptions { parameters: Some(serde_json::json!({"to": "c@d"})), ..RunOptions::default() };
    assert_eq!(jobs.run(&job.id, fine).await.unwrap().parameters.unwrap()["n"], 1);
}
