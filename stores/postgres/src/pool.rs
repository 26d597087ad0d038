//! A small pool of connections, for this store alone.
//!
//! In place of the driver's: a connection goes back without a question to the server, and one that a
//! call has left in the middle of something, because its caller went away or its time was up, is never
//! used again. One that breaks takes the idle ones with it, since what broke it was most likely the server.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use unified_scheduler_core::Error;

use crate::error::Step;

/// A connection that was idle for longer is asked whether it lives before it is used.
const FRESH: Duration = Duration::from_secs(20);

pub(crate) struct Pool {
    options: PgConnectOptions,
    size: u32,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    connection: PgConnection,
    since: Instant,
}

/// A connection in use.
#[derive(Debug)]
pub(crate) struct Lent {
    pub(crate) connection: PgConnection,
    permit: OwnedSemaphorePermit,
}

impl fmt::Debug for Pool {
    // Without the options, which hold the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("size", &self.size).finish_non_exhaustive()
    }
}

impl Pool {
    pub(crate) fn new(options: PgConnectOptions, size: u32) -> Self {
        let permits = Arc::new(Semaphore::new(size.try_into().unwrap_or(usize::MAX >> 4)));
        Self { options, size, permits, idle: Mutex::default() }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that lives, as far as can be known without asking each time.
    pub(crate) async fn acquire(&self) -> Step<Lent> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| closed())?;
        loop {
            let Some(idle) = self.idle().pop() else { break };
            let Idle { mut connection, since } = idle;
            if since.elapsed() < FRESH || connection.ping().await.is_ok() {
                return Ok(Lent { connection, permit });
            }
            self.forget_idle();
        }
        let connection = self.options.connect().await?;
        Ok(Lent { connection, permit })
    }

    /// Takes a connection back that waits for the next statement.
    pub(crate) fn give_back(&self, lent: Lent) {
        let Lent { connection, permit } = lent;
        self.idle().push(Idle { connection, since: Instant::now() });
        drop(permit);
    }

    /// Drops the idle connections: the server they went to has most likely gone.
    pub(crate) fn forget_idle(&self) {
        let gone = std::mem::take(&mut *self.idle());
        drop(gone);
    }

    /// Waits for the calls under way, then closes every connection.
    pub(crate) async fn close(&self) {
        // Fair: whoever asked for a connection before this gets it before this.
        let all = self.permits.acquire_many(self.size).await;
        self.permits.close();
        drop(all);
        let idle = std::mem::take(&mut *self.idle());
        for Idle { connection, .. } in idle {
            // It is closed either way; the server only learns it later.
            let _ = connection.close().await;
        }
    }
}

pub(crate) fn closed() -> Error {
    Error::stopped("the store is closed")
}
