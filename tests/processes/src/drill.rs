//! What is done to the nodes, the store and the network, and when.
//!
//! Rounds of the same faults, each at another node and after other waits, as the seed says, for as long
//! as the run is to last. Between two of them there is time for the nodes to come back, and at the end
//! enough for everything to heal.

use std::time::{Duration, Instant};

use unified_scheduler::{Epoch, Execution, NodeId, Status};
use unified_scheduler_services::Server;

use crate::Failure;
use crate::arena::{Arena, HEARTBEAT, LEASE, SKEWS};
use crate::health;
use crate::node::all_events;
use crate::proxy::Mode;

/// After how long to give up waiting for a node to be reaped. Whether it was in time is asked later.
const REAPED: Duration = Duration::from_secs(20);

/// How long something that may start may wait.
const OVERDUE: Duration = Duration::from_secs(2);

/// How long after an outage every node may reap again.
pub const CALM: Duration = LEASE.saturating_add(HEARTBEAT);

/// A node that was killed or stood still for longer than its lease.
#[derive(Debug, Clone)]
pub struct Death {
    /// Which.
    pub node: NodeId,
    /// When it stopped.
    pub at: Instant,
}

/// A node that stood still, was found dead, and went on.
#[derive(Debug, Clone)]
pub struct Zombie {
    /// Which.
    pub node: NodeId,
    /// In which epoch it was found dead.
    pub epoch: Epoch,
    /// What it had been running, as it was recorded before it went on.
    pub lost: Vec<Execution>,
}

/// What was done, as far as it must be known afterwards.
#[derive(Debug, Default)]
pub struct Deeds {
    /// All that died.
    pub deaths: Vec<Death>,
    /// Those of them that came back.
    pub zombies: Vec<Zombie>,
}

/// Rounds of faults for so long, and at least one; then all is left to heal, and ended.
///
/// # Errors
///
/// When a node does not come back, or something does not heal.
pub fn run(arena: &mut Arena, lasts: Duration) -> Result<Deeds, Failure> {
    let began = Instant::now();
    let mut deeds = Deeds::default();
    // Until jobs of every phase are on their way.
    arena.pause(3500..4500);
    while deeds.deaths.is_empty() || began.elapsed() < lasts {
        kill_and_stop(arena, &mut deeds)?;
        if arena.server.is_some() {
            break_connections(arena);
            take_store_away(arena, "crashes of the database", Server::crash)?;
            take_store_away(arena, "restarts of the database", Server::stop)?;
        }
    }
    heal(arena)?;
    end(arena)?;
    Ok(deeds)
}

impl Arena {
    fn pause(&mut self, millis: std::ops::Range<u64>) {
        let millis = self.random.within(millis);
        std::thread::sleep(Duration::from_millis(millis));
    }

    /// The slots in an order of their own.
    fn shuffled(&mut self) -> Vec<usize> {
        let mut slots: Vec<usize> = (0..SKEWS.len()).collect();
        for i in (1..slots.len()).rev() {
            let j = usize::try_from(self.random.within(0..i as u64 + 1)).unwrap_or(0);
            slots.swap(i, j);
        }
        slots
    }

    fn identity(&self, slot: usize) -> Result<(NodeId, Epoch), Failure> {
        let node = &self.nodes[slot];
        node.identity().ok_or_else(|| format!("{} has never joined", node.name).into())
    }
}

/// One node is killed, and another stands still for longer than its lease; a new one takes the place of
/// the first, and the second goes on, and must be refused.
fn kill_and_stop(arena: &mut Arena, deeds: &mut Deeds) -> Result<(), Failure> {
    // Nobody reaps who has not been in touch with the store for a lease; what is to be timed waits for that.
    if let Some((_, ended)) = arena.outages.last() {
        std::thread::sleep(CALM.saturating_sub(ended.elapsed()));
    }
    let slots = arena.shuffled();
    let (killed, stopped) = (slots[0], slots[1]);

    let (death, epoch) = stop_between_writes(arena, stopped)?;
    let zombie = death.node.clone();
    deeds.deaths.push(death);
    arena.tally.count("SIGSTOP");

    arena.pause(100..600);
    let (node, _) = arena.identity(killed)?;
    arena.nodes[killed].kill()?;
    deeds.deaths.push(Death { node: node.clone(), at: Instant::now() });
    arena.tally.count("SIGKILL");
    arena.pause(200..1000);
    arena.nodes[killed] = arena.launch(killed)?;

    // What it left must have been found before it goes on, or there is nothing to be seen.
    let none_running = |arena: &Arena| Ok(arena.executions(&[Status::Running], Some(&zombie))?.is_empty());
    arena.until("a node that stands still is reaped", REAPED, none_running)?;
    let lost = arena.executions(&[Status::Lost], Some(&zombie))?;
    arena.tally.add("executions of a zombie", lost.len() as u64);
    arena.nodes[stopped].go_on()?;
    arena.until("a zombie is refused and joins again", LEASE * 3, |arena| {
        Ok(arena.nodes[stopped].identity().is_some_and(|(_, now)| now > epoch))
    })?;
    deeds.zombies.push(Zombie { node: zombie, epoch, lost });
    arena.until("a new node joins", LEASE * 3, |arena| Ok(arena.nodes[killed].identity().is_some()))?;
    let none_running = |arena: &Arena| Ok(arena.executions(&[Status::Running], Some(&node))?.is_empty());
    arena.until("a node that was killed is reaped", REAPED, none_running)?;
    arena.pause(500..1000);
    Ok(())
}

