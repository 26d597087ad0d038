//! Asking a template of Python about parameters.

use std::sync::{Arc, mpsc};

use pyo3::prelude::*;
use serde_json::{Map, Value};
use unified_scheduler::Fault;

/// What a template says of parameters: what is wrong with them, and the ones it mended.
type Verdict = (Vec<Fault>, Option<Map<String, Value>>);

/// Parameters that a template of Python is to check.
#[pyclass(frozen, module = "unified_scheduler_engine._engine")]
pub(crate) struct Check {
    target: Arc<Py<PyAny>>,
    parameters: String,
    answer: mpsc::SyncSender<Verdict>,
}

impl Check {
    pub(crate) fn new(
        target: Arc<Py<PyAny>>,
        parameters: &Map<String, Value>,
    ) -> (Self, mpsc::Receiver<Verdict>) {
        let (answer, receiver) = mpsc::sync_channel(1);
        let parameters = serde_json::to_string(parameters).unwrap_or_default();
        (Self { target, parameters, answer }, receiver)
    }
}

#[pymethods]
impl Check {
    #[getter]
    fn target(&self, py: Python<'_>) -> Py<PyAny> {
        self.target.clone_ref(py)
    }

    /// The parameters, as JSON.
    #[getter]
    fn parameters(&self) -> &str {
        &self.parameters
    }

    /// Accepts them, as they are or as they have been mended.
    #[pyo3(signature = (parameters = None))]
    fn accept(&self, parameters: Option<&str>) {
        let mended = parameters.and_then(|text| serde_json::from_str(text).ok());
        // An error means that nobody waits any more.
        let _ = self.answer.try_send((Vec::new(), mended));
    }

    /// Refuses them: pairs of field and message.
    fn refuse(&self, faults: Vec<(String, String)>) {
        let faults = faults.into_iter().map(|(field, message)| Fault::new(field, message)).collect();
        let _ = self.answer.try_send((faults, None));
    }
}
