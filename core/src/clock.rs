//! Time as the engine sees it, and a clock that moves by hand.
//!
//! Core takes wall time, sleep and deadlines from here and nowhere else, so that a test or a
//! simulation owns all of them.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;

use crate::time::Timestamp;

/// What time it is, and how to wait.
#[async_trait]
pub trait Clock: Debug + Send + Sync + 'static {
    /// The wall clock. It may step in both directions.
    fn now(&self) -> Timestamp;

    /// A clock that only runs forward, from an origin of its own.
    fn steady(&self) -> Duration;

    /// Waits for `duration` of steady time. Dropping the future ends the wait.
    async fn sleep(&self, duration: Duration);

    /// Told when work begins, and when it ends, that goes on outside the runtime: on a thread that may
    /// block. A clock that moves by hand stands still meanwhile; others have no use for it.
    fn work_outside(&self, begins: bool) {
        let _ = begins;
    }
}

/// The clocks of this machine.
#[derive(Debug, Clone)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// The clocks of this machine; steady time begins here.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clocks")]
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clocks")]
    fn now(&self) -> Timestamp {
        let millis = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX));
        Timestamp::from_millis(millis)
    }

    fn steady(&self) -> Duration {
        self.origin.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that sleeps by the machine's clocks")]
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// A clock that stands still until it is moved. Clones share the same time.
///
/// ```
/// use std::time::Duration;
/// use unified_scheduler_core::clock::{Clock, ManualClock};
///
/// let clock = ManualClock::at("2026-03-29T00:59:59Z".parse()?);
/// clock.advance(Duration::from_secs(1));
/// assert_eq!(clock.now().to_string(), "2026-03-29T01:00:00.000Z");
/// # Ok::<(), unified_scheduler_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ManualClock {
    time: Arc<Mutex<ManualTime>>,
    /// What this view of the clock adds to the wall time: the skew of one node.
    skew_millis: i64,
}

#[derive(Debug)]
struct ManualTime {
    /// The wall clock when the steady one was zero. Steps change it; the passing of time does not, so
    /// that parts of a millisecond are not lost with each move.
    wall_at_zero: Timestamp,
    steady: Duration,
    n_outside: usize,
    next_sleeper: u64,
    sleepers: BTreeMap<(Duration, u64), Option<Waker>>,
}

impl ManualClock {
    /// A clock that shows `now`.
    pub fn at(now: Timestamp) -> Self {
        let time = ManualTime {
            wall_at_zero: now,
            steady: Duration::ZERO,
            n_outside: 0,
            next_sleeper: 0,
            sleepers: BTreeMap::new(),
        };
        Self { time: Arc::new(Mutex::new(time)), skew_millis: 0 }
    }

    /// Another view of the same clock, whose wall time differs by `millis`.
    #[must_use]
    pub fn skewed(&self, millis: i64) -> Self {
        Self { time: Arc::clone(&self.time), skew_millis: self.skew_millis + millis }
    }

    /// Moves both clocks forward and wakes whoever waited for a time up to the new one.
    pub fn advance(&self, duration: Duration) {
        let mut time = self.lock();
        time.steady = time.steady.saturating_add(duration);
        let later = time.steady;
        let mut woken = Vec::new();
        while let Some(entry) = time.sleepers.first_entry() {
            if entry.key().0 > later {
                break;
            }
            woken.extend(entry.remove());
        }
        drop(time);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Steps the wall clock alone, in either direction, as an administrator or NTP would.
    pub fn step_wall(&self, millis: i64) {
        let mut time = self.lock();
        time.wall_at_zero = Timestamp::from_millis(time.wall_at_zero.as_millis().saturating_add(millis));
    }

    /// How much work goes on outside the runtime: see [`Clock::work_outside`].
    pub fn n_outside(&self) -> usize {
        self.lock().n_outside
    }

    /// How long until the first sleeper wakes; `None` when nobody sleeps.
    pub fn until_next_sleeper(&self) -> Option<Duration> {
        let time = self.lock();
        time.sleepers.keys().next().map(|(deadline, _)| deadline.saturating_sub(time.steady))
    }

    fn lock(&self) -> MutexGuard<'_, ManualTime> {
        self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        let wall = {
            let time = self.lock();
            time.wall_at_zero.saturating_add(time.steady)
        };
        Timestamp::from_millis(wall.as_millis().saturating_add(self.skew_millis))
    }

    fn steady(&self) -> Duration {
        self.lock().steady
    }

    async fn sleep(&self, duration: Duration) {
        let sleeper = Sleeper::enter(self, duration);
        std::future::poll_fn(|cx| sleeper.poll(cx.waker())).await;
    }

    fn work_outside(&self, begins: bool) {
        let mut time = self.lock();
        time.n_outside = if begins { time.n_outside + 1 } else { time.n_outside.saturating_sub(1) };
    }
}

/// One wait on a [`ManualClock`]; leaves the clock's list when dropped.
struct Sleeper<'a> {
    clock: &'a ManualClock,
    key: (Duration, u64),
}

impl<'a> Sleeper<'a> {
    fn enter(clock: &'a ManualClock, duration: Duration) -> Self {
        let mut time = clock.lock();
        let key = (time.steady.saturating_add(duration), time.next_sleeper);
        time.next_sleeper += 1;
        if !duration.is_zero() {
            time.sleepers.insert(key, None);
        }
        Self { clock, key }
    }

    fn poll(&self, waker: &Waker) -> Poll<()> {
        match self.clock.lock().sleepers.get_mut(&self.key) {
            Some(slot) => {
                *slot = Some(waker.clone());
                Poll::Pending
            }
            None => Poll::Ready(()),
        }
    }
}

impl Drop for Sleeper<'_> {
    fn drop(&mut self) {
        self.clock.lock().sleepers.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleeper_wakes_when_the_clock_has_moved_far_enough() {
        let clock = ManualClock::at(Timestamp::EPOCH);
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move {
                clock.sleep(Duration::from_secs(10)).await;
                clock.now()
            }
        });
        while clock.until_next_sleeper().is_none() {
            tokio::task::yield_now().await;
        }
        clock.advance(Duration::from_secs(9));
        assert_eq!(clock.until_next_sleeper(), Some(Duration::from_secs(1)));
        clock.advance(Duration::from_secs(1));
        assert_eq!(sleeper.await.unwrap(), Timestamp::from_secs(10));
    }

    #[test]
    fn a_wait_that_is_dropped_leaves_nothing_behind() {
        let clock = ManualClock::at(Timestamp::EPOCH);
        drop(Sleeper::enter(&clock, Duration::from_secs(1)));
        assert_eq!(clock.until_next_sleeper(), None);
    }

    #[test]
    fn a_step_moves_the_wall_and_not_the_steady_clock() {
        let clock = ManualClock::at(Timestamp::from_secs(100));
        clock.step_wall(-50_000);
        assert_eq!((clock.now(), clock.steady()), (Timestamp::from_secs(50), Duration::ZERO));
        assert_eq!(clock.skewed(1000).now(), Timestamp::from_secs(51));
    }

    #[test]
    fn parts_of_a_millisecond_add_up() {
        let clock = ManualClock::at(Timestamp::EPOCH);
        for _ in 0..1000 {
            clock.advance(Duration::from_micros(1500));
        }
        assert_eq!(clock.now(), Timestamp::from_millis(1500));
    }
}
