//! `PgBouncer` in transaction mode, before a private PostgreSQL server.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use crate::keeper::{Keeper, Recipe};
use crate::postgres::as_whom;
use crate::ready::wait_until;
use crate::server::{Place, Server};
use crate::{Failure, free_ports, programs};

/// A running pooler. Dropping it ends it.
pub struct Pooler {
    port: u16,
    _keeper: Keeper,
}

impl Pooler {
    /// Starts one before `server`, with room for `size` sessions on it.
    ///
    /// # Errors
    ///
    /// What is missing and how to get it; what the pooler said, when it did not start.
    pub fn start(server: &Server, size: u16) -> Result<Self, Failure> {
        let program = programs::pgbouncer()?;
        let port = free_ports(1)?[0];
        let folder = tempfile::Builder::new()
            .prefix("unified-scheduler-pgbouncer-")
            .tempdir()
            .map_err(|e| Failure::new(format!("no temporary folder: {e}")))?
            .keep();
        let place = Place { folder, port, bus_port: 0, announced: port };
        let keeper = Self::keep(&place, &program.display().to_string(), server, size).inspect_err(|_| {
            // There is no keeper yet that would.
            let _ = fs::remove_dir_all(&place.folder);
        })?;
        let keeper = [keeper];
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        wait_until("pgbouncer", &keeper, || TcpStream::connect(address).is_ok())?;
        let [keeper] = keeper;
        Ok(Self { port, _keeper: keeper })
    }

    fn keep(place: &Place, program: &str, server: &Server, size: u16) -> Result<Keeper, Failure> {
        // It refuses root, like the server.
        let user = as_whom(place)?;
        let behind = server.addresses();
        let behind = behind.first().ok_or_else(|| Failure::new("a pooler needs a server"))?.port();
        let users = place.folder.join("users");
        fs::write(&users, "\"postgres\" \"\"\n").map_err(|e| Failure::at(&users, &e))?;
        let ini = place.folder.join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={behind}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\n\
             pool_mode = transaction\ndefault_pool_size = {size}\nmax_client_conn = 1000\n",
            place.port,
            users.display()
        );
        fs::write(&ini, text).map_err(|e| Failure::at(&ini, &e))?;
        let command = vec![program.to_owned(), ini.display().to_string()];
        let mut keeper = Keeper::new(&Recipe { ask: "INT", user, ..place.recipe(command) })?;
        keeper.start()?;
        Ok(keeper)
    }

    /// The URL of the server, through the pooler.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }
}
