//! Stores that can't be used, and settings that can't be.

use std::io::{Seek as _, SeekFrom, Write as _};

use crate::place::Place;
use serde_json::json;

#[test]
fn a_store_that_is_none_has_its_code() {
    let place = Place::new();
    place.run(&["--store", "redis://host", "status"]).refused(2, &["`redis` is not a kind of store"]);
    place.run(&["--store", "sqlite:///no/such/directory/x.db", "status"]).refused(3, &["no directory"]);
    place.file("other.db", b"This is a letter, and no database at all. ".repeat(200));
    place.run(&["--store", "sqlite://other.db", "status"]).refused(3, &["not an SQLite database"]);
    place.run(&["--store", "sqlite://.", "status"]).refused(3, &["directory"]);
    place.run(&["--store", "sqlite://other.db", "serve"]).refused(3, &["not an SQLite database"]);
}

#[test]
fn the_store_comes_from_flag_environment_or_config() {
    let place = Place::new();
    let config = place.file("c.toml", "[store]\nurl = \"sqlite://config.db\"\n");
    let location = |args: &[&str], env: Option<&str>| {
        let mut command = place.command(args);
        if let Some(url) = env {
            command.env("UNIFIED_SCHEDULER_STORE", url);
        }
        let output = command.args(["--json", "status"]).output().unwrap();
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        value["scheduler"]["store"].as_str().unwrap().to_owned()
    };
    let with_config = ["--config", config.as_str()];
    assert!(location(&[], None).contains("unified-scheduler.db"));
    assert!(location(&with_config, None).contains("config.db"));
    assert!(location(&with_config, Some("sqlite://env.db")).contains("env.db"));
    assert!(location(&["--store", "sqlite://flag.db"], Some("sqlite://env.db")).contains("flag.db"));
}

#[test]
fn a_damaged_file_is_told_and_not_believed() {
    let place = Place::new();
    let documents: Vec<_> = (0..300)
        .map(|i| json!({"name": format!("job {i}"), "template_type": "example_log", "schedule": {"type": "manual"}}))
        .collect();
    let file = place.file("jobs.json", json!(documents).to_string());
    place.run(&["jobs", "import", &file]).well();
    let path = place.path("unified-scheduler.db");
    assert!(!place.path("unified-scheduler.db-wal").exists(), "everything is in the one file");
    let size = std::fs::metadata(&path).unwrap().len();
    let mut store = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    // The header stays, all pages behind the first are noise.
    store.seek(SeekFrom::Start(4096)).unwrap();
    let noise: Vec<u8> = (0..size - 4096).map(|i| u8::try_from(i * 31 % 251).unwrap()).collect();
    store.write_all(&noise).unwrap();
    drop(store);
    let answer = place.run(&["jobs", "list"]);
    assert_eq!(answer.code, 3, "{answer:?}");
    assert!(answer.err.starts_with("error: ") && !answer.err.contains("panicked"), "{answer:?}");
}

#[test]
fn doctor_and_migrate_tell_how_the_store_is() {
    let place = Place::new();
    let checks = place.json(&["doctor"]);
    assert!(checks.as_array().unwrap().iter().any(|c| c["name"] == "schema" && c["level"] == "ok"));
    assert!(place.run(&["doctor"]).well().out.contains("no node is running"));
    assert_eq!(place.json(&["migrate"])["up_to_date"], true);
    assert_eq!(place.json(&["executions", "prune", "--older-than", "1d"])["removed"], 0);
    assert_eq!(place.json(&["verify"])["whole"], true);
}

