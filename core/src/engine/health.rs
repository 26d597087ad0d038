//! Whether the store can be reached, as the engine's own calls find it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Engine;
use crate::error::Error;
use crate::event::Event;
use crate::time::Timestamp;

/// The books on the store.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<State>);

#[derive(Debug, Default, Clone)]
struct State {
    degraded: Option<Trouble>,
    last_claim_at: Option<Timestamp>,
}

/// Since when the store can't be reached, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) since: Timestamp,
    pub(crate) reason: String,
}

impl Health {
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        self.lock().degraded.clone()
    }

    pub(crate) fn last_claim_at(&self) -> Option<Timestamp> {
        self.lock().last_claim_at
    }

    pub(crate) fn claimed(&self, now: Timestamp) {
        self.lock().last_claim_at = Some(now);
    }

    pub(crate) fn reached(&self, engine: &Engine) {
        if self.lock().degraded.take().is_some() {
            tracing::info!("the store can be reached again");
            engine.events.tell(|| Event::Recovered);
        }
    }

    pub(crate) fn failed(&self, engine: &Engine, error: &Error) {
        let reason = error.to_string();
        let is_new = {
            let mut state = self.lock();
            let since = state.degraded.as_ref().map_or_else(|| engine.clock.now(), |t| t.since);
            state.degraded.replace(Trouble { since, reason: reason.clone() }).is_none()
        };
        if is_new {
            tracing::warn!(%reason, "the store can't be reached");
            engine.events.tell(|| Event::Degraded { reason });
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
