//! Looks at everything that usually is the cause when a scheduler does not do what it should.

use std::time::Duration;

use crate::clock::Clock;
use crate::error::Result;
use crate::store::{Check, CheckLevel, JobQuery, Store};
use crate::time::Timestamp;

/// A difference between this machine's clock and the store's that is worth a word.
const SKEW: i64 = 1000;

/// How long something may be due and unclaimed before it is worth a word.
const LATE: Duration = Duration::from_secs(30);

/// Examines a store, the nodes on it, and this machine against both.
///
/// A check that can't be made is a failed check, not an error: the others are made all the same.
pub async fn examine(store: &dyn Store, clock: &dyn Clock) -> Vec<Check> {
    let mut checks = match store.diagnose().await {
        Ok(checks) => checks,
        Err(error) => {
            // Whatever else is asked would say the same.
            return vec![Check::new("store", CheckLevel::Failed, error.to_string())];
        }
    };
    let more: [(&str, Result<Check>); 4] = [
        ("clock", clock_check(store, clock).await),
        ("nodes", nodes_check(store).await),
        ("jobs", jobs_check(store).await),
        ("punctuality", punctuality_check(store).await),
    ];
    for (name, check) in more {
        checks.push(check.unwrap_or_else(|e| Check::new(name, CheckLevel::Failed, e.to_string())));
    }
    checks.push(Check::new(
        "time zones",
        CheckLevel::Ok,
        format!("IANA {}", crate::schedule::tzdb_version()),
    ));
    checks
}

async fn clock_check(store: &dyn Store, clock: &dyn Clock) -> Result<Check> {
    let before = clock.now();
    let store_now = store.now().await?;
    let here = Timestamp::from_millis(i64::midpoint(before.as_millis(), clock.now().as_millis()));
    let skew = here.as_millis() - store_now.as_millis();
    let (level, advice) = if skew.abs() > SKEW {
        (CheckLevel::Warning, "; the store's clock rules, but check the time service of both machines")
    } else {
        (CheckLevel::Ok, "")
    };
    Ok(Check::new("clock", level, format!("this machine is {skew} ms ahead of the store{advice}")))
}

async fn nodes_check(store: &dyn Store) -> Result<Check> {
    let now = store.now().await?;
    let nodes = store.list_nodes().await?;
    let alive: Vec<_> = nodes.iter().filter(|n| !n.dead && n.lease_until >= now).collect();
    if alive.is_empty() {
        let text = "no node is running, so nothing fires; start one with `serve` or in your application";
        return Ok(Check::new("nodes", CheckLevel::Warning, text));
    }
    let mut found = vec![format!("{} alive", alive.len())];
    let mut level = CheckLevel::Ok;
    for node in &alive {
        if node.info.clock_skew_ms.abs() > SKEW {
            level = CheckLevel::Warning;
            found.push(format!("the clock of {} is off by {} ms", node.id, node.info.clock_skew_ms));
        }
        if node.info.tzdb != crate::schedule::tzdb_version() {
            level = CheckLevel::Warning;
            found.push(format!("{} computes with time zones {}", node.id, node.info.tzdb));
        }
    }
    Ok(Check::new("nodes", level, found.join("; ")))
}

async fn jobs_check(store: &dyn Store) -> Result<Check> {
    let faulty = JobQuery { faulty: Some(true), limit: 5, count: true, ..JobQuery::default() };
    let page = store.list_jobs(&faulty).await?;
    if page.items.is_empty() {
        return Ok(Check::new("jobs", CheckLevel::Ok, "none is set aside"));
    }
    let named: Vec<String> = page
        .items
        .iter()
        .map(|job| format!("`{}` ({})", job.definition.name, job.fault.as_deref().unwrap_or("unknown")))
        .collect();
    let total = page.total.unwrap_or(page.items.len() as u64);
    let text = format!("{total} set aside: {}; edit them, or enable them again", named.join(", "));
    Ok(Check::new("jobs", CheckLevel::Warning, text))
}

async fn punctuality_check(store: &dyn Store) -> Result<Check> {
    let (now, counts) = (store.now().await?, store.counts().await?);
    let late = counts.oldest_due.map_or(Duration::ZERO, |t| now.since(t));
    if late > LATE {
        let text = format!(
            "something has been due for {} s and nobody has claimed it; `jobs explain` says why",
            late.as_secs()
        );
        return Ok(Check::new("punctuality", CheckLevel::Warning, text));
    }
    Ok(Check::new("punctuality", CheckLevel::Ok, "nothing is due and waiting"))
}
