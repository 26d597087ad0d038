//! What this process can run: handlers and templates by name, and the check of parameters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use jsonschema::Validator;
use serde_json::{Map, Value};

use crate::error::{Error, Fault, Result};
use crate::handler::Handler;
use crate::template::{Template, TemplateHandler, TemplateMetadata};

/// The handlers and templates of one scheduler.
#[derive(Default)]
pub struct Registry {
    entries: RwLock<BTreeMap<String, Entry>>,
}

#[derive(Clone)]
struct Entry {
    handler: Arc<dyn Handler>,
    template: Option<Arc<Registered>>,
}

struct Registered {
    template: Arc<dyn Template>,
    metadata: TemplateMetadata,
    validator: Validator,
}

impl Registry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a handler; one of the same name is replaced, which the answer tells.
    pub fn handler(&self, name: impl Into<String>, handler: impl Handler) -> bool {
        self.insert_handler(name.into(), Arc::new(handler))
    }

    pub(crate) fn insert_handler(&self, name: String, handler: Arc<dyn Handler>) -> bool {
        self.insert(name, Entry { handler, template: None })
    }

    /// Adds a template under its type; one of the same type is replaced, which the answer tells.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::Invalid`] when its schema is not a JSON Schema.
    pub fn template(&self, template: Arc<dyn Template>) -> Result<bool> {
        let metadata = template.metadata();
        let validator = jsonschema::validator_for(&metadata.parameters_schema).map_err(|e| {
            Error::invalid(format!(
                "the parameters schema of template `{}` is no JSON Schema: {e}",
                metadata.template_type
            ))
        })?;
        let name = metadata.template_type.clone();
        let handler = Arc::new(TemplateHandler(Arc::clone(&template)));
        let registered = Arc::new(Registered { template, metadata, validator });
        Ok(self.insert(name, Entry { handler, template: Some(registered) }))
    }

    /// Removes a handler or template; `false` when there is none.
    pub fn remove(&self, name: &str) -> bool {
        self.entries.write().unwrap_or_else(PoisonError::into_inner).remove(name).is_some()
    }

    /// What runs under this name.
    pub fn get(&self, name: &str) -> Option<Arc<dyn Handler>> {
        self.with(name, |entry| Arc::clone(&entry.handler))
    }

    /// Every name.
    pub fn names(&self) -> BTreeSet<String> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// The names of what could begin at this moment.
    pub(crate) fn ready(&self) -> BTreeSet<String> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.iter().filter(|(_, entry)| entry.handler.is_ready()).map(|(name, _)| name.clone()).collect()
    }

    /// Every template's metadata, by type.
    pub fn templates(&self) -> Vec<TemplateMetadata> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.values().filter_map(|e| e.template.as_ref()).map(|t| t.metadata.clone()).collect()
    }

    /// One template's metadata.
    pub fn metadata(&self, template_type: &str) -> Option<TemplateMetadata> {
        self.with(template_type, |entry| entry.template.as_ref().map(|t| t.metadata.clone()))?
    }

    /// Whether the template of this name says that its work can be repeated.
    pub fn retry_safe(&self, template_type: &str) -> bool {
        let safe = |entry: &Entry| entry.template.as_ref().is_some_and(|t| t.metadata.retry_safe);
        self.with(template_type, safe).unwrap_or(false)
    }

    /// Checks the parameters of a job, and mends them in place where its template does so.
    ///
    /// # Errors
    ///
    /// Everything wrong with them; that there is no such template, with the ones there are.
    pub fn check(&self, name: &str, parameters: &mut Map<String, Value>) -> Result<(), Vec<Fault>> {
        let Some(entry) = self.with(name, Entry::clone) else {
            let known: Vec<String> = self.names().into_iter().collect();
            let help = if known.is_empty() {
                "nothing is registered here".to_owned()
            } else {
                format!("there are {}", known.join(", "))
            };
            return Err(vec![
                Fault::new("template_type", format!("nothing is registered as `{name}`")).help(help),
            ]);
        };
        let Some(registered) = entry.template else { return Ok(()) };
        let document = Value::Object(std::mem::take(parameters));
        let mut faults: Vec<Fault> =
            registered.validator.iter_errors(&document).map(|e| schema_fault(&e)).collect();
        if let Value::Object(map) = document {
            *parameters = map;
        }
        if faults.is_empty() {
            faults = registered
                .template
                .check(parameters)
                .into_iter()
                .map(|fault| fault.under("parameters"))
                .collect();
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    fn insert(&self, name: String, entry: Entry) -> bool {
        self.entries.write().unwrap_or_else(PoisonError::into_inner).insert(name, entry).is_some()
    }

    fn with<T>(&self, name: &str, read: impl FnOnce(&Entry) -> T) -> Option<T> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).get(name).map(read)
    }
}

