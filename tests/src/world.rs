//! One world: nodes, chaos, edits, healing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use unified_scheduler_core::store::{CreateJobs, MemoryStore, Store};
use unified_scheduler_core::testing::ManualRuntime;
use unified_scheduler_core::{Clock, Context, IdSource, Keep, ManualClock, Options, Scheduler, Timestamp};

use crate::clock::NodeClock;
use crate::effects::{Effects, Start, Work};
use crate::faults::{CallFault, Counters, Kind};
use crate::faulty::FaultyStore;
use crate::jobs;
use crate::random::Random;
use crate::shape::{Settings, Shape};
use crate::witness::{Witness, at_once};
use crate::{chaos, verdict};

/// How many calls one instant may see before it counts as a busy loop.
const CALLS_AN_INSTANT: u64 = 5000;

/// One cluster, and everything that happens to it.
#[derive(Debug)]
pub struct World {
    /// What it was made from.
    pub shape: Shape,
    /// Of every node.
    pub settings: Settings,
    /// The true clock, which is the store's; its wall steps when the store's does.
    pub clock: ManualClock,
    /// Sees every commit.
    pub witness: Witness,
    /// Whether faults are drawn.
    faulty: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    random: Random,
    counters: Counters,
    slots: Vec<Slot>,
    effects: Effects,
    instant: (Duration, u64),
    hints: watch::Receiver<u64>,
}

/// A place for a process.
#[derive(Debug, Clone, Default)]
struct Slot {
    process: Option<Arc<Process>>,
    cut_off_until: Duration,
    restarts: u64,
}

/// One start of one node.
pub struct Process {
    /// Where it lives.
    pub world: Arc<World>,
    /// In which slot.
    pub slot: usize,
    /// What it sees of the clock.
    pub clock: NodeClock,
    /// Where its store gives hints. Each process has a channel of its own: several that wait on one are
    /// woken in an order that the runtime draws.
    pub hints: watch::Sender<u64>,
    deaf: bool,
    dead: AtomicBool,
    stopping: AtomicBool,
    stopped: AtomicBool,
    scheduler: Mutex<Option<Scheduler>>,
}

/// What came of a world.
#[derive(Debug, Clone)]
pub struct Report {
    /// What must not have happened; empty when all is well.
    pub violations: Vec<String>,
    /// How often what has happened.
    pub counters: Counters,
    /// The same for the same shape.
    pub trace: u64,
}

/// Runs a world from its beginning to its verdict.
///
/// # Panics
///
/// When the system gives no runtime.
pub fn run(shape: &Shape) -> Report {
    let mut random = Random::of(shape.seed, "world", 0);
    let beginning: Timestamp = random.pick(&jobs::BEGINNINGS).parse().unwrap_or_default();
    let clock = ManualClock::at(beginning);
    let store = MemoryStore::with_clock(Arc::new(clock.clone()));
    let inner = Inner {
        random,
        counters: Counters::default(),
        slots: vec![Slot::default(); shape.n_nodes],
        effects: Effects::new(),
        instant: (Duration::ZERO, 0),
        hints: store.hints(),
    };
    let world = Arc::new(World {
        shape: shape.clone(),
        settings: Settings::of(shape.seed),
        clock: clock.clone(),
        witness: Witness::new(store, shape.seed),
        faulty: AtomicBool::new(true),
        inner: Mutex::new(inner),
    });
    let Ok(runtime) = ManualRuntime::new(clock) else { unreachable!("a runtime of one thread") };
    runtime.block_on(world.live());
    // What still sleeps holds the world; it goes with the runtime.
    drop(runtime);
    // Processes hold the world as well, and it them.
    world.lock().slots.clear();
    let counters = world.lock().counters.clone();
    let model = world.witness.model();
    Report { violations: model.violations.clone(), counters, trace: model.trace }
}

impl World {
    async fn live(self: &Arc<Self>) {
        self.create_jobs();
        for slot in 0..self.shape.n_nodes {
            self.start(slot).await;
        }
        let end = self.clock.steady() + Duration::from_hours(self.shape.hours);
        let chaos = tokio::spawn(chaos::strike(Arc::clone(self)));
        let people = self.has(Kind::Edits).then(|| tokio::spawn(chaos::edit(Arc::clone(self))));
        while self.clock.steady() < end {
            self.clock.sleep(Duration::from_hours(2).min(end.saturating_sub(self.clock.steady()))).await;
            self.witness.sweep();
        }
        chaos.abort();
        people.iter().for_each(tokio::task::JoinHandle::abort);
        self.heal().await;
        verdict::of(self).await;
        for process in self.processes() {
            process.kill();
        }
    }

    fn create_jobs(&self) {
        let now = self.witness.now();
        let n = self.shape.n_jobs;
        let made = (0..n).map(|i| jobs::job(self.shape.seed, i, n, now)).collect();
        let request = CreateJobs { jobs: made, unique_names: true, actor: "simulation".to_owned() };
        let calendar = self.draw(jobs::calendar);
        let calendars = at_once(self.witness.store.put_calendar(&calendar));
        if self.witness.create_jobs(request).is_err() || calendars.is_err() {
            self.violate("the jobs could not be made");
        }
    }

