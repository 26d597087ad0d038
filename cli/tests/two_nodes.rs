//! Two `serve` processes on one SQLite file, with 200 jobs of one second, for a minute. One of them is
//! killed with SIGKILL in the middle and started again later. No occurrence starts twice, none is without
//! a record, and what was lost with the killed process is run again.
//!
//! Real time is what this tests.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use unified_scheduler::execution::Execution;
use unified_scheduler::store::{ExecutionQuery, ExecutionSort, JobQuery, Store};
use unified_scheduler::verify::{VerifyOptions, verify};
use unified_scheduler::{ExecutionId, Job, NodeId, Status};

const N_JOBS: usize = 200;
const KILL_AT: Duration = Duration::from_secs(20);
const RESTART_AT: Duration = Duration::from_secs(40);
const END_AT: Duration = Duration::from_secs(60);

struct Serve(Child);

impl Serve {
    fn start(file: &Path, name: &str) -> Self {
        let log = std::fs::File::create(file.with_extension(format!("{name}.log"))).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_unified-scheduler"))
            .args(["--store", &format!("sqlite://{}", file.display()), "serve", "--quiet"])
            .args(["--node-name", name, "--lease", "3s", "--concurrency", "120"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self(child)
    }

    /// As a crash of the machine would: nothing can be said or written any more.
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Asks it to drain, and waits until it has.
    fn stop(mut self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        assert!(self.0.wait().unwrap().success(), "a node that is asked to stop ends well");
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        // Fails when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// 200 jobs as a document; each takes most of its second.
fn documents(folder: &Path) -> PathBuf {
    let jobs: Vec<serde_json::Value> = (0..N_JOBS)
        .map(|i| {
            serde_json::json!({
                "name": format!("job {i}"),
                "template_type": "example_log",
                "parameters": {"message": "tick", "seconds": 0.7},
                "schedule": {"type": "interval", "interval_seconds": 1},
                "retry_policy": {"max_retries": 1, "retry_delay_seconds": 1, "on_lost": true, "explicit": true},
            })
        })
        .collect();
    let path = folder.join("jobs.json");
    std::fs::write(&path, serde_json::to_vec(&jobs).unwrap()).unwrap();
    path
}

fn cli(file: &Path, args: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_unified-scheduler"))
        .args(["--store", &format!("sqlite://{}", file.display())])
        .args(args)
        .output()
        .unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_loses_and_doubles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jobs.db");
    let jobs = documents(folder.path());
    let (imported, said) = cli(&file, &["jobs", "import", jobs.to_str().unwrap()]);
    assert!(imported, "{said}");

    let began = Instant::now();
    let wait_until = |at: Duration| std::thread::sleep(at.saturating_sub(began.elapsed()));
    let one = Serve::start(&file, "one");
    let two = Serve::start(&file, "two");
    wait_until(KILL_AT);
    let store = unified_scheduler::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    until_it_works(&*store, "two-").await;
    two.kill();
    wait_until(RESTART_AT);
    let two_again = Serve::start(&file, "two-again");
    wait_until(END_AT);
    one.stop();
    two_again.stop();

    // The program's own proof.
    let (whole, said) = cli(&file, &["verify"]);
    assert!(whole, "{said}");

    // And one that does not trust it: the rows themselves.
    let report = verify(&*store, &VerifyOptions::default(), |_| {}).await.unwrap();
    assert_eq!(report.jobs, N_JOBS as u64);
    let mut lost = 0;
    let mut nodes = BTreeMap::<NodeId, usize>::new();
    let query = JobQuery { limit: N_JOBS, ..JobQuery::default() };
    for job in store.list_jobs(&query).await.unwrap().items {
        let rows = executions(&*store, &job).await;
        lost += check(&job, &rows);
        for node in rows.iter().filter_map(|row| row.node_id.clone()) {
            *nodes.entry(node).or_default() += 1;
        }
    }
    assert_eq!(nodes.len(), 3, "each process did its part: {nodes:?}");
    assert!(lost > 0, "the killed process was in the middle of something");
    let text = cli(&file, &["executions", "list", "--status", "lost", "--limit", "3"]).1;
    assert!(text.contains("lost"), "{text}");
}

/// Waits until a node is in the middle of something that has just begun.
async fn until_it_works(store: &dyn Store, node: &str) {
    let query = ExecutionQuery { statuses: vec![Status::Running], limit: 500, ..ExecutionQuery::default() };
    loop {
        let now = store.now().await.unwrap();
        let running = store.list_executions(&query).await.unwrap().items;
        let fresh = |row: &Execution| {
            let name = row.node_id.as_ref().map_or("", |id| id.as_str());
            name.starts_with(node) && now.since(row.started_at.unwrap()) < Duration::from_millis(300)
        };
        if running.iter().any(fresh) {
            return;
        }
        tokio::task::yield_now().await;
    }
}

async fn executions(store: &dyn Store, job: &Job) -> Vec<Execution> {
    let mut query = ExecutionQuery {
        job_id: Some(job.id.clone()),
        sort: ExecutionSort::DueAt,
        limit: 500,
        ..ExecutionQuery::default()
    };
    let mut all: Vec<Execution> = Vec::new();
    loop {
        let page = store.list_executions(&query).await.unwrap().items;
        let last: Option<ExecutionId> = page.last().map(|row| row.id);
        all.extend(page);
        match last {
            Some(last) if all.len().is_multiple_of(500) => query.after = Some(last),
            _ => return all,
        }
    }
}

/// Every second from the first to the last has exactly one first attempt, or lies in what one stands for;
/// nothing is open; what was lost was run again. Answers how many were lost.
fn check(job: &Job, rows: &[Execution]) -> usize {
    let name = &job.definition.name;
    let first = rows.first().unwrap_or_else(|| panic!("{name} never ran"));
    let (mut expected, mut lost) = (first.due_at.as_millis(), 0);
    for row in rows.iter().filter(|row| row.attempt == 1) {
        assert_eq!(row.due_at.as_millis(), expected, "{name}: a hole, or one too many");
        expected = row.last_due_at().as_millis() + 1000;
    }
    assert!(expected - first.due_at.as_millis() >= 55_000, "{name}: it stopped after {expected}");
    assert_eq!(job.due.unwrap().due_at.as_millis(), expected, "{name}: the end of the chain");
    for row in rows {
        assert!(row.status.is_final(), "{name}: {} is still {}", row.id, row.status);
        if row.status == Status::Lost {
            lost += 1;
            let again = rows.iter().filter(|r| r.due_at == row.due_at && r.attempt == row.attempt + 1);
            assert_eq!(again.count(), 1, "{name}: what was lost at {} was not run again", row.due_at);
        }
    }
    lost
}
