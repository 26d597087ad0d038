//! Opening a file: is it ours, is it on a disk of this machine, and with which settings.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, OpenFlags};
use unified_scheduler_core::{Error, Result};

use crate::config::{Place, SqliteConfig};
use crate::error::{Fail, Step};

/// Written in the header of each of our files: "usch".
pub(crate) const APPLICATION_ID: i32 = 0x7573_6368;

/// How long opening waits for other processes that open the same file.
const OPENING: Duration = Duration::from_secs(10);

/// Beyond this the write-ahead log is cut when it starts again from its beginning.
const WAL_LIMIT: u32 = 64 << 20;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Writer,
    Reader,
    /// Watches for other processes, and moves the write-ahead log into the file.
    Keeper,
}

/// A connection to the database of `config`. The writer's makes the file where there is none.
pub(crate) fn open(config: &SqliteConfig, role: Role) -> Result<Connection> {
    let url = || config.url();
    let connection = match &config.place {
        Place::Memory => Connection::open_in_memory().map_err(Fail::from),
        Place::File(path) => {
            if role == Role::Writer {
                check_path(path)?;
            }
            let access = match role {
                Role::Writer => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
                Role::Keeper => OpenFlags::SQLITE_OPEN_READ_WRITE,
                Role::Reader => OpenFlags::SQLITE_OPEN_READ_ONLY,
            };
            Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(Fail::from)
        }
    };
    let connection = connection.map_err(|e| Error::from(e).during("open").with("store", url()))?;
    let began = Instant::now();
    loop {
        match prepare(&connection, config, role) {
            Ok(()) => return Ok(connection),
            // Two that change a new file's journal mode at once would wait for each other: then SQLite does
            // not wait at all.
            Err(error) if error.is_busy() && began.elapsed() < OPENING => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(Error::from(error).during("open").with("store", url())),
        }
    }
}

fn prepare(connection: &Connection, config: &SqliteConfig, role: Role) -> Step<()> {
    connection.busy_timeout(OPENING)?;
    if role == Role::Writer {
        check_owner(connection)?;
        if connection.is_readonly("main")? {
            return Err(Error::unavailable(
                "the file can be read but not written; give this user write permission on it and on its \
                 directory",
            )
            .into());
        }
        if config.place != Place::Memory {
            let mode: String =
                connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
            if !mode.eq_ignore_ascii_case("wal") {
                return Err(Error::unsupported(format!(
                    "the file can't use a write-ahead log (its journal mode stays `{mode}`); put it on a \
                     local disk"
                ))
                .into());
            }
        }
        if let Some(pages) = config.max_pages {
            connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
        }
    }
    // Kibibytes. The writer touches every table; what a reader reads once need not stay.
    let cache = if role == Role::Writer { -12_288 } else { -2_048 };
    connection.pragma_update(None, "cache_size", cache)?;
    connection.pragma_update(None, "synchronous", config.synchronous.as_str())?;
    connection.pragma_update(None, "foreign_keys", false)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update_and_check(None, "journal_size_limit", WAL_LIMIT, |_| Ok(()))?;
    // The keeper does it beside the writer; this is for when the keeper can't keep up.
    connection.pragma_update_and_check(None, "wal_autocheckpoint", 8_000, |_| Ok(()))?;
    add_functions(connection)?;
    Ok(())
}

/// `folded_contains(text, part)`: whether `part`, in lower case, is in `text`, whatever the case.
fn add_functions(connection: &Connection) -> Step<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("folded_contains", 2, flags, |context| {
        let text = context.get_raw(0).as_str().unwrap_or_default().to_lowercase();
        Ok(text.contains(context.get_raw(1).as_str().unwrap_or_default()))
    })?;
    Ok(())
}

/// Refuses a file that another program made, before anything of it is changed.
fn check_owner(connection: &Connection) -> Step<()> {
    // Both from one snapshot: another process may be making its schema at this moment.
    let snapshot = connection.unchecked_transaction()?;
    let id: i32 = snapshot.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: i64 = snapshot.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))?;
    drop(snapshot);
    if id == APPLICATION_ID || (id == 0 && tables == 0) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "the file belongs to another program (application id {id:#x}, {tables} tables and indexes); give a \
         file of its own"
    ))
    .into())
}

/// Refuses what SQLite would only answer with "unable to open".
fn check_path(path: &Path) -> Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let shown = path.display();
    if !directory.is_dir() {
        return Err(Error::invalid(format!(
            "there is no directory `{}`; make it, or give another path",
            directory.display()
        ))
        .with("path", shown));
    }
    if path.is_dir() {
        return Err(Error::invalid("this is a directory; give the path of a file").with("path", shown));
    }
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let real = directory.canonicalize().unwrap_or(directory);
    match network_file_system(&mounts, &real) {
        None => Ok(()),
        Some(kind) => Err(Error::unsupported(format!(
            "the file would be on a network file system ({kind}), where file locks can't be trusted; use a \
             local disk, or another store"
        ))
        .with("path", shown)),
    }
}

/// The kind of network file system that `path` is on, if it is, by the lines of `/proc/mounts`.
fn network_file_system<'a>(mounts: &'a str, path: &Path) -> Option<&'a str> {
    const NETWORK: [&str; 14] = [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "afs",
        "ceph",
        "glusterfs",
        "lustre",
        "ncpfs",
        "fuse.sshfs",
        "fuse.s3fs",
        "fuse.glusterfs",
        "fuse.rclone",
    ];
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            // Spaces in a mount point are written as octal escapes.
            let point = fields.next()?.replace("\\040", " ");
            path.starts_with(&point).then_some((point.len(), fields.next()?))
        })
        // Of mounts on one point the last one counts; `max_by_key` answers the last of equals.
        .max_by_key(|(depth, _)| *depth)
        .map(|(_, kind)| kind)
        .filter(|kind| NETWORK.contains(kind))
}

/// The file of the write-ahead log beside the database.
pub(crate) fn wal_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_on_a_network_file_system_is_recognized_by_its_deepest_mount() {
        let mounts = "/dev/sda1 / ext4 rw 0 0\nhost:/x /mnt/my\\040share nfs4 rw 0 0\n\
                      /dev/sdb /mnt/my\\040share/local xfs rw 0 0\n";
        let kind = |path: &str| network_file_system(mounts, Path::new(path));
        assert_eq!(kind("/var/lib"), None);
        assert_eq!(kind("/mnt/my share/jobs"), Some("nfs4"));
        assert_eq!(kind("/mnt/my share/local/jobs"), None);
    }
}
