//! `migrate --from --to`, on real stores: every ordered pair, cut off in the middle and repeated.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use unified_scheduler::schedule::{Calendar, Cron, Dialect, Recurrence, Schedule, Window};
use unified_scheduler::store::{
    AuditQuery, ExecutionPages, ExecutionQuery, JobPages, JobQuery, JoinRequest, MemoryStore, NodeInfo,
};
use unified_scheduler::transfer::{TransferOptions, transfer};
use unified_scheduler::{
    Context, HandlerError, JobDefinition, Misfire, NewJob, Overlap, Retry, RunOptions, Store, TestScheduler,
    connect, cron, every, on_demand, once,
};
use unified_scheduler_services::{Durability, Kind, Server};

use crate::place::Place;

/// A document of one job.
const A_JOB: &str = r#"[{"name": "a", "template_type": "example_log", "schedule": {"type": "manual"}}]"#;

/// Where stores are made: a file, or a server that tests were given, or one of our own.
struct Ground {
    name: &'static str,
    url: String,
    _server: Option<Server>,
}

impl Ground {
    fn all(place: &Place) -> Vec<Self> {
        let file = format!("sqlite://{}", place.path("stores.db").display());
        let mut all = vec![Self { name: "sqlite", url: file, _server: None }];
        for kind in [Kind::Postgres, Kind::Redis, Kind::Mongodb] {
            let given = std::env::var(kind.variable()).ok().filter(|url| !url.is_empty());
            let server = given.is_none().then(|| Server::start(kind, Durability::Fast).unwrap());
            let url = server.as_ref().map_or_else(|| given.unwrap_or_default(), Server::url);
            all.push(Self { name: kind.name(), url, _server: server });
        }
        all
    }

    /// The URL of a store of its own there.
    fn store(&self, name: &str) -> String {
        let id = std::process::id();
        let namespace = format!("move_{id}_{name}");
        if self.name == "mongodb" {
            // The part behind the host is the database.
            let host = self.url.strip_prefix("mongodb://").unwrap().split('/').next().unwrap();
            return format!("mongodb://{host}/{namespace}");
        }
        if self.name == "sqlite" {
            return self.url.replace("stores.db", &format!("{namespace}.db"));
        }
        format!("{}?namespace={namespace}", self.url)
    }
}

/// A store in which jobs of all kinds have lived: static and dynamic ones, every kind of schedule, retries,
/// skips, logs, what waits, what was paused, and what was deleted.
fn lived_in() -> MemoryStore {
    let test = TestScheduler::at("2026-11-01T00:00:00Z").with(|scheduler| {
        scheduler
            .job(every("talks", Duration::from_secs(120)).run(|ctx: Context| async move {
                ctx.info("first line: ünïcödé, \u{1F552}");
                ctx.warn("second line");
            }))
            .job(
                every("slow", Duration::from_secs(60))
                    .overlap(Overlap::Skip)
                    .run(|ctx: Context| async move { ctx.sleep(Duration::from_secs(150)).await }),
            )
            .job(
                cron("fails", "*/10 * * * *")
                    .timezone("Europe/Berlin")
                    .retry(Retry::times(2, Duration::from_secs(30)))
                    .run(|_: Context| async { Err::<(), _>(HandlerError::new("no luck")) }),
            )
            .job(once("once", "2026-11-01T00:05:00Z".parse().unwrap()).run(|_: Context| async {}))
            .job(on_demand("by hand").run(|_: Context| async {}))
            .handler("work", |_: Context| async {})
    });
    let jobs = test.scheduler().jobs().by("operator");
    let calendar = Calendar {
        name: "nights".to_owned(),
        windows: vec![Window { from: "00:10".parse().unwrap(), to: "00:20".parse().unwrap() }],
        ..Calendar::default()
    };
    test.block_on(async {
        jobs.put_calendar(&calendar).await.unwrap();
        for definition in dynamic_jobs() {
            jobs.create(NewJob::from(definition)).await.unwrap();
        }
        let by_hand = jobs.find("by hand").await.unwrap().id;
        let options = RunOptions { idempotency_key: Some("once only".to_owned()), ..RunOptions::default() };
        jobs.run(&by_hand, options).await.unwrap();
    });
    // More than a page of executions.
    test.advance(Duration::from_secs(5 * 3600));
    test.block_on(async {
        let paused = jobs.find("dynamic 1").await.unwrap().id;
        jobs.disable(&paused).await.unwrap();
        let gone = jobs.find("dynamic 2").await.unwrap().id;
        jobs.delete(&gone).await.unwrap();
        let by_hand = jobs.find("by hand").await.unwrap().id;
        let at = Some("2030-01-01T00:00:00Z".parse().unwrap());
        jobs.run(&by_hand, RunOptions { at, ..RunOptions::default() }).await.unwrap();
        test.scheduler().stop().await;
    });
    test.store().handle()
}

