//! How large a world is and which faults it has; what a failing seed is shrunk by.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::faults::Kind;
use crate::random::Random;

/// A world to be made: the seed decides everything that the other fields leave open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// What everything is drawn from.
    pub seed: u64,
    /// Schedulers.
    pub n_nodes: usize,
    /// Jobs.
    pub n_jobs: u64,
    /// How long the faults last.
    pub hours: u64,
    /// Which kinds of faults there are.
    pub kinds: BTreeSet<Kind>,
}

impl Shape {
    /// The shape of a seed: two to five nodes, two to nine jobs, a day, most kinds of faults.
    pub fn of(seed: u64) -> Self {
        let mut random = Random::of(seed, "shape", 0);
        let n_nodes = usize::try_from(random.within(2..6)).unwrap_or(2);
        let n_jobs = random.within(2..10);
        let kinds = Kind::ALL.iter().copied().filter(|_| random.in_thousand(750)).collect();
        Self { seed, n_nodes, n_jobs, hours: 24, kinds }
    }

    /// Shapes of the same seed that are a little smaller.
    pub fn smaller(&self) -> Vec<Self> {
        let mut all = Vec::new();
        let mut add = |change: &dyn Fn(&mut Self)| {
            let mut shape = self.clone();
            change(&mut shape);
            if shape != *self {
                all.push(shape);
            }
        };
        add(&|s| s.hours = (s.hours / 2).max(1));
        for kind in &self.kinds {
            add(&|s| {
                s.kinds.remove(kind);
            });
        }
        add(&|s| s.n_jobs = (s.n_jobs / 2).max(1));
        add(&|s| s.n_jobs = (s.n_jobs - 1).max(1));
        add(&|s| s.n_nodes = (s.n_nodes - 1).max(1));
        add(&|s| s.hours = (s.hours * 3 / 4).max(1));
        all
    }
}

/// The settings of a world's nodes.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Of every node.
    pub lease: Duration,
    /// Of every node.
    pub poll: Duration,
    /// Of every node.
    pub call_timeout: Duration,
    /// Of every node.
    pub cancel_grace: Duration,
    /// Of every node.
    pub retention: Option<Duration>,
    /// In how many of a thousand calls there is a fault.
    pub rate: u64,
}

impl Settings {
    /// The settings of a seed. Leases are long, so that a day is not mostly heartbeats.
    pub fn of(seed: u64) -> Self {
        let mut random = Random::of(seed, "settings", 0);
        Self {
            lease: random.pick(&[300, 600, 1200].map(Duration::from_secs)),
            poll: random.seconds(120..900),
            call_timeout: random.seconds(10..90),
            cancel_grace: random.seconds(2..60),
            retention: random.pick(&[None, Some(Duration::from_secs(6 * 3600))]),
            rate: random.pick(&[2, 10, 50]),
        }
    }
}
