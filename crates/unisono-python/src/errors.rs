//! Errors of the engines as exceptions of Python: the one place where they are matched.

use pyo3::{
    exceptions::PyRuntimeError,
    prelude::*,
    sync::PyOnceLock,
    types::{PyDict, PyType},
};
use unisono_core::{ErrorKind, OutcomeKind, error_chain};

/// A class of `unisono.errors`.
pub fn class<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyType>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module = MODULE.get_or_try_init(py, || py.import("unisono.errors").map(Bound::unbind))?;
    Ok(module.bind(py).getattr(name)?.cast_into()?)
}

/// The exception for how an item ended.
pub fn exception<'py>(
    py: Python<'py>,
    outcome: OutcomeKind,
    kind: ErrorKind,
    message: &str,
    fields: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    let name = match (outcome, kind) {
        (OutcomeKind::Ambiguous, _) => "AmbiguousError",
        (OutcomeKind::TimedOut, _) | (_, ErrorKind::Timeout | ErrorKind::Deadline) => "CallTimeout",
        (OutcomeKind::Cancelled, _) | (_, ErrorKind::Cancelled) => "CallCancelled",
        (_, ErrorKind::Input) => "InputError",
        (_, ErrorKind::Dns | ErrorKind::Connect | ErrorKind::Proxy | ErrorKind::Closed | ErrorKind::IncompleteBody) => {
            "ConnectError"
        }
        (_, ErrorKind::Tls) => "TlsError",
        (_, ErrorKind::Status) => "StatusError",
        (_, ErrorKind::RateLimited) => "RateLimited",
        (_, ErrorKind::Redirect) => "RedirectError",
        (_, ErrorKind::Decode | ErrorKind::Select) => "DecodeError",
        (_, ErrorKind::TooLarge | ErrorKind::HeaderTooLarge) => "TooLarge",
        _ => "CallError",
    };
    class(py, name)?.call((message,), Some(fields))
}

/// The exception for a call of which nothing more is known than what went wrong.
pub fn exception_of(py: Python<'_>, kind: ErrorKind, message: &str) -> PyErr {
    let fields = PyDict::new(py);
    match fields
        .set_item("kind", kind.as_str())
        .and_then(|()| exception(py, OutcomeKind::Failed, kind, message, &fields))
    {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}

/// The exception for a run that could not begin or go on.
pub fn run_failed(py: Python<'_>, error: &unisono_runner::Error) -> PyErr {
    let mut message = error_chain(error);
    if let Some(hint) = error.what_to_do() {
        message.push_str(&format!(" ({hint})"));
    }
    let name = if error.is_usage() { "UsageError" } else { "RunError" };
    raised(py, name, message)
}

/// A mistake in what the caller asked for.
pub fn usage(py: Python<'_>, message: impl Into<String>) -> PyErr {
    raised(py, "UsageError", message.into())
}

fn raised(py: Python<'_>, name: &str, message: String) -> PyErr {
    match class(py, name) {
        Ok(class) => PyErr::from_type(class, message),
        Err(error) => error,
    }
}

/// Used after a fork: threads do not survive it.
pub fn forked(pid: u32) -> PyErr {
    PyRuntimeError::new_err(format!("this object belongs to process {pid}; after a fork, make a new one"))
}
