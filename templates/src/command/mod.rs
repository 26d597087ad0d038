//! The template `command`: runs a program, or a line of shell, as a process of this machine.
//!
//! It is for whoever operates the node to allow: a job made from it does whatever the node's user may.
//! The process leads a group of its own, and with the job ends everything that it has started and that
//! has not left the group.

mod lines;
mod parameters;
mod process;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value};
use unified_scheduler_core::context::Context;
use unified_scheduler_core::handler::{HandlerError, Outcome};
use unified_scheduler_core::template::{Template, TemplateMetadata};
use unified_scheduler_core::{Error, Fault};

use parameters::Command;

/// What jobs may run, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommandOptions {
    /// The only programs that may be run, as a job writes them; best as absolute paths. With such a
    /// list no job can set the variables by which a program is led astray (`PATH`, `LD_PRELOAD` …).
    /// `None` is every program.
    pub allowed_programs: Option<Vec<String>>,
    /// Whether a job may be a line of shell, which can run everything. Off unless it is set.
    pub allow_shell: bool,
    /// Whether a process gets the whole environment of the node, secrets included, instead of the few
    /// variables that every program wants.
    pub inherit_environment: bool,
    /// How long a process that was asked to end (SIGTERM) may take before it is killed (SIGKILL). Best
    /// below the time that the engine gives a handler to stop, after which it is killed in any case.
    pub grace: Duration,
}

impl Default for CommandOptions {
    /// Every program, no shell, a small environment, 3 seconds to end.
    fn default() -> Self {
        Self {
            allowed_programs: None,
            allow_shell: false,
            inherit_environment: false,
            grace: Duration::from_secs(3),
        }
    }
}

/// Runs a program.
#[derive(Debug)]
pub struct CommandTemplate {
    options: CommandOptions,
}

impl CommandTemplate {
    /// The template's type.
    pub const TYPE: &'static str = "command";

    /// The template, within the limits of `options`.
    pub fn new(options: CommandOptions) -> Self {
        Self { options }
    }
}

/// Variables that every program wants, and that say nothing secret.
const COMMON: [&str; 10] =
    ["HOME", "LANG", "LANGUAGE", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER"];

/// What a process finds in its environment before its job adds to it.
fn inherited(options: &CommandOptions) -> BTreeMap<String, String> {
    let mut environment: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| options.inherit_environment || COMMON.contains(&name.as_str()))
        .collect();
    environment.entry("PATH".to_owned()).or_insert_with(|| "/usr/local/bin:/usr/bin:/bin".to_owned());
    environment
}

/// Which execution a process belongs to, as it is told.
fn identity(ctx: &Context) -> [(&'static str, String); 5] {
    [
        ("UNIFIED_SCHEDULER_JOB_ID", ctx.job_id().to_string()),
        ("UNIFIED_SCHEDULER_EXECUTION_ID", ctx.execution_id().to_string()),
        ("UNIFIED_SCHEDULER_ATTEMPT", ctx.attempt().to_string()),
        ("UNIFIED_SCHEDULER_DUE_AT", ctx.due_at().to_string()),
        ("UNIFIED_SCHEDULER_IDEMPOTENCY_KEY", ctx.idempotency_key()),
    ]
}

#[async_trait]
impl Template for CommandTemplate {
    fn metadata(&self) -> TemplateMetadata {
        TemplateMetadata {
            description: "Runs a program or a line of shell on the node, and keeps what it writes".to_owned(),
            category: "system".to_owned(),
            icon: "🖥️".to_owned(),
            risk_level: "high".to_owned(),
            parameters_schema: parameters::schema(),
            ..TemplateMetadata::new(Self::TYPE, "Command")
        }
    }

    fn check(&self, parameters: &mut Map<String, Value>) -> Vec<Fault> {
        Command::read(parameters, &self.options).err().unwrap_or_default()
    }

    async fn run(&self, ctx: Context) -> Result<Outcome, HandlerError> {
        let mut command = Command::read(&mut ctx.parameters().clone(), &self.options)
            .map_err(|faults| Error::faults_of("the parameters don't fit", faults))?;
        let mut environment = inherited(&self.options);
        environment.append(&mut command.environment);
        environment.extend(identity(&ctx).map(|(name, value)| (name.to_owned(), value)));
        command.environment = environment;
        process::execute(&command, self.options.grace, &ctx).await
    }
}
