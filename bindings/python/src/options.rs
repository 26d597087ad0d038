//! The settings of a scheduler, as Python gives them.

use std::time::Duration;

use serde::Deserialize;
use unified_scheduler::{Error, Options, Result, Timestamp};

use crate::answer::seconds;

/// Everything that an engine is made with. Times are seconds.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) url: String,
    /// A clock that moves by hand, and shows this; the store is one in memory then.
    pub(crate) manual_from: Option<Timestamp>,
    /// The seed of ids and random numbers of a manual clock.
    pub(crate) seed: u64,
    node_name: Option<String>,
    concurrency: Option<usize>,
    lease: Option<f64>,
    poll: Option<f64>,
    claim_batch: Option<usize>,
    record_batch: Option<usize>,
    cancel_grace: Option<f64>,
    stop_grace: Option<f64>,
    call_timeout: Option<f64>,
    report_every: Option<f64>,
    janitor_every: Option<f64>,
    /// Negative: for ever.
    retention: Option<f64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: "memory:".to_owned(),
            manual_from: None,
            seed: 0,
            node_name: None,
            concurrency: None,
            lease: None,
            poll: None,
            claim_batch: None,
            record_batch: None,
            cancel_grace: None,
            stop_grace: None,
            call_timeout: None,
            report_every: None,
            janitor_every: None,
            retention: None,
        }
    }
}

impl Config {
    pub(crate) fn read(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|e| Error::invalid(format!("the settings can't be read: {e}")))
    }

    pub(crate) fn options(&self) -> Result<Options> {
        let usual = Options::default();
        let time = |given: Option<f64>, usual: Duration, name: &str| match given {
            None => Ok(usual),
            Some(value) => {
                seconds(value).ok_or_else(|| Error::invalid(format!("{name}: {value} is no length of time")))
            }
        };
        let options = Options {
            node_name: self.node_name.clone().unwrap_or(usual.node_name),
            concurrency: self.concurrency.unwrap_or(usual.concurrency),
            lease: time(self.lease, usual.lease, "lease")?,
            poll: time(self.poll, usual.poll, "poll")?,
            claim_batch: self.claim_batch.unwrap_or(usual.claim_batch),
            record_batch: self.record_batch.unwrap_or(usual.record_batch),
            cancel_grace: time(self.cancel_grace, usual.cancel_grace, "cancel_grace")?,
            stop_grace: time(self.stop_grace, usual.stop_grace, "stop_grace")?,
            call_timeout: time(self.call_timeout, usual.call_timeout, "call_timeout")?,
            report_every: time(self.report_every, usual.report_every, "report_every")?,
            retention: match self.retention {
                None => usual.retention,
                Some(value) => seconds(value),
            },
            janitor_every: time(self.janitor_every, usual.janitor_every, "janitor_every")?,
        };
        options.validate()?;
        Ok(options)
    }
}
