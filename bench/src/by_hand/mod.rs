//! The same rows as a store writes, in its own tables with all its indexes, by the best batched statements
//! known for that server: what it can do, with nothing of a scheduler in between.

mod mongodb;
mod postgres;
mod redis;
mod sqlite;

use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::Failure;
use crate::ground::{Ground, Plot};

/// One client that writes by hand.
#[async_trait]
pub trait ByHand: Send {
    /// Claims at most `size` jobs that are due at `now`, and completes them. Answers how many there were.
    ///
    /// # Errors
    ///
    /// The driver's own.
    async fn batch(&mut self, now: i64, size: usize) -> Result<usize, Failure>;
}

/// A client on the rows of a store.
///
/// # Errors
///
/// The driver's own.
pub async fn client(plot: &Plot) -> Result<Box<dyn ByHand>, Failure> {
    Ok(match plot.ground {
        Ground::Sqlite => Box::new(sqlite::Sqlite::open(&plot.file())?),
        Ground::Postgres => Box::new(postgres::Postgres::connect(plot).await?),
        Ground::Redis => Box::new(redis::Redis::connect(plot).await?),
        Ground::Mongodb => Box::new(mongodb::Mongodb::connect(plot).await?),
    })
}

/// Claims and completes everything that is due at `now`, with `n` clients side by side.
///
/// # Errors
///
/// The driver's own.
pub async fn work_off(plot: &Plot, now: i64, size: usize, n: usize) -> Result<(usize, Duration), Failure> {
    let mut clients = Vec::with_capacity(n);
    for _ in 0..n {
        clients.push(client(plot).await?);
    }
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for mut client in clients {
        tasks.spawn(async move {
            let mut done = 0;
            loop {
                match client.batch(now, size).await? {
                    0 => return Ok::<usize, Failure>(done),
                    more => done += more,
                }
            }
        });
    }
    let mut done = 0;
    while let Some(task) = tasks.join_next().await {
        done += task??;
    }
    Ok((done, began.elapsed()))
}
