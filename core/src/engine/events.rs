//! The stream of events, and the listeners on it.

use std::panic::AssertUnwindSafe;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::event::Event;

/// How many events a listener may be behind before it loses the oldest.
const BACKLOG: usize = 8192;

/// Where events go out.
#[derive(Clone)]
pub(crate) struct Events(broadcast::Sender<Event>);

impl Events {
    pub(crate) fn new() -> Self {
        Self(broadcast::Sender::new(BACKLOG))
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.0.subscribe()
    }

    /// Tells whoever listens; the event is not even made when nobody does.
    pub(crate) fn tell(&self, event: impl FnOnce() -> Event) {
        if self.0.receiver_count() > 0 {
            // An error means that the last listener has just gone.
            let _ = self.0.send(event());
        }
    }
}

/// Calls `listener` with every event until the scheduler has stopped. A panic in it is logged.
pub(crate) async fn listen(
    mut events: broadcast::Receiver<Event>,
    listener: impl Fn(&Event) + Send + Sync + 'static,
) {
    loop {
        match events.recv().await {
            Ok(event) => {
                if std::panic::catch_unwind(AssertUnwindSafe(|| listener(&event))).is_err() {
                    tracing::error!("a listener panicked; it goes on with the next event");
                }
                if matches!(event, Event::Stopped) {
                    return;
                }
            }
            Err(RecvError::Lagged(n)) => {
                tracing::warn!(missed = n, "a listener is too slow and has lost events");
            }
            Err(RecvError::Closed) => return,
        }
    }
}
