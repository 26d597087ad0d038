//! Setting up a scheduler.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::clock::{Clock, SystemClock};
use crate::engine::Engine;
use crate::engine::events::listen;
use crate::engine::options::Options;
use crate::engine::recorder::Recorder;
use crate::engine::runtimes::Runtimes;
use crate::error::Result;
use crate::event::Event;
use crate::handler::Handler;
use crate::id::{IdSource, JobId};
use crate::job::{Definition, JobDefinition};
use crate::jobs::Jobs;
use crate::registry::Registry;
use crate::scheduler::Scheduler;
use crate::secret::{EnvironmentSecrets, Secrets};
use crate::static_job::StaticJob;
use crate::store::Store;
use crate::template::Template;

type Listener = Box<dyn Fn(&Event) + Send + Sync>;

/// A scheduler to be: what it runs, and how it behaves.
#[must_use = "nothing runs before `start`"]
pub struct SchedulerBuilder {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    ids: Arc<IdSource>,
    options: Options,
    registry: Arc<Registry>,
    templates: Vec<Arc<dyn Template>>,
    secrets: Arc<dyn Secrets>,
    jobs: Vec<StaticJob>,
    listeners: Vec<Listener>,
    own_thread: bool,
}

impl SchedulerBuilder {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            clock: Arc::new(SystemClock::new()),
            ids: Arc::new(IdSource::new()),
            options: Options::default(),
            registry: Arc::new(Registry::new()),
            templates: Vec::new(),
            secrets: Arc::new(EnvironmentSecrets),
            jobs: Vec::new(),
            listeners: Vec::new(),
            own_thread: true,
        }
    }

    /// Adds a static job; see [`crate::every`], [`crate::cron`] and [`crate::once`].
    pub fn job(mut self, job: StaticJob) -> Self {
        self.jobs.push(job);
        self
    }

    /// Adds a handler that dynamic jobs can name.
    pub fn handler(self, name: impl Into<String>, handler: impl Handler) -> Self {
        self.registry.handler(name, handler);
        self
    }

    /// Adds a template.
    pub fn template(mut self, template: impl Template) -> Self {
        self.templates.push(Arc::new(template));
        self
    }

    /// Calls `listener` with every event, one after another, on the runtime of the handlers.
    pub fn listener(mut self, listener: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.listeners.push(Box::new(listener));
        self
    }

    /// Looks secrets up here, in place of environment variables.
    pub fn secrets(mut self, secrets: impl Secrets) -> Self {
        self.secrets = Arc::new(secrets);
        self
    }

    /// All settings at once.
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// How many executions this node runs at once, at most.
    pub fn concurrency(mut self, n: usize) -> Self {
        self.options.concurrency = n;
        self
    }

    /// How long this node is believed alive without a heartbeat.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.options.lease = lease;
        self
    }

    /// The first part of the node's id.
    pub fn node_name(mut self, name: impl Into<String>) -> Self {
        self.options.node_name = name.into();
        self
    }

    /// Another clock. With a manual one the loops run on the caller's runtime, not on a thread of their
    /// own, so that one thread sees everything in order.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self.own_thread = false;
        self
    }

    /// Another source of ids and random numbers: a seeded one, for a run that can be repeated.
    pub fn ids(mut self, ids: IdSource) -> Self {
        self.ids = Arc::new(ids);
        self
    }

    /// Registers and stores the static jobs, enters the node and starts. A store that can't be reached
    /// does not keep the scheduler from starting: it starts degraded, and its static jobs are stored as
    /// soon as there is an answer.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::Invalid`] for options, templates or static jobs that can't work;
    /// [`crate::ErrorKind::Internal`] outside a tokio runtime.
    pub async fn start(self) -> Result<Scheduler> {
        self.options.validate()?;
        for template in self.templates {
            self.registry.template(template)?;
        }
        let mut definitions = Vec::new();
        for job in self.jobs {
            let (definition, handler) = job.into_parts();
            Definition::new(JobId::of_static(&definition.name), definition.clone()).validate()?;
            self.registry.insert_handler(definition.handler.clone(), handler);
            definitions.push(definition);
        }
        let runtimes = if self.own_thread { Runtimes::own_thread()? } else { Runtimes::current()? };
        let (sender, receiver) = mpsc::unbounded_channel();
        let engine = Arc::new(Engine::new(
            self.store,
            self.clock,
            self.ids,
            self.options,
            self.registry,
            self.secrets,
            runtimes,
            sender,
        ));
        for listener in self.listeners {
            engine.runtimes.spawn_handler(listen(engine.events.subscribe(), listener));
        }
        let recorder = Recorder::new(Arc::clone(&engine), receiver);
        let scheduler = Scheduler::launch(Arc::clone(&engine), recorder);
        store_static_jobs(&scheduler, definitions).await?;
        Ok(scheduler)
    }
}

/// How many static jobs are stored in one call: what a slow link does well within the time a call has.
const AT_ONCE: usize = 100;

/// Stores the static jobs now, or, when the store can't be reached, as soon as it can.
async fn store_static_jobs(scheduler: &Scheduler, definitions: Vec<JobDefinition>) -> Result<()> {
    let jobs = scheduler.jobs();
    let engine = Arc::clone(scheduler.engine());
    for (i, some) in definitions.chunks(AT_ONCE).enumerate() {
        match engine.call("register static jobs", jobs.register_all(some)).await {
            Ok(()) => {}
            Err(error) if error.is_retryable() => {
                let rest = definitions[i * AT_ONCE..].to_vec();
                let again = Arc::clone(&engine);
                engine.runtimes.spawn_loop(async move { keep_trying(&again, &jobs, &rest).await });
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
    engine.wake.notify_one();
    Ok(())
}

async fn keep_trying(engine: &Engine, jobs: &Jobs, definitions: &[JobDefinition]) {
    let mut left: Vec<&[JobDefinition]> = definitions.chunks(AT_ONCE).collect();
    let mut failures = 0;
    while let Some(some) = left.pop() {
        match engine.call("register static jobs", jobs.register_all(some)).await {
            Ok(()) => failures = 0,
            Err(error) if error.is_retryable() => {
                left.push(some);
                failures += 1;
                if !engine.sleep(engine.backoff(failures)).await {
                    return;
                }
            }
            // One that can't be stored must not keep the others.
            Err(_) if some.len() > 1 => left.extend(some.chunks(1)),
            Err(error) => tracing::error!(%error, job = %some[0].name, "a static job can't be stored"),
        }
    }
    engine.wake.notify_one();
}
