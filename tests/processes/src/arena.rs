//! One run: its server, its proxies, its nodes and its jobs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use unified_scheduler::{
    Execution, JobDefinition, Jobs, NewJob, NodeId, Options, Retry, Schedule, Status, Store, connect,
};
use unified_scheduler_services::Server;
use unified_scheduler_tests::random::Random;

use crate::node::{Launch, Node};
use crate::proxy::{Mode, Proxy};
use crate::tally::Tally;
use crate::targets::Target;
use crate::way::Way;
use crate::{Failure, health};

/// The handler of every job.
pub const HANDLER: &str = "work";
/// How many jobs there are.
pub const N_JOBS: u64 = 1000;
/// How often each is due.
pub const EVERY: Duration = Duration::from_secs(4);
/// How long a node is believed alive.
pub const LEASE: Duration = Duration::from_secs(3);
/// How often a node says that it is.
pub const HEARTBEAT: Duration = Duration::from_secs(1);
/// How far the clock of each node is ahead.
pub const SKEWS: [i64; 4] = [0, 5 * 60_000, -5 * 60_000, 0];

/// How long to ask a store that does not answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How the nodes behave.
pub fn options(name: &str) -> Options {
    Options {
        node_name: name.to_owned(),
        // Two nodes can carry the jobs of four.
        concurrency: 300,
        lease: LEASE,
        poll: Duration::from_secs(1),
        call_timeout: Duration::from_secs(2),
        ..Options::default()
    }
}

/// One run.
pub struct Arena {
    /// What it runs on.
    pub target: Target,
    /// Its server.
    pub server: Option<Server>,
    /// The way of each node to the store; the same for all, where the members of a cluster tell it.
    pub proxies: Vec<Arc<Vec<Proxy>>>,
    /// The processes, by slot.
    pub nodes: Vec<Node>,
    /// How often each fault has struck.
    pub tally: Tally,
    /// What everything is drawn from.
    pub random: Random,
    /// Until when the store, or the way to it, was out of order, and from when.
    pub outages: Vec<(Instant, Instant)>,
    runtime: Runtime,
    store: Arc<dyn Store>,
    launches: Vec<Launch>,
    n_started: u32,
    folder: TempDir,
}

impl Arena {
    /// Starts the server and the proxies, makes the jobs, and then starts the nodes.
    ///
    /// # Errors
    ///
    /// When something of that does not work.
    pub fn open(target: Target, program: &Path, seed: u64) -> Result<Self, Failure> {
        let runtime = Runtime::new()?;
        let folder = tempfile::Builder::new().prefix("unified-scheduler-chaos-").tempdir()?;
        let way = runtime.block_on(Way::open(target, folder.path(), SKEWS.len(), seed))?;
        let launches = way
            .urls
            .into_iter()
            .zip(SKEWS)
            .map(|(url, skew_millis)| Launch {
                program: program.to_owned(),
                url,
                folder: folder.path().to_owned(),
                skew_millis,
            })
            .collect();
        let store = runtime.block_on(connect(&way.direct))?;
        runtime.block_on(make_jobs(Arc::clone(&store)))?;
        let mut arena = Self {
            target,
            server: way.server,
            proxies: way.proxies,
            nodes: Vec::new(),
            tally: Tally::default(),
            random: Random::of(seed, "drill", 0),
            outages: Vec::new(),
            runtime,
            store,
            launches,
            n_started: 0,
            folder,
        };
        for slot in 0..SKEWS.len() {
            let node = arena.launch(slot)?;
            arena.nodes.push(node);
        }
        let skewed = SKEWS.iter().filter(|skew| **skew != 0).count();
        arena.tally.add("skewed clocks", skewed as u64);
        arena.until("every node has joined", Duration::from_secs(30), |arena| {
            Ok(arena.nodes.iter().all(|node| node.identity().is_some()))
        })?;
        Ok(arena)
    }

    /// Starts a process for a slot.
    ///
    /// # Errors
    ///
    /// When it can't be started.
    pub fn launch(&mut self, slot: usize) -> io::Result<Node> {
        self.n_started += 1;
        Node::start(&self.launches[slot], &format!("node{slot}-{}", self.n_started))
    }

    /// Asks the store itself, past all proxies; again, where the answer is one that may pass: a crash has
    /// ended our connections too.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub fn ask<T>(
        &self,
        mut question: impl AsyncFnMut(&dyn Store) -> unified_scheduler::Result<T>,
    ) -> Result<T, Failure> {
        let began = Instant::now();
        loop {
            match self.runtime.block_on(question(&*self.store)) {
                Err(error) if error.is_retryable() && began.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                done => return Ok(done?),
            }
        }
    }

    /// Where the files of the nodes are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Does the same to the way of one node.
    pub fn set(&self, slot: usize, mode: Mode) {
        Way::set(&self.proxies, slot, mode);
    }

    /// Waits until something is so.
    ///
    /// # Errors
    ///
    /// When it is not within that time.
    pub fn until(
        &self,
        what: &str,
        most: Duration,
        mut is_so: impl FnMut(&Self) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let began = Instant::now();
        while !is_so(self)? {
            if began.elapsed() > most {
                return Err(format!("{what}: not after {} s", most.as_secs()).into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// All executions in some states, of one node or of all.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub fn executions(&self, statuses: &[Status], node: Option<&NodeId>) -> Result<Vec<Execution>, Failure> {
        self.ask(async |store| health::executions(store, statuses, node).await)
    }

    /// Keeps the files, for whoever looks for what went wrong.
    pub fn keep_files(&mut self) -> PathBuf {
        self.folder.disable_cleanup(true);
        self.folder.path().to_owned()
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // What listens belongs to a runtime, which must still be there.
        let _inside = self.runtime.enter();
        self.nodes.clear();
        self.proxies.clear();
    }
}

/// Jobs of one to two seconds, spread over the first period.
async fn make_jobs(store: Arc<dyn Store>) -> Result<(), Failure> {
    let jobs = Jobs::of(Arc::clone(&store), None);
    let begin = store.now().await?.saturating_add(Duration::from_secs(2));
    let new = |i: u64| {
        let mut definition = JobDefinition::new(format!("job {i}"), HANDLER, Schedule::every(EVERY));
        definition.parameters.insert("millis".to_owned(), json!(1000 + i));
        definition.retry = Retry { crash_limit: 100, ..Retry::times(3, Duration::from_millis(200)) };
        let offset = EVERY * u32::try_from(i).unwrap_or_default() / u32::try_from(N_JOBS).unwrap_or(1);
        let millis = Duration::from_millis(u64::try_from(offset.as_millis()).unwrap_or_default());
        NewJob { first_due: Some(begin.saturating_add(millis)), ..NewJob::from(definition) }
    };
    let all: Vec<NewJob> = (0..N_JOBS).map(new).collect();
    for batch in all.chunks(250) {
        jobs.create_all(batch.to_vec()).await?;
    }
    Ok(())
}
