//! Identifiers: of jobs, executions and nodes, and the source that makes them.
//!
//! Ids are made by the client before a request is sent, so that a request whose reply was lost can be
//! sent again and changes nothing. Execution ids are UUIDs of version 7 (RFC 9562): they sort by the
//! time they were made, which is the order in which history is listed.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::time::Timestamp;

/// The id of a job: a UUID for one made at run time, `static:NAME` for one registered in code, or
/// whatever an existing document carries. At most 200 bytes, without control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(Arc<str>);

impl JobId {
    /// The id of the static job `name`.
    pub fn of_static(name: &str) -> Self {
        Self(format!("static:{name}").into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for JobId {
    fn from(value: &str) -> Self {
        Self(value.into())
    }
}

impl From<String> for JobId {
    fn from(value: String) -> Self {
        Self(value.into())
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id of an execution: a UUID of version 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExecutionId(Uuid);

impl ExecutionId {
    /// From the 16 bytes of a UUID.
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The UUID.
    pub const fn as_uuid(&self) -> &Uuid {
        &self.0
    }

    /// The smallest id that could have been made at `t`: a bound for searches by time.
    pub fn lower_bound(t: Timestamp) -> Self {
        Self(uuid_v7(t, 0, 0))
    }
}

impl fmt::Display for ExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for ExecutionId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Uuid::parse_str(text)
            .map(Self)
            .map_err(|_| Error::invalid(format!("`{text}` is not an execution id; they are UUIDs")))
    }
}

impl Serialize for ExecutionId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ExecutionId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The id of a node: unique for each start of an engine, so that a restart is a new node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for NodeId {
    fn from(value: &str) -> Self {
        Self(value.into())
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The fencing token of a node: given by the store at each join, larger than every one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Epoch(pub i64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Makes ids and random numbers; seeded by the operating system, or by hand for a replayable run.
#[derive(Debug)]
pub struct IdSource {
    random: AtomicU64,
    last: Mutex<(i64, u16)>,
}

impl IdSource {
    /// Seeded by the operating system.
    pub fn new() -> Self {
        // `RandomState` is keyed from the operating system's entropy, and differs with each call.
        use std::hash::{BuildHasher, RandomState};
        Self::seeded(RandomState::new().hash_one(std::process::id()))
    }

    /// Gives the same sequence for the same seed.
    pub fn seeded(seed: u64) -> Self {
        Self { random: AtomicU64::new(seed), last: Mutex::new((i64::MIN, 0)) }
    }

    /// The next 64 random bits (`SplitMix64`: Steele, Lea and Flood, OOPSLA 2014). Not for secrets.
    pub fn random(&self) -> u64 {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut z = self.random.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `0.0..1.0`.
    pub fn fraction(&self) -> f64 {
        // 53 bits are what an f64 holds exactly.
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit an f64")]
        let numerator = (self.random() >> 11) as f64;
        numerator / 9_007_199_254_740_992.0
    }

    /// An id that sorts after every one that this source made before, as long as the clock does.
    pub fn execution(&self, now: Timestamp) -> ExecutionId {
        let counter = {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            // Within one millisecond (or when the clock steps back) a counter keeps the order.
            *last = if now.as_millis() > last.0 { (now.as_millis(), 0) } else { (last.0, last.1 + 1) };
            if last.1 > 0x0FFF {
                *last = (last.0 + 1, 0);
            }
            *last
        };
        ExecutionId(uuid_v7(Timestamp::from_millis(counter.0), counter.1, self.random()))
    }

    /// A random UUID for a new job.
    pub fn job(&self, now: Timestamp) -> JobId {
        JobId::from(self.execution(now).to_string())
    }

    /// A node id: `name` and eight random hexadecimal digits.
    pub fn node(&self, name: &str) -> NodeId {
        NodeId::from(format!("{name}-{:08x}", self.random() >> 32).as_str())
    }
}

impl Default for IdSource {
    fn default() -> Self {
        Self::new()
    }
}

/// RFC 9562, section 5.7: 48 bits of milliseconds, 12 bits of counter, 62 random bits.
fn uuid_v7(t: Timestamp, counter: u16, random: u64) -> Uuid {
    let millis = u128::try_from(t.as_millis().max(0)).unwrap_or(0) & 0xFFFF_FFFF_FFFF;
    let value = (millis << 80)
        | (0x7 << 76)
        | (u128::from(counter & 0x0FFF) << 64)
        | (0b10 << 62)
        | u128::from(random >> 2);
    Uuid::from_u128(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_the_order_in_which_they_were_made() {
        let ids = IdSource::seeded(7);
        let mut last = ids.execution(Timestamp::from_millis(5));
        for i in 0..20_000_i64 {
            // The clock stands still, moves, and steps back.
            let id = ids.execution(Timestamp::from_millis(5 + (i / 9000) - (i % 3)));
            assert!(id > last, "{id} after {last}");
            last = id;
        }
    }

    #[test]
    fn an_id_carries_the_version_and_variant_of_its_standard() {
        let id = IdSource::new().execution(Timestamp::from_millis(1_767_323_045_678));
        assert_eq!(id.as_uuid().get_version_num(), 7);
        assert_eq!(id.as_uuid().get_variant(), uuid::Variant::RFC4122);
        assert_eq!(id.to_string().parse::<ExecutionId>().unwrap(), id);
        assert!(id >= ExecutionId::lower_bound(Timestamp::from_millis(1_767_323_045_678)));
        assert!(id < ExecutionId::lower_bound(Timestamp::from_millis(1_767_323_045_679)));
    }

    #[test]
    fn two_sources_differ_and_a_seed_repeats() {
        let now = Timestamp::EPOCH;
        assert_ne!(IdSource::new().execution(now), IdSource::new().execution(now));
        assert_eq!(IdSource::seeded(1).execution(now), IdSource::seeded(1).execution(now));
    }
}
