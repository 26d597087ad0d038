//! A store, its proxies, and schedulers on it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use unified_scheduler::store::{CreateJobs, CreateOutcome};
use unified_scheduler::{Event, Options, Scheduler, Store, Timestamp, connect};
use unified_scheduler_services::Server;
use unified_scheduler_tests::jobs;
use unified_scheduler_tests::random::Random;

use super::QUICKER;
use super::work::{Effect, Work};
use crate::Failure;
use crate::health::Member;
use crate::proxy::{Mode, Proxy};
use crate::skew::SkewedClock;
use crate::tally::Tally;
use crate::targets::Target;
use crate::way::Way;

/// How many nodes there are.
pub const N_NODES: usize = 4;
/// How many jobs.
pub const N_JOBS: u64 = 60;
/// How long a node is believed alive.
pub const LEASE: Duration = Duration::from_secs(2);
/// How long to ask a store that does not answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// How far the clock of a node may be wrong.
pub const SKEW_MILLIS: u64 = 300_000;

/// One run.
pub struct Cluster {
    /// What it runs on.
    pub target: Target,
    /// The store, past all proxies.
    pub store: Arc<dyn Store>,
    seed: u64,
    server: Mutex<Option<Server>>,
    urls: Vec<String>,
    proxies: Vec<Arc<Vec<Proxy>>>,
    /// Where the server is reached past all proxies.
    pub(super) direct: String,
    pub(super) addresses: Vec<SocketAddr>,
    stormy: AtomicBool,
    stopped: AtomicBool,
    inner: Mutex<Inner>,
    _folder: TempDir,
}

struct Inner {
    random: Random,
    tally: Tally,
    slots: Vec<Slot>,
    effects: Vec<Effect>,
    wrong: Vec<String>,
    crashed_at: Option<Instant>,
}

/// A place for a node.
#[derive(Default)]
struct Slot {
    node: Option<Node>,
    /// Whether one is on its way.
    starting: bool,
    n_started: u64,
    n_disturbed: u64,
}

/// One start of one node.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) scheduler: Scheduler,
    pub(super) clock: SkewedClock,
}

