//! Jobs on the command line: made, changed, listed, and refused with all that is wrong.

use crate::place::Place;
use serde_json::json;

fn place_with(name: &str, more: &[&str]) -> Place {
    let place = Place::new();
    let mut args = vec!["jobs", "add", name, "--template", "example_log"];
    args.extend(more);
    place.run(&args).well();
    place
}

#[test]
fn a_job_is_made_as_the_flags_say() {
    let place = place_with(
        "nightly",
        &[
            "--cron",
            "30 2 * * MON-FRI",
            "--timezone",
            "Europe/Berlin",
            "--param",
            "message=hi there",
            "--param",
            "seconds=1.5",
            "--timeout",
            "1m30s",
            "--retries",
            "3",
            "--retry-delay",
            "10s",
            "--backoff",
            "exponential",
            "--overlap",
            "allow:2",
            "--misfire",
            "skip:30s",
            "--priority",
            "-5",
            "--tag",
            "a",
            "--tag",
            "b",
            "--description",
            "at night",
            "--limit",
            "7",
            "--jitter",
            "5s",
            "--start",
            "2026-01-01T00:00:00Z",
            "--exclude",
            "2026-12-24",
            "--exclude",
            "SAT",
            "--keep",
            "failures",
            "--then",
            "other",
            "--disabled",
        ],
    );
    let job = place.json(&["jobs", "show", "nightly"]);
    assert_eq!(job["schedule"]["expression"], "30 2 * * MON-FRI");
    assert_eq!(job["schedule"]["timezone"], "Europe/Berlin");
    assert_eq!(job["schedule"]["limit"], 7);
    assert_eq!(job["schedule"]["jitter_seconds"], 5);
    assert_eq!(job["schedule"]["start"], "2026-01-01T00:00:00.000Z");
    assert_eq!(job["schedule"]["exclude"]["dates"], json!(["2026-12-24"]));
    assert_eq!(job["parameters"], json!({"message": "hi there", "seconds": 1.5}));
    assert_eq!((&job["timeout_seconds"], &job["priority"]), (&json!(90), &json!(-5)));
    assert_eq!(job["retry_policy"]["max_retries"], 3);
    assert_eq!(job["retry_policy"]["backoff"], "exponential");
    assert_eq!(job["overlap"], json!({"policy": "allow", "max": 2}));
    assert_eq!(job["misfire"], json!({"policy": "skip", "grace_seconds": 30}));
    assert_eq!(job["tags"], json!(["a", "b"]));
    assert_eq!(job["chains"], json!([{"on": "success", "job": "other"}]));
    assert_eq!((&job["enabled"], &job["created_by"]), (&json!(false), &json!("cli:tester")));
}

