//! A node on the command line: it shows what it does, drains, and shares its store.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use crate::place::Place;
use rustix::process::Signal;
use serde_json::{Value, json};

fn add(place: &Place, name: &str, more: &[&str]) {
    let mut args = vec!["jobs", "add", name, "--id", name, "--template", "example_log"];
    args.extend(more);
    place.run(&args).well();
}

fn of(job: &str) -> impl Fn(&Value) -> bool {
    move |event| event["execution"]["job_name"] == job
}

#[test]
fn what_fires_is_told_as_it_happens() {
    let place = Place::new();
    add(&place, "tick", &["--every", "200ms", "--param", "message=tock"]);
    let served = place.serve(&[]);
    served.event("node_joined", |_| true);
    let ended = served.event("execution_ended", of("tick"));
    assert_eq!(ended["execution"]["status"], "success");
    assert_eq!(ended["execution"]["result"]["message"], "tock");
    assert!(ended["at"].is_string());
    served.event("execution_ended", of("tick"));
    assert_eq!(place.json(&["nodes"])[0]["dead"], false);
    assert_eq!(place.json(&["status"])["scheduler"]["status"], "active");
    let run = place.json(&["jobs", "run", "tick", "--param", "message=by hand", "--wait"]);
    assert_eq!((&run["status"], &run["result"]["message"]), (&json!("success"), &json!("by hand")));
    let logs = place.json(&["executions", "logs", run["id"].as_str().unwrap()]);
    assert_eq!(logs[0]["message"], "by hand");
    served.stop();
    assert_eq!(place.json(&["verify"])["whole"], true);
    assert_eq!(place.json(&["status"])["scheduler"]["status"], "stopped");
}

#[test]
fn a_node_that_is_asked_to_stop_lets_what_runs_end() {
    for signal in [Signal::TERM, Signal::INT] {
        let place = Place::new();
        add(&place, "slow", &["--manual", "--param", "seconds=3"]);
        let served = place.serve(&[]);
        served.event("node_joined", |_| true);
        place.run(&["jobs", "run", "slow"]).well();
        served.event("execution_started", of("slow"));
        served.signal(signal);
        let ended = served.event("execution_ended", of("slow"));
        assert_eq!(ended["execution"]["status"], "success");
        served.event("stopped", |_| true);
        let (code, err) = served.end();
        assert_eq!(code, 0, "{err}");
        assert!(err.contains("draining, 1 running") && err.contains("stopped: 1 execution"), "{err}");
        assert_eq!(place.json(&["nodes"])[0]["dead"], true);
    }
}

#[test]
fn a_second_signal_ends_a_node_at_once() {
    let place = Place::new();
    add(&place, "slow", &["--manual", "--param", "seconds=600"]);
    let served = place.serve(&["--stop-grace", "10m"]);
    served.event("node_joined", |_| true);
    place.run(&["jobs", "run", "slow"]).well();
    served.event("execution_started", of("slow"));
    served.signal(Signal::TERM);
    while place.json(&["nodes"])[0]["draining"] != json!(true) {
        std::thread::yield_now();
    }
    served.signal(Signal::TERM);
    let (code, err) = served.end();
    assert_eq!(code, 143, "{err}");
    assert!(err.contains("ended at once"), "{err}");
    assert_eq!(place.json(&["executions", "list"])["items"][0]["status"], "running");
}

#[test]
fn the_examples_are_added_once_and_run() {
    let place = Place::new();
    let served = place.serve(&["--examples"]);
    let flaky = served.event("execution_ended", of("flaky"));
    assert!(flaky["retry_at"].is_string(), "{flaky}");
    let load = served.event("execution_ended", of("load"));
    assert_eq!(load["execution"]["trigger"], "chain");
    served.stop();
    assert_eq!(place.n_jobs(), 6);
    place.run(&["jobs", "edit", "hello", "--every", "1h"]).well();
    let served = place.serve(&["--examples"]);
    served.event("node_joined", |_| true);
    served.stop();
    assert_eq!(place.json(&["jobs", "show", "hello"])["schedule"]["interval_seconds"], 3600);
    assert_eq!(place.json(&["verify"])["whole"], true);
}

#[test]
fn two_nodes_share_one_file_and_double_nothing() {
    let place = Place::new();
    for i in 0..20 {
        add(&place, &format!("job {i}"), &["--every", "250ms"]);
    }
    let nodes = [place.serve(&["--node-name", "one"]), place.serve(&["--node-name", "two"])];
    let mut seen = std::collections::HashSet::new();
    for node in &nodes {
        for _ in 0..40 {
            let ended = node.event("execution_ended", |_| true);
            let execution = &ended["execution"];
            assert!(
                seen.insert((execution["job_id"].to_string(), execution["due_at"].to_string())),
                "{ended}"
            );
        }
    }
    assert_eq!(place.json(&["nodes"]).as_array().unwrap().len(), 2);
    for node in nodes {
        node.stop();
    }
    let report = place.json(&["verify"]);
    assert_eq!(report["whole"], true, "{report}");
    assert!(report["started"].as_u64().unwrap() >= 80, "{report}");
}

#[test]
fn a_reader_that_goes_is_no_crash() {
    let place = Place::new();
    for i in 0..200 {
        add(&place, &format!("job {i}"), &["--manual", "--description", &"long ".repeat(100)]);
    }
    // More than a pipe holds, and nobody who reads it.
    let mut child =
        place.command(&["jobs", "export"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::with_capacity(16, child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert_eq!(first, "[\n");
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), b"".as_slice()));

    add(&place, "tick", &["--every", "100ms"]);
    let mut child = place.command(&["serve"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(place.json(&["nodes"])[0]["dead"], true);
}

#[test]
fn people_see_a_line_for_each_execution() {
    let place = Place::new();
    add(&place, "tick", &["--every", "100ms", "--limit", "1", "--param", "message=tock"]);
    let mut child = place.command(&["serve"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().contains("sqlite://unified-scheduler.db"));
    assert!(lines.next().unwrap().starts_with("TIME"));
    let line = lines.find(|line| line.contains("success")).unwrap();
    assert!(line.contains("tick") && line.ends_with("tock"), "{line}");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
}