impl Cluster {
    /// Starts the server and its proxies, makes the jobs, and starts the nodes.
    ///
    /// # Errors
    ///
    /// When something of that does not work.
    pub async fn open(target: Target, seed: u64) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("unified-scheduler-simulation-").tempdir()?;
        let way = Way::open(target, folder.path(), N_NODES, seed).await?;
        let store = connect(&way.direct).await?;
        let now = store.now().await?;
        let made = (0..N_JOBS).map(|n| jobs::quicker(&jobs::job(seed, n, N_JOBS, now), QUICKER, now));
        let request = CreateJobs { jobs: made.collect(), unique_names: true, actor: "simulation".to_owned() };
        store.put_calendar(&jobs::calendar(&mut Random::of(seed, "calendar", 0))).await?;
        if let CreateOutcome::Refused(conflicts) = store.create_jobs(request).await? {
            return Err(format!("the jobs could not be made: {conflicts:?}").into());
        }
        let inner = Inner {
            random: Random::of(seed, "cluster", 0),
            tally: Tally::default(),
            slots: (0..N_NODES).map(|_| Slot::default()).collect(),
            effects: Vec::new(),
            wrong: Vec::new(),
            crashed_at: None,
        };
        Ok(Self {
            target,
            store,
            seed,
            addresses: way.server.as_ref().map(Server::addresses).unwrap_or_default(),
            server: Mutex::new(way.server),
            urls: way.urls,
            proxies: way.proxies,
            direct: way.direct,
            stormy: AtomicBool::new(true),
            stopped: AtomicBool::new(false),
            inner: Mutex::new(inner),
            _folder: folder,
        })
    }

    /// Starts a node in a slot, unless there is one, and tries until the store lets it.
    pub(super) async fn start(self: Arc<Self>, slot: usize) {
        let n_started = {
            let mut inner = self.lock();
            let place = &mut inner.slots[slot];
            if place.node.is_some() || place.starting {
                return;
            }
            place.starting = true;
            place.n_started += 1;
            place.n_started
        };
        let node = self.try_start(slot, n_started).await;
        let mut inner = self.lock();
        let place = &mut inner.slots[slot];
        (place.node, place.starting) = (node, false);
    }

    async fn try_start(self: &Arc<Self>, slot: usize, n_started: u64) -> Option<Node> {
        let store = loop {
            match connect(&self.urls[slot]).await {
                Ok(store) => break store,
                Err(error) if error.is_retryable() => {
                    self.count("starts without a store");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(error) => {
                    self.wrong(format!("a node could not reach its store: {error}"));
                    return None;
                }
            }
        };
        let skew = if self.is_stormy() { self.draw(|r| r.around_zero(SKEW_MILLIS)) } else { 0 };
        let clock = SkewedClock::ahead_by(skew);
        let mut builder = Scheduler::over(store).options(self.options(slot, n_started)).clock(clock.clone());
        for name in jobs::HANDLERS {
            builder = builder.handler(name, Work::new(Arc::clone(self)));
        }
        let cluster = Arc::downgrade(self);
        let builder = builder.listener(move |event: &Event| {
            let what = match event {
                Event::Degraded { .. } => "times degraded",
                Event::LeaseLost { .. } => "leases lost",
                Event::ExecutionRefused { .. } => "ends refused",
                Event::NodeDied { .. } => "nodes found dead",
                Event::JobSetAside { .. } => "jobs set aside",
                _ => return,
            };
            if let Some(cluster) = cluster.upgrade() {
                cluster.count(what);
            }
        });
        match builder.start().await {
            Ok(scheduler) => Some(Node { scheduler, clock }),
            Err(error) => {
                self.wrong(format!("a scheduler could not start: {error}"));
                None
            }
        }
    }

    fn options(&self, slot: usize, n_started: u64) -> Options {
        let mut random = Random::of(self.seed, "options", slot as u64);
        let size = |n: u64| usize::try_from(n).unwrap_or(1);
        Options {
            node_name: format!("node{slot}-{n_started}"),
            concurrency: size(random.within(30..100)),
            lease: LEASE,
            poll: Duration::from_millis(500),
            claim_batch: size(random.within(1..30)),
            record_batch: size(random.within(1..30)),
            cancel_grace: Duration::from_millis(300),
            stop_grace: Duration::from_secs(1),
            call_timeout: Duration::from_secs(1),
            report_every: Duration::from_millis(200),
            ..Options::default()
        }
    }

    /// Ends a node at once, and starts another one after a while.
    pub(super) fn crash(self: &Arc<Self>, slot: usize, wait: Duration) {
        if let Some(node) = self.take(slot) {
            node.scheduler.kill();
        }
        let cluster = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            cluster.start(slot).await;
        });
    }

    /// Stops a node in an orderly way, and starts another one.
    pub(super) fn restart(self: &Arc<Self>, slot: usize, grace: Duration) {
        let Some(node) = self.take(slot) else { return };
        let cluster = Arc::clone(self);
        tokio::spawn(async move {
            node.scheduler.stop_within(grace).await;
            // Fails where the way to the store is out of order.
            let _ = tokio::time::timeout(LEASE, node.scheduler.store().close()).await;
            cluster.start(slot).await;
        });
    }

    fn take(&self, slot: usize) -> Option<Node> {
        self.lock().slots[slot].node.take()
    }

    /// Stops every node for good.
    pub(super) async fn stop(&self) {
        for slot in 0..N_NODES {
            if let Some(node) = self.take(slot) {
                node.scheduler.stop().await;
            }
        }
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Who is there, or should be.
    pub(super) fn members(&self) -> Vec<Member> {
        let inner = self.lock();
        let identity = |slot: &Slot| {
            let node = slot.node.as_ref()?.scheduler.node()?;
            Some((node.id, node.epoch))
        };
        inner.slots.iter().enumerate().map(|(n, slot)| (format!("node{n}"), identity(slot))).collect()
    }

    /// Every node that runs, with its slot.
    pub(super) fn nodes(&self) -> Vec<(usize, Node)> {
        let inner = self.lock();
        inner.slots.iter().enumerate().filter_map(|(n, slot)| Some((n, slot.node.clone()?))).collect()
    }

    /// Does this to the way of one node, in place of what was done to it before; which time this is.
    pub(super) fn disturb(&self, slot: usize, mode: Mode) -> u64 {
        Way::set(&self.proxies, slot, mode);
        let mut inner = self.lock();
        inner.slots[slot].n_disturbed += 1;
        inner.slots[slot].n_disturbed
    }

    /// Sets a way right, unless something else was done to it meanwhile.
    pub(super) fn end_disturbance(&self, slot: usize, which: u64) {
        if self.lock().slots[slot].n_disturbed == which {
            Way::set(&self.proxies, slot, Mode::Pass);
        }
    }

    /// Cuts the connections of one node.
    pub(super) fn cut(&self, slot: usize) {
        self.proxies.get(slot).into_iter().flat_map(|way| way.iter()).for_each(Proxy::cut);
    }

    /// Ends the server in one way or another, and brings it back after a while.
    pub(super) fn away(
        &self,
        end: impl FnOnce(&mut Server) -> Result<(), unified_scheduler_services::Failure>,
        wait: Duration,
    ) -> Result<(), Failure> {
        tokio::task::block_in_place(|| {
            let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(server) = server.as_mut() else { return Ok(()) };
            self.lock().crashed_at = Some(Instant::now());
            end(server)?;
            std::thread::sleep(wait);
            Ok(server.restart()?)
        })
    }

    /// When the server last went away.
    pub(super) fn crashed_at(&self) -> Option<Instant> {
        self.lock().crashed_at
    }

    /// Asks the store past all proxies; again, where the answer is one that may pass.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub(super) async fn ask<T, F>(&self, question: impl Fn(Arc<dyn Store>) -> F) -> Result<T, Failure>
    where
        F: Future<Output = unified_scheduler::Result<T>>,
    {
        let began = Instant::now();
        loop {
            match question(Arc::clone(&self.store)).await {
                Err(error) if error.is_retryable() && began.elapsed() < PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                done => return Ok(done?),
            }
        }
    }

    /// The store's clock.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub(super) async fn now(&self) -> Result<Timestamp, Failure> {
        self.ask(|store| async move { store.now().await }).await
    }

    /// Whether faults are drawn, and people edit.
    pub(super) fn is_stormy(&self) -> bool {
        self.stormy.load(Ordering::Relaxed)
    }

    /// No more faults.
    pub(super) fn calm_down(&self) {
        self.stormy.store(false, Ordering::Relaxed);
    }

    /// Whether every node has stopped for good.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    pub(super) fn draw<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
        draw(&mut self.lock().random)
    }

    pub(super) fn count(&self, what: &'static str) {
        self.lock().tally.count(what);
    }

    pub(super) fn wrong(&self, text: String) {
        self.lock().wrong.push(text);
    }

    pub(super) fn note(&self, effect: Effect) {
        self.lock().effects.push(effect);
    }

    pub(super) fn effects(&self) -> Vec<Effect> {
        self.lock().effects.clone()
    }

    pub(super) fn found(&self) -> Vec<String> {
        self.lock().wrong.clone()
    }

    pub(super) fn tally(&self) -> Tally {
        self.lock().tally.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
