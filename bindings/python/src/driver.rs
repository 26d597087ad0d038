//! Where the work of an engine runs: on a runtime of its own, or, with a clock that moves by hand, on a
//! thread that stands still between two orders.

use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use unified_scheduler::{Error, Result, Scheduler, SchedulerBuilder, TestScheduler, Timestamp};

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An order to the thread with the manual clock.
type Order = Box<dyn FnOnce(&mut Option<TestScheduler>) + Send>;

pub(crate) enum Driver {
    Real(Runtime),
    Manual(mpsc::Sender<Order>),
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
        Ok(Self::Manual(sender))
    }

    /// Runs work to its end, some time.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        match self {
            Self::Real(runtime) => {
                runtime.spawn(work);
                Ok(())
            }
            Self::Manual(_) => {
                let work: Work = Box::pin(work);
                self.order(move |test| match test {
                    Some(test) => test.block_on(work),
                    // Nothing to ask yet: what is asked needs no time and no other task.
                    None => {
                        if let Ok(runtime) = Builder::new_current_thread().enable_all().build() {
                            runtime.block_on(work);
                        }
                    }
                })
            }
        }
    }

    /// Runs an order where the manual clock is.
    pub(crate) fn order(&self, order: impl FnOnce(&mut Option<TestScheduler>) + Send + 'static) -> Result<()> {
        match self {
            Self::Real(_) => Err(Error::unsupported("only a scheduler for tests has a clock to move")),
            Self::Manual(orders) => orders
                .send(Box::new(order))
                .map_err(|_| Error::internal("the thread of the test scheduler has ended")),
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
    setup: impl FnOnce(SchedulerBuilder) -> SchedulerBuilder,
) -> Result<Scheduler> {
    let started = TestScheduler::at(&now.to_string()).seed(seed).try_with(setup)?;
    let scheduler = started.scheduler().clone();
    *test = Some(started);
    Ok(scheduler)
}
