//! Files that are not as they should be: refused, mended, or at least said clearly.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use tempfile::TempDir;
use unified_scheduler_core::clock::ManualClock;
use unified_scheduler_core::id::IdSource;
use unified_scheduler_core::job::{Job, JobDefinition};
use unified_scheduler_core::plan::EnginePlanner;
use unified_scheduler_core::schedule::Schedule;
use unified_scheduler_core::store::{
    CheckLevel, ClaimBatch, ClaimOutcome, ClaimRequest, CreateJobs, CreateOutcome, ExecutionQuery, JobQuery,
    JoinRequest, NodeInfo, NodeRef, ReapRequest, Store,
};
use unified_scheduler_core::{Error, ErrorKind, Timestamp};
use unified_scheduler_sqlite::{SqliteConfig, SqliteStore};

fn start() -> Timestamp {
    Timestamp::from_secs(1_800_000_000)
}

struct File {
    directory: TempDir,
    clock: ManualClock,
}

impl File {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), clock: ManualClock::at(start()) }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("jobs.db")
    }

    fn config(&self) -> SqliteConfig {
        SqliteConfig::new(self.path()).clock(Arc::new(self.clock.clone()))
    }

    async fn open(&self) -> SqliteStore {
        SqliteStore::open(self.config()).await.unwrap()
    }

    async fn refusal(&self) -> Error {
        SqliteStore::open(self.config()).await.expect_err("the file is not in order")
    }

    fn change(&self, sql: &str) {
        Connection::open(self.path()).unwrap().execute_batch(sql).unwrap();
    }
}

fn job(id: &str) -> Job {
    let schedule = Schedule::every(Duration::from_mins(1));
    Job::new(id.into(), JobDefinition::new(format!("job {id}"), "work", schedule), start())
}

async fn create(store: &SqliteStore, jobs: Vec<Job>) -> Result<CreateOutcome, Error> {
    store.create_jobs(CreateJobs { jobs, unique_names: true, actor: "test".into() }).await
}

async fn join(store: &SqliteStore) -> NodeRef {
    let request = JoinRequest { id: "node".into(), ttl: Duration::from_secs(15), info: NodeInfo::default() };
    let joined = store.join(request).await.unwrap();
    NodeRef { id: "node".into(), epoch: joined.epoch }
}

async fn claim(store: &SqliteStore, node: &NodeRef, limit: usize) -> ClaimBatch {
    let planner = EnginePlanner::new(Arc::new(IdSource::new()));
    let handlers = ["work".to_owned()].into();
    let request = ClaimRequest { node, handlers: &handlers, limit };
    match store.claim(request, &planner).await.unwrap() {
        ClaimOutcome::Claimed(batch) => *batch,
        ClaimOutcome::Refused => panic!("the node is alive"),
    }
}

#[tokio::test]
async fn a_file_of_another_program_is_refused_and_left_as_it_was() {
    let file = File::new();
    file.change("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1);");
    let before = std::fs::read(file.path()).unwrap();
    let error = file.refusal().await;
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("another program"), "{error}");
    assert_eq!(std::fs::read(file.path()).unwrap(), before);
}

#[tokio::test]
async fn what_is_no_database_is_refused() {
    let file = File::new();
    std::fs::write(file.path(), "once upon a time ".repeat(500)).unwrap();
    let error = file.refusal().await;
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
}

#[tokio::test]
async fn a_missing_directory_and_a_directory_as_file_are_refused_by_name() {
    let file = File::new();
    let missing = file.directory.path().join("no").join("jobs.db");
    let error = SqliteStore::open(SqliteConfig::new(missing)).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Invalid && error.message().contains("/no`"), "{error}");
    let error = SqliteStore::open(SqliteConfig::new(file.directory.path())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
}

#[tokio::test]
async fn an_empty_file_is_made_a_store() {
    let file = File::new();
    std::fs::write(file.path(), "").unwrap();
    assert_eq!(file.open().await.counts().await.unwrap().jobs, 0);
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let file = File::new();
    file.open().await.close().await.unwrap();
    file.change("INSERT INTO us_migrations VALUES (99, 'from the future', 0);");
    let error = file.refusal().await;
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("99"), "{error}");
}

