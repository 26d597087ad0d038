//! The faults, and how often each has struck.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::random::Random;

/// Kinds of faults that a world may have or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Requests and replies that are lost, calls that hang.
    Loss,
    /// Calls that are slow, or commit after their caller has given up.
    Delay,
    /// Calls that arrive twice.
    Repeat,
    /// Nodes that die: around a call, or at any time.
    Crash,
    /// Nodes that stand still for 0.1 to 10 leases.
    Pause,
    /// Nodes that can't reach the store for up to 20 leases.
    Partition,
    /// Clocks of nodes that are wrong, drift and step.
    NodeClock,
    /// A store whose clock steps.
    StoreClock,
    /// Hints that never come.
    Hints,
    /// Nodes that are stopped in an orderly way, and started again.
    Stop,
    /// People who edit jobs, trigger and cancel.
    Edits,
}

impl Kind {
    /// All kinds.
    pub const ALL: &'static [Self] = &[
        Self::Loss,
        Self::Delay,
        Self::Repeat,
        Self::Crash,
        Self::Pause,
        Self::Partition,
        Self::NodeClock,
        Self::StoreClock,
        Self::Hints,
        Self::Stop,
        Self::Edits,
    ];
}

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallFault {
    /// The request is lost, and the caller is told.
    Fail,
    /// It commits, and the caller is told that it failed.
    LoseReply,
    /// The request is lost, and nobody is told.
    Hang,
    /// It commits, and nobody is told.
    HangAfter,
    /// It commits late, and is answered.
    SlowRequest(Duration),
    /// It is answered late.
    SlowReply(Duration),
    /// It commits when the caller may have given up long ago.
    Late(Duration),
    /// It commits twice; the second answer arrives.
    Twice,
    /// It commits, is answered, and commits again later.
    Again(Duration),
    /// The node dies before the call commits.
    CrashBefore,
    /// The node dies after it has committed and before the answer.
    CrashAfter,
}

impl CallFault {
    /// Draws one of the kinds that there are.
    pub fn draw(
        kinds: &[Kind],
        call_timeout: Duration,
        lease: Duration,
        random: &mut Random,
    ) -> Option<Self> {
        let kinds: Vec<Kind> = kinds
            .iter()
            .copied()
            .filter(|k| matches!(k, Kind::Loss | Kind::Delay | Kind::Repeat | Kind::Crash))
            .collect();
        if kinds.is_empty() {
            return None;
        }
        let short = |random: &mut Random| random.between(Duration::from_millis(1), call_timeout * 3 / 2);
        Some(match (random.pick(&kinds), random.within(0..4)) {
            (Kind::Loss, 0) => Self::Fail,
            (Kind::Loss, 1) => Self::LoseReply,
            (Kind::Loss, 2) => Self::Hang,
            (Kind::Loss, _) => Self::HangAfter,
            (Kind::Delay, 0) => Self::SlowRequest(short(random)),
            (Kind::Delay, 1 | 2) => Self::SlowReply(short(random)),
            (Kind::Delay, _) => Self::Late(random.between(call_timeout, lease * 2)),
            (Kind::Repeat, 0 | 1) => Self::Twice,
            (Kind::Repeat, _) => Self::Again(random.between(Duration::from_millis(1), lease)),
            // A crash is dear: fewer of them.
            (_, 0) => Self::CrashBefore,
            (_, 1) => Self::CrashAfter,
            _ => return None,
        })
    }

    /// Its name in the counters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fail => "request lost",
            Self::LoseReply => "reply lost",
            Self::Hang => "hang before",
            Self::HangAfter => "hang after",
            Self::SlowRequest(_) => "slow request",
            Self::SlowReply(_) => "slow reply",
            Self::Late(_) => "late commit",
            Self::Twice => "twice",
            Self::Again(_) => "again later",
            Self::CrashBefore => "crash before",
            Self::CrashAfter => "crash after",
        }
    }
}

/// How often what has happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters(pub BTreeMap<(&'static str, &'static str), u64>);

impl Counters {
    /// Once more.
    pub fn add(&mut self, what: &'static str, detail: &'static str) {
        *self.0.entry((what, detail)).or_default() += 1;
    }

    /// Adds another's.
    pub fn merge(&mut self, other: &Self) {
        for (key, n) in &other.0 {
            *self.0.entry(*key).or_default() += n;
        }
    }

    /// How often `what` has happened, in all details.
    pub fn total(&self, what: &str) -> u64 {
        self.0.iter().filter(|((w, _), _)| *w == what).map(|(_, n)| n).sum()
    }

    /// Every `what` with its total.
    pub fn totals(&self) -> BTreeMap<&'static str, u64> {
        let mut totals = BTreeMap::new();
        for ((what, _), n) in &self.0 {
            *totals.entry(*what).or_default() += n;
        }
        totals
    }
}
