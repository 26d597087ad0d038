//! Servers of a test's own, with settings that the shared ones do not have.

use std::path::Path;

use unified_scheduler_services::{Program, programs};

/// A `mongod` with these arguments, beside those that every one has.
pub(crate) fn mongod(more: impl FnOnce(&Path) -> Vec<String>) -> Program {
    let command = |folder: &Path, port: u16| {
        let data = folder.join("data");
        std::fs::create_dir(&data).expect("an empty folder");
        let mut command = vec![programs::mongod()?.display().to_string()];
        let (data, port, socket) =
            (data.display().to_string(), port.to_string(), folder.display().to_string());
        let usual = ["--dbpath", &data, "--port", &port, "--bind_ip", "127.0.0.1"];
        command.extend(usual.map(str::to_owned));
        command.extend(["--unixSocketPrefix", &socket, "--quiet"].map(str::to_owned));
        command.extend(["--wiredTigerCacheSizeGB", "0.25"].map(str::to_owned));
        let journal = ["--wiredTigerEngineConfigString", "log=(file_max=8MB,prealloc=false)"];
        command.extend(journal.map(str::to_owned));
        let diagnostics = ["--setParameter", "diagnosticDataCollectionEnabled=false"];
        command.extend(diagnostics.map(str::to_owned));
        command.extend(more(folder));
        Ok(command)
    };
    Program::start("mongod", command).expect("mongod starts")
}
