//! What the server's settings mean for the promise: asked at the start, and by `doctor`.

use std::cmp::Ordering;
use std::collections::HashMap;

use redis::Value;
use unified_scheduler_core::store::{Check, CheckLevel};
use unified_scheduler_core::{Error, ErrorKind, Result};

use crate::answers::{self, Answer};
use crate::scripts;
use crate::store::Session;

/// The oldest server whose scripts do what ours need.
const OLDEST: (u32, u32) = (6, 2);

/// What the server tells of itself.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    info: HashMap<String, String>,
    /// `None` where the server lets nobody ask, as some that are hosted.
    config: Option<HashMap<String, String>>,
}

impl Settings {
    fn info(&self, name: &str) -> &str {
        self.info.get(name).map_or("", String::as_str)
    }

    fn number(&self, name: &str) -> u64 {
        self.info(name).parse().unwrap_or(0)
    }

    fn setting(&self, name: &str) -> Option<&str> {
        self.config.as_ref()?.get(name).map(String::as_str)
    }

    fn version(&self) -> Option<(u32, u32)> {
        let mut parts = self.info("redis_version").split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }

    /// The eviction policy, where it could be read.
    fn eviction(&self) -> Option<&str> {
        Some(self.info("maxmemory_policy"))
            .filter(|p| !p.is_empty())
            .or_else(|| self.setting("maxmemory-policy"))
    }

    /// Whether a commit survives the loss of power.
    pub(crate) fn durable(&self) -> bool {
        self.info("aof_enabled") == "1" && self.setting("appendfsync") == Some("always")
    }

    /// # Errors
    ///
    /// Where the store can't keep its promise here at all.
    pub(crate) fn refuse(&self, allow_eviction: bool) -> Result<()> {
        if self.version().is_some_and(|version| version < OLDEST) {
            return Err(Error::unsupported(format!(
                "the server is Redis {}; at least {}.{} is needed",
                self.info("redis_version"),
                OLDEST.0,
                OLDEST.1
            )));
        }
        match self.eviction() {
            Some(policy) if policy != "noeviction" && !allow_eviction => Err(Error::invalid(format!(
                "the server evicts keys when its memory is full (`maxmemory-policy {policy}`), and would lose \
                 jobs and leases; set `maxmemory-policy noeviction`, or accept it with `?allow_eviction=true`"
            ))),
            _ => Ok(()),
        }
    }

    pub(crate) fn warn(&self, place: &str) {
        for check in [self.persistence(), self.memory()] {
            if check.level != CheckLevel::Ok {
                tracing::warn!(store = place, check = check.name, "{}", check.detail);
            }
        }
    }

    fn persistence(&self) -> Check {
        let aof = self.info("aof_enabled") == "1";
        let (level, detail) = match (aof, self.setting("appendfsync"), self.setting("save")) {
            (true, Some("always"), _) => {
                (CheckLevel::Ok, "append-only file, synced at each write: what was committed survives".to_owned())
            }
            (true, Some("no"), _) => (
                CheckLevel::Warning,
                "append-only file, synced when the operating system likes: a crash of the machine can lose half a \
                 minute, and what was claimed then fires again; set `appendfsync everysec` or `always`"
                    .to_owned(),
            ),
            (true, sync, _) => (
                CheckLevel::Ok,
                format!(
                    "append-only file, synced {}: a crash of the server loses nothing, one of the machine about a \
                     second, and what was claimed in it fires again; `appendfsync always` avoids that",
                    sync.unwrap_or("as set (which could not be read)")
                ),
            ),
            (false, _, save) => (
                CheckLevel::Warning,
                format!(
                    "no append-only file (snapshots: {}): when the server ends, jobs, runs and history since the \
                     last snapshot are lost, and what ran since fires again; set `appendonly yes`",
                    match save {
                        Some("") => "none, so everything is lost",
                        Some(save) => save,
                        None => "could not be read",
                    }
                ),
            ),
        };
        Check::new("persistence", level, detail)
    }