    /// Starts a process in `slot`, if there is none.
    pub(crate) async fn start(self: &Arc<Self>, slot: usize) {
        let restarts = {
            let mut inner = self.lock();
            let Some(place) = inner.slots.get_mut(slot).filter(|s| s.process.is_none()) else { return };
            place.restarts += 1;
            place.restarts
        };
        let faulty = self.is_faulty();
        let wrong = faulty && self.has(Kind::NodeClock);
        let skew = if wrong { self.draw(|r| r.around_zero(300_000)) } else { 0 };
        let drift = if wrong { self.draw(|r| r.around_zero(500)) } else { 0 };
        let deaf = faulty && self.has(Kind::Hints) && self.draw(|r| r.in_thousand(400));
        if deaf {
            self.count("hints that never come", "start");
        }
        let process = Arc::new(Process {
            world: Arc::clone(self),
            slot,
            clock: NodeClock::new(self.clock.clone(), skew, drift),
            hints: watch::Sender::new(0),
            deaf,
            dead: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            scheduler: Mutex::new(None),
        });
        let store = Arc::new(FaultyStore::new(Arc::clone(&process)));
        let ids = IdSource::seeded(self.shape.seed ^ (slot as u64) << 32 ^ restarts << 48);
        let mut builder =
            Scheduler::over(store).options(self.options(slot)).clock(process.clock.clone()).ids(ids);
        for (i, name) in jobs::HANDLERS.into_iter().enumerate() {
            // Some nodes lack a handler; the last to be started lack none.
            if !faulty || self.draw(|r| r.in_thousand(900)) || slot == i % self.shape.n_nodes {
                builder = builder.handler(name, Work::new(Arc::clone(&process)));
            }
        }
        if let Ok(scheduler) = builder.start().await {
            *process.scheduler() = Some(scheduler);
            self.lock().slots[slot].process = Some(process);
        } else {
            self.violate("a scheduler could not start");
        }
    }

    fn options(&self, slot: usize) -> Options {
        let mut random = Random::of(self.shape.seed, "options", slot as u64);
        let size = |n: u64| usize::try_from(n).unwrap_or(1);
        Options {
            node_name: format!("node{slot}"),
            concurrency: size(random.within(2..20)),
            lease: self.settings.lease,
            poll: self.settings.poll,
            claim_batch: size(random.within(1..30)),
            record_batch: size(random.within(1..30)),
            cancel_grace: self.settings.cancel_grace,
            stop_grace: Duration::from_secs(120),
            call_timeout: self.settings.call_timeout,
            report_every: Duration::from_secs(5),
            retention: self.settings.retention,
            janitor_every: Duration::from_hours(1),
        }
    }

    /// Ends all faults, and gives everything time to recover.
    async fn heal(self: &Arc<Self>) {
        self.faulty.store(false, Ordering::Relaxed);
        for process in self.processes() {
            process.clock.heal();
        }
        let mut all = Vec::new();
        for slot in 0..self.shape.n_nodes {
            // One that stops in an orderly way just now is replaced as well.
            let stale = self.process(slot).filter(|p| p.stopping.load(Ordering::Relaxed));
            self.lock().slots[slot].cut_off_until = Duration::ZERO;
            if let Some(process) = stale {
                process.crash();
            }
            all.push(slot);
        }
        // Who was asleep until now wakes with the next instant for which it sleeps: nudge the world.
        for slot in all {
            self.start(slot).await;
        }
        self.clock.sleep(self.settings.lease * 10).await;
        self.witness.sweep();
    }

    /// Carries a call out, and passes on the hint that it gives.
    pub(crate) fn commit<T>(&self, op: &impl Fn(&Witness) -> T) -> T {
        let answer = op(&self.witness);
        let hinted = {
            let mut inner = self.lock();
            let changed = inner.hints.has_changed().unwrap_or(false);
            inner.hints.mark_unchanged();
            changed
        };
        if hinted {
            for process in self.processes().into_iter().filter(|process| !process.deaf) {
                process.hints.send_modify(|n| *n += 1);
            }
        }
        answer
    }

    /// Whether the world has this kind of fault.
    pub(crate) fn has(&self, kind: Kind) -> bool {
        self.shape.kinds.contains(&kind)
    }

    pub(crate) fn is_faulty(&self) -> bool {
        self.faulty.load(Ordering::Relaxed)
    }

    /// The fault of the next call, if it has one.
    pub(crate) fn call_fault(&self) -> Option<CallFault> {
        if !self.is_faulty() {
            return None;
        }
        let settings = &self.settings;
        let kinds: Vec<Kind> = self.shape.kinds.iter().copied().collect();
        self.draw(|r| {
            r.in_thousand(settings.rate)
                .then(|| CallFault::draw(&kinds, settings.call_timeout, settings.lease, r))
                .flatten()
        })
    }

