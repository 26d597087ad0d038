//! Templates: handlers with a face. An admin makes jobs from them; the server checks their parameters.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::context::Context;
use crate::error::Fault;
use crate::handler::{Handler, HandlerError, Outcome};

/// What people see of a template before they make a job from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TemplateMetadata {
    /// What jobs name it by.
    #[serde(rename = "type")]
    pub template_type: String,
    /// For people.
    pub name: String,
    /// For people.
    pub description: String,
    /// Where it stands among others.
    pub category: String,
    /// A symbol.
    pub icon: String,
    /// In words.
    pub estimated_duration: String,
    /// `low`, `medium`, `high`.
    pub resource_usage: String,
    /// `low`, `medium`, `high`.
    pub risk_level: String,
    /// JSON Schema (draft 2020-12) of its parameters.
    pub parameters_schema: Value,
    /// Whether its work can be repeated without harm: then a retry policy that nobody chose counts too.
    #[serde(default)]
    pub retry_safe: bool,
}

impl TemplateMetadata {
    /// A template of `template_type` that takes anything.
    pub fn new(template_type: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            template_type: template_type.into(),
            name: name.into(),
            description: String::new(),
            category: "general".to_owned(),
            icon: "⚙️".to_owned(),
            estimated_duration: "Unknown".to_owned(),
            resource_usage: "medium".to_owned(),
            risk_level: "low".to_owned(),
            parameters_schema: serde_json::json!({"type": "object", "properties": {}}),
            retry_safe: false,
        }
    }
}

/// A handler with metadata and a schema for its parameters.
#[async_trait]
pub trait Template: Send + Sync + 'static {
    /// What people see of it. Asked once, when it is registered.
    fn metadata(&self) -> TemplateMetadata;

    /// What the schema can't say of the parameters. May mend them in place: what is stored is what
    /// they are afterwards. Called when a job is stored, after the schema has accepted them.
    fn check(&self, parameters: &mut Map<String, Value>) -> Vec<Fault>;

    /// Runs one execution; see [`Handler::run`].
    async fn run(&self, ctx: Context) -> Result<Outcome, HandlerError>;

    /// Whether it could begin one at this moment; see [`Handler::is_ready`].
    fn is_ready(&self) -> bool {
        true
    }
}

/// A template as the handler it is.
pub(crate) struct TemplateHandler(pub(crate) std::sync::Arc<dyn Template>);

#[async_trait]
impl Handler for TemplateHandler {
    async fn run(&self, ctx: Context) -> Result<Outcome, HandlerError> {
        self.0.run(ctx).await
    }

    fn is_ready(&self) -> bool {
        self.0.is_ready()
    }
}
