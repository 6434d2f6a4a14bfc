//! How a command ended: what it printed becomes an object of Python only when somebody asks, wherever it is kept.

use std::time::UNIX_EPOCH;

use pyo3::{
    PyClassInitializer,
    prelude::*,
    sync::PyOnceLock,
    types::{PyBytes, PyDict, PyType},
};
use unisono_core::ErrorKind;
use unisono_runner::{CommandResult, Outcome as RunOutcome, commands::Output};

use crate::{
    ended::Ended,
    errors::{self, Subject},
    outcome::loads,
};

/// How one command ended.
#[pyclass(frozen, extends = Ended, module = "unisono.commands")]
pub struct CommandOutcome {
    ended: RunOutcome<CommandResult>,
    /// What it printed is text to the program.
    as_text: bool,
    /// Read once: behind the first mebibyte it is in a file.
    stdout: PyOnceLock<Py<PyBytes>>,
    stderr: PyOnceLock<Py<PyBytes>>,
}

impl CommandOutcome {
    pub fn object<'py>(
        py: Python<'py>,
        ended: RunOutcome<CommandResult>,
        item: Option<Bound<'py, PyAny>>,
        as_text: bool,
    ) -> PyResult<Bound<'py, Self>> {
        let common = Ended::of(&ended, item.map(Bound::unbind));
        let outcome = Self { ended, as_text, stdout: PyOnceLock::new(), stderr: PyOnceLock::new() };
        Bound::new(py, PyClassInitializer::from(common).add_subclass(outcome))
    }

    fn stdout_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        kept(py, &self.stdout, &self.ended.done.stdout)
    }

    fn stderr_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        kept(py, &self.stderr, &self.ended.done.stderr)
    }

    fn as_asked<'py>(&self, bytes: Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyAny>> {
        if self.as_text { decoded(&bytes) } else { Ok(bytes.into_any()) }
    }

    /// The program alone: arguments may hold secrets.
    fn program(&self) -> String {
        let program = self.ended.done.argv.first();
        program.map_or_else(|| self.ended.id.to_string(), |program| program.to_string_lossy().into_owned())
    }
}

#[pymethods]
impl CommandOutcome {
    #[classmethod]
    #[pyo3(name = "__class_getitem__", signature = (item, /))]
    fn of_type<'py>(class: &Bound<'py, PyType>, item: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        class.py().import("types")?.getattr("GenericAlias")?.call1((class, item))
    }

    /// The program and its arguments, filled in.
    #[getter]
    fn argv(&self) -> &[std::ffi::OsString] {
        &self.ended.done.argv
    }

    /// Its exit code; 127 and 126 when it was not found or could not be executed; `None` when a signal ended it, or it
    /// was not started.
    #[getter]
    fn exit_code(&self) -> Option<i32> {
        self.ended.done.exit
    }

    /// The number of the signal that ended it.
    #[getter]
    fn signal(&self) -> Option<i32> {
        self.ended.done.signal
    }

    /// What it printed: bytes, or text where that was asked for.
    #[getter]
    fn stdout<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.as_asked(self.stdout_bytes(py)?)
    }

    /// What it printed to standard error: bytes, or text where that was asked for.
    #[getter]
    fn stderr<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.as_asked(self.stderr_bytes(py)?)
    }

    /// What it printed, as text in UTF-8; what is not text in it is replaced.
    #[getter]
    fn text<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        decoded(&self.stdout_bytes(py)?)
    }

    /// What it printed, as JSON.
    fn json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        loads(py, self.stdout_bytes(py)?.as_bytes())
    }

    /// Itself, or the error raised.
    fn check<'py>(slf: Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        match slf.get().error(slf.py())? {
            Some(error) => Err(PyErr::from_value(error)),
            None => Ok(slf),
        }
    }

    /// When its last attempt was started, in seconds since 1970; `None` when it was not.
    #[getter]
    fn started(&self) -> Option<f64> {
        let since = self.ended.done.started?.duration_since(UNIX_EPOCH).ok()?;
        Some(since.as_secs_f64())
    }

    /// Processor time of it and its children, in seconds.
    #[getter]
    fn cpu_seconds(&self) -> f64 {
        std::time::Duration::from_micros(self.ended.done.cpu_micros).as_secs_f64()
    }

    /// Its largest resident set, in bytes; the kernel counts that of this process in.
    #[getter]
    fn peak_memory(&self) -> u64 {
        self.ended.done.peak_memory
    }

    /// How many processes outlived it, and were ended.
    #[getter]
    fn left_over(&self) -> u32 {
        self.ended.done.left_over
    }

    /// The file that its output was saved to.
    #[getter]
    fn saved(&self) -> Option<&std::path::Path> {
        self.ended.done.saved.as_deref()
    }

    /// The file that what it printed to standard error was saved to.
    #[getter]
    fn saved_stderr(&self) -> Option<&std::path::Path> {
        self.ended.done.saved_stderr.as_deref()
    }

    /// Why it did not go well, as an exception that has not been raised.
    #[getter]
    fn error<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some((kind, why)) = &self.ended.done.error else { return Ok(None) };
        let stderr = self.stderr_bytes(py)?;
        let mut message = match kind {
            // It says itself which program it is, or there is none.
            ErrorKind::Spawn | ErrorKind::Input => why.clone(),
            _ => format!("`{}`: {why}", self.program()),
        };
        if let Some(line) = last_line(stderr.as_bytes()) {
            message.push_str(": ");
            message.push_str(&line);
        }
        let fields = PyDict::new(py);
        fields.set_item("kind", kind.as_str())?;
        fields.set_item("outcome", self.ended.kind.as_str())?;
        fields.set_item("argv", self.argv())?;
        fields.set_item("exit_code", self.exit_code())?;
        fields.set_item("signal", self.signal())?;
        fields.set_item("stdout", self.stdout(py)?)?;
        fields.set_item("stderr", self.as_asked(stderr)?)?;
        fields.set_item("attempts", self.ended.attempts)?;
        let subject = Subject::Command { is_found: self.exit_code() != Some(127) };
        errors::exception(py, subject, self.ended.kind, *kind, &message, &fields).map(Some)
    }

    fn __repr__(&self) -> String {
        let why = self.ended.done.error.as_ref().map_or(String::new(), |(_, why)| format!(": {why}"));
        unisono_core::printable(&format!("<CommandOutcome {} {}{why}>", self.program(), self.ended.kind)).into_owned()
    }
}

fn kept<'py>(py: Python<'py>, slot: &PyOnceLock<Py<PyBytes>>, output: &Output) -> PyResult<Bound<'py, PyBytes>> {
    let read = || -> PyResult<Py<PyBytes>> {
        let length = usize::try_from(output.len())?;
        let bytes = PyBytes::new_with(py, length, |mut buffer| Ok(output.copy_to(&mut buffer)?))?;
        Ok(bytes.unbind())
    };
    slot.get_or_try_init(py, read).map(|bytes| bytes.bind(py).clone())
}

fn decoded<'py>(bytes: &Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyAny>> {
    bytes.call_method1("decode", ("utf-8", "replace"))
}

/// What most programs end with when they fail: one line that says why.
fn last_line(stderr: &[u8]) -> Option<String> {
    let tail = &stderr[stderr.len().saturating_sub(LONGEST_LINE)..];
    let text = String::from_utf8_lossy(tail);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.to_owned())
}

/// Longer than a message should be, but not than some programs' last words are.
const LONGEST_LINE: usize = 1000;
