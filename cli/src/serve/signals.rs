//! The signals by which a node is asked to stop.

use crate::exit::Failure;

#[cfg(unix)]
mod platform {
    use tokio::signal::unix::{Signal, SignalKind, signal};

    use super::Failure;

    /// SIGINT and SIGTERM, from its making on.
    pub(crate) struct Signals {
        interrupt: Signal,
        terminate: Signal,
        last: u8,
    }

    impl Signals {
        pub(crate) fn new() -> Result<Self, Failure> {
            let listen =
                |kind| signal(kind).map_err(|e| Failure::input(format!("signals can't be listened to: {e}")));
            Ok(Self {
                interrupt: listen(SignalKind::interrupt())?,
                terminate: listen(SignalKind::terminate())?,
                last: 0,
            })
        }

        /// The name of the next one.
        pub(crate) async fn next(&mut self) -> &'static str {
            let (name, number) = tokio::select! {
                _ = self.interrupt.recv() => ("SIGINT", 2),
                _ = self.terminate.recv() => ("SIGTERM", 15),
            };
            self.last = number;
            name
        }

        /// The exit code by which shells tell that a signal ended a program.
        pub(crate) fn code(&self) -> u8 {
            128 + self.last
        }
    }
}

#[cfg(not(unix))]
mod platform {
    use super::Failure;

    /// Ctrl-C.
    pub(crate) struct Signals;

    impl Signals {
        #[expect(clippy::unnecessary_wraps, reason = "as where signals exist")]
        pub(crate) fn new() -> Result<Self, Failure> {
            Ok(Self)
        }

        pub(crate) async fn next(&mut self) -> &'static str {
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
            "Ctrl-C"
        }

        pub(crate) fn code(&self) -> u8 {
            130
        }
    }
}

pub(crate) use platform::Signals;
