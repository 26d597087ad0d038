//! What this program can run: the built-in templates, within the limits of the config, and the examples.

use std::sync::Arc;

use unified_scheduler::templates::command::{CommandOptions, CommandTemplate};
use unified_scheduler::templates::webhook::{WebhookOptions, WebhookTrigger};
use unified_scheduler::{Fault, Registry, SchedulerBuilder, Template};

use crate::config::{Config, seconds};
use crate::exit::Failure;
use crate::output::warn;
use crate::serve::examples::{ExampleFlaky, ExampleLog};

/// Gives a scheduler the templates that `serve` runs.
pub(crate) fn install(builder: SchedulerBuilder, config: &Config) -> Result<SchedulerBuilder, Failure> {
    let mut builder = builder.template(ExampleLog).template(ExampleFlaky);
    if config.templates.webhook.enabled {
        builder = builder.template(WebhookTrigger::new(webhook_options(config)));
    }
    if config.templates.command.enabled {
        builder = builder.template(CommandTemplate::new(command_options(config)?));
    }
    Ok(builder)
}

/// What parameters of new jobs are checked against: every template, those that are not enabled here among
/// them, since the node that will run the job may have another config.
pub(crate) fn known(config: &Config) -> Result<Arc<Registry>, Failure> {
    let registry = Registry::new();
    let mut command = CommandOptions::default();
    command.allow_shell = true;
    if config.templates.command.enabled {
        command = command_options(config)?;
    }
    let templates: [Arc<dyn Template>; 4] = [
        Arc::new(ExampleLog),
        Arc::new(ExampleFlaky),
        Arc::new(WebhookTrigger::new(webhook_options(config))),
        Arc::new(CommandTemplate::new(command)),
    ];
    for template in templates {
        registry.template(template)?;
    }
    Ok(Arc::new(registry))
}

/// Warns once of jobs that no node with this config would run.
pub(crate) fn warn_of_disabled<'a>(config: &Config, mut handlers: impl Iterator<Item = &'a str>) {
    let command = &config.templates.command;
    if !command.enabled && handlers.any(|handler| handler == CommandTemplate::TYPE) {
        warn(
            "the template `command` is not enabled in this config; jobs of it run only where \
             `[templates.command] enabled = true` stands in the config of `serve`",
        );
    }
}

fn webhook_options(config: &Config) -> WebhookOptions {
    let webhook = &config.templates.webhook;
    let mut options = WebhookOptions::default();
    options.allowed_hosts.clone_from(&webhook.allowed_hosts);
    options.allow_private = webhook.allow_private;
    options.allow_link_local = webhook.allow_link_local;
    options
}

fn command_options(config: &Config) -> Result<CommandOptions, Failure> {
    let command = &config.templates.command;
    let mut options = CommandOptions::default();
    options.allowed_programs.clone_from(&command.allowed_programs);
    options.allow_shell = command.allow_shell;
    options.inherit_environment = command.inherit_environment;
    let mut faults: Vec<Fault> = Vec::new();
    let grace = seconds("templates.command.grace_seconds", command.grace_seconds, 1.0, &mut faults);
    options.grace = grace.unwrap_or(options.grace);
    if faults.is_empty() { Ok(options) } else { Err(Failure::faults("the config can't be used", faults)) }
}