fn dynamic_jobs() -> Vec<JobDefinition> {
    let croniter = Cron { dialect: Dialect::Croniter, ..cron_of("*/5 * * * * 30") };
    let schedules = [
        Schedule::every(Duration::from_secs(300)).jitter(Duration::from_secs(10)),
        Schedule::new(Recurrence::Interval {
            every: Duration::from_secs(600),
            anchor: None,
            from_completion: true,
        }),
        Schedule::every(Duration::from_secs(400)).limit(3),
        Schedule::new(Recurrence::Cron(croniter)),
        Schedule::cron("30 2 L * *").starting("2027-01-01T00:00:00Z".parse().unwrap()),
        Schedule::once("2031-01-01T00:00:00Z".parse().unwrap()),
        Schedule::manual(),
    ];
    let definition = |(n, mut schedule): (usize, Schedule)| {
        if n == 0 {
            schedule.exclude.calendars = vec!["nights".to_owned()];
        }
        let mut definition = JobDefinition::new(format!("dynamic {n}"), "work", schedule);
        definition.parameters.insert("text".to_owned(), serde_json::json!({"deep": [1, 2.5, "ü", null]}));
        definition.misfire = Misfire::RunAll { limit: 3 };
        definition.tags = vec!["moved".to_owned()];
        definition.description = "stays as it is".to_owned();
        definition
    };
    schedules.into_iter().enumerate().map(definition).collect()
}

fn cron_of(expression: &str) -> Cron {
    match Schedule::cron(expression).recurrence {
        Recurrence::Cron(cron) => cron,
        other => panic!("{other:?}"),
    }
}

/// Everything that a store holds, in an order that is the same for all kinds.
async fn content(store: &dyn Store) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut pages = JobPages::new(store, JobQuery::default());
    loop {
        let page = pages.next().await.unwrap();
        if page.is_empty() {
            break;
        }
        all.extend(page.into_iter().map(|job| (format!("job {}", job.id), format!("{job:?}"))));
    }
    let mut pages = ExecutionPages::new(store, ExecutionQuery::default());
    loop {
        let page = pages.next().await.unwrap();
        if page.is_empty() {
            break;
        }
        for execution in page {
            let logs = store.list_logs(&execution.id, 0, 1000).await.unwrap();
            all.insert(format!("execution {}", execution.id), format!("{execution:?} {logs:?}"));
        }
    }
    for calendar in store.list_calendars().await.unwrap() {
        all.insert(format!("calendar {}", calendar.name), format!("{calendar:?}"));
    }
    let query = AuditQuery { limit: 10_000, ..AuditQuery::default() };
    for entry in store.list_audit(&query).await.unwrap() {
        *all.entry(format!("audit {entry:?}")).or_default() += "1";
    }
    all
}

fn n_executions(content: &BTreeMap<String, String>) -> usize {
    content.keys().filter(|key| key.starts_with("execution")).count()
}

#[test]
fn everything_moves_between_every_two_stores_also_after_it_was_killed() {
    let place = Place::new();
    let grounds = Ground::all(&place);
    let runtime = Runtime::new().unwrap();
    let original = lived_in();
    let options = TransferOptions { history: true, ..TransferOptions::default() };
    let expected = runtime.block_on(content(&original));
    assert!(n_executions(&expected) > 600, "{}", n_executions(&expected));
    for ground in &grounds {
        runtime.block_on(async {
            let store = connect(&ground.store("old")).await.unwrap();
            let report = transfer(&original, &*store, &options, |_| {}).await.unwrap();
            assert!(report.is_whole(), "{}: {report:?}", ground.name);
            store.close().await.unwrap();
        });
    }
    let mut n_cut = 0;
    let pairs = grounds.iter().flat_map(|from| grounds.iter().map(move |to| (from, to)));
    for (from, to) in pairs.filter(|(from, to)| from.name != to.name) {
        let pair = format!("{} to {}", from.name, to.name);
        let (from, to) = (from.store("old"), to.store(&format!("of_{}", from.name)));
        let args = ["--json", "migrate", "--from", &from, "--to", &to];
        let store = runtime.block_on(connect(&to)).unwrap();
        let left = runtime.block_on(killed_in_the_middle(&place, &args, &store));
        n_cut += usize::from(left < n_executions(&expected));
        let report = place.run(&args).well().json();
        assert_eq!(report["whole"], true, "{pair}: {report}");
        let n = expected.keys().filter(|key| key.starts_with("job")).count();
        assert_eq!(report["jobs"], n, "{pair}");
        assert_eq!(report["executions"], n_executions(&expected), "{pair}");
        // What was on its way to a server when its sender was killed has come after the count.
        let added = report["executions_added"].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap();
        assert!(added <= n_executions(&expected) - left, "{pair}: {added} added to {left}");
        let found = runtime.block_on(content(&*store));
        let differs = expected.iter().find(|(key, value)| found.get(*key) != Some(value));
        assert_eq!(differs.map(|(key, value)| (value, found.get(key))), None, "{pair}");
        assert_eq!(found.len(), expected.len(), "{pair}");
        runtime.block_on(store.close()).unwrap();
    }
    // A busy machine may kill some of them too late.
    assert!(n_cut >= 6, "only {n_cut} of 12 moves were cut off in the middle");
}

