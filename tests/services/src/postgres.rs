//! PostgreSQL. It refuses to run as root; then it runs as the user `postgres`.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use crate::keeper::Recipe;
use crate::server::Place;
use crate::{Durability, Failure, programs};

/// How a server is to be, beside what every private one is.
#[derive(Debug, Clone)]
pub struct PostgresSettings {
    /// What it is to survive.
    pub durability: Durability,
    /// Lines of `postgresql.conf`.
    pub conf: String,
    /// `pg_hba.conf`; without it everybody is let in.
    pub hba: Option<String>,
    /// Files of its data folder that nobody else may read, by name: certificates and keys.
    pub files: Vec<(String, String)>,
}

impl PostgresSettings {
    /// A server like every other.
    pub fn new(durability: Durability) -> Self {
        Self { durability, conf: String::new(), hba: None, files: Vec::new() }
    }
}

/// A server that was killed leaves the mark that its folder is in use: a piece of shared memory, whose key
/// and id are in the seventh line of its file.
const AFTER: &str = r#"
    mark=$(sed -n 7p "$folder/data/postmaster.pid" 2>/dev/null)
    [ -z "${mark##* }" ] || ipcrm -m "${mark##* }""#;

pub(crate) fn recipe(place: &Place, wanted: &PostgresSettings) -> Result<Recipe, Failure> {
    let programs = programs::postgres()?;
    let user = as_whom(place)?;
    let data = place.folder.join("data");
    let mut initdb = Command::new(programs.join("initdb"));
    initdb
        .arg("-D")
        .arg(&data)
        .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N"])
        .current_dir(&place.folder)
        .stdin(Stdio::null());
    if let Some((user, group)) = user {
        initdb.uid(user).gid(group);
    }
    let output = initdb.output().map_err(|e| Failure::new(format!("initdb: {e}")))?;
    if !output.status.success() {
        return Err(Failure::new(format!("initdb: {}", String::from_utf8_lossy(&output.stderr))));
    }
    let put = |name: &str, text: &str| {
        let path = data.join(name);
        fs::write(&path, text).map_err(|e| Failure::at(&path, &e))?;
        chown(&path, user.map(|u| u.0), user.map(|u| u.1)).map_err(|e| Failure::at(&path, &e))?;
        // It refuses a key that others could read.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(|e| Failure::at(&path, &e))
    };
    put("postgresql.auto.conf", &(configuration(place, wanted.durability) + &wanted.conf))?;
    if let Some(hba) = &wanted.hba {
        put("pg_hba.conf", hba)?;
    }
    wanted.files.iter().try_for_each(|(name, text)| put(name, text))?;
    let command = [programs.join("postgres").display().to_string(), "-D".into(), data.display().to_string()];
    // INT is the fast end: connections are closed, and what is shared is written.
    Ok(Recipe { ask: "INT", after: AFTER, user, ..place.recipe(command.into()) })
}

fn configuration(place: &Place, durability: Durability) -> String {
    let mut text = format!(
        "listen_addresses='127.0.0.1'\nport={}\nunix_socket_directories='{}'\n",
        place.port,
        place.folder.display()
    );
    text += "max_connections=200\nshared_buffers=64MB\nmin_wal_size=32MB\nmax_wal_size=256MB\n";
    // What it shares is in its folder, and goes with it.
    text += "dynamic_shared_memory_type=mmap\ntimezone='UTC'\n";
    if durability == Durability::Fast {
        for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
            let _ = writeln!(text, "{setting}=off");
        }
    }
    text
}

/// The user to run as, where it must be another than ours; the folder is given to them.
pub(crate) fn as_whom(place: &Place) -> Result<Option<(u32, u32)>, Failure> {
    let owner = fs::metadata(&place.folder).map_err(|e| Failure::at(&place.folder, &e))?.uid();
    if owner != 0 {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let found = users.lines().find_map(|line| {
        let mut parts = line.strip_prefix("postgres:")?.split(':').skip(1);
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    });
    let (user, group) =
        found.ok_or_else(|| Failure::new("postgres refuses root, and there is no user `postgres`"))?;
    chown(&place.folder, Some(user), Some(group)).map_err(|e| Failure::at(&place.folder, &e))?;
    Ok(Some((user, group)))
}

/// Whether it lets clients in.
pub(crate) fn is_ready(port: u16) -> bool {
    let Ok(programs) = programs::postgres() else { return false };
    let mut ask = Command::new(programs.join("pg_isready"));
    ask.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]);
    ask.stdin(Stdio::null()).status().is_ok_and(|status| status.success())
}