/// Makes a node stand still, and answers who it is and when. One that stops inside a write to SQLite keeps the
/// file's lock for as long as it stands still, and nobody can write, let alone reap: that is SQLite's, and
/// nothing is to be seen of it here. Such a node goes on, and is stopped again.
fn stop_between_writes(arena: &mut Arena, slot: usize) -> Result<(Death, Epoch), Failure> {
    loop {
        let (id, epoch) = arena.identity(slot)?;
        let before = arena.ask(async |store| store.now().await)?;
        arena.nodes[slot].stop()?;
        let at = Instant::now();
        let others_write = |arena: &Arena| {
            let nodes = arena.ask(async |store| store.list_nodes().await)?;
            Ok(nodes.iter().any(|node| node.id != id && node.seen_at > before))
        };
        let is_file = arena.server.is_none();
        if !is_file || arena.until("another node writes", HEARTBEAT * 2, others_write).is_ok() {
            return Ok((Death { node: id, at }, epoch));
        }
        arena.tally.count("stopped inside a write");
        arena.nodes[slot].go_on()?;
        arena.pause(1500..2500);
    }
}

/// Every connection is cut; then the way of each node is out of order in another manner, and one of them
/// for longer than its lease.
fn break_connections(arena: &mut Arena) {
    let began = Instant::now();
    for proxy in arena.proxies.iter().flat_map(|way| way.iter()) {
        proxy.cut();
    }
    arena.tally.count("all connections cut");
    arena.pause(300..600);
    let slots = arena.shuffled();
    let delay = Duration::from_millis(arena.random.within(20..150));
    // The last stays as it is, so that somebody can reap.
    let modes = [Mode::Swallow, Mode::Refuse, Mode::Mute];
    for (slot, mode) in slots.iter().zip(modes) {
        arena.set(*slot, mode);
    }
    arena.tally.count("half-open connections");
    arena.tally.count("refused connections");
    arena.tally.count("lost replies");
    arena.pause(800..1500);
    arena.set(slots[1], Mode::Delay(delay));
    arena.set(slots[2], Mode::Fickle { delays: 200, cuts: 20 });
    arena.tally.count("slow connections");
    arena.tally.count("fickle connections");
    let left = (LEASE + HEARTBEAT).saturating_sub(began.elapsed());
    std::thread::sleep(left);
    for slot in slots {
        arena.set(slot, Mode::Pass);
    }
    arena.tally.count("partitions longer than the lease");
    arena.outages.push((began, Instant::now()));
    arena.pause(500..1000);
}

/// The database ends, killed or asked to, is away for a while, and comes back with what it had written.
fn take_store_away(
    arena: &mut Arena,
    what: &'static str,
    end: impl FnOnce(&mut Server) -> Result<(), unified_scheduler_services::Failure>,
) -> Result<(), Failure> {
    let began = Instant::now();
    let pause = Duration::from_millis(arena.random.within(200..1200));
    let Some(server) = &mut arena.server else { return Ok(()) };
    end(server)?;
    std::thread::sleep(pause);
    server.restart()?;
    arena.tally.count(what);
    arena.outages.push((began, Instant::now()));
    arena.pause(1500..2500);
    Ok(())
}

/// No faults any more: every node is a member again, and nothing waits that could run.
fn heal(arena: &mut Arena) -> Result<(), Failure> {
    for slot in 0..SKEWS.len() {
        arena.set(slot, Mode::Pass);
    }
    let healed_at = Instant::now();
    let mut ill = String::new();
    let healed = arena.until("all is well again", Duration::from_secs(30), |arena| {
        ill = match what_is_ill(arena) {
            Ok(ill) => ill,
            Err(error) => error.to_string(),
        };
        Ok(ill.is_empty() && healed_at.elapsed() > LEASE + HEARTBEAT)
    });
    healed.map_err(|e| format!("{e}: {ill}").into())
}

fn what_is_ill(arena: &Arena) -> Result<String, Failure> {
    let members: Vec<_> = arena.nodes.iter().map(|node| (node.name.clone(), node.identity())).collect();
    arena.ask(async |store| health::ill(store, &members, OVERDUE).await)
}

/// Every node drains and ends.
fn end(arena: &mut Arena) -> Result<(), Failure> {
    for node in &arena.nodes {
        node.ask_to_end()?;
    }
    for node in &mut arena.nodes {
        let status = node.wait(Duration::from_secs(20))?;
        if !status.success() {
            return Err(format!("{} has ended with {status}", node.name).into());
        }
    }
    let events = all_events(arena.folder())?;
    let count = |name: &str| events.iter().filter(|event| event["event"] == name).count() as u64;
    for (what, event) in [
        ("refused ends", "execution_refused"),
        ("times degraded", "degraded"),
        ("lost leases", "lease_lost"),
        ("times joined", "node_joined"),
        ("jobs set aside", "job_set_aside"),
    ] {
        arena.tally.add(what, count(event));
    }
    Ok(())
}