    fn memory(&self) -> Check {
        let (used, most) = (self.number("used_memory"), self.number("maxmemory"));
        let policy = self.eviction().unwrap_or("unknown");
        let megabytes = |bytes: u64| bytes / 1_048_576;
        let (level, detail) = if policy != "noeviction" && policy != "unknown" {
            let detail = format!("`maxmemory-policy {policy}` may evict jobs and leases; set `noeviction`");
            (CheckLevel::Failed, detail)
        } else if let Some(percent) = used.saturating_mul(100).checked_div(most) {
            let level = if percent >= 90 { CheckLevel::Warning } else { CheckLevel::Ok };
            let text = format!(
                "{} of {} MB used ({percent} %); when all is used, writes are refused and nothing fires",
                megabytes(used),
                megabytes(most)
            );
            (level, text)
        } else {
            (CheckLevel::Ok, format!("{} MB used, without a limit but the machine's", megabytes(used)))
        };
        Check::new("memory", level, detail)
    }

    fn role(&self) -> Check {
        let replicas = self.number("connected_slaves");
        match self.info("role") {
            "master" if replicas > 0 => Check::new(
                "role",
                CheckLevel::Ok,
                format!(
                    "primary with {replicas} replicas: they follow a little later, so that a failover can lose the \
                     last writes, and what was claimed in them fires again"
                ),
            ),
            "master" => Check::new("role", CheckLevel::Ok, "primary without a replica"),
            other => Check::new(
                "role",
                CheckLevel::Failed,
                format!("the server is `{other}`, which takes no writes; give the address of the primary"),
            ),
        }
    }

    fn checks(&self) -> Vec<Check> {
        let fits = self.version().is_none_or(|version| version >= OLDEST);
        let level = if fits { CheckLevel::Ok } else { CheckLevel::Failed };
        let version =
            format!("Redis {}; {}.{} or later is needed", self.info("redis_version"), OLDEST.0, OLDEST.1);
        let mut checks =
            vec![Check::new("version", level, version), self.persistence(), self.memory(), self.role()];
        if self.config.is_none() {
            let detail =
                "the server lets nobody read its settings (CONFIG): how it syncs its file is not known";
            checks.push(Check::new("settings", CheckLevel::Warning, detail));
        }
        checks
    }
}

impl Session {
    /// # Errors
    ///
    /// Where the namespace's keys are of another layout, or of another program.
    pub(crate) async fn check_layout(&self) -> Result<()> {
        let mut answer = Answer::of(self.link.run(&self.link.call(&scripts::OPEN)).await?)?;
        let there = answer.int()?;
        if there == -1 {
            return Err(Error::corrupt(format!(
                "the key `{}` is a {} of another program; remove it, or choose another `namespace`",
                answer.text()?,
                answer.text()?
            )));
        }
        let ours = answer.int()?;
        let message = match there.cmp(&ours) {
            Ordering::Equal => return Ok(()),
            Ordering::Greater => format!(
                "the namespace was written by a newer version of this program (layout {there}; this one knows \
                 {ours}); update it, or choose another `namespace`"
            ),
            Ordering::Less => format!(
                "the namespace was written by an older version of this program (layout {there}; this one knows \
                 {ours}); `migrate` its jobs with that version, or choose another `namespace`"
            ),
        };
        Err(Error::unsupported(message))
    }

    pub(crate) async fn settings(&self) -> Result<Settings> {
        let info = answers::text(self.link.run(&self.link.call(&scripts::INFO)).await?)?;
        let info = info.lines().filter_map(|line| line.split_once(':'));
        let info = info.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
        let mut config = Some(HashMap::new());
        for name in ["maxmemory-policy", "appendfsync", "save"] {
            let mut cmd = redis::cmd("CONFIG");
            cmd.arg("GET").arg(name);
            match self.link.ask(cmd).await {
                Ok(answer) => {
                    if let (Some(config), Some((name, value))) = (&mut config, pair(answer)) {
                        config.insert(name, value);
                    }
                }
                Err(error) if error.kind() == ErrorKind::Unavailable => return Err(error),
                Err(_) => config = None,
            }
        }
        Ok(Settings { info, config })
    }

