//! A node's own view of the clock: skewed, stepping, drifting, paused.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use unified_scheduler_core::{Clock, ManualClock, Timestamp};

/// The clock of one node. Clones are the same clock.
#[derive(Debug, Clone)]
pub struct NodeClock {
    world: ManualClock,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    skew_millis: i64,
    drift_ppm: i64,
    /// Until then, by the world's steady clock, the node stands still.
    paused_until: Duration,
}

impl NodeClock {
    /// A node's view of the world's clock.
    pub fn new(world: ManualClock, skew_millis: i64, drift_ppm: i64) -> Self {
        let state = State { skew_millis, drift_ppm, paused_until: Duration::ZERO };
        Self { world, state: Arc::new(Mutex::new(state)) }
    }

    /// Steps the node's wall clock.
    pub fn step(&self, millis: i64) {
        self.lock().skew_millis += millis;
    }

    /// The node stands still for this long: it goes on where it was, and does not know.
    pub fn pause(&self, duration: Duration) {
        let until = self.world.steady().saturating_add(duration);
        let mut state = self.lock();
        state.paused_until = state.paused_until.max(until);
    }

    /// Ends a pause, and sets the wall right.
    pub fn heal(&self) {
        let mut state = self.lock();
        (state.paused_until, state.skew_millis, state.drift_ppm) = (Duration::ZERO, 0, 0);
    }

    /// Waits until the node does not stand still.
    pub async fn awake(&self) {
        loop {
            let left = self.lock().paused_until.saturating_sub(self.world.steady());
            if left.is_zero() {
                return;
            }
            self.world.sleep(left).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Clock for NodeClock {
    fn now(&self) -> Timestamp {
        let (skew, ppm) = {
            let state = self.lock();
            (state.skew_millis, state.drift_ppm)
        };
        let steady = i64::try_from(self.world.steady().as_millis()).unwrap_or(i64::MAX);
        let drifted = steady / 1000 * ppm / 1000;
        Timestamp::from_millis(self.world.now().as_millis() + skew + drifted)
    }

    fn steady(&self) -> Duration {
        self.world.steady()
    }

    async fn sleep(&self, duration: Duration) {
        self.world.sleep(duration).await;
        self.awake().await;
    }
}
