//! A clock that is wrong by the same amount all the time.

use std::time::Duration;

use async_trait::async_trait;
use unified_scheduler::Timestamp;
use unified_scheduler::clock::{Clock, SystemClock};

/// The machine's clocks, with another wall time.
#[derive(Debug)]
pub struct SkewedClock {
    machine: SystemClock,
    skew_millis: i64,
}

impl SkewedClock {
    /// A clock that is ahead by so much, or behind.
    pub fn ahead_by(skew_millis: i64) -> Self {
        Self { machine: SystemClock::new(), skew_millis }
    }
}

#[async_trait]
impl Clock for SkewedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.machine.now().as_millis().saturating_add(self.skew_millis))
    }

    fn steady(&self) -> Duration {
        self.machine.steady()
    }

    async fn sleep(&self, duration: Duration) {
        self.machine.sleep(duration).await;
    }
}
