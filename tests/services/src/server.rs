//! One server, or the servers of one cluster.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::keeper::{Keeper, Recipe};
use crate::postgres::PostgresSettings;
use crate::ready::wait_until;
use crate::{Durability, Failure, Kind, folders, free_ports, mongodb, postgres, redis};

/// How often to try with other ports: between finding a free one and using it somebody else may have.
const TRIES: usize = 3;

/// A running server. Dropping it ends it.
pub struct Server {
    kind: Kind,
    ports: Vec<u16>,
    /// The ports that clients are told of, where those are others.
    announced: Vec<u16>,
    keepers: Vec<Keeper>,
    folders: Vec<PathBuf>,
}

impl Server {
    /// Starts one, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// What is missing and how to get it; what the server said, when it did not start.
    pub fn start(kind: Kind, durability: Durability) -> Result<Self, Failure> {
        Self::start_announced(kind, durability, &[])
    }

    /// Starts a PostgreSQL server with settings of its own.
    ///
    /// # Errors
    ///
    /// As of [`Self::start`].
    pub fn start_postgres(settings: &PostgresSettings) -> Result<Self, Failure> {
        Self::start_one(Kind::Postgres, settings, &[])
    }

    /// Starts one whose members tell their clients other ports than their own: those of proxies. Only
    /// Redis Cluster has a use for that; the others are found by their URL.
    ///
    /// # Errors
    ///
    /// As of [`Self::start`].
    pub fn start_announced(kind: Kind, durability: Durability, announced: &[u16]) -> Result<Self, Failure> {
        Self::start_one(kind, &PostgresSettings::new(durability), announced)
    }

    fn start_one(kind: Kind, settings: &PostgresSettings, announced: &[u16]) -> Result<Self, Failure> {
        let mut tried = 1;
        loop {
            match Self::try_start(kind, settings, announced) {
                Err(_) if tried < TRIES => tried += 1,
                done => return done,
            }
        }
    }

    fn try_start(kind: Kind, settings: &PostgresSettings, announced: &[u16]) -> Result<Self, Failure> {
        let durability = settings.durability;
        let n = kind.n_members();
        let ports = free_ports(n * 2)?;
        let (ports, bus_ports) = ports.split_at(n);
        let announced = if announced.len() == n { announced } else { ports };
        let mut server = Self {
            kind,
            ports: ports.to_vec(),
            announced: announced.to_vec(),
            keepers: Vec::new(),
            folders: Vec::new(),
        };
        for i in 0..n {
            let folder = folders::make(kind, durability)?;
            let place = Place { folder, port: ports[i], bus_port: bus_ports[i], announced: announced[i] };
            let recipe = match kind {
                Kind::Postgres => postgres::recipe(&place, settings),
                Kind::Redis => redis::recipe(&place, durability, false),
                Kind::RedisCluster => redis::recipe(&place, durability, true),
                Kind::Mongodb => mongodb::recipe(&place, false),
                Kind::MongodbReplica => mongodb::recipe(&place, true),
            };
            let recipe = recipe.inspect_err(|_| {
                // There is no keeper yet that would.
                let _ = fs::remove_dir_all(&place.folder);
            })?;
            let mut keeper = Keeper::new(&recipe)?;
            keeper.start()?;
            server.keepers.push(keeper);
            server.folders.push(place.folder);
        }
        server.wait_until_up()?;
        match kind {
            Kind::RedisCluster => redis::join(&server.ports, announced, bus_ports)?,
            Kind::MongodbReplica => mongodb::initiate(server.ports[0], durability)?,
            _ => {}
        }
        server.wait_until_ready()?;
        Ok(server)
    }

    /// Kills it, with all of its processes at once, as a crash of the machine would. What it has written
    /// stays, and nobody answers until [`Self::restart`].
    ///
    /// # Errors
    ///
    /// When it can't be killed.
    pub fn crash(&mut self) -> Result<(), Failure> {
        self.keepers.iter_mut().try_for_each(Keeper::crash)
    }

    /// Ends it in an orderly way, as for an update. Nobody answers until [`Self::restart`].
    ///
    /// # Errors
    ///
    /// When it can't be asked.
    pub fn stop(&mut self) -> Result<(), Failure> {
        self.keepers.iter_mut().try_for_each(Keeper::stop)
    }

    /// Starts it again, with the same ports and folders, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// What the server said, when it did not start.
    pub fn restart(&mut self) -> Result<(), Failure> {
        self.keepers.iter_mut().try_for_each(Keeper::start)?;
        self.wait_until_up()?;
        self.wait_until_ready()
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How much processor time it has used since it was started.
    pub fn cpu(&self) -> Duration {
        self.keepers.iter().map(Keeper::cpu).sum()
    }

    /// Where its members listen.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.ports.iter().map(|port| (Ipv4Addr::LOCALHOST, *port).into()).collect()
    }

    /// The URL of it, as it is announced.
    pub fn url(&self) -> String {
        self.url_at(&self.announced)
    }

    /// The URL that leads past every proxy, for whoever has to see it as it is. Clients of a cluster are
    /// still told what is announced.
    pub fn direct_url(&self) -> String {
        self.url_at(&self.ports)
    }

    /// The URL with other ports: those of proxies, one for each of [`Self::addresses`].
    pub fn url_at(&self, ports: &[u16]) -> String {
        let port = ports.first().copied().unwrap_or_default();
        let is_proxy = ports != self.ports;
        match self.kind {
            Kind::Postgres => format!("postgres://postgres@127.0.0.1:{port}/postgres"),
            Kind::Redis => format!("redis://127.0.0.1:{port}/"),
            Kind::RedisCluster => {
                let hosts: Vec<_> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
                format!("redis-cluster://{}", hosts.join(","))
            }
            Kind::Mongodb => format!("mongodb://127.0.0.1:{port}/unified_scheduler"),
            // A client that looks for the set's members would leave the proxy aside.
            Kind::MongodbReplica if is_proxy => {
                format!("mongodb://127.0.0.1:{port}/unified_scheduler?directConnection=true")
            }
            Kind::MongodbReplica => format!("mongodb://127.0.0.1:{port}/unified_scheduler?replicaSet=rs0"),
        }
    }

    /// Answers at all.
    fn wait_until_up(&self) -> Result<(), Failure> {
        let mut waiting = self.ports.clone();
        wait_until(self.kind.name(), &self.keepers, || {
            waiting.retain(|port| match self.kind {
                Kind::Postgres => !postgres::is_ready(*port),
                Kind::Redis | Kind::RedisCluster => !redis::is_up(*port),
                Kind::Mongodb | Kind::MongodbReplica => !mongodb::is_up(*port),
            });
            waiting.is_empty()
        })
    }

    /// Takes writes.
    fn wait_until_ready(&self) -> Result<(), Failure> {
        wait_until(self.kind.name(), &self.keepers, || match self.kind {
            Kind::RedisCluster => self.ports.iter().all(|port| redis::is_joined(*port)),
            Kind::MongodbReplica => mongodb::is_primary(self.ports[0]),
            _ => true,
        })
    }
}

/// Where a member is to live.
pub(crate) struct Place {
    pub(crate) folder: PathBuf,
    pub(crate) port: u16,
    /// Where the members of a cluster talk among themselves.
    pub(crate) bus_port: u16,
    /// The port that clients are told of.
    pub(crate) announced: u16,
}

impl Place {
    /// A recipe without anything special.
    pub(crate) fn recipe(&self, command: Vec<String>) -> Recipe {
        Recipe { folder: self.folder.clone(), command, ask: "TERM", after: "", user: None }
    }
}
