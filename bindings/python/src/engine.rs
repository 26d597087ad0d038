//! The engine that Python holds: one store, what it can run, and at most one scheduler over it.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use pyo3::prelude::*;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::broadcast::error::RecvError;
use unified_scheduler::{Error, Event, Result, Scheduler, Store, TemplateMetadata, Timestamp, connect};

use crate::answer::seconds;
use crate::cast::{Cast, Part};
use crate::done::{Done, exception};
use crate::driver::{Driver, start_test};
use crate::handler::{Kind, PythonHandler, PythonTemplate};
use crate::lane::{Lane, Queue};
use crate::ops::{Hub, Op, definition};
use crate::options::Config;
use crate::owned::Owned;

/// One store, what can run on it, and at most one scheduler. Making one does nothing yet; threads begin
/// with the first question.
#[pyclass(frozen, module = "unified_scheduler_engine._engine", weakref)]
pub(crate) struct Engine {
    inner: Owned<Arc<Inner>>,
    loop_lane: Py<Lane>,
    thread_lane: Py<Lane>,
}

struct Inner {
    config: Config,
    cast: Cast,
    on_loop: Arc<Queue>,
    on_threads: Arc<Queue>,
    driver: Mutex<Driving>,
    store: tokio::sync::Mutex<Option<Arc<dyn Store>>>,
    /// Held while it starts or stops, so that a stop that overtakes a start waits for it.
    life: tokio::sync::Mutex<()>,
    scheduler: RwLock<Option<Scheduler>>,
}

enum Driving {
    NotYet,
    Now(Driver),
    Over,
}

#[pymethods]
impl Engine {
    /// An engine with these settings, as JSON.
    #[new]
    fn new(py: Python<'_>, config: &str) -> PyResult<Self> {
        let config = Config::read(config).map_err(|e| exception(py, &e))?;
        config.options().map_err(|e| exception(py, &e))?;
        let (loop_lane, thread_lane) = (Lane::new(true), Lane::new(false));
        let inner = Inner {
            config,
            cast: Cast::default(),
            on_loop: Arc::clone(&loop_lane.0),
            on_threads: Arc::clone(&thread_lane.0),
            driver: Mutex::new(Driving::NotYet),
            store: tokio::sync::Mutex::default(),
            life: tokio::sync::Mutex::default(),
            scheduler: RwLock::default(),
        };
        let inner = Arc::new(inner);
        let looking = Arc::downgrade(&inner);
        loop_lane.0.on_life(move || {
            if let Some(scheduler) = looking.upgrade().and_then(|inner| inner.scheduler()) {
                scheduler.look();
            }
        });
        Ok(Self {
            inner: Owned::new(inner),
            loop_lane: Py::new(py, loop_lane)?,
            thread_lane: Py::new(py, thread_lane)?,
        })
    }

    /// What runs on the event loop.
    #[getter]
    fn loop_lane(&self, py: Python<'_>) -> Py<Lane> {
        self.loop_lane.clone_ref(py)
    }

    /// What runs in threads.
    #[getter]
    fn thread_lane(&self, py: Python<'_>) -> Py<Lane> {
        self.thread_lane.clone_ref(py)
    }

    /// Whether a scheduler runs.
    #[getter]
    fn running(&self) -> bool {
        self.inner.is_here() && self.inner.scheduler().is_some()
    }

    /// Whether this is the process that made it.
    #[getter]
    fn is_here(&self) -> bool {
        self.inner.is_here()
    }

    /// How many executions run on this node.
    #[getter]
    fn n_running(&self) -> usize {
        self.here().ok().and_then(|inner| inner.scheduler()).map_or(0, |s| s.n_running())
    }

    /// This node's id, while it is a member.
    #[getter]
    fn node(&self) -> Option<String> {
        self.here().ok()?.scheduler()?.node().map(|node| node.id.to_string())
    }

