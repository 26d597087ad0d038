//! Secrets by reference: `{"$secret": "NAME"}` in parameters stands for a value that is looked up when the
//! job runs, and is never stored, logged or shown.

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// Where secrets come from.
pub trait Secrets: Send + Sync + 'static {
    /// The secret called `name`, if there is one.
    fn get(&self, name: &str) -> Option<String>;
}

/// Secrets from environment variables: `NAME` is `UNIFIED_SCHEDULER_SECRET_NAME`.
#[derive(Debug, Clone, Copy, Default)]
pub struct EnvironmentSecrets;

impl Secrets for EnvironmentSecrets {
    fn get(&self, name: &str) -> Option<String> {
        std::env::var(format!("UNIFIED_SCHEDULER_SECRET_{name}")).ok()
    }
}

/// The parameters with every reference replaced.
///
/// # Errors
///
/// [`crate::ErrorKind::NotFound`] with the name of a secret that nobody knows.
pub fn resolve(parameters: &Map<String, Value>, secrets: &dyn Secrets) -> Result<Map<String, Value>> {
    parameters.iter().map(|(k, v)| Ok((k.clone(), resolve_value(v, secrets)?))).collect()
}

/// Whether a reference to a secret is among the parameters.
pub fn is_in(parameters: &Map<String, Value>) -> bool {
    let refers = |value: &Value| match value {
        Value::Object(map) => map.contains_key("$secret") || is_in(map),
        Value::Array(items) => items.iter().any(|item| match item {
            Value::Object(map) => map.contains_key("$secret") || is_in(map),
            Value::Array(_) => true,
            _ => false,
        }),
        _ => false,
    };
    parameters.values().any(refers)
}

fn resolve_value(value: &Value, secrets: &dyn Secrets) -> Result<Value> {
    match value {
        Value::Object(map) => match (map.len(), map.get("$secret")) {
            (1, Some(Value::String(name))) => {
                secrets.get(name).map(Value::String).ok_or_else(|| Error::not_found("secret", name))
            }
            _ => resolve(map, secrets).map(Value::Object),
        },
        Value::Array(items) => {
            items.iter().map(|item| resolve_value(item, secrets)).collect::<Result<_>>().map(Value::Array)
        }
        other => Ok(other.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct One;

    impl Secrets for One {
        fn get(&self, name: &str) -> Option<String> {
            (name == "TOKEN").then(|| "hush".to_owned())
        }
    }

    #[test]
    fn references_are_replaced_at_any_depth_and_nothing_else_is() {
        let given = serde_json::json!({"a": [{"$secret": "TOKEN"}], "b": {"$secret": "TOKEN", "more": 1}});
        let resolved = resolve(given.as_object().unwrap(), &One).unwrap();
        assert_eq!(resolved["a"][0], "hush");
        assert_eq!(resolved["b"]["$secret"], "TOKEN");
    }

    #[test]
    fn an_unknown_secret_is_named() {
        let given = serde_json::json!({"a": {"$secret": "OTHER"}});
        let error = resolve(given.as_object().unwrap(), &One).unwrap_err();
        assert_eq!(error.to_string(), "no secret `OTHER`");
    }
}
