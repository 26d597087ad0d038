//! A cluster that changes while it is used: slots that move, and primaries that are replaced.

use std::time::Duration;

use unified_scheduler_core::ErrorKind;
use unified_scheduler_core::store::{CompleteOutcome, ExecutionQuery, Store};
use unified_scheduler_redis::{RedisConfig, RedisStore};

use crate::server::{Server, free_port};
use crate::{Worker, job, store_jobs, until};

/// Two members that know each other and have no slots yet.
fn two_members() -> [Server; 2] {
    let buses = [free_port(), free_port()];
    let start = |bus: u16| {
        let bus = bus.to_string();
        let settings = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "2000"];
        Server::start(&[&settings[..], &["--cluster-require-full-coverage", "no"]].concat())
    };
    let members = buses.map(start);
    for (epoch, member) in ["1", "2"].iter().zip(&members) {
        member.command(&["CLUSTER", "SET-CONFIG-EPOCH", epoch]);
    }
    let (port, bus) = (members[1].port.to_string(), buses[1].to_string());
    members[0].command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
    for member in &members {
        until(
            || nodes(member),
            |nodes| nodes.lines().filter(|line| line.contains(" connected")).count() == 2,
        );
    }
    members
}

fn nodes(member: &Server) -> String {
    member.ask(&["CLUSTER", "NODES"])
}

fn id(member: &Server) -> String {
    member.ask(&["CLUSTER", "MYID"])
}

async fn open(members: &[Server; 2]) -> RedisStore {
    let hosts = members.each_ref().map(|member| format!("127.0.0.1:{}", member.port)).join(",");
    let config = RedisConfig::from_url(&format!("redis-cluster://{hosts}")).expect("a URL");
    RedisStore::open(config.timeout(Duration::from_millis(500))).await.expect("opens")
}

/// How many executions there are: the truth, or an error that says to ask again.
async fn n_executions(store: &RedisStore) -> Option<usize> {
    match store.list_executions(&ExecutionQuery::default()).await {
        Ok(page) => Some(page.items.len()),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
            None
        }
    }
}

#[tokio::test]
async fn while_a_slot_moves_nothing_is_done_and_then_all_goes_on() {
    let members = two_members();
    let [source, target] = &members;
    source.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    for member in &members {
        until(|| member.ask::<String>(&["CLUSTER", "INFO"]), |info| info.contains("cluster_state:ok"));
        until(|| nodes(member), |nodes| nodes.contains("0-16383"));
    }
    let store = open(&members).await;
    let now = store.now().await.expect("answers");
    store_jobs(&store, ["one", "two", "three"].map(|name| job(name, now)).into()).await;
    let worker = Worker::join(&store).await;
    let running = worker.claim(&store, 2).await.expect("claims").claimed;

    let slot: u64 = source.ask(&["CLUSTER", "KEYSLOT", "{us:default}:"]);
    let slot = slot.to_string();
    target.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(source)]);
    source.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(target)]);
    let link = |server: &Server| {
        let client = redis::Client::open(server.url("")).expect("a URL");
        client.get_connection().expect("a connection")
    };
    let mut link = link(source);
    let mut moved = 0;
    loop {
        assert!(matches!(n_executions(&store).await, None | Some(2)), "after {moved} keys");
        let error = worker.claim(&store, 10).await.expect_err("the slot moves");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert!(worker.complete(&store, &running).await.is_err(), "the slot moves");
        let mut ask = redis::cmd("CLUSTER");
        let keys: Vec<Vec<u8>> =
            ask.arg("GETKEYSINSLOT").arg(&slot).arg(4).query(&mut link).expect("the keys that are left");
        if keys.is_empty() {
            break;
        }
        for key in keys {
            let mut migrate = redis::cmd("MIGRATE");
            migrate.arg("127.0.0.1").arg(target.port).arg(key).arg(0).arg(5000);
            migrate.exec(&mut link).expect("the key moves");
            moved += 1;
        }
    }
    assert!(moved > 15, "{moved}");
    for member in [target, source] {
        member.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &id(target)]);
    }
    let mut tries = 0;
    while n_executions(&store).await != Some(2) {
        tries += 1;
        assert!(tries < 60, "the store has not found the new place");
    }
    let outcomes = worker.complete(&store, &running).await.expect("recorded");
    assert_eq!(outcomes, vec![CompleteOutcome::Applied { paused: false }; 2]);
    assert_eq!(worker.claim(&store, 10).await.expect("claims").claimed.len(), 1, "what was left is due");
}

#[tokio::test]
async fn a_replica_that_takes_over_is_found() {
    let mut members = two_members();
    members[0].command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    for member in &members {
        until(|| nodes(member), |nodes| nodes.contains("0-16383"));
    }
    members[1].command(&["CLUSTER", "REPLICATE", &id(&members[0])]);
    until(
        || members[1].ask::<String>(&["INFO", "replication"]),
        |info| info.contains("master_link_status:up"),
    );
    until(|| nodes(&members[0]), |nodes| nodes.contains("slave"));
    let store = open(&members).await;
    let now = store.now().await.expect("answers");
    store_jobs(&store, ["one", "two"].map(|name| job(name, now)).into()).await;
    let worker = Worker::join(&store).await;
    let running = worker.claim(&store, 1).await.expect("claims").claimed;
    let offset = |member: &Server| {
        let info: String = member.ask(&["INFO", "replication"]);
        info.lines().find_map(|line| line.strip_prefix("master_repl_offset:")).map(str::to_owned)
    };
    until(|| (offset(&members[0]), offset(&members[1])), |(primary, replica)| primary == replica);

    members[0].stop();
    let error = store.counts().await.expect_err("nobody there");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    members[1].command(&["CLUSTER", "FAILOVER", "TAKEOVER"]);
    let mut tries = 0;
    let outcomes = loop {
        match worker.complete(&store, &running).await {
            Ok(outcomes) => break outcomes,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}"),
        }
        tries += 1;
        assert!(tries < 60, "the store has not found the new primary");
    };
    assert_eq!(outcomes, [CompleteOutcome::Applied { paused: false }]);
    assert_eq!(worker.claim(&store, 10).await.expect("claims").claimed.len(), 1, "what was left is due");
}