    /// Draws from the world's own numbers.
    pub(crate) fn draw<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
        draw(&mut self.lock().random)
    }

    pub(crate) fn count(&self, what: &'static str, detail: &'static str) {
        self.lock().counters.add(what, detail);
    }

    pub(crate) fn violate(&self, text: &str) {
        let now = self.witness.now();
        self.witness.model().violate(format!("{now}: {text}"));
    }

    /// Sees to it that calls without an end at one instant are found, and that time goes on after them.
    pub(crate) async fn note_call(&self) {
        let n = {
            let mut inner = self.lock();
            let now = self.clock.steady();
            inner.instant = if inner.instant.0 == now { (now, inner.instant.1 + 1) } else { (now, 1) };
            inner.counters.add("calls", "");
            inner.instant.1
        };
        if n > CALLS_AN_INSTANT {
            self.violate("I28 a busy loop");
            self.clock.sleep(Duration::from_secs(1)).await;
        }
    }

    pub(crate) fn is_cut_off(&self, slot: usize) -> bool {
        self.lock().slots[slot].cut_off_until > self.clock.steady()
    }

    pub(crate) fn cut_off(&self, slot: usize, duration: Duration) {
        let until = self.clock.steady() + duration;
        self.lock().slots[slot].cut_off_until = until;
    }

    pub(crate) fn process(&self, slot: usize) -> Option<Arc<Process>> {
        self.lock().slots[slot].process.clone()
    }

    pub(crate) fn processes(&self) -> Vec<Arc<Process>> {
        self.lock().slots.iter().filter_map(|slot| slot.process.clone()).collect()
    }

    /// What handlers did.
    pub(crate) fn effects(&self) -> Effects {
        self.lock().effects.clone()
    }

    /// A handler has really started.
    pub(crate) fn started(&self, process: &Process, ctx: &Context) {
        let (epoch, claim) = ctx.fence();
        let start =
            Start { at: self.witness.now(), slot: process.slot, fence: (epoch.0, claim), ended_at: None };
        let id = ctx.execution_id();
        if process.stopped.load(Ordering::Relaxed) {
            self.violate(&format!("I30 {id} started on a node that had stopped"));
        }
        // What stands for a deleted job is disabled and has a fault, which no claim gives.
        if ctx.job().fault.is_some() && self.witness.job(ctx.job_id()).is_none() {
            self.violate(&format!("I18 {id} started, and its job is gone"));
        }
        let known = self.witness.model().rows.get(&id).map(|row| row.execution.clone());
        if known.is_none_or(|e| (e.epoch, e.claim) != (epoch, claim)) {
            self.violate(&format!("I7 {id} started with a fence that was not given"));
        }
        if start.at < ctx.execution().due_at && !self.has(Kind::StoreClock) {
            self.violate(&format!("I6 {id} started before it was due"));
        }
        let before = self.lock().effects.insert(id, start.clone());
        // Where no history is kept, a repeated trigger can't know that it was carried out.
        if let Some(before) = before
            && ctx.job().definition.history.keep == Keep::All
        {
            self.violate(&format!("I1 {id} started twice: {before:?}, then {start:?}"));
        }
        self.count("handlers started", "");
    }

    /// A handler has really ended.
    pub(crate) fn ended(&self, ctx: &Context) {
        let now = self.witness.now();
        if let Some(start) = self.lock().effects.get_mut(&ctx.execution_id()) {
            start.ended_at = Some(now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Process {
    pub(crate) fn scheduler(&self) -> MutexGuard<'_, Option<Scheduler>> {
        self.scheduler.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the process at once, and starts another one in its slot after a while.
    pub(crate) fn crash(self: &Arc<Self>) {
        if !self.kill() {
            return;
        }
        let world = Arc::clone(&self.world);
        let slot = self.slot;
        world.lock().slots[slot].process = None;
        let wait = if world.is_faulty() {
            world.draw(|r| r.between(Duration::from_secs(1), world.settings.lease * 3))
        } else {
            Duration::ZERO
        };
        tokio::spawn(async move {
            world.clock.sleep(wait).await;
            world.start(slot).await;
        });
    }

    /// Ends the process for good; whether it lived.
    pub(crate) fn kill(&self) -> bool {
        if self.dead.swap(true, Ordering::Relaxed) {
            return false;
        }
        let scheduler = self.scheduler().take();
        if let Some(scheduler) = scheduler {
            scheduler.kill();
        }
        true
    }

    /// Stops the process in an orderly way, and starts another one.
    pub(crate) async fn stop(self: &Arc<Self>, grace: Duration) {
        let scheduler = self.scheduler().clone();
        let Some(scheduler) = scheduler else { return };
        if self.stopping.swap(true, Ordering::Relaxed) {
            return;
        }
        scheduler.stop_within(grace).await;
        self.leaves();
        self.crash();
    }

    /// Whether it has been told to stop.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// From here on it may start nothing.
    pub(crate) fn leaves(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub(crate) fn may_claim(&self) {
        if self.is_stopping() {
            self.world.violate("I30 a node that stops asked for more");
        }
    }

    /// Never ends for a process that is dead.
    pub(crate) async fn if_alive(&self) {
        if self.dead.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process").field("slot", &self.slot).finish_non_exhaustive()
    }
}
