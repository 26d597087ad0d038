//! Where the programs are: in `PATH`, where Debian puts them, or where we have put them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Failure;

/// The folder with PostgreSQL's programs; the newest, where there are several.
///
/// # Errors
///
/// What to install.
pub fn postgres() -> Result<PathBuf, Failure> {
    let version = |path: &Path| -> Option<u32> { path.file_name()?.to_str()?.parse().ok() };
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    versions.sort_by_key(|path| version(path));
    let of_debian = versions.into_iter().rev().map(|path| path.join("bin"));
    of_debian
        .chain(folders())
        .find(|folder| ["initdb", "postgres", "pg_isready"].iter().all(|name| folder.join(name).is_file()))
        .ok_or_else(|| missing("PostgreSQL", "install postgresql-15"))
}

/// The program `pgbouncer`.
///
/// # Errors
///
/// What to install.
pub fn pgbouncer() -> Result<PathBuf, Failure> {
    in_path("pgbouncer").ok_or_else(|| missing("pgbouncer", "install pgbouncer"))
}

/// The program `redis-server`.
///
/// # Errors
///
/// What to install.
pub fn redis() -> Result<PathBuf, Failure> {
    in_path("redis-server").ok_or_else(|| missing("redis-server", "install redis-server, version 7 or later"))
}

/// The program `mongod`.
///
/// # Errors
///
/// What to install.
pub fn mongod() -> Result<PathBuf, Failure> {
    in_path("mongod")
        .or_else(|| mongod_in(&mongod_folder()))
        .ok_or_else(|| missing("mongod", "install MongoDB 6 so that `mongod` is in PATH"))
}

/// Where our own `mongod` is kept, so that it is fetched once.
pub(crate) fn mongod_folder() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"), PathBuf::from);
    target.join("services/mongod")
}

/// The `mongod` in a Python environment that holds it.
pub(crate) fn mongod_in(environment: &Path) -> Option<PathBuf> {
    let versions = fs::read_dir(environment.join("lib")).ok()?;
    versions
        .flatten()
        .map(|version| version.path().join("site-packages/fiftyone/db/bin/mongod"))
        .find(|program| program.is_file())
}

/// A program in `PATH`.
pub(crate) fn in_path(name: &str) -> Option<PathBuf> {
    folders().map(|folder| folder.join(name)).find(|program| program.is_file())
}

fn folders() -> impl Iterator<Item = PathBuf> {
    // Debian keeps some programs where only root looks.
    let path = env::var_os("PATH").unwrap_or_default();
    let all: Vec<PathBuf> = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).collect();
    all.into_iter()
}

fn missing(what: &str, how: &str) -> Failure {
    Failure::new(format!(
        "{what} is not here: run `cargo xtask test` as root on Debian, which installs it, or {how}"
    ))
}
