//! How nodes keep out of one another's way, where there is more due than one claim takes.
//!
//! A claim moves jobs on by compare-and-set, so two nodes that read the same jobs are safe, but the work of
//! one of them is lost. So each node takes its own share of what is due first: every job has a number, and
//! every node that lives a rank. Shares only say what is looked for. When its own is worked off a node helps
//! out with what is left, because its owner may be slow, gone, or without the handler.

use std::sync::atomic::{AtomicI32, Ordering};

use bson::{Document, doc};

/// For so many claims a node remembers that others were in its way, or that they need its help.
const CLAIMS: i32 = 16;

/// Shares, at most.
const MOST: i64 = 8;

/// Whether this node shares with others.
#[derive(Debug, Default)]
pub(crate) struct Sharing {
    /// For how many claims more it does; below zero, for how many more it helps out instead.
    left: AtomicI32,
}

impl Sharing {
    /// Others were faster than a claim of this node, or are likely to be.
    pub(crate) fn contend(&self) {
        if self.left.load(Ordering::Relaxed) >= 0 {
            self.left.store(CLAIMS, Ordering::Relaxed);
        }
    }

    /// This node has worked off its share, and much is left.
    pub(crate) fn help_out(&self) {
        self.left.store(-CLAIMS, Ordering::Relaxed);
    }

    /// Whether nodes are in one another's way.
    pub(crate) fn is_on(&self) -> bool {
        self.left.load(Ordering::Relaxed) > 0
    }

    /// The share of a node for its next claim, where nodes are in one another's way.
    pub(crate) fn next(&self, epoch: i64, living: &[i64]) -> Option<Share> {
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left - left.signum(), Ordering::Relaxed);
        if left > 0 { Share::of(epoch, living) } else { None }
    }

    /// The share of a node that has found more than it takes, if nothing is known of others yet.
    pub(crate) fn likely(&self, epoch: i64, living: &[i64]) -> Option<Share> {
        if self.left.load(Ordering::Relaxed) == 0 { Share::of(epoch, living) } else { None }
    }
}

/// Those of all jobs that a node takes first: of so many shares, which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    of: i64,
    which: i64,
}

impl Share {
    /// That of one of the living.
    fn of(epoch: i64, living: &[i64]) -> Option<Self> {
        let of = i64::try_from(living.len()).map_or(MOST, |n| n.min(MOST));
        let rank = i64::try_from(living.iter().position(|it| *it == epoch)?).ok()?;
        (of > 1).then(|| Self { of, which: rank % of })
    }

    /// The condition on a job's number.
    pub(crate) fn condition(self) -> Document {
        doc! { "$mod": [self.of, self.which] }
    }

    /// Whether a job with this number is in it.
    pub(crate) fn has(self, number: i64) -> bool {
        number % self.of == self.which
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_is_in_the_share_of_one_node() {
        let living = [4, 7, 9];
        let shares: Vec<Share> = living.iter().filter_map(|epoch| Share::of(*epoch, &living)).collect();
        for number in 0..100 {
            assert_eq!(shares.iter().filter(|share| share.has(number)).count(), 1, "{number}");
        }
        assert_eq!(Share::of(5, &living), None, "not among the living");
        assert_eq!(Share::of(4, &[4]), None, "a node alone shares with nobody");
    }

    #[test]
    fn a_node_shares_for_some_claims_after_others_were_faster() {
        let sharing = Sharing::default();
        assert_eq!(sharing.next(1, &[1, 2]), None);
        assert!(sharing.likely(1, &[1, 2]).is_some());
        sharing.contend();
        assert_eq!(sharing.likely(1, &[1, 2]), None, "it is known already");
        let shared = (0..100).filter(|_| sharing.next(1, &[1, 2]).is_some()).count();
        assert_eq!(shared, 16);
    }

    #[test]
    fn a_node_that_helps_out_does_not_share_whoever_is_faster() {
        let sharing = Sharing::default();
        sharing.help_out();
        for _ in 0..16 {
            sharing.contend();
            assert_eq!(sharing.likely(1, &[1, 2]), None);
            assert_eq!(sharing.next(1, &[1, 2]), None);
        }
        sharing.contend();
        assert!(sharing.next(1, &[1, 2]).is_some());
    }
}
