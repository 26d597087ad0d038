//! Where the work of an engine runs: on a runtime of its own, or, with a clock that moves by hand, on a
//! thread that stands still between two orders.

use std::future::Future;
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use unified_scheduler::{Error, Result, Scheduler, SchedulerBuilder, TestScheduler, Timestamp};

/// An order to the thread with the manual clock.
type Order = Box<dyn FnOnce(&mut Option<TestScheduler>) + Send>;

pub(crate) enum Driver {
    Real(Runtime),
    Manual(Manual),
}

/// A thread that does as it is told, and stands still between two orders.
pub(crate) struct Manual {
    orders: mpsc::Sender<Order>,
    /// The runtime of its scheduler, once there is one.
    runtime: Arc<OnceLock<Handle>>,
}

impl Driver {
    /// Threads that answer questions and hand calls over; the engine's loops have one of their own.
    pub(crate) fn real() -> Result<Self> {
        Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("unified-scheduler-io")
            .enable_all()
            .build()
            .map(Self::Real)
            .map_err(|e| Error::internal("no runtime").caused_by(e))
    }

    pub(crate) fn manual() -> Result<Self> {
        let (sender, orders) = mpsc::channel::<Order>();
        std::thread::Builder::new()
            .name("unified-scheduler-test".to_owned())
            .spawn(move || {
                let mut test = None;
                while let Ok(order) = orders.recv() {
                    order(&mut test);
                }
            })
            .map_err(|e| Error::internal("no thread").caused_by(e))?;
        Ok(Self::Manual(Manual { orders: sender, runtime: Arc::default() }))
    }

    /// Runs work that needs no time to pass. It may be asked for by a handler that an order waits for, so
    /// it does not queue behind the order.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        match self {
            Self::Real(runtime) => {
                runtime.spawn(work);
                Ok(())
            }
            Self::Manual(manual) => match manual.runtime.get() {
                Some(runtime) => {
                    runtime.spawn(work);
                    self.order(|test| test.iter().for_each(TestScheduler::run_until_idle))
                }
                None => self.spawn_through(work),
            },
        }
    }

    /// Runs work to its end, even if time must pass for it.
    pub(crate) fn spawn_through(&self, work: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        match self {
            Self::Real(runtime) => {
                runtime.spawn(work);
                Ok(())
            }
            Self::Manual(_) => self.order(move |test| match test {
                Some(test) => test.block_on(work),
                None => {
                    if let Ok(runtime) = Builder::new_current_thread().enable_all().build() {
                        runtime.block_on(work);
                    }
                }
            }),
        }
    }

    /// Runs an order where the manual clock is.
    pub(crate) fn order(
        &self,
        order: impl FnOnce(&mut Option<TestScheduler>) + Send + 'static,
    ) -> Result<()> {
        match self {
            Self::Real(_) => Err(Error::unsupported("only a scheduler for tests has a clock to move")),
            Self::Manual(manual) => manual
                .orders
                .send(Box::new(order))
                .map_err(|_| Error::internal("the thread of the test scheduler has ended")),
        }
    }

    /// Where the runtime of a test is noted once it has one.
    pub(crate) fn test_runtime(&self) -> Arc<OnceLock<Handle>> {
        match self {
            Self::Real(_) => Arc::default(),
            Self::Manual(manual) => Arc::clone(&manual.runtime),
        }
    }

    /// Ends it, waiting at most so long for what runs.
    pub(crate) fn shut_down(self, timeout: Duration) {
        match self {
            Self::Real(runtime) => runtime.shutdown_timeout(timeout),
            // The thread ends when it finds that nobody can order anything any more.
            Self::Manual(_) => {}
        }
    }

    /// Ends it without waiting.
    pub(crate) fn abandon(self) {
        if let Self::Real(runtime) = self {
            runtime.shutdown_background();
        }
    }
}

/// Starts a test: a scheduler on a store in memory and a clock of its own.
pub(crate) fn start_test(
    test: &mut Option<TestScheduler>,
    (now, seed): (Timestamp, u64),
    runtime: &OnceLock<Handle>,
    setup: impl FnOnce(SchedulerBuilder) -> SchedulerBuilder,
) -> Result<Scheduler> {
    let started = TestScheduler::at(&now.to_string()).seed(seed).try_with(setup)?;
    let scheduler = started.scheduler().clone();
    // A second start has a runtime of its own, which only orders reach.
    let _ = runtime.set(started.block_on(async { Handle::current() }));
    *test = Some(started);
    Ok(scheduler)
}
