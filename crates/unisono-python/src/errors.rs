//! Errors of the engines as exceptions of Python: the one place where they are matched.

use pyo3::{
    exceptions::PyException,
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

/// What did not end well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A request.
    Call,
    /// A file.
    File,
    /// A command; whether there is such a program.
    Command {
        /// There is.
        is_found: bool,
    },
    /// A call of a function.
    Function,
}

/// The exception for how an item ended.
pub fn exception<'py>(
    py: Python<'py>,
    subject: Subject,
    outcome: OutcomeKind,
    kind: ErrorKind,
    message: &str,
    fields: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    let name = match (subject, outcome, kind) {
        (Subject::File, OutcomeKind::TimedOut, _) => "FileTimeout",
        (Subject::File, OutcomeKind::Cancelled, _) => "FileCancelled",
        (Subject::File, _, ErrorKind::Input) => "FileInputError",
        (Subject::File, _, ErrorKind::Missing) => "FileMissing",
        (Subject::File, _, ErrorKind::Unreadable) => "FileUnreadable",
        (Subject::File, _, ErrorKind::Changed) => "FileChanged",
        (Subject::File, _, ErrorKind::Mismatch) => "FileMismatch",
        (Subject::File, _, ErrorKind::Extra) => "FileUnlisted",
        (Subject::File, ..) => "FileError",
        (Subject::Command { .. }, OutcomeKind::TimedOut, _) => "CommandTimeout",
        (Subject::Command { .. }, OutcomeKind::Cancelled, _) => "CommandCancelled",
        (Subject::Command { .. }, OutcomeKind::Ambiguous, _) => "CommandAmbiguous",
        (Subject::Command { .. }, _, ErrorKind::Input) => "CommandInputError",
        (Subject::Command { is_found: false }, _, ErrorKind::Spawn) => "CommandNotFound",
        (Subject::Command { .. }, _, ErrorKind::Spawn) => "CommandNotStarted",
        (Subject::Command { .. }, _, ErrorKind::Exit | ErrorKind::Signal) => "CommandFailed",
        (Subject::Command { .. }, ..) => "CommandError",
        (Subject::Function, OutcomeKind::Ambiguous, _) => "FunctionAmbiguous",
        (Subject::Function, OutcomeKind::TimedOut, _) => "FunctionTimeout",
        (Subject::Function, OutcomeKind::Cancelled, _) => "FunctionCancelled",
        (Subject::Function, _, ErrorKind::Input) => "FunctionInputError",
        (Subject::Function, ..) => "FunctionError",
        (_, OutcomeKind::Ambiguous, ErrorKind::Cancelled) => "FetchAmbiguousCancelled",
        (_, OutcomeKind::Ambiguous, _) => "FetchAmbiguous",
        (_, OutcomeKind::TimedOut, _) | (.., ErrorKind::Timeout | ErrorKind::Deadline) => "FetchTimeout",
        (_, OutcomeKind::Cancelled, _) | (.., ErrorKind::Cancelled) => "FetchCancelled",
        (.., ErrorKind::Input) => "FetchInputError",
        (
            ..,
            ErrorKind::Dns
            | ErrorKind::Connect
            | ErrorKind::Away
            | ErrorKind::Proxy
            | ErrorKind::Closed
            | ErrorKind::IncompleteBody,
        ) => "ConnectError",
        (.., ErrorKind::Tls) => "TlsError",
        (.., ErrorKind::Status) => "StatusError",
        (.., ErrorKind::RateLimited) => "RateLimited",
        (.., ErrorKind::Redirect) => "RedirectError",
        (.., ErrorKind::Decode | ErrorKind::Select | ErrorKind::Pages) => "DecodeError",
        (.., ErrorKind::TooLarge | ErrorKind::HeaderTooLarge) => "TooLarge",
        _ => "FetchError",
    };
    class(py, name)?.call((message,), Some(fields))
}

/// The exception for a request that cannot be understood.
pub fn input(py: Python<'_>, message: &str) -> PyErr {
    let (fields, kind) = (PyDict::new(py), ErrorKind::Input);
    match fields
        .set_item("kind", kind.as_str())
        .and_then(|()| exception(py, Subject::Call, OutcomeKind::Failed, kind, message, &fields))
    {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}

/// Parts what the item is to blame for, which becomes its outcome, from what must go up: Ctrl-C and `sys.exit` come
/// while code of the caller's runs, and `pathlib` is such code.
pub fn blame<T>(py: Python<'_>, made: PyResult<T>) -> PyResult<Result<T, PyErr>> {
    match made {
        Err(error) if !error.is_instance_of::<PyException>(py) => Err(error),
        made => Ok(made),
    }
}

/// The exception for a run that could not begin or go on.
pub fn run_failed(py: Python<'_>, error: &unisono_runner::Error) -> PyErr {
    let mut message = error_chain(error);
    if let Some(hint) = error.what_to_do() {
        message.push_str(&format!(" ({})", in_python(hint)));
    }
    let name = if error.is_usage() { "UsageError" } else { "RunError" };
    raised(py, name, message)
}

/// What to do, in the words of Python: hints name options as the command has them. They are our own texts, so nothing
/// of a user's is changed.
fn in_python(hint: &str) -> String {
    SPELLINGS.iter().fold(hint.to_owned(), |text, (command, python)| text.replace(command, python))
}

/// A function has no such keyword; what is said of it knows what other libraries call those that it has.
pub fn unexpected(function: &str, keyword: &Bound<'_, PyAny>) -> PyErr {
    let said = || keyword.py().import("unisono._keywords")?.call_method1("unexpected", (function, keyword));
    said().map_or_else(|error| error, PyErr::from_value)
}

/// There is no such attribute; what is said of it knows what other libraries call what is there.
pub fn no_attribute(object: &Bound<'_, PyAny>, name: &str) -> PyErr {
    let py = object.py();
    let said = || py.import("unisono._keywords")?.call_method1("no_attribute", (object, name));
    said().map_or_else(|error| error, PyErr::from_value)
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

const SPELLINGS: [(&str, &str); 7] = [
    ("repeat the command", "run it again"),
    ("--resume", "resume=True"),
    ("--retry-failed", "retry_failed=True"),
    ("--adopt", "adopt=True"),
    ("--overwrite", "overwrite=True"),
    ("for -o", "for out="),
    ("another -o", "another out="),
];
