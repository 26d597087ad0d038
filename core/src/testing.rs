//! What users need to test their jobs: a scheduler whose time is moved by hand.
//!
//! [`TestScheduler`] is a whole scheduler over a [`MemoryStore`], on one thread, on a [`ManualClock`]. A
//! day passes in milliseconds, and each run of the same test is the same.
//!
//! # When time passes
//!
//! Time stands still as long as anything can go on without it. Only when every task waits does the clock
//! move: to the next instant for which something sleeps, at most to the goal, and so on. So a job due
//! every second fires 3,600 times in an hour, each time at its exact instant.
//!
//! A plain function in [`crate::handler::blocking`] is waited for: the clock stands still while it works.
//! An async handler that waits for something real (a socket, a thread of its own) can't be told from one
//! that waits for the clock: time passes while it waits, and its timeout may end it. Let such handlers
//! wait with [`crate::Context::sleep`] in tests, or do what is real in `blocking`.
//!
//! The hook is tokio's `on_thread_park`: it is called when no task is ready, and what it wakes runs in
//! place of the thread's sleep.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::builder::SchedulerBuilder;
use crate::clock::{Clock, ManualClock};
use crate::error::{Error, Result};
use crate::execution::Execution;
use crate::id::IdSource;
use crate::scheduler::Scheduler;
use crate::store::{ExecutionQuery, ExecutionSort, MemoryStore, Store};
use crate::time::Timestamp;

/// How many executions are read at once.
const PAGE: usize = 1000;

/// A runtime of one thread whose tasks wait on a [`ManualClock`], which moves when all of them wait.
///
/// [`TestScheduler`] has one; on its own it drives several schedulers that share a clock.
#[derive(Debug)]
pub struct ManualRuntime {
    runtime: Runtime,
    clock: ManualClock,
    goal: Arc<Mutex<Goal>>,
}

/// How far the clock may move, and who waits for it to get there.
#[derive(Debug, Default)]
struct Goal {
    until: Option<Duration>,
    reached: bool,
    waiting: Option<Waker>,
}

impl ManualRuntime {
    /// A runtime that moves `clock`.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::Internal`] when the system gives no runtime.
    pub fn new(clock: ManualClock) -> Result<Self> {
        let goal = Arc::<Mutex<Goal>>::default();
        let park = {
            let (clock, goal) = (clock.clone(), Arc::clone(&goal));
            move || move_on(&clock, &goal)
        };
        let runtime = Builder::new_current_thread()
            .enable_all()
            .on_thread_park(park)
            .build()
            .map_err(|e| Error::internal("no runtime for the test").caused_by(e))?;
        Ok(Self { runtime, clock, goal })
    }

    /// The clock.
    pub fn clock(&self) -> &ManualClock {
        &self.clock
    }

    /// Runs `future` to its end. Time passes while it and everything else waits for it.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        lock(&self.goal).until = Some(Duration::MAX);
        let _goal = Reset(&self.goal);
        self.runtime.block_on(future)
    }

    /// Moves the clock by `duration`, from one sleeper to the next, and lets everything run at each
    /// instant. Zero lets everything run that can without time.
    pub fn advance(&self, duration: Duration) {
        *lock(&self.goal) =
            Goal { until: Some(self.clock.steady().saturating_add(duration)), ..Goal::default() };
        let _goal = Reset(&self.goal);
        self.runtime.block_on(poll_fn(|cx| {
            let mut goal = lock(&self.goal);
            if goal.reached {
                return Poll::Ready(());
            }
            goal.waiting = Some(cx.waker().clone());
            Poll::Pending
        }));
    }

    /// Lets `start` spawn tasks on the runtime, without running them.
    pub fn enter<T>(&self, start: impl FnOnce() -> T) -> T {
        let _guard = self.runtime.enter();
        start()
    }
}

/// Takes the goal back, so that the clock stands still between two calls, even after a panic.
struct Reset<'a>(&'a Mutex<Goal>);

impl Drop for Reset<'_> {
    fn drop(&mut self) {
        *lock(self.0) = Goal::default();
    }
}

fn lock(goal: &Mutex<Goal>) -> MutexGuard<'_, Goal> {
    goal.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Called when no task is ready: moves the clock to the next sleeper, or to the goal.
