//! The template `webhook_trigger`: calls a URL, and checks what it answers.

mod deliver;
mod guard;
mod request;

use std::fmt;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use reqwest::{Client, redirect};
use serde_json::{Map, Value};
use unified_scheduler_core::Fault;
use unified_scheduler_core::context::Context;
use unified_scheduler_core::handler::{HandlerError, Outcome};
use unified_scheduler_core::template::{Template, TemplateMetadata};

use guard::{Guard, GuardedResolver};
use request::Request;

/// Where webhooks may go.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WebhookOptions {
    /// The only hosts that may be called: `api.example.org`, or `*.example.org` for every host below
    /// it. `None` is every host that the other rules leave.
    pub allowed_hosts: Option<Vec<String>>,
    /// Whether addresses of private networks and of this machine may be called. When they may not, no
    /// proxy is used either, since it would resolve names where we can't see to what.
    pub allow_private: bool,
    /// Whether link-local addresses, and those where clouds serve the credentials of a machine, may be
    /// called. Behind a proxy this is known only for addresses and for the usual names.
    pub allow_link_local: bool,
}

impl Default for WebhookOptions {
    /// Every host, private networks too; nothing link-local, no metadata service.
    fn default() -> Self {
        Self { allowed_hosts: None, allow_private: true, allow_link_local: false }
    }
}

/// Calls a URL.
pub struct WebhookTrigger {
    guard: Arc<Guard>,
    client: OnceLock<Result<Client, String>>,
}

impl WebhookTrigger {
    /// The template's type.
    pub const TYPE: &'static str = "webhook_trigger";

    /// The template, within the limits of `options`.
    pub fn new(options: WebhookOptions) -> Self {
        let WebhookOptions { allowed_hosts, allow_private, allow_link_local } = options;
        let guard = Guard { allowed_hosts, allow_private, allow_link_local };
        Self { guard: Arc::new(guard), client: OnceLock::new() }
    }

    /// The client of all calls, made at the first.
    fn client(&self) -> Result<&Client, &str> {
        let client = self.client.get_or_init(|| {
            // Fails when there is one already, which then is as good.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let mut builder = Client::builder()
                .user_agent(concat!("unified-scheduler/", env!("CARGO_PKG_VERSION")))
                .redirect(redirect::Policy::none())
                .dns_resolver(GuardedResolver(Arc::clone(&self.guard)));
            if !self.guard.allow_private {
                builder = builder.no_proxy();
            }
            builder.build().map_err(|e| format!("the HTTP client can't be made: {e}"))
        });
        client.as_ref().map_err(String::as_str)
    }
}

impl Default for WebhookTrigger {
    fn default() -> Self {
        Self::new(WebhookOptions::default())
    }
}

impl fmt::Debug for WebhookTrigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookTrigger").field("guard", &self.guard).finish_non_exhaustive()
    }
}

#[async_trait]
impl Template for WebhookTrigger {
    fn metadata(&self) -> TemplateMetadata {
        TemplateMetadata {
            description: "Calls a URL and checks the status of its answer".to_owned(),
            category: "integrations".to_owned(),
            icon: "🔗".to_owned(),
            estimated_duration: "1-5 minutes".to_owned(),
            resource_usage: "low".to_owned(),
            risk_level: "medium".to_owned(),
            parameters_schema: request::schema(),
            ..TemplateMetadata::new(Self::TYPE, "Webhook Trigger")
        }
    }

    fn check(&self, parameters: &mut Map<String, Value>) -> Vec<Fault> {
        let mut faults = Vec::new();
        match Request::read(parameters) {
            Ok(request) => {
                if let Some(why) = self.guard.refusal(&request.url) {
                    faults.push(Fault::new("url", why).help("the operator decides where webhooks may go"));
                }
            }
            Err(found) => faults = found,
        }
        faults
    }

    async fn run(&self, ctx: Context) -> Result<Outcome, HandlerError> {
        let request = Request::read(&mut ctx.parameters().clone())
            .map_err(|faults| unified_scheduler_core::Error::faults_of("the parameters don't fit", faults))?;
        let key = ctx.idempotency_key();
        deliver::deliver(self.client()?, &self.guard, &request, &key, &ctx).await
    }
}
