//! The settings file: TOML, every key known, every fault with its place.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use tracing_subscriber::EnvFilter;
use unified_scheduler::{Fault, Options};

use crate::exit::Failure;
use crate::import::read_text;

/// What the engine warns of, `serve` shows as events.
const DEFAULT_LEVEL: &str = "warn,unified_scheduler_core::engine=error";

/// Everything that can be set. `docs/unified-scheduler.example.toml` explains each.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) store: StoreConfig,
    pub(crate) node: NodeConfig,
    pub(crate) history: HistoryConfig,
    pub(crate) templates: TemplatesConfig,
    pub(crate) log: LogConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StoreConfig {
    pub(crate) url: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NodeConfig {
    pub(crate) name: Option<String>,
    pub(crate) concurrency: Option<usize>,
    pub(crate) lease_seconds: Option<f64>,
    pub(crate) poll_seconds: Option<f64>,
    pub(crate) stop_grace_seconds: Option<f64>,
    pub(crate) cancel_grace_seconds: Option<f64>,
    pub(crate) call_timeout_seconds: Option<f64>,
    pub(crate) claim_batch: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct HistoryConfig {
    /// 0 is for ever.
    pub(crate) retention_days: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TemplatesConfig {
    pub(crate) command: CommandConfig,
    pub(crate) webhook: WebhookConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CommandConfig {
    pub(crate) enabled: bool,
    pub(crate) allow_shell: bool,
    pub(crate) allowed_programs: Option<Vec<String>>,
    pub(crate) inherit_environment: bool,
    pub(crate) grace_seconds: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct WebhookConfig {
    pub(crate) enabled: bool,
    pub(crate) allowed_hosts: Option<Vec<String>>,
    pub(crate) allow_private: bool,
    pub(crate) allow_link_local: bool,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self { enabled: true, allowed_hosts: None, allow_private: true, allow_link_local: false }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogConfig {
    pub(crate) level: Option<String>,
    pub(crate) format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogFormat {
    #[default]
    Text,
    Json,
}

impl Config {
    pub(crate) fn load(path: &Path) -> Result<Self, Failure> {
        let text = read_text(&path.display().to_string())?;
        Self::parse(&text).map_err(|message| {
            Failure::input(format!("the config {} can't be used:\n{}", path.display(), message.trim_end()))
        })
    }

    fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|e| e.to_string())
    }

    /// The engine's settings, with what the file says in place of their defaults.
    pub(crate) fn options(&self) -> Result<Options, Failure> {
        let mut options = Options::default();
        let mut faults = Vec::new();
        let NodeConfig { name, concurrency, claim_batch, .. } = &self.node;
        if let Some(name) = name {
            options.node_name.clone_from(name);
        }
        options.concurrency = concurrency.unwrap_or(options.concurrency);
        options.claim_batch = claim_batch.unwrap_or(options.claim_batch);
        let node = &self.node;
        for (field, value, place) in [
            ("node.lease_seconds", node.lease_seconds, &mut options.lease),
            ("node.poll_seconds", node.poll_seconds, &mut options.poll),
            ("node.stop_grace_seconds", node.stop_grace_seconds, &mut options.stop_grace),
            ("node.cancel_grace_seconds", node.cancel_grace_seconds, &mut options.cancel_grace),
            ("node.call_timeout_seconds", node.call_timeout_seconds, &mut options.call_timeout),
        ] {
            if let Some(duration) = seconds(field, value, 1.0, &mut faults) {
                *place = duration;
            }
        }
        let days = self.history.retention_days;
        if let Some(retention) = seconds("history.retention_days", days, 86_400.0, &mut faults) {
            options.retention = (!retention.is_zero()).then_some(retention);
        }
        if faults.is_empty() { Ok(options) } else { Err(Failure::faults("the config can't be used", faults)) }
    }
}

/// A number of units of `unit` seconds as a duration.
pub(crate) fn seconds(
    field: &str,
    value: Option<f64>,
    unit: f64,
    faults: &mut Vec<Fault>,
) -> Option<Duration> {
    let value = value?;
    match Duration::try_from_secs_f64(value * unit) {
        Ok(duration) if duration <= Duration::from_secs(36_600 * 86_400) => Some(duration),
        _ => {
            faults.push(Fault::new(field, format!("is {value}")).help("give a number from 0 to 100 years"));
            None
        }
    }
}

impl LogConfig {
    /// Starts logging to the standard error. The environment's `UNIFIED_SCHEDULER_LOG` wins over the file.
    pub(crate) fn start(&self) -> Result<(), Failure> {
        let asked = std::env::var("UNIFIED_SCHEDULER_LOG").ok().filter(|level| !level.is_empty());
        let level = asked.or_else(|| self.level.clone()).unwrap_or_else(|| DEFAULT_LEVEL.to_owned());
        let filter = EnvFilter::try_new(&level).map_err(|e| {
            Failure::input(format!("`{level}` is no log level: {e}; use error, warn, info, debug or trace"))
        })?;
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        // An error means that there is a subscriber already, which will do.
        let _ = match self.format {
            LogFormat::Text => builder.with_ansi(crate::output::color::stderr_is_colored()).try_init(),
            LogFormat::Json => builder.json().try_init(),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_with_its_place_and_the_known_ones() {
        let error = Config::parse("[node]\nconcurency = 5\n").unwrap_err();
        assert!(error.contains("line 2") && error.contains("concurency"), "{error}");
        assert!(error.contains("`concurrency`") && error.contains("`lease_seconds`"), "{error}");
    }

    #[test]
    fn a_setting_out_of_range_names_its_field() {
        let config = Config::parse("[node]\nlease_seconds = -1\n[history]\nretention_days = inf\n").unwrap();
        let Failure::Input { faults, .. } = config.options().unwrap_err() else { panic!() };
        let fields: Vec<&str> = faults.iter().map(|f| f.field.as_str()).collect();
        assert_eq!(fields, ["node.lease_seconds", "history.retention_days"]);
    }

    #[test]
    fn no_retention_is_for_ever() {
        let config = Config::parse("[history]\nretention_days = 0\n").unwrap();
        assert_eq!(config.options().unwrap().retention, None);
    }

    #[test]
    fn the_example_file_sets_everything_there_is() {
        let text = include_str!("../../docs/unified-scheduler.example.toml");
        Config::parse(text).unwrap().options().unwrap().validate().unwrap();
        // What is commented out there is right too.
        let all: String = text
            .lines()
            .map(|line| line.strip_prefix("#= ").unwrap_or(line))
            .fold(String::new(), |all, line| all + line + "\n");
        Config::parse(&all).unwrap().options().unwrap().validate().unwrap();
        for key in
            ["url", "lease_seconds", "retention_days", "allowed_programs", "allow_link_local", "format"]
        {
            assert!(all.lines().any(|line| line.starts_with(&format!("{key} ="))), "{key} is not explained");
        }
    }
}
