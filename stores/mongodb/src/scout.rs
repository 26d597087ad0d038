//! When to look for what other programs wrote.
//!
//! Every claim that comes after the interval asks for it along with what it asks for anyway, and an idle
//! node claims at its poll. That is enough where nobody else writes. Where somebody is known to, which the
//! board says, one node of all, the eldest, asks once in each interval.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::db::Db;
use crate::error::Step;
use crate::hints::Hints;
use crate::queries::strangers;

/// When was last looked, and how often it is done.
#[derive(Debug)]
pub(crate) struct Scout {
    interval: Duration,
    looked_at: Mutex<Option<Instant>>,
}

impl Scout {
    pub(crate) fn new(interval: Duration) -> Self {
        Self { interval, looked_at: Mutex::new(None) }
    }

    /// Whether it is time to look; whoever is told so does.
    pub(crate) fn is_time(&self) -> bool {
        let mut looked_at = self.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = looked_at.is_none_or(|at| at.elapsed() >= self.interval);
        if is_time {
            *looked_at = Some(Instant::now());
        }
        is_time
    }

    /// There is something: the next claim looks.
    pub(crate) fn look_next(&self) {
        *self.looked_at.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Looks until the task is ended.
    pub(crate) async fn run(self: Arc<Self>, db: Arc<Db>, hints: Hints) {
        loop {
            tokio::time::sleep(self.interval.max(Duration::from_millis(100))).await;
            let is_mine = db.seen.strangers() && db.beating.has(db.seen.eldest());
            if !is_mine || !self.is_time() {
                continue;
            }
            match Self::look(&db).await {
                Ok(true) => hints.tell(),
                Ok(false) => {}
                Err(error) => tracing::debug!(?error, "a look for others' jobs failed; the next claim looks"),
            }
        }
    }

    async fn look(db: &Db) -> Step<bool> {
        let now = db.about_now().await?;
        strangers::look(db, now).await
    }
}