    /// Registers a function under a name: `target` comes back with each call, which `kind` says where to
    /// run: `loop`, `thread` or `process`.
    fn set_handler(&self, py: Python<'_>, name: &str, target: Py<PyAny>, kind: &str) -> PyResult<()> {
        let work = || {
            let inner = self.here()?;
            let handler = inner.handler(target, kind)?;
            inner.cast.add(name, Part::Handler(handler), inner.registry().as_deref())
        };
        work().map_err(|e| exception(py, &e))
    }

    /// Registers a template: its metadata is JSON. With `checks`, its parameters come to the loop lane to
    /// be checked, whenever somebody serves it.
    fn set_template(
        &self,
        py: Python<'_>,
        metadata: &str,
        target: Py<PyAny>,
        kind: &str,
        checks: bool,
    ) -> PyResult<()> {
        let work = || {
            let inner = self.here()?;
            let metadata: TemplateMetadata = serde_json::from_str(metadata)
                .map_err(|e| Error::invalid(format!("the template's metadata can't be read: {e}")))?;
            let name = metadata.template_type.clone();
            let handler = inner.handler(target, kind)?;
            let checks = checks.then(|| Arc::clone(&inner.on_loop));
            let template = PythonTemplate { metadata, handler, checks };
            inner.cast.add(&name, Part::Template(Box::new(template)), inner.registry().as_deref())
        };
        work().map_err(|e| exception(py, &e))
    }

    /// Removes a handler or template.
    fn remove_handler(&self, py: Python<'_>, name: &str) -> PyResult<bool> {
        let inner = self.here().map_err(|e| exception(py, &e))?;
        Ok(inner.cast.remove(name, inner.registry().as_deref()))
    }

    /// Adds a static job, as JSON, to be stored at the start. Its function is registered as `static:NAME`.
    fn add_static(&self, py: Python<'_>, job: &str) -> PyResult<()> {
        let work = || {
            self.here()?.cast.add_static(definition(job)?);
            Ok(())
        };
        work().map_err(|e| exception(py, &e))
    }

    /// Stores a static job now, in a scheduler that runs.
    fn register(&self, py: Python<'_>, job: &str, done: Py<PyAny>) -> PyResult<()> {
        let job = definition(job).map_err(|e| exception(py, &e))?;
        self.spawn(py, done, move |inner| async move {
            let Some(scheduler) = inner.scheduler() else { return Err(Error::stopped("no scheduler runs")) };
            inner.cast.add_static(job.clone());
            let Some(job) = inner.cast.static_job(job) else {
                return Err(Error::internal("the job's function is not registered"));
            };
            scheduler.register(job).await.map(Value::from)
        })
    }

    /// Starts a scheduler, in which everything that was registered is entered.
    fn start(&self, py: Python<'_>, done: Py<PyAny>) -> PyResult<()> {
        let work = || {
            let inner = self.here()?;
            let Some(now) = inner.config.manual_from else { return Ok(None) };
            Ok(Some((Arc::clone(inner), now, inner.config.seed)))
        };
        let Some((inner, now, seed)) = work().map_err(|e| exception(py, &e))? else {
            return self.spawn(py, done, |inner| async move { inner.start().await.map(Value::from) });
        };
        let done = Done::new(done);
        let order = move |driver: &Driver| {
            let here = Arc::clone(&inner);
            let runtime = driver.test_runtime();
            driver.order(move |test| done.tell(here.start_test(test, (now, seed), &runtime).map(Value::from)))
        };
        py.detach(|| self.here()?.drive(order)).map_err(|e| exception(py, &e))
    }

    /// Stops the scheduler: what runs may end within `grace` seconds. With `close`, the store is closed too.
    fn stop(&self, py: Python<'_>, grace: f64, close: bool, done: Py<PyAny>) -> PyResult<()> {
        let done = Done::new(done);
        let work = || {
            let inner = Arc::clone(self.here()?);
            let stopping = inner.clone().stop(seconds(grace).unwrap_or_default(), close);
            inner.drive(move |driver| driver.spawn_through(done.after(stopping)))
        };
        py.detach(work).map_err(|e| exception(py, &e))
    }

