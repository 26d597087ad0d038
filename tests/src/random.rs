//! The numbers that everything is drawn from.

use std::ops::Range;
use std::time::Duration;

/// `SplitMix64` (Steele, Lea and Flood, OOPSLA 2014): a state of one number, so that a part of a world can
/// have a sequence of its own.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The sequence of a seed and a part: `(seed, "jobs", 3)` does not change when there are fewer nodes.
    pub fn of(seed: u64, part: &str, n: u64) -> Self {
        let mut random = Self(seed);
        let mut hash = random.bits();
        for byte in part.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Self(hash ^ n.wrapping_mul(0xD1B5_4A32_D192_ED03))
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number of the range; its first one when it is empty.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.bits() % range.end.saturating_sub(range.start).max(1)
    }

    /// A signed number from `-most` to `most`.
    pub fn around_zero(&mut self, most: u64) -> i64 {
        let drawn = i64::try_from(self.within(0..2 * most + 1)).unwrap_or(0);
        drawn - i64::try_from(most).unwrap_or(0)
    }

    /// True in `n` of a thousand cases.
    pub fn in_thousand(&mut self, n: u64) -> bool {
        self.within(0..1000) < n
    }

    /// One of them.
    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        let i = usize::try_from(self.within(0..of.len() as u64)).unwrap_or(0);
        of[i].clone()
    }

    /// A duration between two, in whole milliseconds.
    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.within(millis(least)..millis(most).max(millis(least) + 1)))
    }

    /// A duration of some seconds between two.
    pub fn seconds(&mut self, range: Range<u64>) -> Duration {
        self.between(Duration::from_secs(range.start), Duration::from_secs(range.end))
    }
}
