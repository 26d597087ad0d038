//! The parameters of a webhook: their schema, and what the schema can't say.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde_json::{Map, Value, json};
use unified_scheduler_core::Fault;

/// Headers that belong to the connection, and are ours to write.
const RESERVED: [&str; 5] = ["connection", "content-length", "host", "transfer-encoding", "upgrade"];

pub(super) const DEFAULT_STATUS: [u16; 4] = [200, 201, 202, 204];

pub(super) fn schema() -> Value {
    json!({
        "type": "object",
        "required": ["url"],
        "properties": {
            "url": {
                "type": "string", "description": "URL to call (http or https)",
                "pattern": "^[hH][tT][tT][pP][sS]?://", "maxLength": 4096,
            },
            "method": {
                "type": "string", "description": "HTTP method",
                "enum": ["GET", "POST", "PUT", "PATCH"], "default": "POST",
            },
            "headers": {
                "type": "object", "description": "Headers to send", "default": {},
                "additionalProperties": {"type": ["string", "number", "boolean", "object"]},
            },
            "body": {
                "type": "object", "description": "JSON body, for POST, PUT and PATCH", "default": {},
            },
            "timeout_seconds": {
                "type": "integer", "description": "Seconds to wait for each answer",
                "minimum": 1, "maximum": 300, "default": 30,
            },
            "retry_on_failure": {
                "type": "boolean", "description": "Try again when the call fails", "default": true,
            },
            "max_retries": {
                "type": "integer", "description": "How often to try again",
                "minimum": 0, "maximum": 5, "default": 3,
            },
            "expected_status": {
                "type": "array", "description": "Status codes that count as success",
                // Forms send numbers as text.
                "items": {"type": ["integer", "string"], "minimum": 100, "maximum": 599},
                "minItems": 1, "default": DEFAULT_STATUS,
            },
        },
    })
}

/// A webhook to call.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) url: Url,
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Value>,
    pub(super) timeout: Duration,
    /// How many times after the first.
    pub(super) n_retries: u32,
    pub(super) expected: Vec<u16>,
}

impl Request {
    /// Reads the parameters, and turns numbers that arrived as text into numbers.
    pub(super) fn read(parameters: &mut Map<String, Value>) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        coerce_status(parameters);
        let url = parameters.get("url").and_then(Value::as_str).unwrap_or_default();
        let url = Url::parse(url.trim()).map_err(|e| {
            let help = "give one such as https://example.org/hook";
            faults.push(Fault::new("url", format!("is no URL: {e}")).help(help));
        });
        let method = match parameters.get("method").map(Value::as_str) {
            None => Method::POST,
            Some(Some(name @ ("GET" | "POST" | "PUT" | "PATCH"))) => {
                Method::from_bytes(name.as_bytes()).unwrap_or(Method::POST)
            }
            Some(_) => {
                faults.push(Fault::new("method", "is none of GET, POST, PUT, PATCH"));
                Method::POST
            }
        };
        let mut headers = headers(parameters.get("headers"), &mut faults);
        let mut body = parameters.get("body").cloned();
        if body.as_ref().is_some_and(|body| !body.is_object()) {
            faults.push(Fault::new("body", "is not an object"));
        }
        body =
            body.filter(|body| method != Method::GET && body.as_object().is_some_and(|map| !map.is_empty()));
        if body.is_some() && !headers.contains_key(CONTENT_TYPE) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let timeout = bounded(parameters, "timeout_seconds", 30, 1, 300, &mut faults);
        let mut n_retries = bounded(parameters, "max_retries", 3, 0, 5, &mut faults);
        if parameters.get("retry_on_failure") == Some(&Value::Bool(false)) {
            n_retries = 0;
        }
        let expected = expected(parameters.get("expected_status"), &mut faults);
        match url {
            Ok(url) if faults.is_empty() => {
                let timeout = Duration::from_secs(timeout.into());
                Ok(Self { url, method, headers, body, timeout, n_retries, expected })
            }
            _ => Err(faults),
        }
    }

    /// The URL as records and logs show it: without user and password.
    pub(super) fn shown_url(&self) -> String {
        let mut url = self.url.clone();
        // Fails only where there is nothing to take away.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.to_string()
    }
}

fn coerce_status(parameters: &mut Map<String, Value>) {
    if let Some(Value::Array(list)) = parameters.get_mut("expected_status") {
        for item in list {
            if let Some(number) = item.as_str().and_then(|text| text.trim().parse::<u16>().ok()) {
                *item = json!(number);
            }
        }
    }
}

