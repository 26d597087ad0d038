//! Importing jobs: whatever shape the file has, all of it or nothing, and every bad line told.

use std::fmt::Write as _;

use crate::place::Place;
use serde_json::{Value, json};

/// A job as an older backend stores it.
fn document(name: &str) -> Value {
    json!({
        "name": name, "description": "", "template_type": "example_log", "parameters": {"message": "x"},
        "schedule": {"type": "interval", "interval_seconds": 3600, "expression": null, "timezone": "UTC"},
        "enabled": true, "timeout_seconds": 300,
        "retry_policy": {"max_retries": 3, "retry_delay_seconds": 300},
        "notifications": {"on_success": [], "on_failure": []}, "created_by": "admin",
    })
}

/// An array with one document a line, the first on line 2.
fn array(documents: &[Value]) -> String {
    let lines: Vec<String> = documents.iter().map(ToString::to_string).collect();
    format!("[\n{}\n]\n", lines.join(",\n"))
}

#[test]
fn of_a_thousand_jobs_with_three_bad_ones_none_is_stored() {
    let place = Place::new();
    let mut documents: Vec<Value> = (0..1000).map(|i| document(&format!("job {i}"))).collect();
    let good = place.file("good.json", array(&documents));
    documents[10]["schedule"] = json!({"type": "cron", "expression": "61 * * * *", "timezone": "UTC"});
    documents[500]["name"] = json!("job 5");
    documents[999]["parameters"] = json!({"mesage": "x"});
    let bad = place.file("bad.json", array(&documents));
    let answer = place.run(&["jobs", "import", &bad]).refused(
        2,
        &[
            "has 3 problems; nothing was stored",
            "line 12 (`job 10`): schedule.expression: minute 61",
            "line 502 (`job 5`): name: `job 5` stands on line 7 already",
            "line 1001 (`job 999`): parameters",
        ],
    );
    assert_eq!(answer.err.lines().count(), 4, "{}", answer.err);
    assert_eq!(place.n_jobs(), 0);
    let answer = place.run(&["--json", "jobs", "import", &bad]);
    let error: Value = serde_json::from_str(&answer.err).unwrap();
    let lines: Vec<u64> =
        error["error"]["faults"].as_array().unwrap().iter().map(|f| f["line"].as_u64().unwrap()).collect();
    assert_eq!((answer.code, lines), (2, vec![12, 502, 1001]));

    let plan = place.json(&["jobs", "import", &good, "--dry-run"]);
    assert_eq!((&plan["created"], &plan["dry_run"]), (&json!(1000), &json!(true)));
    assert_eq!(place.n_jobs(), 0);
    assert_eq!(place.json(&["jobs", "import", &good])["created"], 1000);
    assert_eq!(place.n_jobs(), 1000);
}

#[test]
fn what_mongoexport_writes_is_taken_as_it_is() {
    let place = Place::new();
    let mut text = String::new();
    for i in 0..3 {
        let mut job = document(&format!("job {i}"));
        job["_id"] = json!({"$oid": format!("64b0c0ffee64b0c0ffee64b{i}")});
        job["schedule"]["interval_seconds"] = json!({"$numberLong": "3600"});
        job["nextRunAt"] = json!({"$date": "2099-01-02T03:04:05Z"});
        writeln!(text, "{job}").unwrap();
    }
    let file = place.file("jobs.ndjson", &text);
    assert_eq!(place.json(&["jobs", "import", &file])["created"], 3);
    let job = place.json(&["jobs", "show", "64b0c0ffee64b0c0ffee64b1"]);
    assert_eq!((&job["name"], &job["nextRunAt"]), (&json!("job 1"), &json!("2099-01-02T03:04:05.000+00:00")));
    // The same with two broken lines: each is told, with its line.
    let broken = text.replacen("\"job 1\"", "\"job 1", 1) + "{]\n";
    place
        .run_with_input(&["jobs", "import", "-", "--on-conflict", "skip"], &broken)
        .refused(2, &["line 2: ", "line 4: ", "it is not JSON"]);
}

