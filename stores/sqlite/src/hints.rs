//! Hints that something may be due: from this process at once, from others by looking at the file.
//!
//! The keeper, a thread with a connection of its own, looks at `PRAGMA data_version` (which costs
//! microseconds, and changes with each commit of any other connection) and, when it has changed, at a
//! counter that only those writes move which can make something due. It also moves the write-ahead log
//! into the file, so that the writer need not.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::error::Step;
use crate::session::Session;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// How often, at most, the write-ahead log is moved into the file.
const CHECKPOINT: Duration = Duration::from_secs(1);

/// The counter that [`unified_scheduler_core::store::Store::hints`] gives.
#[derive(Debug, Clone)]
pub(crate) struct Hints {
    sender: Arc<watch::Sender<u64>>,
    /// The last value of the file's counter that was told.
    told: Arc<AtomicI64>,
}

impl Hints {
    pub(crate) fn new() -> Self {
        Self { sender: Arc::new(watch::Sender::new(0)), told: Arc::new(AtomicI64::new(0)) }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.sender.subscribe()
    }

    /// This process has moved the file's counter to `changes`.
    pub(crate) fn changed_here(&self, changes: i64) {
        self.told.fetch_max(changes, Ordering::Relaxed);
        self.tell();
    }

    /// The file's counter was found to be `changes`.
    fn found(&self, changes: i64) {
        if self.told.fetch_max(changes, Ordering::Relaxed) < changes {
            self.tell();
        }
    }

    fn tell(&self) {
        self.sender.send_modify(|n| *n = n.wrapping_add(1));
    }
}

/// The thread that looks at the file and moves the log.
pub(crate) struct Keeper {
    pub(crate) session: Session,
    pub(crate) hints: Hints,
    /// The file of the write-ahead log, and from which size on it is cut.
    pub(crate) wal: std::path::PathBuf,
}

impl Keeper {
    /// Works until the other end of `stop` is gone.
    pub(crate) fn keep(mut self, stop: &Receiver<()>) {
        let mut seen = 0;
        let mut dirty = false;
        let mut checkpointed_at = Instant::now();
        while stop.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
            match self.look(&mut seen) {
                Ok(changed) => dirty |= changed,
                // A hint may be lost; the next look finds what this one missed.
                Err(error) => tracing::debug!(?error, "could not look for changes"),
            }
            if dirty && checkpointed_at.elapsed() >= CHECKPOINT {
                dirty = false;
                checkpointed_at = Instant::now();
                if let Err(error) = self.checkpoint() {
                    tracing::debug!(?error, "could not move the write-ahead log into the file");
                }
            }
        }
    }

    fn look(&mut self, seen: &mut i64) -> Step<bool> {
        let version = self.session.first("PRAGMA data_version", [], |row| row.get(0))?.unwrap_or_default();
        if version == *seen {
            return Ok(false);
        }
        *seen = version;
        if let Some(changes) =
            self.session.first("SELECT value FROM @meta WHERE key = 'changes'", [], |row| row.get(0))?
        {
            self.hints.found(changes);
        }
        Ok(true)
    }

    /// Moves what can be moved without waiting; cuts the log when readers let it grow too far.
    fn checkpoint(&self) -> Step<()> {
        const TOO_LONG: u64 = 64 << 20;
        let too_long = std::fs::metadata(&self.wal).is_ok_and(|file| file.len() > TOO_LONG);
        let sql = if too_long { "PRAGMA wal_checkpoint(TRUNCATE)" } else { "PRAGMA wal_checkpoint(PASSIVE)" };
        self.session.first(sql, [], |_| Ok(()))?;
        Ok(())
    }
}
