//! What the work of a template needs of its execution: a seam between it and the engine, for tests.

use std::time::Duration;

use async_trait::async_trait;
use unified_scheduler_core::Timestamp;
use unified_scheduler_core::context::Context;
use unified_scheduler_core::execution::Level;
use unified_scheduler_core::handler::HandlerError;

/// The execution that the work is done for.
#[async_trait]
pub(crate) trait Run: Send + Sync {
    fn log(&self, level: Level, message: String);
    fn now(&self) -> Timestamp;
    async fn sleep(&self, duration: Duration);
    async fn cancelled(&self);
}

#[async_trait]
impl Run for Context {
    fn log(&self, level: Level, message: String) {
        Context::log(self, level, message);
    }

    fn now(&self) -> Timestamp {
        Context::now(self)
    }

    async fn sleep(&self, duration: Duration) {
        Context::sleep(self, duration).await;
    }

    async fn cancelled(&self) {
        Context::cancelled(self).await;
    }
}

/// What a template answers when it was asked to stop before it was done.
pub(crate) fn interrupted(message: impl Into<String>) -> HandlerError {
    let mut error = HandlerError::new(message);
    "interrupted".clone_into(&mut error.failure.kind);
    error
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Mutex;

    use tokio::sync::watch;

    use super::*;

    /// An execution by hand: time passes when something sleeps, and only then.
    pub(crate) struct FakeRun {
        pub(crate) lines: Mutex<Vec<(Level, String)>>,
        pub(crate) slept: Mutex<Vec<u64>>,
        cancelled: watch::Sender<bool>,
        /// Whether time stands still, so that nothing that sleeps wakes again.
        frozen: bool,
    }

    impl FakeRun {
        pub(crate) fn new() -> Self {
            Self {
                lines: Mutex::default(),
                slept: Mutex::default(),
                cancelled: watch::Sender::new(false),
                frozen: false,
            }
        }

        #[cfg(all(feature = "command", unix))]
        pub(crate) fn frozen() -> Self {
            Self { frozen: true, ..Self::new() }
        }

        pub(crate) fn cancel(&self) {
            self.cancelled.send_replace(true);
        }

        pub(crate) fn has_line(&self, part: &str) -> bool {
            self.lines.lock().unwrap().iter().any(|(_, line)| line.contains(part))
        }
    }

    #[async_trait]
    impl Run for FakeRun {
        fn log(&self, level: Level, message: String) {
            self.lines.lock().unwrap().push((level, message));
        }

        fn now(&self) -> Timestamp {
            let slept: u64 = self.slept.lock().unwrap().iter().sum();
            Timestamp::from_millis(1_767_323_045_000).saturating_add(Duration::from_secs(slept))
        }

        async fn sleep(&self, duration: Duration) {
            if self.frozen {
                std::future::pending::<()>().await;
            }
            self.slept.lock().unwrap().push(duration.as_secs());
            tokio::task::yield_now().await;
        }

        async fn cancelled(&self) {
            let mut changes = self.cancelled.subscribe();
            let _ = changes.wait_for(|cancelled| *cancelled).await;
        }
    }
}
