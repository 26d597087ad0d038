//! Stores for criterion's benches: each kind, memory among them, on a clock that is moved by hand.

use std::sync::Arc;
use std::time::Duration;

use unified_scheduler_core::store::MemoryStore;
use unified_scheduler_core::{ManualClock, Store, Timestamp};

use crate::Failure;
use crate::ground::{Ground, Prepared, asks_for};

/// How often the jobs of these benches are due.
pub const SECOND: Duration = Duration::from_secs(1);
/// When their clocks begin.
pub const START: Timestamp = Timestamp::from_secs(1_782_820_800);

/// A kind of store, ready; its server ends with it.
pub struct Bed(Option<(Ground, Prepared)>);

impl Bed {
    /// Those that the arguments of a bench name, each made ready when it is its turn; all when they name
    /// none. One whose server does not start is left out, and said to be.
    pub fn asked_for() -> impl Iterator<Item = Self> {
        let none = !asks_for("memory") && !Ground::ALL.iter().any(|ground| asks_for(ground.name()));
        let memory = (none || asks_for("memory")).then_some(Self(None));
        let grounds = Ground::ALL.into_iter().filter(move |ground| none || asks_for(ground.name()));
        memory.into_iter().chain(grounds.filter_map(|ground| match ground.prepare() {
            Ok(prepared) => Some(Self(Some((ground, prepared)))),
            Err(error) => {
                crate::report::say(&format!("{}: left out: {error}", ground.name()));
                None
            }
        }))
    }

    /// Its name in reports.
    pub fn name(&self) -> &'static str {
        self.0.as_ref().map_or("memory", |(ground, _)| ground.name())
    }

    /// `n` handles on one empty store.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn fresh(&mut self, clock: &ManualClock, n: usize) -> Result<Vec<Arc<dyn Store>>, Failure> {
        let clock = || Arc::new(clock.clone());
        let Some((_, prepared)) = &mut self.0 else {
            let store = MemoryStore::with_clock(clock());
            return Ok((0..n).map(|_| Arc::new(store.handle()) as Arc<dyn Store>).collect());
        };
        let plot = prepared.plot();
        let mut stores = Vec::with_capacity(n);
        for _ in 0..n {
            stores.push(plot.store_at(clock()).await?);
        }
        Ok(stores)
    }
}
