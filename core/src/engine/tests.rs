//! The loops, on a clock that moves by hand and a store that fails when it is told to.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;

use super::faulty::{Fault, FaultyStore};
use crate::builder::SchedulerBuilder;
use crate::clock::{Clock, ManualClock};
use crate::context::Context;
use crate::error::ErrorKind;
use crate::event::Event;
use crate::execution::{Execution, Status};
use crate::fixture::START;
use crate::handler::{Handler, HandlerError, Outcome};
use crate::id::{IdSource, JobId};
use crate::jobs::RunOptions;
use crate::policy::Retry;
use crate::scheduler::Scheduler;
use crate::static_job::{every, on_demand};
use crate::store::{CancelOutcome, ExecutionQuery, ExecutionSort, JoinRequest, MemoryStore, Store};
use crate::testing::ManualRuntime;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// A store, and a runtime for the schedulers on it.
struct Bench {
    runtime: ManualRuntime,
    store: FaultyStore,
    clock: ManualClock,
}

impl Bench {
    fn new() -> Self {
        let clock = ManualClock::at(START);
        let store = FaultyStore::over(MemoryStore::with_clock(Arc::new(clock.clone())));
        Self { runtime: ManualRuntime::new(clock.clone()).unwrap(), store, clock }
    }

    fn start(&self, seed: u64, setup: impl FnOnce(SchedulerBuilder) -> SchedulerBuilder) -> Scheduler {
        let builder = Scheduler::builder(self.store.clone()).node_name("test");
        let builder = setup(builder).clock(self.clock.clone()).ids(IdSource::seeded(seed));
        let scheduler = self.runtime.block_on(builder.start()).unwrap();
        self.runtime.advance(Duration::ZERO);
        scheduler
    }

    fn advance(&self, duration: Duration) {
        self.runtime.advance(duration);
    }

    fn executions(&self) -> Vec<Execution> {
        let query = ExecutionQuery { sort: ExecutionSort::Oldest, limit: 1000, ..ExecutionQuery::default() };
        self.runtime.block_on(self.store.list_executions(&query)).unwrap().items
    }

    fn statuses(&self) -> Vec<Status> {
        self.executions().iter().map(|e| e.status).collect()
    }

    fn run(&self, scheduler: &Scheduler, name: &str, options: RunOptions) -> Execution {
        self.runtime.block_on(scheduler.jobs().run(&JobId::of_static(name), options)).unwrap()
    }
}

/// What is told, as it is told.
fn recorder() -> (Arc<Mutex<Vec<Event>>>, impl Fn(&Event) + Send + Sync + 'static) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&seen);
    (seen, move |event: &Event| heard.lock().unwrap().push(event.clone()))
}

async fn forever(_: Context) {
    std::future::pending::<()>().await;
}

/// Waits to be asked to stop.
async fn until_asked(ctx: Context) -> Result<Outcome, HandlerError> {
    ctx.cancelled().await;
    Err(HandlerError::new("asked to stop"))
}

#[test]
fn a_panic_is_a_failure_of_its_execution_and_of_nothing_else() {
    let bench = Bench::new();
    let scheduler = bench.start(1, |s| {
        s.job(every("late", HOUR).run(|ctx: Context| async move {
            ctx.sleep(SECOND).await;
            assert!(ctx.is_cancelled(), "on the way");
        }))
        .job(every("early", HOUR).run(|_: Context| {
            assert_eq!(1 + 1, 3, "at once");
            async {}
        }))
    });
    bench.advance(HOUR + 2 * SECOND);
    let all = bench.executions();
    assert_eq!(all.len(), 4);
    for execution in all {
        let error = execution.error.unwrap();
        assert_eq!((execution.status, error.kind.as_str()), (Status::Failed, "panic"));
        let expected = if execution.job_name == "late" { "on the way" } else { "at once" };
        assert!(error.message.contains(expected), "{}", error.message);
    }
    assert_eq!(scheduler.n_running(), 0);
}

#[test]
fn one_that_ends_after_its_time_has_timed_out_with_what_it_did() {
    let bench = Bench::new();
    let _scheduler = bench.start(1, |s| {
        s.job(every("slow", HOUR).timeout(10 * SECOND).run(|ctx: Context| async move {
            ctx.cancelled().await;
            "half of it"
        }))
    });
    bench.advance(10 * SECOND);
    let execution = bench.executions().remove(0);
    assert_eq!((execution.status, execution.duration), (Status::Timeout, Some(10 * SECOND)));
    assert_eq!(execution.error.unwrap().kind, "timeout");
    assert_eq!(execution.result.unwrap().message, "half of it");
}

