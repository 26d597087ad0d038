//! Where the engine's loops and the handlers run.
//!
//! The loops have a thread of their own, so that a handler that blocks its runtime delays no lease and
//! no other job. In tests with a manual clock both run where the test runs.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};

/// The two places where tasks run.
#[derive(Clone)]
pub(crate) struct Runtimes {
    engine: Handle,
    handlers: Handle,
    own: Option<Arc<OwnThread>>,
}

struct OwnThread {
    stop: CancellationToken,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Runtimes {
    /// Loops on a thread of their own, handlers on the caller's runtime.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::Internal`] outside a tokio runtime, or when no thread can be made.
    pub(crate) fn own_thread() -> Result<Self> {
        let handlers = Handle::try_current().map_err(|_| {
            Error::internal("a scheduler must be started within a tokio runtime, which runs its handlers")
        })?;
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Error::internal("no runtime for the engine").caused_by(e))?;
        let engine = runtime.handle().clone();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name("unified-scheduler".to_owned())
            .spawn(move || runtime.block_on(stopped.cancelled()))
            .map_err(|e| Error::internal("no thread for the engine").caused_by(e))?;
        let own = Arc::new(OwnThread { stop, thread: Mutex::new(Some(thread)) });
        Ok(Self { engine, handlers, own: Some(own) })
    }

    /// Both on the caller's runtime.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::Internal`] outside a tokio runtime.
    pub(crate) fn current() -> Result<Self> {
        let handle = Handle::try_current()
            .map_err(|_| Error::internal("a scheduler must be started within a tokio runtime"))?;
        Ok(Self { engine: handle.clone(), handlers: handle, own: None })
    }

    pub(crate) fn spawn_loop(
        &self,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> tokio::task::JoinHandle<()> {
        self.engine.spawn(future)
    }

    pub(crate) fn spawn_handler(
        &self,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> tokio::task::JoinHandle<()> {
        self.handlers.spawn(future)
    }

    /// Ends the engine's own thread; what still runs on it is dropped.
    pub(crate) fn shut_down(&self) {
        let Some(own) = &self.own else { return };
        own.stop.cancel();
        let thread = own.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Joining from the thread itself would never end.
        if let Some(thread) = thread.filter(|t| t.thread().id() != std::thread::current().id())
            && thread.join().is_err()
        {
            tracing::error!("the engine's thread panicked");
        }
    }
}