/// A fault from what the schema says, without the value, which may be a secret.
fn schema_fault(error: &jsonschema::ValidationError<'_>) -> Fault {
    let path = error.instance_path().to_string();
    let field = path.trim_start_matches('/').replace('/', ".");
    Fault::new(field, error.masked().to_string()).under("parameters")
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use serde_json::json;

    use super::*;
    use crate::context::Context;
    use crate::handler::{HandlerError, Outcome};

    struct Schema(Value);

    #[async_trait]
    impl Template for Schema {
        fn metadata(&self) -> TemplateMetadata {
            let parameters_schema = self.0.clone();
            TemplateMetadata { parameters_schema, ..TemplateMetadata::new("schema", "Schema") }
        }

        fn check(&self, _: &mut Map<String, Value>) -> Vec<Fault> {
            Vec::new()
        }

        async fn run(&self, _: Context) -> Result<Outcome, HandlerError> {
            Ok(().into())
        }
    }

    fn faults(schema: Value, parameters: Value) -> Vec<Fault> {
        let registry = Registry::new();
        registry.template(Arc::new(Schema(schema))).unwrap();
        let Value::Object(mut parameters) = parameters else { panic!("an object") };
        let before = parameters.clone();
        let faults = registry.check("schema", &mut parameters).err().unwrap_or_default();
        assert_eq!(parameters, before, "parameters that are refused stay as they are");
        faults
    }

    #[test]
    fn a_fault_of_the_schema_names_the_field_and_never_the_value() {
        const SECRET: &str = "hush-hush";
        let rules = [
            json!({"type": "integer"}),
            json!({"pattern": "^[0-9]+$"}),
            json!({"maxLength": 2}),
            json!({"minLength": 20}),
            json!({"enum": ["a", "b"]}),
            json!({"const": "a"}),
            json!({"format": "email", "type": "number"}),
            json!({"not": {}}),
            json!({"anyOf": [{"type": "null"}, {"type": "number"}]}),
            json!({"oneOf": [{"type": "string"}, {"minLength": 1}]}),
            json!(false),
        ];
        for rule in rules {
            let schema = json!({"properties": {"a": {"properties": {"b": rule}}}});
            let found = faults(schema, json!({"a": {"b": SECRET}}));
            assert_eq!(found.len(), 1, "{rule}: {found:?}");
            assert_eq!(found[0].field, "parameters.a.b", "{rule}");
            assert!(!found[0].to_string().contains(SECRET), "{rule}: {}", found[0]);
        }
    }

    #[test]
    fn a_fault_about_a_whole_object_does_not_show_what_is_in_it() {
        for schema in [
            json!({"required": ["other"]}),
            json!({"maxProperties": 0}),
            json!({"additionalProperties": false}),
            json!({"properties": {"list": {"uniqueItems": true}}}),
            json!({"properties": {"list": {"contains": {"type": "number"}}}}),
            json!({"properties": {"list": {"items": false}}}),
            json!({"properties": {"list": {"prefixItems": [true], "unevaluatedItems": false}}}),
            json!({"dependentRequired": {"list": ["other"]}}),
            json!({"propertyNames": {"maxLength": 2}}),
        ] {
            let found = faults(schema.clone(), json!({"list": ["hush-hush", "hush-hush"]}));
            assert!(!found.is_empty(), "{schema}");
            for fault in found {
                assert!(!fault.to_string().contains("hush"), "{schema}: {fault}");
            }
        }
    }

    #[test]
    fn a_schema_that_is_none_is_refused() {
        let error = Registry::new().template(Arc::new(Schema(json!({"type": "text"})))).unwrap_err();
        assert!(error.to_string().contains("`schema`"), "{error}");
    }

    #[test]
    fn one_of_the_same_name_takes_the_place_of_the_other() {
        let registry = Registry::new();
        assert!(!registry.handler("job", |_| async {}));
        assert!(registry.handler("job", |_| async {}));
        assert!(!registry.template(Arc::new(Schema(json!({})))).unwrap());
        assert_eq!(registry.templates().len(), 1);
        assert!(registry.metadata("job").is_none() && registry.get("job").is_some());
        assert!(registry.remove("job") && !registry.remove("job"));
        let unknown = registry.check("job", &mut Map::new()).unwrap_err();
        assert_eq!(unknown[0].help, "there are schema");
    }
}
