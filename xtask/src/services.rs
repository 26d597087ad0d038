//! The servers that tests and benches need: started, named in the environment, and ended.

use std::process::Command;
use std::time::Instant;

use unified_scheduler_services::{Durability, Kind, Server, install};

use crate::steps::{Failure, say};

const USAGE: &str = "cargo xtask services [--durable] [NAME]... [-- COMMAND...]

  NAME       postgres, redis, redis-cluster, mongodb, mongodb-replica; all of them without one
  --durable  that survive being killed; for benches
  COMMAND    run with their URLs in its environment; without one they run until Ctrl-C";

/// The servers of one run. Dropping them ends those that were started for it.
pub(crate) struct Services {
    /// Variables and their values, also of servers that are the user's own.
    urls: Vec<(&'static str, String)>,
    servers: Vec<Server>,
    missing: Vec<String>,
}

impl Services {
    /// Starts servers of these kinds, and installs what they take. One whose variable is set is the
    /// user's own, and is used as it is.
    pub(crate) fn start(kinds: &[Kind], durability: Durability) -> Self {
        let mut services = Self { urls: Vec::new(), servers: Vec::new(), missing: Vec::new() };
        for kind in kinds {
            let variable = kind.variable();
            if let Some(url) = std::env::var(variable).ok().filter(|url| !url.is_empty()) {
                services.urls.push((variable, url));
                continue;
            }
            let began = Instant::now();
            let started = install::provide(*kind, &mut |what| say(&format!("== {kind}: {what}")))
                .and_then(|()| Server::start(*kind, durability));
            match started {
                Ok(server) => {
                    say(&format!("== {kind}: ready, after {:.1} s", began.elapsed().as_secs_f64()));
                    services.urls.push((variable, server.url()));
                    services.servers.push(server);
                }
                Err(failure) => services.missing.push(format!("{kind}: {failure}")),
            }
        }
        services
    }

    /// Names the servers in a command's environment.
    pub(crate) fn name_in(&self, command: &mut Command) {
        command.envs(self.urls.iter().map(|(name, url)| (name, url)));
    }

    /// What could not be had, as a failure.
    pub(crate) fn complete(&self) -> Result<(), Failure> {
        if self.missing.is_empty() {
            return Ok(());
        }
        Err(Failure::new(format!("== services: FAILED\n{}", self.missing.join("\n"))))
    }
}

/// Installs what all servers take, for tests that start their own; what is missing is told by whoever needs
/// it.
pub(crate) fn provide_all() {
    for kind in Kind::ALL {
        if let Err(failure) = install::provide(*kind, &mut |what| say(&format!("== {kind}: {what}"))) {
            say(&format!("== {kind}: {failure}"));
        }
    }
}

/// Passes options with values on in a command's environment.
pub(crate) fn name_options(
    command: &mut Command,
    options: &[&str],
    variables: &[(&str, &str)],
    usage: &str,
) -> Result<(), Failure> {
    let mut rest = options.iter();
    while let Some(option) = rest.next() {
        let variable = variables.iter().find(|(name, _)| name == option);
        let (Some((_, variable)), Some(value)) = (variable, rest.next()) else {
            return Err(Failure::usage(usage));
        };
        command.env(variable, value);
    }
    Ok(())
}

/// `cargo xtask services …`.
pub(crate) fn run(args: &[&str]) -> Result<(), Failure> {
    let (args, command) = match args.iter().position(|arg| *arg == "--") {
        Some(at) => (&args[..at], &args[at + 1..]),
        None => (args, &[][..]),
    };
    let mut kinds = Vec::new();
    let mut durability = Durability::Fast;
    for arg in args {
        match *arg {
            "--help" => return Err(Failure::usage(USAGE)),
            "--durable" => durability = Durability::Durable,
            name => kinds.push(name.parse::<Kind>().map_err(|e| Failure::usage(&format!("{e}\n\n{USAGE}")))?),
        }
    }
    if kinds.is_empty() {
        kinds = Kind::ALL.to_vec();
    }
    let services = Services::start(&kinds, durability);
    services.complete()?;
    match command {
        [] => {
            for (name, url) in &services.urls {
                say(&format!("export {name}='{url}'"));
            }
            say("== until Ctrl-C");
            loop {
                std::thread::park();
            }
        }
        [program, rest @ ..] => {
            let mut command = Command::new(program);
            command.args(rest);
            services.name_in(&mut command);
            crate::steps::run(program, command)
        }
    }
}
