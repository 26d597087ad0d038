//! Every server can be had, crashes and comes back, and is gone with whoever started it.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use unified_scheduler_services::{Durability, Kind, Server};

/// Set for the process that is killed.
const VICTIM: &str = "SERVICES_VICTIM";

fn answers(address: &SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}

fn wait_until_gone(addresses: &[SocketAddr]) {
    let began = Instant::now();
    while addresses.iter().any(answers) {
        assert!(began.elapsed() < Duration::from_secs(15), "{addresses:?} are still there");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_server_crashes_stops_comes_back_and_ends_with_its_handle() {
    for kind in Kind::ALL {
        let mut server = Server::start(*kind, Durability::Durable).unwrap();
        let addresses = server.addresses();
        assert_eq!(addresses.len(), kind.n_members());
        assert!(addresses.iter().all(answers), "{kind}");
        server.crash().unwrap();
        assert!(!addresses.iter().any(answers), "{kind}");
        server.restart().unwrap();
        assert_eq!(addresses, server.addresses());
        assert!(addresses.iter().all(answers), "{kind}");
        server.stop().unwrap();
        assert!(!addresses.iter().any(answers), "{kind}");
        server.restart().unwrap();
        assert!(addresses.iter().all(answers), "{kind}");
        drop(server);
        assert!(!addresses.iter().any(answers), "{kind}");
    }
}

#[test]
fn a_server_ends_when_whoever_started_it_is_killed() {
    if std::env::var_os(VICTIM).is_some() {
        let servers = [Kind::Postgres, Kind::Redis, Kind::Mongodb]
            .map(|kind| Server::start(kind, Durability::Fast).unwrap());
        let addresses: Vec<_> = servers.iter().flat_map(Server::addresses).map(|a| a.to_string()).collect();
        println!("servers {}", addresses.join(" "));
        loop {
            std::thread::park();
        }
    }
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_server_ends_when_whoever_started_it_is_killed", "--nocapture"])
        .env(VICTIM, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(victim.stdout.take().unwrap()).lines().map_while(Result::ok);
    let line = said.into_iter().find_map(|line| line.split_once("servers ").map(|(_, rest)| rest.to_owned()));
    victim.kill().unwrap();
    victim.wait().unwrap();
    let addresses: Vec<SocketAddr> = line.unwrap().split(' ').map(|a| a.parse().unwrap()).collect();
    assert_eq!(addresses.len(), 3);
    wait_until_gone(&addresses);
}
