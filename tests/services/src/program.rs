//! A program that its user describes, kept as the servers are: for settings that no [`crate::Kind`] has.

use std::fs;
use std::path::{Path, PathBuf};

use crate::keeper::{Keeper, Recipe};
use crate::ready::wait_until;
use crate::{Failure, free_ports};

/// A running program with a port and a folder of its own. Dropping it ends it.
pub struct Program {
    name: String,
    port: u16,
    folder: PathBuf,
    keepers: [Keeper; 1],
}

impl Program {
    /// Starts what `command` says for a folder and a port, and waits until something listens there.
    ///
    /// # Errors
    ///
    /// What the program said, when it did not start.
    pub fn start(
        name: &str,
        command: impl FnOnce(&Path, u16) -> Result<Vec<String>, Failure>,
    ) -> Result<Self, Failure> {
        let port = free_ports(1)?[0];
        let folder = tempfile::Builder::new()
            .prefix(&format!("unified-scheduler-{name}-"))
            .tempdir()
            .map_err(|e| Failure::new(format!("no temporary folder: {e}")))?
            .keep();
        let command = command(&folder, port).inspect_err(|_| {
            // There is no keeper yet that would.
            let _ = fs::remove_dir_all(&folder);
        })?;
        let recipe = Recipe { folder: folder.clone(), command, ask: "TERM", after: "", user: None };
        let mut program = Self { name: name.to_owned(), port, folder, keepers: [Keeper::new(&recipe)?] };
        program.restart()?;
        Ok(program)
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Kills it at once.
    ///
    /// # Errors
    ///
    /// When it can't be killed.
    pub fn crash(&mut self) -> Result<(), Failure> {
        self.keepers[0].crash()
    }

    /// Starts it again, and waits until something listens there.
    ///
    /// # Errors
    ///
    /// What the program said, when it did not start.
    pub fn restart(&mut self) -> Result<(), Failure> {
        self.keepers[0].start()?;
        let port = self.port;
        wait_until(&self.name, &self.keepers, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())
    }
}
