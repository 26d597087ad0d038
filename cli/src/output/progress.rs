//! How far long work is: one line on the standard error, only where a terminal is.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Short work shows nothing.
const PATIENCE: Duration = Duration::from_millis(300);
const EVERY: Duration = Duration::from_millis(100);

/// The progress of one piece of work.
pub(crate) struct Progress {
    what: &'static str,
    shown_at: Option<Instant>,
    next: Instant,
    on: bool,
}

impl Progress {
    pub(crate) fn new(what: &'static str) -> Self {
        let next = Instant::now() + PATIENCE;
        Self { what, shown_at: None, next, on: io::stderr().is_terminal() }
    }

    /// Says that so much is done.
    pub(crate) fn done(&mut self, n: u64) {
        let now = Instant::now();
        if !self.on || now < self.next {
            return;
        }
        self.next = now + EVERY;
        self.shown_at = Some(now);
        // Progress that can't be shown is no reason to stop.
        let _ = write!(io::stderr(), "\r\u{1b}[K{} {n} …", self.what);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown_at.is_some() {
            let _ = write!(io::stderr(), "\r\u{1b}[K");
        }
    }
}