fn bounded(
    parameters: &Map<String, Value>,
    field: &str,
    default: u32,
    min: u32,
    max: u32,
    faults: &mut Vec<Fault>,
) -> u32 {
    let Some(value) = parameters.get(field) else { return default };
    let number = value.as_u64().and_then(|n| u32::try_from(n).ok());
    number.filter(|n| (min..=max).contains(n)).unwrap_or_else(|| {
        faults.push(Fault::new(field, format!("is not a whole number from {min} to {max}")));
        default
    })
}

fn expected(value: Option<&Value>, faults: &mut Vec<Fault>) -> Vec<u16> {
    let Some(value) = value else { return DEFAULT_STATUS.to_vec() };
    let codes: Option<Vec<u16>> = value.as_array().and_then(|list| {
        let code =
            |v: &Value| v.as_u64().and_then(|n| u16::try_from(n).ok()).filter(|n| (100..600).contains(n));
        list.iter().map(code).collect()
    });
    codes.filter(|codes| !codes.is_empty()).unwrap_or_else(|| {
        faults.push(
            Fault::new("expected_status", "is not a list of status codes")
                .help("such as [200, 201, 202, 204]"),
        );
        Vec::new()
    })
}

fn headers(value: Option<&Value>, faults: &mut Vec<Fault>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let Some(value) = value else { return headers };
    let Some(map) = value.as_object() else {
        faults.push(Fault::new("headers", "is not an object of names and values"));
        return headers;
    };
    for (name, value) in map {
        let mut refuse = |message: &str| faults.push(Fault::new(format!("headers.{name}"), message));
        let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
            refuse("is not the name of a header");
            continue;
        };
        if RESERVED.contains(&header.as_str()) {
            refuse("belongs to the connection and can't be set");
            continue;
        }
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            // A reference; what it stands for is put in its place when the job runs.
            Value::Object(map) if map.len() == 1 && map.contains_key("$secret") => continue,
            _ => {
                refuse("is not a text");
                continue;
            }
        };
        match HeaderValue::from_str(&text) {
            Ok(mut value) => {
                value.set_sensitive(true);
                headers.insert(header, value);
            }
            Err(_) => refuse("holds characters that a header can't carry"),
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &Value) -> Result<Request, Vec<String>> {
        Request::read(&mut value.as_object().unwrap().clone())
            .map_err(|faults| faults.into_iter().map(|f| f.field).collect())
    }

    #[test]
    fn the_defaults_are_those_of_the_schema() {
        let request = read(&json!({"url": "https://me:pw@example.org/a"})).unwrap();
        assert_eq!((request.method.as_str(), request.n_retries, request.timeout.as_secs()), ("POST", 3, 30));
        assert_eq!(request.expected, DEFAULT_STATUS);
        assert_eq!(request.shown_url(), "https://example.org/a");
        let properties = &schema()["properties"];
        assert_eq!(
            (&properties["max_retries"]["default"], &properties["timeout_seconds"]["default"]),
            (&json!(3), &json!(30))
        );
    }

    #[test]
    fn status_codes_that_arrive_as_text_become_numbers_and_stay_so() {
        let mut parameters =
            json!({"url": "http://x", "expected_status": ["200", " 204"]}).as_object().unwrap().clone();
        assert_eq!(Request::read(&mut parameters).unwrap().expected, [200, 204]);
        assert_eq!(parameters["expected_status"], json!([200, 204]));
    }

    #[test]
    fn the_bounds_hold_without_the_schema_too() {
        let faults = read(&json!({
            "url": "nowhere", "method": "DELETE", "headers": {"a b": "x", "X": "a\nb", "Host": "h"}, "body": [],
            "timeout_seconds": 301, "max_retries": 6, "expected_status": [99],
        }))
        .unwrap_err();
        assert_eq!(
            faults,
            [
                "url",
                "method",
                "headers.Host",
                "headers.X",
                "headers.a b",
                "body",
                "timeout_seconds",
                "max_retries",
                "expected_status"
            ]
        );
    }

    #[test]
    fn a_body_is_sent_only_where_there_is_one_to_send() {
        let body = |method: &str, body: Value| {
            read(&json!({"url": "http://x", "method": method, "body": body})).unwrap()
        };
        assert!(body("GET", json!({"a": 1})).body.is_none());
        assert!(body("POST", json!({})).body.is_none());
        let request = body("PATCH", json!({"a": 1}));
        assert_eq!(request.headers[CONTENT_TYPE], "application/json");
        assert!(request.body.is_some());
    }
}
