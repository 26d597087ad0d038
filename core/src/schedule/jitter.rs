//! Stable pseudo-random numbers: for jitter and for `H` in cron expressions.
//!
//! They must be the same in every process, version and platform, so the hash is our own: FNV-1a over
//! the bytes (Fowler, Noll and Vo; draft-eastlake-fnv), finished by the mixer of `SplitMix64`
//! (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014).

use std::time::Duration;

use crate::time::Timestamp;

/// A hash of a job id and a salt; never changes.
pub(super) fn stable_hash(id: &str, salt: &[u8]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    // 0xff never occurs in UTF-8, so that id and salt can't run into each other.
    for byte in id.as_bytes().iter().chain(&[0xff]).chain(salt) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    let mut mixed = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// `hash` brought into `0..n`, evenly; 0 when `n` is 0.
pub(super) fn scale(hash: u64, n: u64) -> u64 {
    u64::try_from((u128::from(hash) * u128::from(n)) >> 64).unwrap_or(0)
}

/// The offset of the occurrence `due` of a job: whole milliseconds, from zero to below `jitter`.
pub(super) fn offset(job_id: &str, due: Timestamp, jitter: Duration) -> Duration {
    let millis = u64::try_from(jitter.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(scale(stable_hash(job_id, &due.as_millis().to_le_bytes()), millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_never_changes() {
        let due = Timestamp::from_millis(1_767_323_045_678);
        assert_eq!(stable_hash("backup", b"minute"), 0xfbf5_5dfe_8eea_6c6b);
        assert_eq!(offset("backup", due, Duration::from_mins(1)), Duration::from_millis(11_066));
    }

    #[test]
    fn offsets_stay_below_the_jitter_and_fill_it() {
        let jitter = Duration::from_millis(100);
        let mut seen = [0u32; 100];
        for i in 0..20_000 {
            let offset = offset("job", Timestamp::from_secs(i * 60), jitter);
            assert!(offset < jitter);
            seen[usize::try_from(offset.as_millis()).unwrap()] += 1;
        }
        assert!(seen.iter().all(|n| (120..=290).contains(n)), "{seen:?}");
        assert_eq!(offset("job", Timestamp::EPOCH, Duration::ZERO), Duration::ZERO);
    }
}