/// Starts a move, and kills it as soon as something of it is there; how many executions that were.
async fn killed_in_the_middle(place: &Place, args: &[&str], to: &Arc<dyn Store>) -> usize {
    let mut moving = place.command(args).stdout(std::process::Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    let n = async || to.counts().await.unwrap().executions.values().sum::<u64>();
    while n().await == 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "{args:?}");
        tokio::task::yield_now().await;
    }
    moving.kill().unwrap();
    moving.wait().unwrap();
    usize::try_from(n().await).unwrap()
}

#[test]
fn what_can_not_be_moved_is_refused_and_says_why() {
    let place = Place::new();
    let runtime = Runtime::new().unwrap();
    let refused = |from: &str, to: &str, code: i32, parts: &[&str]| {
        place.run(&["migrate", "--from", from, "--to", to]).refused(code, parts);
    };
    place.file(
        "jobs.json",
        r#"[{"name": "a", "template_type": "example_log", "schedule": {"type": "manual"}}]"#,
    );
    let import = |store: &str| place.run(&["--store", store, "jobs", "import", "jobs.json"]).well();
    import("sqlite://old.db");

    refused("sqlite://old.db", "sqlite://old.db", 2, &["the same store"]);
    refused("sqlite://old.db", "sqlite://./old.db", 2, &["the same store"]);
    refused("sqlite://typo.db", "sqlite://new.db", 2, &["`--from`", "typo.db", "does not exist"]);
    assert!(!place.path("typo.db").exists() && !place.path("new.db").exists());
    refused("mysql://x", "sqlite://new.db", 2, &["`mysql` is not a kind of store"]);
    refused("sqlite://old.db", "postgres://u:secret@127.0.0.1:1/x", 3, &["reach"]);
    place.run(&["--store", "sqlite://empty.db", "status"]).well();
    refused("sqlite://empty.db", "sqlite://new.db", 2, &["nothing to move"]);

    // Another scheduler lives there.
    import("sqlite://others.db");
    refused(
        "sqlite://old.db",
        "sqlite://others.db",
        1,
        &["1 job that the old one does not", "`a`", "--merge"],
    );
    let merged = ["migrate", "--from", "sqlite://old.db", "--to", "sqlite://others.db", "--merge"];
    place.run(&merged).well();

    // A node is at work.
    let old = format!("sqlite://{}", place.path("old.db").display());
    runtime.block_on(async {
        let store = connect(&old).await.unwrap();
        let ttl = Duration::from_secs(3600);
        store.join(JoinRequest { id: "busy".into(), ttl, info: NodeInfo::default() }).await.unwrap();
        store.close().await.unwrap();
    });
    refused("sqlite://old.db", "sqlite://new.db", 1, &["node busy is alive", "old.db", "stop all nodes"]);
}

#[test]
fn a_database_that_is_missing_and_a_user_without_rights_are_told() {
    let place = Place::new();
    let grounds = Ground::all(&place);
    let postgres = &grounds.iter().find(|ground| ground.name == "postgres").unwrap().url;
    place.file("jobs.json", A_JOB);
    place.run(&["--store", "sqlite://old.db", "jobs", "import", "jobs.json"]).well();
    let (server, database) = postgres.rsplit_once('/').unwrap();
    let missing = format!("{server}/no_such_database");
    let moved = |from: &str, to: &str| place.run(&["migrate", "--from", from, "--to", to]);
    moved(&missing, "sqlite://new.db").refused(3, &["no_such_database"]);

    let psql = unified_scheduler_services::programs::postgres().unwrap().join("psql");
    let run = |statement: &str| {
        let done =
            std::process::Command::new(&psql).args(["-q", postgres, "-c", statement]).status().unwrap();
        assert!(done.success(), "{statement}");
    };
    let user = format!("nobody_{}", std::process::id());
    run(&format!("CREATE ROLE {user} LOGIN PASSWORD 'secret'"));
    let host = server.rsplit_once('@').map_or(server, |(_, host)| host);
    let refused = moved("sqlite://old.db", &format!("postgres://{user}:secret@{host}/{database}"));
    run(&format!("DROP ROLE {user}"));
    refused.refused(3, &["permission denied", "grant"]);
}