#[test]
fn a_conflict_is_refused_skipped_or_replaced() {
    let place = Place::new();
    let file = place.file("a.json", array(&[document("a"), document("b")]));
    place.run(&["jobs", "import", &file]).well();
    let mut changed = document("a");
    changed["schedule"]["interval_seconds"] = json!(60);
    changed["enabled"] = json!(false);
    let file = place.file("b.json", array(&[changed, document("c")]));
    place.run(&["jobs", "import", &file]).refused(2, &["line 2 (`a`)", "is in use", "--on-conflict"]);
    assert_eq!(place.n_jobs(), 2);
    let done = place.json(&["jobs", "import", &file, "--on-conflict", "skip", "--dry-run"]);
    assert_eq!((&done["skipped"], &done["created"]), (&json!(1), &json!(1)));
    let done = place.json(&["jobs", "import", &file, "--on-conflict", "replace"]);
    assert_eq!((&done["replaced"], &done["created"]), (&json!(1), &json!(1)));
    let job = place.json(&["jobs", "show", "a"]);
    assert_eq!((&job["schedule"]["interval_seconds"], &job["enabled"]), (&json!(60), &json!(false)));
}

#[test]
fn yaml_is_read_with_its_lines() {
    let place = Place::new();
    let text = "# jobs\njobs:\n  - name: a\n    template_type: example_log\n    schedule: '*/5 * * * *'\n\
                \x20 - name: b\n    template_type: example_log\n    schedule: {type: interval, interval_seconds: 0}\n";
    let file = place.file("jobs.yaml", text);
    place.run(&["jobs", "import", &file]).refused(2, &["line 6 (`b`)", "interval is zero"]);
    let file = place.file("jobs.yml", text.replace("seconds: 0", "seconds: 1"));
    assert_eq!(place.json(&["jobs", "import", &file])["created"], 2);
    place.run_with_input(&["jobs", "import", "-"], "name: [").refused(2, &["not YAML", "line"]);
    place
        .run_with_input(&["jobs", "import", "-"], "just words")
        .refused(2, &["line 1", "a job is an object"]);
}

#[test]
fn what_is_exported_is_imported_the_same() {
    let place = Place::new();
    let file = place.file("a.json", array(&[document("a"), document("b")]));
    place.run(&["jobs", "import", &file]).well();
    let first = place.run(&["jobs", "export"]).well().out;
    let lines = place.run(&["jobs", "export", "--lines", "b"]).well().out;
    assert_eq!(lines.lines().count(), 1);
    let other = Place::new();
    other.run_with_input(&["jobs", "import", "-"], &first).well();
    let strip = |text: &str| {
        let mut all: Value = serde_json::from_str(text).unwrap();
        for job in all.as_array_mut().unwrap() {
            // An import is a start of its own: only what lies in the future is kept of due times.
            for field in ["created_at", "updated_at", "created_by", "next_run_at"] {
                job.as_object_mut().unwrap().remove(field);
            }
        }
        all
    };
    assert_eq!(strip(&other.run(&["jobs", "export"]).well().out), strip(&first));
}

#[test]
fn a_crontab_is_taken_whole_or_not_at_all() {
    let place = Place::new();
    let crontab = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/crontab.debian");
    let args = ["jobs", "import", "--crontab", "--system", "--ignore-user", crontab];
    let done = place.json(&args);
    assert_eq!((&done["created"], &done["jobs"][0]["line"]), (&json!(4), &json!(20)));
    let job = place.json(&["jobs", "list", "--template", "command"]);
    assert_eq!(job["total"], 4);
    let bad = place.file("bad", "MAILTO=x\n*/5 * * * * echo hi\n61 * * * * echo\n@reboot echo\n* * * *\n");
    place.run(&["jobs", "import", "--crontab", &bad]).refused(
        2,
        &["3 problems", "line 3, column 1: minute 61", "line 4", "line 5", "    61 * * * * echo"],
    );
    assert_eq!(place.n_jobs(), 4);
}

#[test]
fn what_can_not_be_read_is_told() {
    let place = Place::new();
    place.run(&["jobs", "import", "nope.json"]).refused(2, &["nope.json", "can't be read"]);
    let file = place.file("x.json", [0xff, 0xfe, b'{']);
    place.run(&["jobs", "import", &file]).refused(2, &["not UTF-8"]);
    let file = place.file("y.json", "[{\"name\": \"a\",}]");
    place.run(&["jobs", "import", &file]).refused(2, &["not JSON", "line 1 column"]);
    let file = place.file("empty.json", "[]");
    assert_eq!(place.json(&["jobs", "import", &file])["created"], 0);
}
