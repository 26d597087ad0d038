//! Where servers keep their files.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::{Durability, Failure, Kind};

/// Folders in memory, on Linux.
const IN_MEMORY: &str = "/dev/shm";

/// What must be free there: all servers of a whole run take less than half of it.
const ROOM: u64 = 6 << 30;

/// A new folder for a server. One that is to survive nothing has it in memory where there is room: then
/// no test waits for a disk that is busy with something else.
pub(crate) fn make(kind: Kind, durability: Durability) -> Result<PathBuf, Failure> {
    let mut builder = tempfile::Builder::new();
    let prefix = format!("unified-scheduler-{kind}-");
    builder.prefix(&prefix);
    let made = match in_memory().filter(|_| durability == Durability::Fast) {
        Some(folder) => builder.tempdir_in(folder),
        None => builder.tempdir(),
    };
    made.map(TempDir::keep).map_err(|e| Failure::new(format!("no temporary folder: {e}")))
}

/// The folder whose files are in memory, if there is one with room enough.
#[must_use]
pub fn in_memory() -> Option<&'static Path> {
    #[cfg(target_os = "linux")]
    if let Ok(found) = rustix::fs::statvfs(IN_MEMORY)
        && found.f_bavail.saturating_mul(found.f_frsize) >= ROOM
    {
        return Some(Path::new(IN_MEMORY));
    }
    None
}
