//! The native module of the Python package: it converts, calls the facade, and maps errors.
//!
//! No function of a user is ever called from a thread of ours. A Python handler is a [`handler`] whose
//! body is a queue, a [`lane`]: Python takes the next calls, many at once, runs them on its own event loop
//! or threads, and answers. Importing this module starts nothing; an [`engine`] makes its own runtime when
//! it is first used, and knows when it finds itself in a forked process.

mod answer;
mod call;
mod cast;
mod check;
mod context;
mod done;
mod driver;
mod engine;
mod handler;
mod lane;
mod ops;
mod options;
mod owned;
mod query;
mod trace;

use pyo3::prelude::*;
use unified_scheduler::ErrorKind;

/// For what Rust allocates; Python keeps its own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The native module.
#[pymodule]
fn _engine(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    m.add("ERROR_KINDS", ErrorKind::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>())?;
    m.add("STATUSES", unified_scheduler::Status::ALL.iter().map(|s| s.as_str()).collect::<Vec<_>>())?;
    m.add("STORE_SCHEMES", unified_scheduler::schemes().to_vec())?;
    m.add("TZDB_VERSION", unified_scheduler::schedule::tzdb_version())?;
    m.add_class::<context::Context>()?;
    m.add_class::<check::Check>()?;
    m.add_class::<lane::Lane>()?;
    m.add_class::<engine::Engine>()?;
    m.add_function(wrap_pyfunction!(ops::check_schedule, m)?)?;
    m.add_function(wrap_pyfunction!(ops::preview_schedule, m)?)?;
    m.add_function(wrap_pyfunction!(ops::timezone_names, m)?)?;
    m.add_function(wrap_pyfunction!(ops::read_document, m)?)?;
    m.add_function(wrap_pyfunction!(trace::set_log_level, m)?)?;
    m.add_function(wrap_pyfunction!(trace::take_log, m)?)?;
    Ok(())
}
