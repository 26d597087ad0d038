//! How a scheduler behaves, where its user may choose.

use std::sync::OnceLock;
use std::time::Duration;

use crate::error::{Error, Fault, Result};

/// The settings of one scheduler; each with a default that suits most.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The first part of the node's id [the machine's name].
    pub node_name: String,
    /// How many executions this node runs at once, at most (100 by default).
    pub concurrency: usize,
    /// How long this node is believed alive without a heartbeat [15 s]. It renews every 0.4 of that.
    pub lease: Duration,
    /// The safety net: how long the ticker sleeps, at most, whatever it was told [30 s].
    pub poll: Duration,
    /// How many executions one claim takes, at most (500 by default).
    pub claim_batch: usize,
    /// How many ends of executions one write records, at most (500 by default).
    pub record_batch: usize,
    /// How long an execution that was asked to stop may take before it is dropped [5 s].
    pub cancel_grace: Duration,
    /// How long running executions may take when the scheduler stops, before they are asked to [8 s].
    pub stop_grace: Duration,
    /// How long the store may take to answer before a call counts as failed [10 s].
    pub call_timeout: Duration,
    /// How often log lines and progress of running executions are written [1 s].
    pub report_every: Duration,
    /// How long ended executions are kept, unless their job says otherwise [30 days]; `None` is for ever.
    pub retention: Option<Duration>,
    /// How often old history is removed [10 minutes].
    pub janitor_every: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            node_name: host_name(),
            concurrency: 100,
            lease: Duration::from_secs(15),
            poll: Duration::from_secs(30),
            claim_batch: 500,
            record_batch: 500,
            cancel_grace: Duration::from_secs(5),
            stop_grace: Duration::from_secs(8),
            call_timeout: Duration::from_secs(10),
            report_every: Duration::from_secs(1),
            retention: Some(Duration::from_hours(30 * 24)),
            janitor_every: Duration::from_mins(10),
        }
    }
}

impl Options {
    /// # Errors
    ///
    /// [`crate::ErrorKind::Invalid`] with every setting that can't work.
    pub fn validate(&self) -> Result<()> {
        let mut faults = Vec::new();
        let mut check = |ok: bool, field: &str, message: &str| {
            if !ok {
                faults.push(Fault::new(field, message));
            }
        };
        check(self.concurrency >= 1, "concurrency", "is 0; at least 1");
        check(self.concurrency <= 100_000, "concurrency", "is above 100000");
        check(
            self.lease >= Duration::from_secs(1),
            "lease_seconds",
            "is below 1; a node must have time to renew",
        );
        check(
            self.poll >= Duration::from_millis(100),
            "poll_seconds",
            "is below 0.1; that would be a busy loop",
        );
        check((1..=10_000).contains(&self.claim_batch), "claim_batch", "is not from 1 to 10000");
        check((1..=10_000).contains(&self.record_batch), "record_batch", "is not from 1 to 10000");
        check(self.call_timeout >= Duration::from_millis(100), "call_timeout_seconds", "is below 0.1");
        check(self.report_every >= Duration::from_millis(10), "report_every_seconds", "is below 0.01");
        check(self.janitor_every >= Duration::from_secs(1), "janitor_every_seconds", "is below 1");
        if faults.is_empty() { Ok(()) } else { Err(Error::faults_of("the options can't be used", faults)) }
    }
}

/// The machine's name, without asking the network.
pub(crate) fn host_name() -> String {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(read_host_name).clone()
}

fn read_host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .or_else(|| std::env::var("COMPUTERNAME").ok());
    name.map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "node".to_owned())
}