#[test]
fn what_runs_and_what_waits_can_be_called_off() {
    let bench = Bench::new();
    let scheduler =
        bench.start(1, |s| s.job(on_demand("job").run(until_asked)).job(on_demand("deaf").run(forever)));
    let running = bench.run(&scheduler, "job", RunOptions::default());
    let pending = bench.run(
        &scheduler,
        "job",
        RunOptions { at: Some(START.saturating_add(HOUR)), ..Default::default() },
    );
    let deaf = bench.run(&scheduler, "deaf", RunOptions::default());
    bench.advance(SECOND);
    assert_eq!(scheduler.n_running(), 2);
    let cancel =
        |execution: &Execution| bench.runtime.block_on(scheduler.cancel(&execution.id, "ann")).unwrap();
    assert_eq!(cancel(&running), CancelOutcome::Requested);
    assert_eq!(cancel(&pending), CancelOutcome::Cancelled);
    assert_eq!(cancel(&deaf), CancelOutcome::Requested);
    bench.advance(10 * SECOND);
    assert_eq!(bench.statuses(), [Status::Cancelled; 3]);
    assert_eq!(cancel(&running), CancelOutcome::Ended(Status::Cancelled));
}

#[test]
fn one_that_another_node_calls_off_stops_at_the_next_heartbeat() {
    let bench = Bench::new();
    let scheduler = bench.start(1, |s| s.job(on_demand("job").run(until_asked)));
    let running = bench.run(&scheduler, "job", RunOptions::default());
    bench.advance(SECOND);
    let outcome = bench.runtime.block_on(bench.store.cancel(&running.id, "ann")).unwrap();
    assert_eq!(outcome, CancelOutcome::Requested);
    bench.advance(5 * SECOND);
    assert_eq!(bench.statuses(), [Status::Cancelled]);
}

/// A handler that begins nothing while it is stuck, and counts what it begins.
#[derive(Clone, Default)]
struct Sticky(Arc<(AtomicBool, AtomicU32)>);

impl Sticky {
    fn stick(&self, stuck: bool) {
        self.0.0.store(stuck, Ordering::Relaxed);
    }