    pub(crate) async fn diagnose(&self) -> Result<Vec<Check>> {
        let settings = match self.settings().await {
            Ok(settings) => settings,
            Err(error) if error.kind() == ErrorKind::Stopped => return Err(error),
            Err(error) => {
                return Ok(vec![Check::new("reachable", CheckLevel::Failed, error.to_string())]);
            }
        };
        let mut checks = settings.checks();
        if self.config.cluster {
            let info = self.link.ask(redis::cmd("CLUSTER").arg("INFO").clone()).await;
            let state = info.and_then(answers::text).unwrap_or_default();
            let ok = state.lines().any(|line| line.trim() == "cluster_state:ok");
            let level = if ok { CheckLevel::Ok } else { CheckLevel::Failed };
            let detail = if ok { "every slot is served" } else { "the cluster says that it is not well" };
            checks.push(Check::new("cluster", level, detail));
        }
        let listening = *self.listening.borrow();
        let (level, detail) = if listening {
            (CheckLevel::Ok, "listening for hints of other processes")
        } else {
            (
                CheckLevel::Warning,
                "not listening for hints of other processes: what they change is found by polling",
            )
        };
        checks.push(Check::new("hints", level, detail));
        checks.push(self.clock_check().await);
        Ok(checks)
    }

    /// How far this machine's clock is from the server's.
    async fn clock_check(&self) -> Check {
        let here = unified_scheduler_core::clock::SystemClock::new();
        let here = unified_scheduler_core::clock::Clock::now(&here);
        match self.now().await {
            Ok(now) => {
                let apart = (here.as_millis() - now.as_millis()).abs();
                let level = if apart > 1000 { CheckLevel::Warning } else { CheckLevel::Ok };
                let detail = format!("{now} by the server, which rules; this machine is {apart} ms apart");
                Check::new("clock", level, detail)
            }
            Err(error) => Check::new("clock", CheckLevel::Failed, error.to_string()),
        }
    }
}

/// The name and the value in an answer of CONFIG GET.
fn pair(answer: Value) -> Option<(String, String)> {
    match answer {
        Value::Map(pairs) => {
            let (name, value) = pairs.into_iter().next()?;
            Some((answers::text(name).ok()?, answers::text(value).ok()?))
        }
        Value::Array(items) => {
            let mut items = items.into_iter();
            Some((answers::text(items.next()?).ok()?, answers::text(items.next()?).ok()?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(info: &[(&str, &str)], config: Option<&[(&str, &str)]>) -> Settings {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        Settings { info: map(info), config: config.map(map) }
    }

    #[test]
    fn a_server_that_evicts_is_refused_unless_that_is_accepted() {
        let evicting = settings(&[("maxmemory_policy", "allkeys-lru")], None);
        assert!(evicting.refuse(false).is_err_and(|e| e.message().contains("allkeys-lru")));
        assert!(evicting.refuse(true).is_ok());
        assert!(settings(&[("maxmemory_policy", "noeviction")], None).refuse(false).is_ok());
        assert!(settings(&[], None).refuse(false).is_ok(), "what can't be read can't be refused");
        assert!(settings(&[("redis_version", "5.0.14")], None).refuse(false).is_err());
    }

    #[test]
    fn each_way_of_persistence_says_what_is_at_risk() {
        let check = |aof: &str, config| settings(&[("aof_enabled", aof)], config).persistence();
        assert_eq!(check("1", Some(&[("appendfsync", "always")])).level, CheckLevel::Ok);
        assert!(check("1", Some(&[("appendfsync", "everysec")])).detail.contains("second"));
        assert_eq!(check("1", Some(&[("appendfsync", "no")])).level, CheckLevel::Warning);
        assert!(check("0", Some(&[("save", "")])).detail.contains("everything is lost"));
        assert!(check("0", None).detail.contains("could not be read"));
        assert!(settings(&[("aof_enabled", "1")], Some(&[("appendfsync", "always")])).durable());
        assert!(!settings(&[("aof_enabled", "1")], None).durable());
    }

    #[test]
    fn a_replica_and_full_memory_are_told() {
        assert_eq!(settings(&[("role", "slave")], None).role().level, CheckLevel::Failed);
        let full = [("maxmemory_policy", "noeviction"), ("maxmemory", "100"), ("used_memory", "95")];
        assert_eq!(settings(&full, None).memory().level, CheckLevel::Warning);
    }
}
