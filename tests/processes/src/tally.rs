//! How often each fault has struck. A fault that never strikes proves nothing.

use std::collections::BTreeMap;
use std::fmt;

/// The faults, each counted.
#[derive(Debug, Clone, Default)]
pub struct Tally(BTreeMap<&'static str, u64>);

impl Tally {
    /// One more.
    pub fn count(&mut self, what: &'static str) {
        self.add(what, 1);
    }

    /// More.
    pub fn add(&mut self, what: &'static str, n: u64) {
        *self.0.entry(what).or_default() += n;
    }

    /// Which have struck less often than they must.
    pub fn below(&self, minima: &[(&'static str, u64)]) -> Vec<String> {
        let struck = |what| self.0.get(what).copied().unwrap_or(0);
        minima
            .iter()
            .filter(|(what, least)| struck(*what) < *least)
            .map(|(what, least)| format!("{what}: {} times, at least {least} must be", struck(*what)))
            .collect()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<_> = self.0.iter().map(|(what, n)| format!("{what} {n}")).collect();
        f.write_str(&parts.join(", "))
    }
}
