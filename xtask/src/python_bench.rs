//! The benches of the Python package: a wheel in release mode, an environment of its own, and servers.

use std::path::Path;
use std::process::Command;

use unified_scheduler_services::{Durability, Kind};

use crate::python;
use crate::services::Services;
use crate::steps::{self, Failure};

/// What there is, and what it takes beside the package.
const BENCHES: [(&str, &[&str]); 4] = [
    ("rate", &["dispatch.py", "rate"]),
    ("lag", &["dispatch.py", "lag"]),
    ("leak", &["dispatch.py", "leak"]),
    ("burst", &["burst.py"]),
];

/// Runs one bench with arguments of its own, or all of them.
pub(crate) fn run(root: &Path, args: &[&str]) -> Result<(), Failure> {
    let (chosen, more) = match args {
        [] => (BENCHES.to_vec(), &[][..]),
        [name, more @ ..] => {
            let Some(bench) = BENCHES.iter().find(|(known, _)| known == name) else {
                return Err(Failure::usage(&format!(
                    "no bench `{name}`; there are {}",
                    BENCHES.map(|(name, _)| name).join(", ")
                )));
            };
            (vec![*bench], more)
        }
    };
    let package = root.join("bindings/python");
    let place = python::target(root).join("python-bench");
    let wheel = python::wheel(root, &place, "release")?;
    let environment = place.join("environment");
    python::fresh(&environment)?;
    let bin = python::environment(&environment)?;
    let mut with_peers = wheel.into_os_string();
    with_peers.push("[bench]");
    steps::run("the wheel and its peers", python::pip(&bin, &[with_peers.as_os_str()]))?;
    let services = if chosen.iter().any(|(name, _)| *name == "burst") {
        let services = Services::start(&[Kind::Mongodb, Kind::MongodbReplica], Durability::Durable);
        services.complete()?;
        Some(services)
    } else {
        None
    };
    for (name, command) in chosen {
        let mut bench = Command::new(bin.join("python"));
        bench.args(command).args(more).current_dir(package.join("bench"));
        if let Some(services) = &services {
            services.name_in(&mut bench);
        }
        steps::run(&format!("bench {name} of the Python package"), bench)?;
    }
    Ok(())
}
