//! The simulation on a real store: schedulers in one process, each with its own connections through its own
//! proxy, jobs, edits and faults drawn from a seed, in real time. Afterwards all heals, and the checker of
//! the other tests goes through what the handlers did and what the store says.
//!
//! The world of `unified_scheduler_tests` has a clock that is moved by hand and sees every commit; here the
//! store is the one that users have, with its own clock, errors and connections. So the same seed gives the
//! same jobs, edits and faults, and not the same run.
//!
//! | file | holds |
//! |---|---|
//! | [`cluster`] | the store, its proxies, the nodes |
//! | `work` | what handlers do, and the log of it that no store sees |
//! | `storm` | the faults, one after another |
//! | `native` | errors that the servers themselves are made to give |
//! | `people` | edits, triggers and cancellations while nodes claim |
//! | `watch` | rows seen as they change |
//! | `verdict` | what must hold afterwards |

pub mod cluster;
mod native;
mod people;
mod storm;
mod verdict;
mod watch;
mod work;

use std::sync::Arc;
use std::time::Duration;

use crate::Failure;
use crate::account::Account;
use crate::tally::Tally;
use crate::targets::Target;
use cluster::Cluster;

/// How many times quicker than in the world with a clock of its own jobs are.
pub const QUICKER: u32 = 600;

/// One run.
#[derive(Debug)]
pub struct Report {
    /// What was found.
    pub account: Account,
    /// How often each fault has struck.
    pub tally: Tally,
}

/// Runs a cluster on a store of its own from its beginning to its verdict, with faults for so long, and at
/// least one of each.
///
/// # Errors
///
/// When something of the test itself does not work; when the cluster does not heal.
pub fn run(target: Target, lasts: Duration, seed: u64) -> Result<Report, Failure> {
    let runtime = tokio::runtime::Runtime::new()?;
    let report = runtime.block_on(live(target, lasts, seed));
    runtime.shutdown_timeout(Duration::from_secs(5));
    report
}

async fn live(target: Target, lasts: Duration, seed: u64) -> Result<Report, Failure> {
    let cluster = Arc::new(Cluster::open(target, seed).await?);
    let watching = tokio::spawn(watch::rows(Arc::clone(&cluster)));
    let people = tokio::spawn(people::edit(Arc::clone(&cluster)));
    storm::strike(&cluster, lasts).await?;
    let windows = {
        cluster.calm_down();
        people.await??
    };
    storm::heal(&cluster).await?;
    cluster.stop().await;
    watching.await??;
    let account = verdict::of(&cluster, windows).await?;
    let tally = cluster.tally();
    Ok(Report { account, tally })
}
