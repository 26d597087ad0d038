//! Due jobs claimed and recorded with full history, in batches, by the store; and beside it, in the same run,
//! the same rows written by hand by one variadic script a batch.
//!
//! Run: `TEST_REDIS_URL=redis://127.0.0.1/ cargo bench -p unified-scheduler-redis`. It prints what it measures,
//! and the memory that a job and an execution take.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use unified_scheduler_core::plan::EnginePlanner;
use unified_scheduler_core::settle::{Ending, settle};
use unified_scheduler_core::store::{
    ClaimOutcome, ClaimRequest, CompleteRequest, CreateJobs, CreateOutcome, JoinRequest, NodeInfo, NodeRef,
    Store,
};
use unified_scheduler_core::{IdSource, Job, JobDefinition, NodeId, Schedule, Status};
use unified_scheduler_redis::{RedisConfig, RedisStore};

const N: usize = 50_000;
const BATCH: usize = 500;
const RUNS: usize = 3;
const DAY: Duration = Duration::from_secs(86_400);

type Failure = Box<dyn std::error::Error>;

#[expect(clippy::print_stdout, reason = "a bench prints what it measured")]
fn say(text: &str) {
    println!("{text}");
}

#[expect(clippy::cast_precision_loss, reason = "a rate is shown without decimals")]
fn rate(n: usize, took: Duration) -> f64 {
    n as f64 / took.as_secs_f64()
}

/// The numbers of `INFO` that a line of it holds.
async fn info(link: &mut MultiplexedConnection, name: &str) -> Result<u64, Failure> {
    let text: String = redis::cmd("INFO").arg("everything").query_async(link).await?;
    let rest = text.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such line")?;
    let digits: String =
        rest.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    Ok(digits.parse()?)
}

async fn fill(store: &RedisStore) -> Result<(), Failure> {
    let due = store.now().await?.saturating_sub(Duration::from_secs(1));
    for chunk in (0..N).collect::<Vec<_>>().chunks(5000) {
        let jobs = chunk.iter().map(|i| {
            let definition =
                JobDefinition::new(format!("bench-{i}"), "bench", Schedule::every(DAY).anchored_at(due));
            Job::new(format!("bench-{i}").into(), definition, due)
        });
        let request = CreateJobs { jobs: jobs.collect(), unique_names: false, actor: "bench".to_owned() };
        if store.create_jobs(request).await? != CreateOutcome::Created {
            return Err("not stored".into());
        }
    }
    Ok(())
}

async fn by_store(store: &RedisStore, name: &str) -> Result<usize, Failure> {
    let id = NodeId::from(name);
    let request = JoinRequest { id: id.clone(), ttl: DAY, info: NodeInfo::default() };
    let node = NodeRef { id, epoch: store.join(request).await?.epoch };
    let ids = Arc::new(IdSource::new());
    let planner = EnginePlanner::new(Arc::clone(&ids));
    let handlers = BTreeSet::from(["bench".to_owned()]);
    let mut n = 0;
    loop {
        let request = ClaimRequest { node: &node, handlers: &handlers, limit: BATCH };
        let ClaimOutcome::Claimed(batch) = store.claim(request, &planner).await? else {
            return Err("refused".into());
        };
        if batch.claimed.is_empty() {
            return Ok(n);
        }
        let end = |c: &unified_scheduler_core::store::Claimed| {
            settle(Some(&c.job), &c.execution, Ending::new(Status::Success, batch.now), &ids)
        };
        let ends: Vec<_> = batch.claimed.iter().map(end).collect();
        let outcomes = store.complete(CompleteRequest { node: &node, completions: &ends }).await?;
        n += outcomes.len();
    }
}

async fn by_hand(link: &mut MultiplexedConnection, prefix: &str, now: i64) -> Result<usize, Failure> {
    let claim = redis::Script::new(include_str!("claim.lua"));
    let complete = redis::Script::new(include_str!("complete.lua"));
    let (running, ended, last_run) = ([7_u8; 190], [7_u8; 290], [7_u8; 40]);
    let mut n = 0;
    loop {
        let jobs: Vec<Vec<u8>> =
            claim.key(prefix).arg(now).arg(BATCH).arg(n).arg(&running[..]).invoke_async(link).await?;
        if jobs.is_empty() {
            return Ok(n);
        }
        let mut call = complete.key(prefix);
        call.arg(now).arg(n).arg(&ended[..]).arg(&last_run[..]);
        for job in &jobs {
            call.arg(job);
        }
        n += call.invoke_async::<usize>(link).await?;
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let url = std::env::var("TEST_REDIS_URL").map_err(|_| "set TEST_REDIS_URL to a server's URL")?;
    let client = redis::Client::open(url.as_str())?;
    let mut link = client.get_multiplexed_async_connection().await?;
    for run in 1..=RUNS {
        let mut took = Vec::new();
        for who in ["hand", "store"] {
            let config = RedisConfig::from_url(&url)?.namespace(&format!("bench-{who}"))?;
            let store = RedisStore::open(config).await?;
            let before = info(&mut link, "used_memory:").await?;
            fill(&store).await?;
            let with_jobs = info(&mut link, "used_memory:").await?;
            let now = store.now().await?.as_millis();
            let scripts = info(&mut link, "cmdstat_evalsha:calls=").await.unwrap_or(0);
            let began = Instant::now();
            let n = match who {
                "hand" => by_hand(&mut link, "{us:bench-hand}:", now).await?,
                _ => by_store(&store, "node").await?,
            };
            took.push(began.elapsed());
            if n != N {
                return Err(format!("{n} of {N} by {who}").into());
            }
            if who == "store" && run == 1 {
                let calls = info(&mut link, "cmdstat_evalsha:calls=").await? - scripts;
                let after = info(&mut link, "used_memory:").await?;
                let n = u64::try_from(N)?;
                say(&format!(
                    "{} bytes a job, {} bytes an execution; {calls} scripts for {} batches",
                    (with_jobs - before) / n,
                    (after - with_jobs) / n,
                    N / BATCH
                ));
            }
            store.close().await?;
            let keys: Vec<Vec<u8>> =
                redis::cmd("KEYS").arg(format!("{{us:bench-{who}}}:*")).query_async(&mut link).await?;
            for keys in keys.chunks(1000) {
                redis::cmd("DEL").arg(keys).exec_async(&mut link).await?;
            }
        }
        say(&format!(
            "run {run}: store {:.0}/s, by hand {:.0}/s, share {:.2} (claim and record of {N}, batches of {BATCH})",
            rate(N, took[1]),
            rate(N, took[0]),
            took[0].as_secs_f64() / took[1].as_secs_f64()
        ));
    }
    Ok(())
}
