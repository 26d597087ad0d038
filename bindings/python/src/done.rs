//! From a Rust future to a Python callback, and from our errors to Python's.

use std::future::Future;

use pyo3::prelude::*;
use serde_json::{Value, json};
use unified_scheduler::{Error, Result};

/// Where an answer goes: a callable that takes `(value, error)`, both JSON texts, one of them `None`.
///
/// It must not run code of a user: it wakes a loop or a thread, which does.
pub(crate) struct Done(Py<PyAny>);

impl Done {
    pub(crate) fn new(callback: Py<PyAny>) -> Self {
        Self(callback)
    }

    /// Tells the answer. Silent when the interpreter is going away, or nobody waits any more.
    pub(crate) fn tell(self, answer: Result<Value>) {
        let (value, error) = match answer {
            Ok(value) => (Some(value.to_string()), None),
            Err(error) => (None, Some(described(&error).to_string())),
        };
        // An error means that the loop which asked has been closed.
        let _ = Python::try_attach(|py| self.0.call1(py, (value, error)).map(drop));
    }

    /// The same, with the answer of a future.
    pub(crate) async fn after(self, work: impl Future<Output = Result<Value>>) {
        let answer = work.await;
        self.tell(answer);
    }
}

fn described(error: &Error) -> Value {
    json!({
        "kind": error.kind(),
        "message": error.to_string(),
        "faults": error.faults(),
    })
}

/// Our error as the exception that the package has for its kind.
pub(crate) fn exception(py: Python<'_>, error: &Error) -> PyErr {
    let made = py
        .import("unified_scheduler_engine._errors")
        .and_then(|module| module.getattr("error_from_json"))
        .and_then(|make| make.call1((described(error).to_string(),)));
    match made {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}
