//! A queue between the engine and Python: calls go one way, many at a time, answers the other.
//!
//! A scheduler has two lanes. The *loop* lane holds what runs on the event loop: coroutines, checks of
//! parameters, events for listeners. It wakes the loop by a byte on a socket pair, at most one per batch,
//! so that no thread of the engine ever waits for the interpreter's lock. The *thread* lane holds plain
//! functions; a Python thread waits in [`Lane::wait`] and hands them to its pool.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use tokio::runtime::Handle;
use unified_scheduler::JobId;

use crate::answer::seconds;
use crate::call::Call;
use crate::check::Check;
use crate::context::Context;

/// How many events may wait for a loop that does not take them; then the oldest are lost.
const EVENTS: usize = 8192;

/// After how long without a sign of life somebody who works is asked for one, before more is given to them.
const QUIET: Duration = Duration::from_millis(20);

/// What one call of [`Lane::drain`] gives: calls, keys of calls to cancel, checks, events, and whether
/// there is more.
type Batch = (Vec<Py<Context>>, Vec<u64>, Vec<Py<Check>>, Vec<String>, bool);

pub(crate) struct Queue {
    state: Mutex<State>,
    bell: Condvar,
    wire: Option<wire::Wire>,
    next_key: AtomicU64,
    /// Whether somebody takes what is in here.
    served: AtomicBool,
    /// How many calls the engine waits for.
    n_open: AtomicUsize,
    /// What to do when the other side gives a sign of life that it was waited for.
    on_life: OnceLock<Box<dyn Fn() + Send + Sync>>,
    runtime: OnceLock<Handle>,
}

#[derive(Default)]
struct State {
    calls: VecDeque<Arc<Call>>,
    cancels: Vec<u64>,
    checks: Vec<Check>,
    events: VecDeque<String>,
    n_lost: u64,
    /// Whether the other side has been woken and has not yet taken everything.
    rung: bool,
    /// When it was woken, or last took something.
    last: Option<Instant>,
    /// Whether somebody waits for a sign of life.
    awaited: bool,
    closed: bool,
    /// Calls whose end is recorded and whose code still runs, by job.
    abandoned: HashMap<JobId, u32>,
}