#[tokio::test]
async fn a_damaged_file_is_called_corrupt() {
    let file = File::new();
    let store = file.open().await;
    let _ = create(&store, (0..500).map(|i| job(&format!("{i}"))).collect()).await.unwrap();
    store.close().await.unwrap();
    file.change("PRAGMA wal_checkpoint(TRUNCATE);");
    let mut bytes = std::fs::read(file.path()).unwrap();
    bytes[4096..].fill(0xAB);
    std::fs::write(file.path(), bytes).unwrap();
    let kind = match SqliteStore::open(file.config()).await {
        Ok(store) => store.list_jobs(&JobQuery::default()).await.unwrap_err().kind(),
        Err(error) => error.kind(),
    };
    assert_eq!(kind, ErrorKind::Corrupt);
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_that_open_one_new_file_at_once_all_find_its_schema() {
    let file = File::new();
    let opening: Vec<_> = (0..8).map(|_| tokio::spawn(SqliteStore::open(file.config()))).collect();
    for store in opening {
        let store = store.await.unwrap().unwrap();
        let checks = store.diagnose().await.unwrap();
        assert!(checks.iter().all(|check| check.level == CheckLevel::Ok), "{checks:?}");
    }
}

#[tokio::test]
async fn namespaces_in_one_file_do_not_see_each_other() {
    let file = File::new();
    let (one, two) = (file.open().await, file.config().namespace("other").unwrap());
    let two = SqliteStore::open(two).await.unwrap();
    let _ = create(&one, vec![job("a")]).await.unwrap();
    assert_eq!(one.counts().await.unwrap().jobs, 1);
    assert_eq!(two.counts().await.unwrap().jobs, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_what_does_not_fit_and_keeps_the_rest() {
    let file = File::new();
    let store = SqliteStore::open(file.config().max_pages(120)).await.unwrap();
    let mut stored = 0;
    let error = loop {
        assert!(stored < 10_000, "the limit counts");
        let jobs = (0..20).map(|i| job(&format!("{}", stored + i))).collect();
        match create(&store, jobs).await {
            Ok(_) => stored += 20,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("full"), "{error}");
    assert_eq!(store.counts().await.unwrap().jobs, stored, "a refused request leaves nothing");
    assert!(store.get_job(&"0".into()).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_that_cannot_be_read_is_shown_and_set_aside_and_stops_nobody() {
    let file = File::new();
    let store = file.open().await;
    let _ = create(&store, vec![job("good"), job("bad"), job("worse")]).await.unwrap();
    file.change(
        "UPDATE us_jobs SET definition = '{\"name\":' WHERE id = 'bad';
         UPDATE us_jobs SET definition = x'ff00' WHERE id = 'worse';",
    );
    let listed = store.list_jobs(&JobQuery::default()).await.unwrap().items;
    let faulty = listed.iter().filter(|job| job.fault.is_some()).count();
    assert_eq!((listed.len(), faulty), (3, 2));

    let node = join(&store).await;
    let batch = claim(&store, &node, 10).await;
    let claimed: Vec<&str> = batch.claimed.iter().map(|c| c.job.id.as_str()).collect();
    assert_eq!(claimed, ["good"]);
    assert_eq!(batch.set_aside.len(), 2);
    assert!(claim(&store, &node, 10).await.set_aside.is_empty(), "once is enough");
    assert_eq!(store.counts().await.unwrap().faulty, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn executions_of_a_newer_version_are_left_alone_and_stop_nobody() {
    let file = File::new();
    let store = file.open().await;
    let _ = create(&store, ["a", "b", "c", "d"].map(job).to_vec()).await.unwrap();
    let node = join(&store).await;
    assert_eq!(claim(&store, &node, 10).await.claimed.len(), 4);
    file.change(
        "UPDATE us_executions SET made_by = 'moon' WHERE job_id = 'a';
         UPDATE us_executions SET made_by = 'moon', status = 'pending' WHERE job_id = 'b';
         UPDATE us_executions SET status = 'pending' WHERE job_id = 'c';",
    );
    let batch = claim(&store, &node, 10).await;
    assert_eq!(batch.claimed.iter().map(|c| c.job.id.as_str()).collect::<Vec<_>>(), ["c"]);
    let owned = store.owned(&node).await.unwrap();
    assert_eq!(owned.len(), 2, "c and d");
    let page = ExecutionQuery { limit: 2, ..ExecutionQuery::default() };
    assert_eq!(store.list_executions(&page).await.unwrap().items.len(), 2, "a page is full");
    store.leave(&node).await.unwrap();
    let planner = EnginePlanner::new(Arc::new(IdSource::new()));
    let request = ReapRequest { grace: Duration::ZERO, limit: 10 };
    let reaped = store.reap(request, &planner).await.unwrap();
    assert_eq!((reaped.ended.len(), reaped.more), (2, false));
    let left = Connection::open(file.path()).unwrap().query_row(
        "SELECT count(*) FROM us_executions WHERE made_by = 'moon'",
        [],
        |row| row.get(0),
    );
    assert_eq!(left, Ok(2), "as they were");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_gives_a_hint_when_it_makes_something_due() {
    let file = File::new();
    let (here, there) = (file.open().await, file.open().await);
    let mut hints = here.hints();
    hints.mark_unchanged();
    let _ = create(&there, vec![job("a")]).await.unwrap();
    hints.changed().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_another_process_keeps_is_waited_for_and_then_called_unavailable() {
    let file = File::new();
    let store = SqliteStore::open(file.config().busy_timeout(Duration::from_millis(50))).await.unwrap();
    let other = Connection::open(file.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = create(&store, vec![job("a")]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(store.counts().await.unwrap().jobs, 0, "readers go on");
    other.execute_batch("ROLLBACK").unwrap();
    let _ = create(&store, vec![job("a")]).await.unwrap();
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let file = File::new();
    let store = file.open().await;
    store.close().await.unwrap();
    store.close().await.unwrap();
    assert_eq!(store.counts().await.unwrap_err().kind(), ErrorKind::Stopped);
    assert_eq!(create(&store, vec![]).await.unwrap_err().kind(), ErrorKind::Stopped);
}

const CHILD: &str = "SQLITE_STORE_TEST_FILE";

/// Claims and completes without end, until the test that started this process kills it.
#[test]
fn works_until_it_is_killed() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let clock = ManualClock::at(start());
        let config = SqliteConfig::new(path).clock(Arc::new(clock.clone()));
        let store = SqliteStore::open(config).await.unwrap();
        let node = join(&store).await;
        loop {
            // Every job is due again and again.
            let batch = claim(&store, &node, 50).await;
            if batch.claimed.is_empty() {
                clock.advance(Duration::from_mins(1));
                let node = node.clone();
                let info = NodeInfo::default();
                let ttl = Duration::from_secs(1_000_000);
                let beat = unified_scheduler_core::store::HeartbeatRequest { node, ttl, info };
                let _ = store.heartbeat(beat).await.unwrap();
            }
        }
    });
}

#[test]
fn after_a_kill_a_job_has_moved_if_and_only_if_its_occurrence_has_a_record() {
    let file = File::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = file.open().await;
        let jobs = (0..400).map(|i| job(&format!("{i:03}"))).collect();
        let _ = create(&store, jobs).await.unwrap();
        store.close().await.unwrap();
    });
    for _ in 0..5 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "works_until_it_is_killed"])
            .env(CHILD, file.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        wait_for_more(&file.path(), 130);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_ledger(&file.path());
    }
}

/// Waits until there are as many more executions, and looks as a stranger would.
fn wait_for_more(path: &Path, executions: u32) {
    let db = Connection::open(path).unwrap();
    db.busy_timeout(Duration::from_secs(5)).unwrap();
    let count = || db.query_row("SELECT count(*) FROM us_executions", [], |row| row.get::<_, u32>(0));
    let before = count().unwrap();
    while count().unwrap() < before + executions {
        std::thread::yield_now();
    }
}

/// Each occurrence from the first up to a job's next one has exactly one record, itself or in a range.
fn assert_ledger(path: &Path) {
    let db = Connection::open(path).unwrap();
    let sql = "SELECT count(*) FROM us_jobs j JOIN us_job_state s USING (n) WHERE
        (SELECT coalesce(sum(n_occurrences), 0) FROM us_executions e WHERE e.job_id = j.id)
        <> (s.due_at - ?1) / 60000
        OR EXISTS (SELECT 1 FROM us_executions e WHERE e.job_id = j.id AND e.due_at >= s.due_at)";
    let wrong: i64 = db.query_row(sql, [start().as_millis()], |row| row.get(0)).unwrap();
    assert_eq!(wrong, 0, "jobs whose next time and records disagree");
    let check: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
}