    fn n(&self) -> u32 {
        self.0.1.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Handler for Sticky {
    async fn run(&self, _: Context) -> Result<Outcome, HandlerError> {
        self.0.1.fetch_add(1, Ordering::Relaxed);
        Ok(().into())
    }

    fn is_ready(&self) -> bool {
        !self.0.0.load(Ordering::Relaxed)
    }
}

#[test]
fn what_is_due_is_left_to_others_while_a_handler_is_not_ready() {
    let bench = Bench::new();
    let (sticky, free, other) = (Sticky::default(), Sticky::default(), Sticky::default());
    let first = bench.start(1, |s| {
        s.job(every("tick", SECOND).run(sticky.clone())).job(every("other", SECOND).run(other.clone()))
    });
    sticky.stick(true);
    bench.advance(3 * SECOND);
    assert_eq!((sticky.n(), other.n()), (1, 4), "only what is stuck waits");
    let second = bench.start(2, |s| s.job(every("tick", SECOND).run(free.clone())));
    bench.advance(3 * SECOND);
    assert_eq!(sticky.n(), 1);
    assert!(free.n() >= 3, "{}", free.n());
    bench.runtime.block_on(second.stop());
    sticky.stick(false);
    first.look();
    bench.advance(SECOND);
    assert!(sticky.n() >= 2);
    bench.runtime.block_on(first.stop());
}

#[test]
fn what_a_stop_interrupts_another_node_runs_again_at_once() {
    let bench = Bench::new();
    let first = bench.start(1, |s| {
        s.job(every("job", HOUR).retry(Retry::times(2, HOUR)).run(until_asked))
            .job(every("deaf", HOUR).retry(Retry::times(2, HOUR)).run(forever))
    });
    assert_eq!(first.n_running(), 2);
    let began = bench.clock.steady();
    bench.runtime.block_on(first.stop());
    assert!(bench.clock.steady().saturating_sub(began) <= 10 * SECOND);
    let kinds: Vec<_> =
        bench.executions().iter().map(|e| (e.status, e.reason.clone().unwrap_or_default())).collect();
    let interrupted = (Status::Failed, "interrupted".to_owned());
    let waits = (Status::Pending, String::new());
    assert_eq!(kinds.iter().filter(|k| **k == interrupted).count(), 2, "{kinds:?}");
    assert_eq!(kinds.iter().filter(|k| **k == waits).count(), 2, "{kinds:?}");
    let second = bench.start(2, |s| {
        s.job(every("job", HOUR).retry(Retry::times(2, HOUR)).run(|_| async {}))
            .job(every("deaf", HOUR).retry(Retry::times(2, HOUR)).run(|_| async {}))
    });
    let again: Vec<_> = bench.executions().into_iter().filter(|e| e.attempt == 2).collect();
    assert!(again.iter().all(|e| (e.status, e.retries, e.crashes) == (Status::Success, 0, 0)), "{again:#?}");
    assert_eq!(again.len(), 2);
    bench.runtime.block_on(second.stop());
}

#[test]
fn stopping_returns_without_a_store_that_answers() {
    for fault in [Fault::Hangs, Fault::Away] {
        let bench = Bench::new();
        let scheduler = bench.start(1, |s| s.job(every("job", SECOND).run(until_asked)));
        bench.advance(SECOND);
        bench.store.fail("*", fault, usize::MAX);
        let began = bench.clock.steady();
        bench.runtime.block_on(scheduler.stop());
        let took = bench.clock.steady().saturating_sub(began);
        assert!(took <= 25 * SECOND, "{fault:?}: {took:?}");
        bench.store.heal();
        assert_eq!(bench.statuses()[0], Status::Running, "for another node to reap");
    }
}

#[test]
fn a_store_that_is_away_is_told_once_and_so_is_its_return() {
    let bench = Bench::new();
    let (seen, listener) = recorder();
    let scheduler = bench.start(1, |s| s.job(every("job", SECOND).run(|_| async {})).listener(listener));
    bench.advance(2 * SECOND);
    bench.store.fail("*", Fault::Away, usize::MAX);
    bench.advance(20 * SECOND);
    let report = bench.runtime.block_on(scheduler.status());
    assert_eq!(report.scheduler.status, crate::status::Activity::Degraded);
    assert!(report.scheduler.trouble.unwrap().contains("the store is away"));
    bench.store.heal();
    // Waits between calls are parts of milliseconds, the store's clock whole ones.
    bench.advance(20 * SECOND + Duration::from_millis(1));
    let told: Vec<_> = seen
        .lock()
        .unwrap()
        .iter()
        .filter_map(|event| match event {
            Event::Degraded { .. } => Some("degraded"),
            Event::Recovered => Some("recovered"),
            _ => None,
        })
        .collect();
    assert_eq!(told, ["degraded", "recovered"]);
    let ran: u64 = bench.executions().iter().map(|e| e.n_occurrences).sum();
    assert_eq!(ran, 43, "everything is accounted for");
}

#[test]
fn a_call_without_an_answer_fails_in_time_and_is_made_again() {
    let bench = Bench::new();
    let _scheduler = bench.start(1, |s| s.job(every("job", HOUR).run(|_| async {})));
    bench.advance(Duration::from_secs(3599));
    bench.store.fail("claim", Fault::Hangs, 1);
    bench.advance(Duration::from_millis(10_999));
    assert_eq!(bench.statuses().len(), 1);
    bench.advance(SECOND);
    assert_eq!(bench.statuses(), [Status::Success; 2]);
}

#[test]
fn a_claim_whose_reply_is_lost_is_found_and_run_once() {
    let bench = Bench::new();
    let work = Sticky::default();
    let _scheduler = bench.start(1, |s| s.job(every("job", HOUR).run(work.clone())));
    assert_eq!(work.n(), 1);
    bench.advance(Duration::from_secs(3599));
    bench.store.fail("claim", Fault::LosesReply, 1);
    bench.advance(SECOND);
    // Nor does the heartbeat of that instant: what it counts may be on its way here.
    assert_eq!((bench.statuses()[1], work.n()), (Status::Running, 1), "nobody runs it");
    bench.advance(SECOND);
    assert_eq!(bench.statuses(), [Status::Success; 2]);
    assert_eq!(work.n(), 2);
}

/// A network that repeats a join ends the epoch, and nobody tells the node.
fn join_again(bench: &Bench) {
    let node = bench.runtime.block_on(bench.store.list_nodes()).unwrap().remove(0);
    let request = JoinRequest { id: node.id, ttl: 15 * SECOND, info: node.info };
    bench.runtime.block_on(bench.store.join(request)).unwrap();
}

#[test]
fn what_was_refused_is_not_started_again_before_the_node_knows_that_it_is_dead() {
    let bench = Bench::new();
    let work = Sticky::default();
    let scheduler = bench.start(1, |s| s.job(on_demand("job").run(work.clone())));
    bench.store.fail("complete", Fault::Away, 1);
    bench.run(&scheduler, "job", RunOptions::default());
    bench.advance(Duration::ZERO);
    join_again(&bench);
    bench.store.fail("heartbeat", Fault::Away, usize::MAX);
    bench.advance(SECOND);
    bench.store.fail("claim", Fault::Away, 1);
    scheduler.look();
    bench.advance(2 * SECOND);
    assert_eq!((work.n(), bench.statuses()), (1, vec![Status::Running]));
    bench.store.heal();
    bench.advance(HOUR);
    assert_eq!((work.n(), bench.statuses()), (1, vec![Status::Lost]));
}

#[test]
fn a_node_whose_end_is_refused_asks_at_once_whether_it_is_alive() {
    let bench = Bench::new();
    let (seen, hear) = recorder();
    let work = |ctx: Context| async move { ctx.sleep(SECOND).await };
    let scheduler = bench.start(1, |s| s.listener(hear).job(on_demand("job").run(work)));
    bench.run(&scheduler, "job", RunOptions::default());
    bench.advance(SECOND / 2);
    join_again(&bench);
    bench.advance(SECOND / 2);
    assert!(seen.lock().unwrap().iter().any(|event| matches!(event, Event::LeaseLost { .. })));
}

#[test]
fn an_end_whose_reply_is_lost_is_written_once_with_its_retry() {
    let bench = Bench::new();
    let fails = |_: Context| async { Err::<(), _>(HandlerError::new("no")) };
    bench.store.fail("complete", Fault::LosesReply, 3);
    let _scheduler =
        bench.start(1, |s| s.job(every("job", HOUR).retry(Retry::times(1, 60 * SECOND)).run(fails)));
    bench.advance(120 * SECOND);
    let attempts: Vec<_> = bench.executions().iter().map(|e| (e.attempt, e.status)).collect();
    assert_eq!(attempts, [(1, Status::Failed), (2, Status::Failed)]);
}

#[test]
fn an_end_that_the_store_can_not_take_is_written_without_what_it_can_not() {
    let bench = Bench::new();
    bench.store.fail("complete", Fault::Refuses, 2);
    let _scheduler = bench.start(1, |s| s.job(every("job", HOUR).run(|_| async { "a lot" })));
    bench.advance(SECOND);
    let execution = bench.executions().remove(0);
    assert_eq!(execution.status, Status::Success);
    let message = execution.result.unwrap().message;
    assert!(message.contains("more than the store can take"), "{message}");
}

#[test]
fn what_a_running_one_logs_can_be_read_before_it_ends_and_no_line_comes_twice() {
    let bench = Bench::new();
    let scheduler = bench.start(1, |s| {
        s.job(every("job", HOUR).run(|ctx: Context| async move {
            ctx.info("first");
            ctx.progress(1, Some(2), "half");
            ctx.sleep(10 * SECOND).await;
            ctx.warn("second");
            ctx.sleep(10 * SECOND).await;
            ctx.error("third");
        }))
    });
    let id = bench.executions()[0].id;
    let lines = || {
        let logs = bench.runtime.block_on(scheduler.logs(&id)).unwrap();
        logs.into_iter().map(|line| line.message).collect::<Vec<_>>()
    };
    bench.advance(2 * SECOND);
    assert_eq!(lines(), ["first"]);
    assert_eq!(bench.executions()[0].progress.as_ref().unwrap().done, 1);
    bench.store.fail("report", Fault::LosesReply, 1);
    bench.advance(15 * SECOND);
    assert_eq!(lines(), ["first", "second"]);
    bench.advance(5 * SECOND);
    assert_eq!(lines(), ["first", "second", "third"]);
    assert_eq!(bench.statuses(), [Status::Success]);
}

#[test]
fn a_handler_may_ask_to_be_run_again_later() {
    let bench = Bench::new();
    let _scheduler = bench.start(1, |s| {
        s.job(every("job", HOUR).run(|ctx: Context| async move {
            if ctx.attempt() == 1 { Err(HandlerError::retry_after(90 * SECOND, "busy")) } else { Ok(()) }
        }))
    });
    bench.advance(89 * SECOND);
    assert_eq!(bench.statuses(), [Status::Failed, Status::Pending]);
    bench.advance(SECOND);
    let all = bench.executions();
    assert_eq!(
        (all[1].status, all[1].started_at),
        (Status::Success, Some(START.saturating_add(90 * SECOND)))
    );
}

#[test]
fn a_listener_that_panics_hears_what_comes_next() {
    let bench = Bench::new();
    let n = Arc::new(AtomicU32::new(0));
    let heard = Arc::clone(&n);
    let _scheduler = bench.start(1, |s| {
        s.job(every("job", SECOND).run(|_| async {})).listener(move |event: &Event| {
            if matches!(event, Event::ExecutionEnded { .. }) {
                assert!(heard.fetch_add(1, Ordering::Relaxed) > 9, "not yet");
            }
        })
    });
    bench.advance(4 * SECOND);
    assert_eq!(n.load(Ordering::Relaxed), 5);
    assert_eq!(bench.statuses(), [Status::Success; 5]);
}

#[test]
fn an_end_tells_whom_its_job_wanted_to_be_told() {
    let bench = Bench::new();
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    let _scheduler = bench.start(1, |s| {
        s.job(every("job", HOUR).run(|_| async {})).listener(move |event: &Event| {
            if let Event::ExecutionEnded { notify, .. } = event {
                heard.lock().unwrap().push(notify.clone());
            }
        })
    });
    bench.advance(SECOND);
    assert_eq!(*told.lock().unwrap(), [Some(crate::policy::Notifications::default())]);
}

#[test]
fn a_scheduler_outside_a_runtime_says_so() {
    let mut start = std::pin::pin!(Scheduler::builder(MemoryStore::new()).start());
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(Err(error)) = start.as_mut().poll(&mut cx) else {
        panic!("it starts");
    };
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(error.to_string().contains("tokio"), "{error}");
}

#[test]
fn a_scheduler_starts_without_a_store_and_stores_its_jobs_when_it_can() {
    let bench = Bench::new();
    bench.store.fail("*", Fault::Away, usize::MAX);
    let scheduler = bench.start(1, |s| s.job(every("job", HOUR).run(|_| async {})));
    bench.advance(20 * SECOND);
    assert_eq!(scheduler.node(), None);
    bench.store.heal();
    bench.advance(10 * SECOND);
    assert!(scheduler.node().is_some());
    assert_eq!(bench.statuses(), [Status::Success]);
}

#[test]
fn a_node_that_has_left_does_not_come_back_by_a_heartbeat_that_was_on_its_way() {
    let bench = Bench::new();
    let scheduler = bench.start(1, |s| s.lease(2 * SECOND).job(every("job", HOUR).run(|_| async {})));
    // It has left, and does not know yet, when its last heartbeat is refused.
    bench.store.fail("leave", Fault::NeverReplies, 1);
    bench.runtime.block_on(scheduler.stop());
    let nodes = bench.runtime.block_on(bench.store.list_nodes()).unwrap();
    assert!(nodes.len() == 1 && nodes[0].dead, "{nodes:?}");
}

#[test]
fn a_node_that_was_away_too_long_drops_what_it_ran_and_joins_again() {
    let bench = Bench::new();
    let (seen, listener) = recorder();
    let first = bench.start(1, |s| s.job(every("job", HOUR).run(until_asked)).listener(listener));
    let before = first.node().unwrap();
    let other = bench.start(2, |s| s.node_name("other"));
    bench.advance(20 * SECOND);
    // Its lease is taken from it, as if it had been asleep.
    bench.runtime.block_on(bench.store.leave(&before)).unwrap();
    bench.advance(30 * SECOND);
    let after = first.node().unwrap();
    assert!(after.epoch > before.epoch && after.id == before.id);
    assert_eq!(bench.executions()[0].status, Status::Lost);
    let seen = seen.lock().unwrap();
    assert!(seen.iter().any(|e| matches!(e, Event::LeaseLost { .. })));
    assert!(seen.iter().any(|e| matches!(e, Event::ExecutionRefused { .. })));
    bench.runtime.block_on(other.stop());
}