#[test]
fn an_edit_changes_what_it_names() {
    let place = place_with("a", &["--every", "5m", "--param", "message=one"]);
    place.run(&["jobs", "edit", "a", "--name", "b", "--param", "seconds=2", "--retries", "1"]).well();
    let job = place.json(&["jobs", "show", "b"]);
    assert_eq!(job["parameters"], json!({"message": "one", "seconds": 2}));
    assert_eq!((&job["schedule"]["interval_seconds"], &job["version"]), (&json!(300), &json!(2)));
    let file = place.file("b.json", r#"{"name": "b", "template_type": "example_log", "schedule": "@daily"}"#);
    place.run(&["jobs", "edit", "b", "--file", &file]).well();
    let job = place.json(&["jobs", "show", "b"]);
    assert_eq!((&job["schedule"]["type"], &job["parameters"]), (&json!("cron"), &json!({})));
    place.run(&["jobs", "edit", "b", "--param", "mesage=x"]).refused(2, &["parameters", "mesage"]);
}

#[test]
fn a_job_goes_through_its_life() {
    let place = place_with("a", &["--every", "1h"]);
    assert_eq!(place.json(&["jobs", "disable", "a"])["enabled"], false);
    assert_eq!(place.json(&["jobs", "list", "--disabled"])["total"], 1);
    assert_eq!(place.json(&["jobs", "enable", "a"])["enabled"], true);
    assert_eq!(place.json(&["jobs", "skip-next", "a", "2"])["skip_next"], 2);
    let run = place.json(&["jobs", "run", "a", "--param", "message=now"]);
    assert_eq!((&run["status"], &run["parameters"]), (&json!("pending"), &json!({"message": "now"})));
    assert_eq!(run["triggered_by"], "manual:cli:tester");
    place.run(&["jobs", "run", "a", "--unless-running"]).refused(1, &["already running or waiting"]);
    let id = run["id"].as_str().unwrap();
    assert_eq!(place.json(&["executions", "list", "--job", "a", "--count"])["total"], 1);
    assert_eq!(place.json(&["executions", "cancel", id])[0]["outcome"], "cancelled");
    assert_eq!(place.run(&["executions", "cancel", id]).code, 1);
    assert_eq!(place.json(&["executions", "show", id])["status"], "cancelled");
    assert_eq!(place.json(&["executions", "logs", id]), json!([]));
    assert_eq!(place.json(&["executions", "retry", id])["attempt"], 2);
    assert_eq!(place.json(&["jobs", "clone", "a", "b"])["enabled"], false);
    place.run(&["jobs", "delete", "a", "nope"]).refused(2, &["no job `nope`"]);
    assert_eq!(place.n_jobs(), 2);
    assert_eq!(place.json(&["jobs", "delete", "a", "b"])["deleted"].as_array().unwrap().len(), 2);
    assert_eq!(place.n_jobs(), 0);
}

#[test]
fn what_can_not_run_is_refused_with_its_place() {
    let place = Place::new();
    let add = |more: &[&str]| {
        let mut args = vec!["jobs", "add", "a", "--template", "example_log"];
        args.extend(more);
        place.run(&args)
    };
    add(&[]).refused(2, &["--every", "--cron"]);
    add(&["--cron", "0 61 * * *"]).refused(2, &["schedule.expression", "hour 61", "at character 3"]);
    add(&["--cron", "0 0 30 2 *"]).refused(2, &["never fires"]);
    add(&["--cron", "* * *"]).refused(2, &["schedule.expression"]);
    add(&["--cron", "0 3 * * *", "--tz", "Europe/Berln"]).refused(2, &["did you mean `Europe/Berlin`"]);
    add(&["--every", "0s"]).refused(2, &["interval is zero"]);
    add(&["--every", "-5m"]).refused(2, &["is negative"]);
    add(&["--every", "5"]).refused(2, &["without a unit"]);
    add(&["--every", "99999999999w"]).refused(2, &["too long"]);
    add(&["--every", "5m", "--cron", "* * * * *"]).refused(2, &["cannot be used with"]);
    add(&["--at", "10000-01-01T00:00:00Z"]).refused(2, &["is not an instant"]);
    add(&["--every", "5m", "--end", "2020-01-01T00:00:00Z", "--start", "2021-01-01T00:00:00Z"])
        .refused(2, &["ends before it starts"]);
    add(&["--every", "5m", "--param", "seconds=-1"]).refused(2, &["parameters.seconds"]);
    add(&["--every", "5m", "--parameters", "[1]"]).refused(2, &["not a JSON object"]);
    add(&["--every", "5m", "--timeout", "8d"]).refused(2, &["timeout_seconds", "7 days"]);
    add(&["--every", "5m", "--overlap", "sometimes"]).refused(2, &["queue-one"]);
    place
        .run(&["jobs", "add", "a", "--template", "nope", "--cron", "61 25 * * *"])
        .refused(2, &["nothing is registered as `nope`", "--unchecked", "minute 61", "hour 25"]);
    let errors = place.run(&["--json", "jobs", "add", "a", "-t", "example_log", "--cron", "x"]);
    let error: serde_json::Value = serde_json::from_str(&errors.err).unwrap();
    assert_eq!(error["error"]["kind"], "invalid");
    assert_eq!(error["error"]["faults"][0]["field"], "schedule.expression");
    assert_eq!(place.n_jobs(), 0);
    add(&["--every", "5m"]).well();
    add(&["--every", "5m"]).refused(2, &["`a` is the name of job"]);
}

#[test]
fn a_chain_names_its_job_by_id_or_name() {
    let place = place_with("load", &["--manual"]);
    let id = place.json(&["jobs", "show", "load"])["id"].clone();
    let add = ["jobs", "add", "extract", "-t", "example_log", "--every", "1h", "--then", "load"];
    place.run(&[add.as_slice(), &["--on-failure", "nobody"]].concat()).well();
    let chains = json!([{"on": "success", "job": id}, {"on": "failure", "job": "nobody"}]);
    assert_eq!(place.json(&["jobs", "show", "extract"])["chains"], chains);
}

#[test]
fn a_handler_of_another_program_is_taken_unchecked() {
    let place = Place::new();
    place.run(&["jobs", "add", "mail", "-t", "send_mail", "--every", "1h", "--unchecked"]).well();
    // Later changes need no more assurance.
    place.run(&["jobs", "edit", "mail", "--every", "2h"]).well();
    place.run(&["jobs", "run", "mail", "--param", "to=x"]).well();
    place.run(&["jobs", "clone", "mail", "mail 2"]).well();
}

#[test]
fn the_template_of_commands_is_taken_with_a_warning() {
    let place = Place::new();
    let add = ["jobs", "add", "c", "-t", "command", "--every", "1h", "-p", "program=/bin/true"];
    let answer = place.run(&add).well();
    assert!(answer.err.contains("templates.command") && answer.err.contains("enabled = true"), "{answer:?}");
}

#[test]
fn lists_are_pages_for_programs_and_tables_for_people() {
    let place = place_with("b", &["--every", "1h"]);
    place.run(&["jobs", "add", "a", "-t", "example_flaky", "--manual"]).well();
    let page = place.json(&["jobs", "list", "--limit", "1"]);
    assert_eq!((&page["total"], &page["items"][0]["name"]), (&json!(2), &json!("a")));
    let table = place.run(&["jobs", "list"]).well().out;
    let lines: Vec<&str> = table.lines().collect();
    assert!(
        lines[0].starts_with("NAME") && lines[1].starts_with('a') && lines[2].starts_with('b'),
        "{table}"
    );
    assert!(!table.contains('\u{1b}'), "no colors where no terminal is");
    assert!(place.run(&["--color", "always", "jobs", "list"]).out.contains('\u{1b}'));
    assert_eq!(place.json(&["nodes"]), json!([]));
    assert_eq!(place.json(&["executions", "list"])["items"], json!([]));
    assert_eq!(place.json(&["status"])["scheduler"]["status"], "stopped");
}

#[test]
fn what_is_to_come_is_shown_and_explained() {
    let place = place_with("a", &["--every", "1h"]);
    let args = [
        "jobs",
        "preview",
        "--cron",
        "30 2 * * *",
        "--tz",
        "Europe/Berlin",
        "-n",
        "2",
        "--from",
        "2026-03-28",
    ];
    let preview = place.json(&args);
    assert_eq!(preview["next"][1]["dst"], "gap");
    assert_eq!(preview["next"][1]["due"], "2026-03-29T01:30:00.000Z");
    assert_eq!(place.json(&["jobs", "preview", "a", "-n", "3"])["next"].as_array().unwrap().len(), 3);
    place.run(&["jobs", "preview", "--cron", "61 * * * *"]).refused(2, &["minute 61"]);
    let explained = place.json(&["jobs", "explain", "a"]);
    assert_eq!(explained["will_run"], false);
    assert!(explained["reasons"].as_array().unwrap().iter().any(|r| r["code"] == "no_node"));
}

#[test]
fn a_name_that_would_move_the_cursor_is_shown_harmless() {
    let place = Place::new();
    let file = place.file("x.json", r#"[{"name": "a", "description": "\u001b[2J", "template_type": "example_log", "schedule": "@daily"}]"#);
    place.run(&["jobs", "import", &file]).well();
    assert!(!place.run(&["jobs", "show", "a"]).well().out.contains('\u{1b}'));
}

#[test]
fn bad_usage_has_its_code() {
    let place = Place::new();
    assert_eq!(place.run(&["jobs", "frobnicate"]).code, 2);
    assert_eq!(place.run(&["--help"]).code, 0);
    assert_eq!(place.run(&["--version"]).code, 0);
    place.run(&["executions", "show", "x"]).refused(2, &["not an execution's id"]);
    place.run(&["executions", "list", "--status", "done"]).refused(2, &["partial_success"]);
    for shell in ["bash", "zsh", "fish"] {
        assert!(place.run(&["completions", shell]).well().out.contains("unified-scheduler"));
    }
}
