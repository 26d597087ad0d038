//! The table of schedules that Rust, Python and Node all run.

use serde_json::Value;
use unified_scheduler_core::schedule::Schedule;
use unified_scheduler_core::{Fault, Timestamp};

fn table(name: &str) -> Vec<Value> {
    let text = include_str!("../../tests/vectors/schedule.json");
    let all: Value = serde_json::from_str(text).expect("the table is JSON");
    all[name].as_array().expect("the table has this list").clone()
}

#[test]
fn due_times_are_those_of_the_table() {
    for case in table("due") {
        let compiled = Schedule::from_document(&case["schedule"]).unwrap().compile("job").unwrap();
        let from: Timestamp = case["from"].as_str().unwrap().parse().unwrap();
        let wanted = case["due"].as_array().unwrap();
        let more = usize::from(case["ends"] == true);
        let due: Vec<Value> =
            std::iter::successors(compiled.next_after(from, from), |due| compiled.next_after(*due, from))
                .take(wanted.len() + more)
                .map(|due| due.to_string().into())
                .collect();
        assert_eq!(due, *wanted, "{}", case["name"]);
    }
}

#[test]
fn faults_are_those_of_the_table() {
    for case in table("refused") {
        let schedule = Schedule::from_document(&case["schedule"]);
        let faults: Vec<Fault> =
            schedule.and_then(|schedule| schedule.compile("job").map(|_| ())).expect_err(&case.to_string());
        assert_eq!(faults[0].field, case["field"].as_str().unwrap(), "{case}");
        let position = case["position"].as_u64().map(|position| usize::try_from(position).unwrap());
        assert_eq!(faults[0].position, position, "{case}");
    }
}
