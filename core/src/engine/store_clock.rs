//! The store's clock, as a node knows it: what the store said last, and the steady time since.
//!
//! The node's own wall clock has no part in it, so that it may be wrong and may step, and no end of an
//! execution, no retry and no sleep goes by it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Clock;
use crate::time::Timestamp;

/// A sleep of half a minute may be off by this much anyhow.
const NOTABLE_MS: u64 = 10;

/// The store's clock, as one node knows it.
#[derive(Debug)]
pub(crate) struct StoreClock {
    clock: Arc<dyn Clock>,
    known: Mutex<Known>,
}

/// What the store's clock showed when the node's steady clock showed this.
#[derive(Debug)]
struct Known {
    store: Timestamp,
    steady: Duration,
    /// How far it may be off, by how long the answer took; `None` before there was one.
    error: Option<Duration>,
}

impl StoreClock {
    /// Before the store has said anything, the node's own wall clock must do.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let known = Known { store: clock.now(), steady: clock.steady(), error: None };
        Self { clock, known: Mutex::new(known) }
    }

    /// Learns from an answer to a question that took from `asked` until now; not from one that took
    /// longer than `most` (the process was stopped meanwhile), unless nothing better is known.
    ///
    /// The store's clock is now somewhere between the answer and the answer plus the time it took
    /// (Cristian, "Probabilistic clock synchronization", 1989). What is known and lies in there is kept,
    /// as long as it is the more exact: a claim that waits for the disk says less than a quick heartbeat.
    ///
    /// Answers whether that moved it by so much that who sleeps by it must count again.
    pub(crate) fn learn(&self, store_now: Timestamp, asked: Duration, most: Duration) -> bool {
        let steady = self.clock.steady();
        let took = steady.saturating_sub(asked);
        let mut known = self.lock();
        let age = steady.saturating_sub(known.steady);
        if let Some(error) = known.error {
            let expected = known.store.saturating_add(age);
            let latest = store_now.saturating_add(took).saturating_add(Duration::from_millis(1));
            // Two clocks drift apart, by some 100 parts in a million.
            let exact = error.saturating_add(age / 10_000) < took;
            if took > most || (exact && (store_now..=latest).contains(&expected)) {
                return false;
            }
        }
        // Half of the way there and back is the best guess of how old the answer is.
        let store = store_now.saturating_add(took / 2);
        let moved = store.as_millis().abs_diff(known.store.saturating_add(age).as_millis());
        *known = Known { store, steady, error: Some(took) };
        moved >= NOTABLE_MS
    }

    pub(crate) fn now(&self) -> Timestamp {
        let known = self.lock();
        known.store.saturating_add(self.clock.steady().saturating_sub(known.steady))
    }

    /// What must be added to the node's wall clock to get the store's, in milliseconds.
    pub(crate) fn skew_millis(&self) -> i64 {
        self.now().as_millis() - self.clock.now().as_millis()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn a_step_of_the_wall_clock_changes_nothing() {
        let clock = ManualClock::at(Timestamp::from_secs(1000));
        let store = StoreClock::new(Arc::new(clock.clone()));
        clock.advance(Duration::from_secs(2));
        let _ = store.learn(Timestamp::from_secs(500), Duration::ZERO, Duration::from_secs(10));
        clock.step_wall(-3_600_000);
        clock.advance(Duration::from_secs(9));
        assert_eq!(store.now(), Timestamp::from_secs(510));
        assert_eq!(store.skew_millis(), 510_000 - (1011 - 3600) * 1000);
    }

    #[test]
    fn a_slow_answer_that_says_nothing_new_changes_nothing() {
        let clock = ManualClock::at(Timestamp::EPOCH);
        let store = StoreClock::new(Arc::new(clock.clone()));
        let (most, ms) = (Duration::from_secs(10), Duration::from_millis);
        let _ = store.learn(Timestamp::from_secs(500), Duration::ZERO, most);
        clock.advance(ms(20));
        // Asked at once, answered from the first instant, and 20 ms under way: half of that is no better.
        let _ = store.learn(Timestamp::from_secs(500), Duration::ZERO, most);
        assert_eq!(store.now(), Timestamp::from_millis(500_020));
        // The store's clock was set: that is no matter of how exact.
        let _ = store.learn(Timestamp::from_secs(600), clock.steady().saturating_sub(ms(10)), most);
        assert_eq!(store.now(), Timestamp::from_millis(600_005));
    }

    #[test]
    fn an_answer_that_took_too_long_teaches_nothing() {
        let clock = ManualClock::at(Timestamp::EPOCH);
        let store = StoreClock::new(Arc::new(clock.clone()));
        let most = Duration::from_secs(10);
        let _ = store.learn(Timestamp::from_secs(500), Duration::ZERO, most);
        clock.advance(Duration::from_hours(2));
        let _ = store.learn(Timestamp::from_secs(501), Duration::ZERO, most);
        assert_eq!(store.now(), Timestamp::from_secs(500 + 7200));
    }
}
