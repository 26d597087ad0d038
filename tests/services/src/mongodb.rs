//! MongoDB: alone, and as a replica set of one.

use std::fs;

use crate::keeper::Recipe;
use crate::op_msg::{Value, ask};
use crate::server::Place;
use crate::{Durability, Failure, programs};

pub(crate) fn recipe(place: &Place, replica_set: bool) -> Result<Recipe, Failure> {
    let program = programs::mongod()?;
    let data = place.folder.join("data");
    fs::create_dir(&data).map_err(|e| Failure::at(&data, &e))?;
    let (port, folder, data) =
        (place.port.to_string(), place.folder.display().to_string(), data.display().to_string());
    let mut arguments =
        vec!["--dbpath", &data, "--port", &port, "--bind_ip", "127.0.0.1", "--unixSocketPrefix", &folder];
    arguments.extend(["--wiredTigerCacheSizeGB", "0.25", "--quiet"]);
    // Without this three journal files take 300 MB.
    arguments.extend(["--wiredTigerEngineConfigString", "log=(file_max=8MB,prealloc=false)"]);
    arguments.extend(["--setParameter", "diagnosticDataCollectionEnabled=false"]);
    // So that it can be told to fail.
    arguments.extend(["--setParameter", "enableTestCommands=1"]);
    if replica_set {
        arguments.extend(["--replSet", "rs0", "--oplogSize", "64"]);
    }
    let command = std::iter::once(program.display().to_string())
        .chain(arguments.into_iter().map(str::to_owned))
        .collect();
    Ok(place.recipe(command))
}

/// Whether it answers.
pub(crate) fn is_up(port: u16) -> bool {
    hello(port).is_some()
}

/// Whether it takes writes.
pub(crate) fn is_primary(port: u16) -> bool {
    hello(port).is_some_and(|hello| hello.says_true("isWritablePrimary"))
}

fn hello(port: u16) -> Option<crate::op_msg::Reply> {
    ask(port, &[("hello", Value::Int(1))]).ok()
}

/// Makes it a replica set of itself.
pub(crate) fn initiate(port: u16, durability: Durability) -> Result<(), Failure> {
    let member =
        Value::Document(vec![("_id", Value::Int(0)), ("host", Value::Text(format!("127.0.0.1:{port}")))]);
    let set = vec![
        ("_id", Value::Text("rs0".to_owned())),
        // Whether `majority` waits for the disk.
        ("writeConcernMajorityJournalDefault", Value::Bool(durability == Durability::Durable)),
        ("members", Value::Array(vec![member])),
    ];
    let reply = ask(port, &[("replSetInitiate", Value::Document(set))])
        .map_err(|e| Failure::new(format!("mongodb: replSetInitiate: {e}")))?;
    if reply.is_ok() { Ok(()) } else { Err(Failure::new(format!("mongodb: replSetInitiate: {reply}"))) }
}