#[test]
fn calendars_are_stored_shown_used_and_removed() {
    let place = Place::new();
    let file = place.file(
        "holidays.yaml",
        "- name: holidays\n  description: when nobody works\n  dates: ['2026-12-24/2026-12-26']\n  weekdays: [sunday]\n",
    );
    assert_eq!(place.json(&["calendars", "put", &file])["stored"], 1);
    assert_eq!(place.json(&["calendars", "put", &file])["stored"], 1, "in place of the same");
    let list = place.run(&["calendars", "list"]).well().out;
    assert!(list.contains("holidays") && list.contains("1 date, 1 weekday"), "{list}");
    let bad = place.file("bad.json", r#"[{"name": "x", "dates": ["2026-13-01"]}, {"name": ""}]"#);
    place.run(&["calendars", "put", &bad]).refused(2, &["line 1"]);
    assert_eq!(place.json(&["calendars", "list"]).as_array().unwrap().len(), 1);
    place.run(&["calendars", "delete", "holidays"]).well();
    place.run(&["calendars", "delete", "holidays"]).refused(2, &["holidays"]);
}

#[test]
fn everything_moves_to_another_store_and_can_move_again() {
    let place = Place::new();
    let schedule = json!({"type": "interval", "interval_seconds": 3600});
    let documents: Vec<_> = (0..7)
        .map(|i| json!({"name": format!("job {i}"), "template_type": "example_log", "schedule": schedule}))
        .collect();
    let file = place.file("jobs.json", json!(documents).to_string());
    place.run(&["--store", "sqlite://old.db", "jobs", "import", &file]).well();
    place.run(&["--store", "sqlite://old.db", "jobs", "run", "job 3"]).well();
    let migrate = ["migrate", "--from", "sqlite://old.db", "--to", "sqlite://new.db"];
    place.run(&migrate).well();
    let again = place.json(&migrate);
    assert_eq!((&again["jobs"], &again["jobs_added"]), (&json!(7), &json!(0)));
    assert_eq!((&again["executions"], &again["whole"]), (&json!(1), &json!(true)));
    let jobs = place.json(&["--store", "sqlite://new.db", "jobs", "list"]);
    assert_eq!(jobs, place.json(&["--store", "sqlite://old.db", "jobs", "list"]));
    assert_eq!(place.json(&["--store", "sqlite://new.db", "verify"])["whole"], true);
    place.run(&["migrate", "--from", "sqlite://old.db"]).refused(2, &["--to"]);
    place.run(&["migrate", "--from", "memory:", "--to", "memory:"]).refused(2, &["same store"]);
    place.run(&["migrate", "--from", "mysql://x", "--to", "memory:"]).refused(2, &["not a kind of store"]);
}

#[test]
fn a_config_is_refused_with_the_place() {
    let place = Place::new();
    let config = |text: &str| place.file("c.toml", text);
    let file = config("[node]\nname = \"a\"\nconcurency = 5\n");
    place.run(&["--config", &file, "status"]).refused(2, &["line 3", "concurency", "`concurrency`"]);
    let file = config("[nodes]\n");
    place.run(&["--config", &file, "status"]).refused(2, &["line 1", "nodes", "`node`", "`templates`"]);
    let file = config("[node]\nconcurrency = \"many\"\n");
    place.run(&["--config", &file, "status"]).refused(2, &["line 2", "concurrency"]);
    let file = config("[node]\nlease_seconds = 0.1\n");
    place.run(&["--config", &file, "serve"]).refused(2, &["lease_seconds", "below 1"]);
    let file = config("[log]\nlevel = \"a=b=c\"\n");
    place.run(&["--config", &file, "status"]).refused(2, &["is no log level"]);
    place.run(&["--config", "nope.toml", "status"]).refused(2, &["nope.toml"]);
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/unified-scheduler.example.toml");
    place.run(&["--config", example, "status"]).well();
}

#[test]
fn a_command_runs_only_where_the_config_lets_it() {
    let place = Place::new();
    let config =
        place.file("c.toml", "[templates.command]\nenabled = true\nallowed_programs = [\"/bin/echo\"]\n");
    let add = |program: &str| {
        let program = format!("program={program}");
        place.run(&[
            "--config",
            &config,
            "jobs",
            "add",
            "c",
            "-t",
            "command",
            "--manual",
            "-p",
            &program,
            "-p",
            "args=[\"hi\"]",
        ])
    };
    add("/bin/ls").refused(2, &["parameters", "/bin/ls"]);
    add("/bin/echo").well();
    let served = place.serve(&["--config", &config]);
    served.event("node_joined", |_| true);
    let run = place.json(&["jobs", "run", "c", "--wait"]);
    assert_eq!(run["status"], "success", "{run}");
    served.stop();
}