    /// Ends the scheduler at once, as a crash would.
    fn kill(&self) {
        if let Ok(inner) = self.here()
            && let Some(scheduler) = inner.scheduler.write().unwrap_or_else(PoisonError::into_inner).take()
        {
            scheduler.kill();
        }
    }

    /// Puts a question or order, as JSON, to the scheduler, or to the store when none runs.
    fn ask(&self, py: Python<'_>, op: &str, done: Py<PyAny>) -> PyResult<()> {
        let op = Op::read(op).map_err(|e| exception(py, &e))?;
        self.spawn(py, done, move |inner| async move { op.answer(&inner.hub().await?).await })
    }

    /// Sends events to the loop lane, as JSON, from now on until the scheduler stops. Those of executions
    /// only when wanted, since there may be many.
    fn subscribe(&self, py: Python<'_>, executions: bool) -> PyResult<()> {
        let work = || {
            let inner = self.here()?;
            let Some(scheduler) = inner.scheduler() else { return Err(Error::stopped("no scheduler runs")) };
            let mut events = scheduler.events();
            let queue = Arc::clone(&inner.on_loop);
            drop(scheduler);
            inner.drive(move |driver| {
                let listening = async move {
                    loop {
                        match events.recv().await {
                            Ok(event) => {
                                let last = matches!(event, Event::Stopped);
                                if executions || !is_of_execution(&event) {
                                    queue.push_event(serde_json::to_string(&event).unwrap_or_default());
                                }
                                if last {
                                    return;
                                }
                            }
                            Err(RecvError::Lagged(_)) => {}
                            Err(RecvError::Closed) => return,
                        }
                    }
                };
                driver.spawn(listening)
            })
        };
        work().map_err(|e| exception(py, &e))
    }

    /// Moves a manual clock by so many seconds, with everything that is due on the way. With `jump`, in one
    /// step, as if the machine had slept. The answer is what time it is then.
    fn advance(&self, py: Python<'_>, duration: f64, jump: bool, done: Py<PyAny>) -> PyResult<()> {
        let done = Done::new(done);
        let work = || {
            self.here()?.drive(move |driver| {
                driver.order(move |test| {
                    let Some(test) = test else { return done.tell(Err(Error::stopped("it does not run"))) };
                    let duration = seconds(duration).unwrap_or_default();
                    if jump {
                        test.jump(duration);
                    } else {
                        test.advance(duration);
                    }
                    done.tell(Ok(Value::String(test.now().to_string())));
                })
            })
        };
        work().map_err(|e| exception(py, &e))
    }

    /// Ends all threads, waiting at most so many seconds for what runs. Nothing can be asked after it.
    fn shut_down(&self, py: Python<'_>, timeout: f64) {
        let Ok(inner) = self.here() else { return };
        py.detach(|| {
            self.kill();
            let driver = std::mem::replace(&mut *inner.driving(), Driving::Over);
            if let Driving::Now(driver) = driver {
                driver.shut_down(seconds(timeout).unwrap_or(Duration::from_secs(1)));
            }
        });
    }
}

impl Engine {
    fn here(&self) -> Result<&Arc<Inner>> {
        if self.inner.is_here() {
            return Ok(&self.inner);
        }
        Err(Error::stopped(format!(
            "this scheduler belongs to process {}, of which this is a fork; make a new one here",
            self.inner.process()
        )))
    }

    fn spawn<F>(
        &self,
        py: Python<'_>,
        done: Py<PyAny>,
        work: impl FnOnce(Arc<Inner>) -> F + Send + 'static,
    ) -> PyResult<()>
    where
        F: Future<Output = Result<Value>> + Send + 'static,
    {
        let done = Done::new(done);
        let spawned = py.detach(|| {
            let inner = self.here()?;
            let mine = Arc::clone(inner);
            inner.drive(move |driver| driver.spawn(done.after(work(mine))))
        });
        spawned.map_err(|e| exception(py, &e))
    }
}

