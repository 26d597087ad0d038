//! What the engine logs, on its way to Python's `logging`.
//!
//! Lines wait in a queue until a Python thread fetches them: a thread of the engine that took the
//! interpreter's lock to log would stand still as long as somebody holds it.

use std::collections::VecDeque;
use std::fmt::{Debug, Write};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use pyo3::prelude::*;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// How many lines may wait; then the oldest are lost.
const LINES: usize = 2000;

/// A line: its level in `logging`, its target, its text.
type Line = (u8, String, String);

static LINES_WAITING: Mutex<VecDeque<Line>> = Mutex::new(VecDeque::new());
static THRESHOLD: AtomicU8 = AtomicU8::new(30);
static INSTALLED: Once = Once::new();

/// Says from which level of `logging` on lines are kept. The first call begins to listen.
#[pyfunction]
pub(crate) fn set_log_level(level: u8) {
    THRESHOLD.store(level, Ordering::Relaxed);
    INSTALLED.call_once(|| {
        // An error means that somebody else listens in this process already.
        let _ = tracing::subscriber::set_global_default(ToPython);
    });
    tracing::callsite::rebuild_interest_cache();
}

/// Takes the lines that wait: level in `logging`, target, text.
#[pyfunction]
pub(crate) fn take_log() -> Vec<Line> {
    match LINES_WAITING.try_lock() {
        Ok(mut lines) => lines.drain(..).collect(),
        // Somebody adds a line; the next call finds it. In a forked child it may be so for ever.
        Err(_) => Vec::new(),
    }
}

fn number(level: Level) -> u8 {
    match level {
        Level::ERROR => 40,
        Level::WARN => 30,
        Level::INFO => 20,
        Level::DEBUG => 10,
        Level::TRACE => 5,
    }
}

struct ToPython;

impl Subscriber for ToPython {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && metadata.target().starts_with("unified_scheduler")
            && number(*metadata.level()) >= THRESHOLD.load(Ordering::Relaxed)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let line = (
            number(*event.metadata().level()),
            event.metadata().target().to_owned(),
            format!("{}{}", text.message, text.fields),
        );
        let mut lines = LINES_WAITING.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() >= LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The message first, then the fields.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string does not fail.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
    }
}