fn move_on(clock: &ManualClock, goal: &Mutex<Goal>) {
    let until = {
        let goal = lock(goal);
        match goal.until {
            Some(until) if !goal.reached && clock.n_outside() == 0 => until,
            _ => return,
        }
    };
    let left = until.saturating_sub(clock.steady());
    match clock.until_next_sleeper() {
        Some(wait) if wait <= left => clock.advance(wait),
        // Nobody sleeps, and there is no goal to reach: something real is being waited for.
        _ if until == Duration::MAX => {}
        _ => {
            clock.advance(left);
            let waiting = {
                let mut goal = lock(goal);
                goal.reached = true;
                goal.waiting.take()
            };
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

/// A scheduler whose time is moved by hand. Plain calls, for a plain `#[test]`.
///
/// ```
/// use std::time::Duration;
/// use unified_scheduler_core::{Context, TestScheduler, cron};
///
/// let test = TestScheduler::at("2026-03-28T00:00:00Z")
///     .with(|scheduler| {
///         scheduler.job(
///             cron("backup", "30 2 * * *").timezone("Europe/Berlin").run(|ctx: Context| async move {
///                 ctx.sleep(Duration::from_secs(90)).await;
///             }),
///         )
///     });
/// test.advance(Duration::from_secs(3 * 86_400));
/// let due: Vec<String> = test.executions_of("backup").iter().map(|e| e.due_at.to_string()).collect();
/// // 02:30 does not exist on the night of the 29th: it runs at the same instant, an hour later by the clock.
/// assert_eq!(
///     due,
///     ["2026-03-28T01:30:00.000Z", "2026-03-29T01:30:00.000Z", "2026-03-30T00:30:00.000Z"],
/// );
/// ```
#[derive(Debug)]
pub struct TestScheduler {
    scheduler: Scheduler,
    store: MemoryStore,
    runtime: ManualRuntime,
}

/// A [`TestScheduler`] to be; see [`TestScheduler::at`].
#[derive(Debug)]
#[must_use = "nothing runs before `with`"]
pub struct TestSetup {
    now: Timestamp,
    seed: u64,
}

impl TestSetup {
    /// Another seed for ids and random numbers, in place of 0.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Starts a scheduler with the jobs and settings that `setup` adds. The clock, the store and the
    /// source of ids are the test's own.
    ///
    /// # Panics
    ///
    /// When the scheduler can't start: a job that is not valid, for one.
    #[expect(clippy::panic, reason = "in a test a panic is how it fails")]
    pub fn with(self, setup: impl FnOnce(SchedulerBuilder) -> SchedulerBuilder) -> TestScheduler {
        self.try_with(setup).unwrap_or_else(|error| panic!("the scheduler can't start: {error}"))
    }

    /// The same, for a test of what can't start.
    ///
    /// # Errors
    ///
    /// As [`SchedulerBuilder::start`].
    pub fn try_with(self, setup: impl FnOnce(SchedulerBuilder) -> SchedulerBuilder) -> Result<TestScheduler> {
        let clock = ManualClock::at(self.now);
        let store = MemoryStore::with_clock(Arc::new(clock.clone()));
        let runtime = ManualRuntime::new(clock.clone())?;
        let builder = Scheduler::builder(store.handle()).node_name("test");
        let builder = setup(builder).clock(clock).ids(IdSource::seeded(self.seed));
        let scheduler = runtime.block_on(builder.start())?;
        let test = TestScheduler { scheduler, store, runtime };
        test.run_until_idle();
        Ok(test)
    }
}

impl TestScheduler {
    /// A test that begins at `now`, an RFC 3339 instant such as `2026-03-29T00:00:00Z`.
    ///
    /// # Panics
    ///
    /// When `now` is no instant.
    #[expect(clippy::panic, reason = "in a test a panic is how it fails")]
    pub fn at(now: &str) -> TestSetup {
        let now = now.parse().unwrap_or_else(|error| panic!("{error}"));
        TestSetup { now, seed: 0 }
    }

    /// What time it is.
    pub fn now(&self) -> Timestamp {
        self.runtime.clock.now()
    }

    /// Moves the clock by `duration`, with everything that is due on the way, each at its instant.
    pub fn advance(&self, duration: Duration) {
        self.runtime.advance(duration);
    }

    /// The same up to `until`; nothing when that has passed.
    pub fn advance_to(&self, until: Timestamp) {
        self.advance(until.since(self.now()));
    }

    /// Moves the clock in one step, with nothing running on the way: the machine slept. Then lets
    /// everything run that is ready.
    pub fn jump(&self, duration: Duration) {
        self.runtime.clock.advance(duration);
        self.run_until_idle();
    }

    /// Lets everything run that can without time.
    pub fn run_until_idle(&self) {
        self.advance(Duration::ZERO);
    }

    /// Runs `future` to its end; time passes if it has to wait.
    ///
    /// ```
    /// use unified_scheduler_core::{HandlerError, RunOptions, TestScheduler, on_demand};
    ///
    /// let test = TestScheduler::at("2026-01-01T00:00:00Z")
    ///     .with(|scheduler| scheduler.job(on_demand("report").run(|_ctx| async { Ok::<_, HandlerError>("sent") })));
    /// let jobs = test.scheduler().jobs();
    /// test.block_on(async {
    ///     let job = jobs.find("report").await?;
    ///     jobs.run(&job.id, RunOptions::default()).await
    /// })?;
    /// test.run_until_idle();
    /// assert_eq!(test.executions()[0].result.as_ref().unwrap().message, "sent");
    /// # Ok::<(), unified_scheduler_core::Error>(())
    /// ```
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// The scheduler.
    pub fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    /// The store.
    pub fn store(&self) -> &MemoryStore {
        &self.store
    }

    /// All executions, the oldest first.
    pub fn executions(&self) -> Vec<Execution> {
        let mut all: Vec<Execution> = Vec::new();
        loop {
            let query = ExecutionQuery {
                sort: ExecutionSort::Oldest,
                after: all.last().map(|e| e.id),
                limit: PAGE,
                ..ExecutionQuery::default()
            };
            // The store is in memory and open: it has an answer.
            let Some(Ok(page)) = now_or_never(self.store.list_executions(&query)) else { return all };
            let done = page.items.len() < PAGE;
            all.extend(page.items);
            if done {
                return all;
            }
        }
    }

    /// The executions of the job of this name, the oldest first.
    pub fn executions_of(&self, name: &str) -> Vec<Execution> {
        let mut all = self.executions();
        all.retain(|e| e.job_name == name);
        all
    }
}

fn now_or_never<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut std::task::Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Context;
    use crate::execution::Status;
    use crate::handler::{HandlerError, blocking};
    use crate::policy::{ChainOn, Misfire, Overlap, Retry};
    use crate::static_job::{every, on_demand};

    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3600);

    fn newyear() -> TestSetup {
        TestScheduler::at("2026-01-01T00:00:00Z")
    }

    fn statuses(executions: &[Execution]) -> Vec<Status> {
        executions.iter().map(|e| e.status).collect()
    }

    /// Seconds from the first due time to each start.
    fn starts(executions: &[Execution]) -> Vec<i64> {
        let first = executions[0].due_at.as_millis();
        executions.iter().filter_map(|e| e.started_at).map(|t| (t.as_millis() - first) / 1000).collect()
    }

    #[test]
    fn a_job_due_every_second_fires_at_each_second_of_an_hour() {
        let test = newyear().with(|s| s.job(every("tick", SECOND).run(|_| async {})));
        test.advance(HOUR - SECOND);
        let all = test.executions();
        assert_eq!(all.len(), 3600);
        for (i, e) in (0..).zip(&all) {
            let due = Timestamp::from_secs(1_767_225_600 + i);
            assert_eq!(
                (e.due_at, e.started_at, e.ended_at, e.status),
                (due, Some(due), Some(due), Status::Success)
            );
        }
    }

    #[test]
    fn a_retry_waits_as_its_policy_says() {
        let retry = Retry::times(3, 10 * SECOND).exponential(HOUR);
        let test = newyear().with(|s| {
            s.job(every("flaky", HOUR).retry(retry).run(|ctx: Context| async move {
                if ctx.attempt() < 4 { Err(HandlerError::new("not yet")) } else { Ok(()) }
            }))
        });
        test.advance(10 * MINUTE);
        let all = test.executions();
        assert_eq!(starts(&all), [0, 10, 30, 70]);
        assert_eq!(statuses(&all), [Status::Failed, Status::Failed, Status::Failed, Status::Success]);
    }

    #[test]
    fn what_is_due_while_it_runs_is_skipped_or_waits() {
        let long = |name: &str, overlap| {
            every(name, MINUTE).overlap(overlap).run(|ctx: Context| async move {
                ctx.sleep(150 * SECOND).await;
            })
        };
        let test =
            newyear().with(|s| s.job(long("skips", Overlap::Skip)).job(long("queues", Overlap::QueueOne)));
        test.advance(4 * MINUTE);
        let (skips, queues) = (test.executions_of("skips"), test.executions_of("queues"));
        use Status::{Running, Skipped, Success};
        assert_eq!(statuses(&skips), [Success, Skipped, Skipped, Running, Skipped]);
        assert_eq!(starts(&skips), [0, 180]);
        assert_eq!(statuses(&queues)[..3], [Success, Running, Skipped]);
        assert_eq!(starts(&queues), [0, 150]);
    }

    #[test]
    fn a_handler_that_sleeps_too_long_times_out() {
        let test = newyear().with(|s| {
            let job = on_demand("slow").timeout(30 * SECOND);
            s.job(job.run(|ctx: Context| async move { ctx.sleep(HOUR).await }))
        });
        let jobs = test.scheduler().jobs();
        test.block_on(jobs.run(&crate::JobId::of_static("slow"), crate::RunOptions::default())).unwrap();
        test.advance(MINUTE);
        let all = test.executions();
        assert_eq!(statuses(&all), [Status::Timeout]);
        // Half a minute, and the grace for handlers that were asked to stop.
        assert_eq!(all[0].duration, Some(35 * SECOND));
    }

    #[test]
    fn a_chain_finds_the_result_before_it() {
        let test = newyear().with(|s| {
            s.job(
                every("first", HOUR)
                    .then(ChainOn::Success, "static:second")
                    .run(|_| async { Ok::<_, HandlerError>("41") }),
            )
            .job(on_demand("second").run(|ctx: Context| async move {
                let parent = ctx.parent().await?.and_then(|e| e.result);
                Ok::<_, HandlerError>(parent.map_or_else(String::new, |r| r.message + "+1"))
            }))
        });
        test.run_until_idle();
        assert_eq!(test.executions_of("second")[0].result.as_ref().unwrap().message, "41+1");
    }

    #[test]
    fn what_a_sleeping_machine_missed_is_caught_up_as_its_policy_says() {
        let job = |name: &str, misfire| every(name, HOUR).misfire(misfire).run(|_| async {});
        let test = newyear().with(|s| {
            s.job(job("once", Misfire::RunOnce))
                .job(job("all", Misfire::RunAll { limit: 3 }))
                .job(job("none", Misfire::Skip { grace: MINUTE }))
        });
        test.jump(10 * HOUR + 30 * MINUTE);
        // The overdue sleepers wake, and some calls later all is caught up.
        test.advance(MINUTE);
        let ran = |name: &str| {
            let all = test.executions_of(name);
            let ran = all[1..].iter().filter(|e| e.status == Status::Success);
            ran.map(|e| e.n_occurrences).collect::<Vec<_>>()
        };
        assert_eq!(ran("once"), [10]);
        assert_eq!(ran("all"), [1, 1, 1]);
        assert!(ran("none").is_empty());
    }

    #[test]
    fn a_job_pauses_itself_after_failures_in_a_row() {
        let test = newyear().with(|s| {
            let job = every("bad", MINUTE).pause_after_failures(3);
            s.job(job.run(|_| async { Err::<(), _>(HandlerError::new("no")) }))
        });
        test.advance(HOUR);
        assert_eq!(statuses(&test.executions()), [Status::Failed; 3]);
        let job = test.block_on(test.scheduler().jobs().find("bad")).unwrap();
        assert!(!job.enabled);
    }

    #[test]
    fn the_clock_stands_still_while_a_blocking_handler_works() {
        let test = newyear().with(|s| {
            let work = |_: Context| (0..2_000_000_u64).fold(0, u64::wrapping_add).to_string();
            s.job(
                every("busy", MINUTE)
                    .timeout(SECOND)
                    .run(blocking(move |ctx| Ok::<_, HandlerError>(work(ctx)))),
            )
        });
        test.advance(5 * MINUTE);
        let all = test.executions();
        assert_eq!(statuses(&all), [Status::Success; 6]);
        assert!(all.iter().all(|e| e.duration == Some(Duration::ZERO)));
    }

    #[test]
    fn stopping_lets_what_runs_end() {
        let test = newyear().with(|s| {
            s.job(every("slow", HOUR).run(|ctx: Context| async move { ctx.sleep(5 * SECOND).await }))
        });
        test.block_on(test.scheduler().stop());
        assert_eq!(statuses(&test.executions()), [Status::Success]);
        assert_eq!(test.now(), "2026-01-01T00:00:05Z".parse().unwrap());
    }

    #[test]
    fn what_can_not_start_says_why() {
        let error =
            newyear().try_with(|s| s.job(crate::cron("bad", "61 * * * *").run(|_| async {}))).unwrap_err();
        assert!(error.to_string().contains("bad"), "{error}");
    }
}