impl Inner {
    fn driving(&self) -> std::sync::MutexGuard<'_, Driving> {
        self.driver.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Uses the driver, which is made when it is needed first.
    fn drive<T>(&self, work: impl FnOnce(&Driver) -> Result<T>) -> Result<T> {
        let mut driving = self.driving();
        if matches!(*driving, Driving::NotYet) {
            let manual = self.config.manual_from.is_some();
            *driving = Driving::Now(if manual { Driver::manual()? } else { Driver::real()? });
        }
        match &*driving {
            Driving::Now(driver) => work(driver),
            _ => Err(Error::stopped("the interpreter is ending")),
        }
    }

    fn scheduler(&self) -> Option<Scheduler> {
        self.scheduler.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn registry(&self) -> Option<Arc<unified_scheduler::Registry>> {
        self.scheduler().map(|scheduler| Arc::clone(scheduler.registry()))
    }

    fn handler(&self, target: Py<PyAny>, kind: &str) -> Result<PythonHandler> {
        let kind = Kind::read(kind).ok_or_else(|| Error::invalid(format!("no kind `{kind}`")))?;
        let queue = if kind == Kind::Loop { &self.on_loop } else { &self.on_threads };
        Ok(PythonHandler {
            queue: Arc::clone(queue),
            target: Arc::new(target),
            kind,
            manual_clock: self.config.manual_from.is_some(),
        })
    }

    async fn store(&self) -> Result<Arc<dyn Store>> {
        let mut store = self.store.lock().await;
        if let Some(store) = &*store {
            return Ok(Arc::clone(store));
        }
        let opened = connect(&self.config.url).await?;
        *store = Some(Arc::clone(&opened));
        Ok(opened)
    }

    async fn hub(&self) -> Result<Hub> {
        if let Some(scheduler) = self.scheduler() {
            let registry = Arc::clone(scheduler.registry());
            return Ok(Hub { store: Arc::clone(scheduler.store()), registry, scheduler: Some(scheduler) });
        }
        Ok(Hub { store: self.store().await?, registry: Arc::clone(self.cast.registry()), scheduler: None })
    }

    async fn start(&self) -> Result<()> {
        let _life = self.life.lock().await;
        if self.scheduler().is_some() {
            return Err(Error::conflict("it is running already"));
        }
        let builder = Scheduler::over(self.store().await?).options(self.config.options()?);
        self.has_started(self.cast.enter(builder).start().await?)
    }

    fn start_test(
        &self,
        test: &mut Option<unified_scheduler::TestScheduler>,
        from: (Timestamp, u64),
        runtime: &OnceLock<Handle>,
    ) -> Result<()> {
        let options = self.config.options()?;
        let scheduler = start_test(test, from, runtime, |builder| self.cast.enter(builder.options(options)))?;
        self.has_started(scheduler)
    }

    async fn stop(self: Arc<Self>, grace: Duration, close: bool) -> Result<Value> {
        let _life = self.life.lock().await;
        if let Some(scheduler) = self.scheduler() {
            scheduler.stop_within(grace).await;
        }
        *self.scheduler.write().unwrap_or_else(PoisonError::into_inner) = None;
        if close && let Some(store) = self.store.lock().await.take() {
            store.close().await?;
        }
        Ok(Value::Null)
    }

    fn has_started(&self, scheduler: Scheduler) -> Result<()> {
        let registry = Arc::clone(scheduler.registry());
        *self.scheduler.write().unwrap_or_else(PoisonError::into_inner) = Some(scheduler);
        self.cast.enter_again(&registry)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Waiting is not allowed where this may be: on a thread of the very runtime.
        if let Driving::Now(driver) = std::mem::replace(&mut *self.driving(), Driving::Over) {
            driver.abandon();
        }
    }
}

fn is_of_execution(event: &Event) -> bool {
    matches!(
        event,
        Event::ExecutionStarted { .. }
            | Event::OccurrenceRecorded { .. }
            | Event::ExecutionEnded { .. }
            | Event::ExecutionRefused { .. }
    )
}
