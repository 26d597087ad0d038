//! Redis: alone, and as a cluster.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use crate::keeper::Recipe;
use crate::server::Place;
use crate::{Durability, Failure, programs};

const TIMEOUT: Duration = Duration::from_secs(5);

/// How many slots a cluster has.
const N_SLOTS: usize = 16_384;

pub(crate) fn recipe(place: &Place, durability: Durability, cluster: bool) -> Result<Recipe, Failure> {
    let program = programs::redis()?;
    let append = match durability {
        Durability::Fast => "no",
        Durability::Durable => "yes",
    };
    let (port, bus, announced) =
        (place.port.to_string(), place.bus_port.to_string(), place.announced.to_string());
    let folder = place.folder.display().to_string();
    let mut arguments = vec!["--port", &port, "--bind", "127.0.0.1", "--dir", &folder, "--daemonize", "no"];
    arguments.extend(["--save", "", "--appendonly", append, "--appendfsync", "everysec"]);
    // Writing the file anew takes a processor for a while: too much for a server that lives for minutes.
    arguments.extend(["--auto-aof-rewrite-percentage", "0"]);
    arguments.extend(["--maxmemory", "4gb", "--maxmemory-policy", "noeviction"]);
    if cluster {
        arguments.extend(["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"]);
        arguments.extend(["--cluster-node-timeout", "2000", "--cluster-port", &bus]);
        arguments.extend(["--cluster-announce-ip", "127.0.0.1", "--cluster-announce-port", &announced]);
        arguments.extend(["--cluster-announce-bus-port", &bus]);
    }
    let command = std::iter::once(program.display().to_string())
        .chain(arguments.into_iter().map(str::to_owned))
        .collect();
    Ok(place.recipe(command))
}

/// Whether it answers, and has read what it had stored.
pub(crate) fn is_up(port: u16) -> bool {
    ask(port, "PING").is_ok_and(|answer| answer == "PONG")
}

/// Gives each member its part of the slots, and makes them know each other.
pub(crate) fn join(ports: &[u16], announced: &[u16], bus_ports: &[u16]) -> Result<(), Failure> {
    let n = ports.len();
    for (i, port) in ports.iter().enumerate() {
        let (first, last) = (N_SLOTS * i / n, N_SLOTS * (i + 1) / n - 1);
        expect_ok(*port, &format!("CLUSTER ADDSLOTSRANGE {first} {last}"))?;
        // Members that meet with the same epoch have to settle whose is larger first; that takes a while.
        expect_ok(*port, &format!("CLUSTER SET-CONFIG-EPOCH {}", i + 1))?;
    }
    for (other, bus) in announced.iter().zip(bus_ports).skip(1) {
        expect_ok(ports[0], &format!("CLUSTER MEET 127.0.0.1 {other} {bus}"))?;
    }
    Ok(())
}

/// Whether it knows an owner for each slot.
pub(crate) fn is_joined(port: u16) -> bool {
    ask(port, "CLUSTER INFO")
        .is_ok_and(|info| info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3"))
}

fn expect_ok(port: u16, command: &str) -> Result<(), Failure> {
    match ask(port, command) {
        Ok(answer) if answer == "OK" => Ok(()),
        Ok(answer) => Err(Failure::new(format!("redis: {command}: {answer}"))),
        Err(error) => Err(Failure::new(format!("redis: {command}: {error}"))),
    }
}

/// Sends an inline command and reads an answer that is a line, or a text of given length.
fn ask(port: u16, command: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(format!("{command}\r\n").as_bytes())?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let line = line.trim_end();
    match line.split_at_checked(1) {
        Some(("$", length)) => {
            let length: u64 = length.parse().map_err(std::io::Error::other)?;
            let mut text = String::new();
            reader.take(length).read_to_string(&mut text)?;
            Ok(text)
        }
        Some((_, rest)) => Ok(rest.to_owned()),
        None => Ok(String::new()),
    }
}
