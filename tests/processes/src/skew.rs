//! A clock that is wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use unified_scheduler::Timestamp;
use unified_scheduler::clock::{Clock, SystemClock};

/// The machine's clocks, with another wall time. Clones are the same clock.
#[derive(Debug, Clone)]
pub struct SkewedClock {
    machine: Arc<SystemClock>,
    skew_millis: Arc<AtomicI64>,
}

impl SkewedClock {
    /// A clock that is ahead by so much, or behind.
    pub fn ahead_by(skew_millis: i64) -> Self {
        Self { machine: Arc::new(SystemClock::new()), skew_millis: Arc::new(AtomicI64::new(skew_millis)) }
    }

    /// From now on it is ahead by so much.
    pub fn set(&self, skew_millis: i64) {
        self.skew_millis.store(skew_millis, Ordering::Relaxed);
    }
}

#[async_trait]
impl Clock for SkewedClock {
    fn now(&self) -> Timestamp {
        let skew = self.skew_millis.load(Ordering::Relaxed);
        Timestamp::from_millis(self.machine.now().as_millis().saturating_add(skew))
    }

    fn steady(&self) -> Duration {
        self.machine.steady()
    }

    async fn sleep(&self, duration: Duration) {
        self.machine.sleep(duration).await;
    }
}
