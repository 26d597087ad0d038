//! The faults, one after another: decks of all that there are, each shuffled, so that each has its turn.

use std::sync::Arc;
use std::time::{Duration, Instant};

use unified_scheduler_services::Server;

use super::cluster::{Cluster, LEASE, N_NODES, SKEW_MILLIS};
use super::native;
use crate::proxy::Mode;
use crate::{Failure, health};

/// How long all may take to be well again.
const HEALED: Duration = Duration::from_secs(40);
/// How long something that may start may wait.
const OVERDUE: Duration = Duration::from_secs(3);

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blow {
    Kill,
    Stop,
    Clock,
    Cut,
    Refuse,
    Swallow,
    Mute,
    Slow,
    /// What is sent arrives when nobody waits for it any more.
    Late,
    Fickle,
    Native,
    StoreCrash,
    StoreRestart,
}

impl Blow {
    /// Those that need no server.
    const OF_FILES: &'static [Self] = &[Self::Kill, Self::Kill, Self::Stop, Self::Clock];

    /// All of them; the server's own errors are many.
    const OF_SERVERS: &'static [Self] = &[
        Self::Kill,
        Self::Kill,
        Self::Stop,
        Self::Clock,
        Self::Cut,
        Self::Refuse,
        Self::Swallow,
        Self::Mute,
        Self::Slow,
        Self::Late,
        Self::Fickle,
        Self::Native,
        Self::Native,
        Self::Native,
        Self::Native,
        Self::StoreCrash,
        Self::StoreRestart,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Kill => "nodes killed",
            Self::Stop => "nodes stopped",
            Self::Clock => "clock steps",
            Self::Cut => "connections cut",
            Self::Refuse => "connections refused",
            Self::Swallow => "connections half open",
            Self::Mute => "replies lost",
            Self::Slow => "connections slow",
            Self::Late => "requests late",
            Self::Fickle => "connections fickle",
            Self::Native => "errors of the server",
            Self::StoreCrash => "crashes of the server",
            Self::StoreRestart => "restarts of the server",
        }
    }
}

/// Starts the nodes, and strikes for so long, and at least once with each fault.
///
/// # Errors
///
/// When the server does not come back.
pub(super) async fn strike(cluster: &Arc<Cluster>, lasts: Duration) -> Result<(), Failure> {
    for slot in 0..N_NODES {
        Arc::clone(cluster).start(slot).await;
    }
    let began = Instant::now();
    let all = if cluster.target.server.is_some() { Blow::OF_SERVERS } else { Blow::OF_FILES };
    loop {
        let mut deck = all.to_vec();
        while !deck.is_empty() {
            let next = cluster.draw(|r| usize::try_from(r.within(0..deck.len() as u64)).unwrap_or(0));
            let blow = deck.swap_remove(next);
            pause(cluster, 30..350).await;
            deal(cluster, blow).await?;
        }
        if began.elapsed() >= lasts {
            return Ok(());
        }
    }
}

async fn pause(cluster: &Cluster, millis: std::ops::Range<u64>) {
    let millis = cluster.draw(|r| r.within(millis));
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

async fn deal(cluster: &Arc<Cluster>, blow: Blow) -> Result<(), Failure> {
    let slot = cluster.draw(|r| usize::try_from(r.within(0..N_NODES as u64)).unwrap_or(0));
    let wait = cluster.draw(|r| r.between(Duration::from_millis(100), LEASE * 3 / 2));
    match blow {
        Blow::Kill => cluster.crash(slot, wait),
        Blow::Stop => cluster.restart(slot, wait / 2),
        Blow::Clock => {
            let skew = cluster.draw(|r| r.around_zero(SKEW_MILLIS));
            cluster.nodes().iter().filter(|(n, _)| *n == slot).for_each(|(_, node)| node.clock.set(skew));
        }
        Blow::Cut => cluster.cut(slot),
        Blow::Refuse => disturb(cluster, slot, Mode::Refuse, wait),
        // Longer than its lease.
        Blow::Swallow => disturb(cluster, slot, Mode::Swallow, LEASE + wait),
        Blow::Mute => disturb(cluster, slot, Mode::Mute, wait),
        Blow::Slow => disturb(cluster, slot, Mode::Delay(wait / 30), wait),
        Blow::Late => disturb(cluster, slot, Mode::Delay(LEASE * 3 / 4), LEASE),
        Blow::Fickle => disturb(cluster, slot, Mode::Fickle { delays: 200, cuts: 50 }, wait),
        Blow::Native => {
            if let Some(what) = native::upset(cluster).await? {
                cluster.count(what);
            }
        }
        Blow::StoreCrash => cluster.away(Server::crash, wait / 4)?,
        Blow::StoreRestart => cluster.away(Server::stop, wait / 4)?,
    }
    cluster.count(blow.name());
    Ok(())
}

/// The way of a node is out of order for a while.
fn disturb(cluster: &Arc<Cluster>, slot: usize, mode: Mode, lasts: Duration) {
    let disturbance = cluster.disturb(slot, mode);
    let cluster = Arc::clone(cluster);
    tokio::spawn(async move {
        tokio::time::sleep(lasts).await;
        cluster.end_disturbance(slot, disturbance);
    });
}

/// Ends all faults, and waits until all is well.
///
/// # Errors
///
/// What is not well, when it has had its time.
pub(super) async fn heal(cluster: &Arc<Cluster>) -> Result<(), Failure> {
    for slot in 0..N_NODES {
        cluster.disturb(slot, Mode::Pass);
        tokio::spawn(Arc::clone(cluster).start(slot));
    }
    cluster.nodes().iter().for_each(|(_, node)| node.clock.set(0));
    let began = Instant::now();
    loop {
        let members = cluster.members();
        let asked = cluster.ask(|store| {
            let members = members.clone();
            async move { health::ill(&*store, &members, OVERDUE).await }
        });
        let ill = asked.await?;
        // Longer than a lease, so that what was left open by the last fault is found.
        if ill.is_empty() && began.elapsed() > LEASE * 2 {
            return Ok(());
        }
        if began.elapsed() > HEALED {
            let found = cluster.found();
            return Err(format!("it does not heal: {ill}\n{}", found.join("\n")).into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
