//! What this node owns: executions from their claim until their end is recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Notify;

use crate::context::Context;
use crate::id::ExecutionId;
use crate::store::{Claimed, NodeRef};

/// Why an execution was asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopReason {
    /// Somebody, or an overlap policy, called it off.
    Cancelled,
    /// Its time is out.
    Timeout,
    /// The scheduler stops.
    Shutdown,
    /// The node's epoch is dead: the execution belongs to somebody else now.
    LeaseLost,
}

/// One owned execution.
pub(crate) struct Running {
    pub(crate) ctx: Context,
    pub(crate) node: NodeRef,
    stop: OnceLock<StopReason>,
}

impl Running {
    pub(crate) fn new(ctx: Context, node: NodeRef) -> Self {
        Self { ctx, node, stop: OnceLock::new() }
    }

    /// Asks it to stop; the first reason counts.
    pub(crate) fn stop(&self, reason: StopReason) {
        // An error means that it was asked before.
        let _ = self.stop.set(reason);
        self.ctx.token().cancel();
    }

    pub(crate) fn stop_reason(&self) -> Option<StopReason> {
        self.stop.get().copied()
    }

    pub(crate) fn id(&self) -> ExecutionId {
        self.ctx.execution_id()
    }
}

#[derive(Default)]
struct State {
    /// Until their end is recorded.
    all: BTreeMap<ExecutionId, Arc<Running>>,
    /// How many of them still hold a slot.
    active: usize,
    /// What was let go since the store was asked for a list: its answer may be older than that.
    released: Option<BTreeSet<ExecutionId>>,
}

/// What this node owns.
#[derive(Default)]
pub(crate) struct Owned {
    state: Mutex<State>,
    /// Rings when something was let go.
    released: Notify,
}

impl Owned {
    /// How many hold a slot.
    pub(crate) fn active(&self) -> usize {
        self.lock().active
    }

    /// How many there are, those included whose end is still to be recorded.
    pub(crate) fn len(&self) -> u64 {
        self.lock().all.len() as u64
    }

    /// The store is about to be asked what this node owns.
    pub(crate) fn begin_listing(&self) {
        self.lock().released = Some(BTreeSet::new());
    }

    /// What of the store's answer this node does not know of. What it has let go since it asked is not
    /// among it: started again, it would run twice.
    pub(crate) fn end_listing(&self, mut listed: Vec<Claimed>) -> Vec<Claimed> {
        let mut state = self.lock();
        let released = state.released.take().unwrap_or_default();
        listed.retain(|claimed| {
            let id = &claimed.execution.id;
            !state.all.contains_key(id) && !released.contains(id)
        });
        listed
    }

    /// Takes one in; `false` when it is owned already.
    pub(crate) fn insert(&self, running: Arc<Running>) -> bool {
        let mut state = self.lock();
        let is_new = state.all.insert(running.id(), running).is_none();
        state.active += usize::from(is_new);
        is_new
    }

    /// Its handler has ended: the slot is free. Answers how many were taken before.
    pub(crate) fn free_slot(&self) -> usize {
        let mut state = self.lock();
        let before = state.active;
        state.active = before.saturating_sub(1);
        before
    }

    /// Its end is recorded, or is no longer ours to record.
    pub(crate) fn release<'a>(&self, ids: impl IntoIterator<Item = &'a ExecutionId>) {
        {
            let mut state = self.lock();
            for id in ids {
                state.all.remove(id);
                if let Some(released) = &mut state.released {
                    released.insert(*id);
                }
            }
        }
        self.released.notify_waiters();
    }

    pub(crate) fn get(&self, id: &ExecutionId) -> Option<Arc<Running>> {
        self.lock().all.get(id).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Running>> {
        self.lock().all.values().cloned().collect()
    }

    /// Waits until nothing is owned.
    pub(crate) async fn empty(&self) {
        loop {
            let released = self.released.notified();
            tokio::pin!(released);
            released.as_mut().enable();
            if self.lock().all.is_empty() {
                return;
            }
            released.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