impl Queue {
    fn new(wired: bool) -> Self {
        Self {
            state: Mutex::default(),
            bell: Condvar::new(),
            wire: wired.then(wire::Wire::new).flatten(),
            next_key: AtomicU64::new(1),
            served: AtomicBool::new(false),
            n_open: AtomicUsize::new(0),
            on_life: OnceLock::new(),
            runtime: OnceLock::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is in the queue, and wakes the other side if it has to look.
    fn put(&self, change: impl FnOnce(&mut State)) {
        let ring = {
            let mut state = self.lock();
            change(&mut state);
            state.ring()
        };
        if ring {
            self.ring();
        }
    }

    fn ring(&self) {
        self.bell.notify_all();
        if let Some(wire) = &self.wire {
            wire.ring();
        }
    }

    pub(crate) fn next_key(&self) -> u64 {
        self.next_key.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(crate) fn is_served(&self) -> bool {
        self.served.load(Ordering::Acquire)
    }

    /// The engine begins to wait for a call, or has ceased to.
    pub(crate) fn opened(&self) {
        self.n_open.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn closed_one(&self) {
        self.n_open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Calls this when the other side answers after [`Queue::is_lively`] had to say no.
    pub(crate) fn on_life(&self, look: impl Fn() + Send + Sync + 'static) {
        let _ = self.on_life.set(Box::new(look));
    }

    /// Whether the other side would take a call at once. When it works and has been quiet for a while, it
    /// may be stuck in what it does: then it is asked, and the answer is no until it has shown itself.
    pub(crate) fn is_lively(&self) -> bool {
        let ring = {
            let mut state = self.lock();
            let quiet = state.last.is_some_and(|last| last.elapsed() >= QUIET);
            if !quiet || (!state.rung && self.n_open.load(Ordering::Relaxed) == 0) {
                return true;
            }
            state.awaited = true;
            state.ring()
        };
        if ring {
            self.ring();
        }
        false
    }

    /// The runtime that calls came from.
    pub(crate) fn runtime(&self) -> Option<&Handle> {
        self.runtime.get()
    }

    pub(crate) fn push(&self, call: Arc<Call>) {
        if self.runtime.get().is_none() {
            let _ = self.runtime.set(Handle::current());
        }
        self.put(|state| state.calls.push_back(call));
    }

    pub(crate) fn push_cancel(&self, key: u64) {
        self.put(|state| state.cancels.push(key));
    }

    pub(crate) fn push_check(&self, check: Check) {
        self.put(|state| state.checks.push(check));
    }

    pub(crate) fn push_event(&self, event: String) {
        self.put(|state| {
            if state.events.len() >= EVENTS {
                state.events.pop_front();
                state.n_lost += 1;
            }
            state.events.push_back(event);
        });
    }

    /// How many calls of a job still run although their end is recorded.
    pub(crate) fn n_abandoned(&self, job: &JobId) -> u32 {
        let state = self.lock();
        if state.abandoned.is_empty() { 0 } else { state.abandoned.get(job).copied().unwrap_or(0) }
    }

    /// A call that runs is waited for no more. The other side looks: its pool may need another thread.
    pub(crate) fn abandon(&self, job: &JobId) {
        self.put(|state| *state.abandoned.entry(job.clone()).or_default() += 1);
    }

    /// An abandoned call has ended.
    pub(crate) fn forget(&self, job: &JobId) {
        let mut state = self.lock();
        if let Some(n) = state.abandoned.get_mut(job) {
            *n -= 1;
            if *n == 0 {
                state.abandoned.remove(job);
            }
        }
    }
}

impl State {
    /// Notes that the other side is being woken; `false` when it has been already.
    fn ring(&mut self) -> bool {
        let first = !std::mem::replace(&mut self.rung, true);
        if first {
            self.last = Some(Instant::now());
        }
        first
    }
}

/// A lane, as Python holds it.
#[pyclass(frozen, module = "unified_scheduler_engine._engine")]
pub(crate) struct Lane(pub(crate) Arc<Queue>);

impl Lane {
    pub(crate) fn new(wired: bool) -> Self {
        Self(Arc::new(Queue::new(wired)))
    }
}

#[pymethods]
impl Lane {
    /// A file descriptor that is readable when there is something to drain; `None` where there is none.
    fn fileno(&self) -> Option<i32> {
        self.0.wire.as_ref().map(wire::Wire::fileno)
    }

    /// Waits until there is something to drain, at most so many seconds; whether there is.
    fn wait(&self, py: Python<'_>, timeout: f64) -> bool {
        let timeout = seconds(timeout).unwrap_or(Duration::from_secs(3600));
        py.detach(|| {
            let state = self.0.lock();
            let (state, _) = self
                .0
                .bell
                .wait_timeout_while(state, timeout, |state| !state.rung && !state.closed)
                .unwrap_or_else(PoisonError::into_inner);
            state.rung || state.closed
        })
    }

    /// Takes what is there, at most `n` calls: calls, keys of calls to cancel, checks, events, and whether
    /// there is more. As long as there is, the lane does not wake anybody again.
    fn drain(&self, py: Python<'_>, n: usize) -> PyResult<Batch> {
        if let Some(wire) = &self.0.wire {
            wire.hear();
        }
        let (calls, cancels, checks, events, more, awaited) = {
            let mut state = self.0.lock();
            state.last = Some(Instant::now());
            let n = n.min(state.calls.len());
            let calls: Vec<Arc<Call>> = state.calls.drain(..n).collect();
            let more = !state.calls.is_empty();
            state.rung = more;
            (
                calls,
                std::mem::take(&mut state.cancels),
                std::mem::take(&mut state.checks),
                Vec::from(std::mem::take(&mut state.events)),
                more,
                std::mem::take(&mut state.awaited),
            )
        };
        if awaited && let Some(look) = self.0.on_life.get() {
            look();
        }
        let calls = calls
            .into_iter()
            .filter(|call| call.begin())
            .map(|call| Py::new(py, Context::new(call)))
            .collect::<PyResult<_>>()?;
        let checks = checks.into_iter().map(|check| Py::new(py, check)).collect::<PyResult<_>>()?;
        Ok((calls, cancels, checks, events, more))
    }

    /// How many calls still run although their end is recorded.
    #[getter]
    fn n_abandoned(&self) -> u32 {
        self.0.lock().abandoned.values().sum()
    }

    /// How many calls wait to be drained.
    #[getter]
    fn n_waiting(&self) -> usize {
        self.0.lock().calls.len()
    }

    /// How many events were lost because nobody took them.
    #[getter]
    fn n_lost_events(&self) -> u64 {
        self.0.lock().n_lost
    }

    /// Whether it has been closed.
    #[getter]
    fn closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Says whether somebody takes what is in here.
    fn set_served(&self, served: bool) {
        self.0.served.store(served, Ordering::Release);
    }

    /// Takes no more calls, and answers the ones that wait as interrupted.
    fn close(&self) {
        self.0.served.store(false, Ordering::Release);
        let waiting = {
            let mut state = self.0.lock();
            state.closed = true;
            std::mem::take(&mut state.calls)
        };
        for call in waiting {
            call.interrupt();
        }
        self.0.ring();
    }

    /// Takes calls again.
    fn reopen(&self) {
        self.0.lock().closed = false;
    }
}

#[cfg(unix)]
mod wire {
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    /// A socket pair: a byte in it means that there is something to take.
    pub(super) struct Wire {
        ear: UnixStream,
        bell: UnixStream,
    }

    impl Wire {
        /// None when the system gives no sockets; a thread waits then.
        pub(super) fn new() -> Option<Self> {
            let (ear, bell) = UnixStream::pair().ok()?;
            ear.set_nonblocking(true).ok()?;
            bell.set_nonblocking(true).ok()?;
            Some(Self { ear, bell })
        }

        pub(super) fn fileno(&self) -> i32 {
            self.ear.as_raw_fd()
        }

        pub(super) fn ring(&self) {
            // A full pipe rings as well.
            let _ = (&self.bell).write(&[1]);
        }

        pub(super) fn hear(&self) {
            // One read takes them all; what comes after it rings anew.
            let _ = (&self.ear).read(&mut [0; 64]);
        }
    }
}

#[cfg(not(unix))]
mod wire {
    /// Event loops elsewhere watch no file descriptors; a thread waits in their place.
    pub(super) struct Wire;

    impl Wire {
        pub(super) fn new() -> Option<Self> {
            None
        }

        pub(super) fn fileno(&self) -> i32 {
            -1
        }

        pub(super) fn ring(&self) {}

        pub(super) fn hear(&self) {}
    }
}
