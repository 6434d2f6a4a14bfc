//! How a command ended: what it printed becomes an object of Python only when it is asked for, wherever it is kept.

use std::{
    ffi::OsString,
    path::Path,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use pyo3::{
    PyClassInitializer,
    prelude::*,
    sync::PyOnceLock,
    types::{PyBytes, PyDict},
};
use unisono_core::ErrorKind;
use unisono_runner::{CommandResult as Done, RowOutcome, commands::Output};

use super::{
    Outcome, OutcomeDetail,
    pickled::{CommandState, Ending, Reduced, ReducedOutcome, maker},
    response::loads,
};
use crate::errors::{self, Subject};

/// How a command ended, as the engine holds it. Its result shares it.
struct EndedCommand {
    ended: RowOutcome<Done>,
    /// What it printed is text to the program.
    as_text: bool,
    /// Read once: behind the first mebibyte it is in a file.
    stdout: PyOnceLock<Py<PyBytes>>,
    stderr: PyOnceLock<Py<PyBytes>>,
}

/// How one command ended.
#[pyclass(frozen, extends = Outcome, generic, module = "unisono")]
pub struct CommandOutcome(Arc<EndedCommand>);

/// What a command printed, how its process ended, and what it took.
#[pyclass(frozen, generic, module = "unisono")]
pub struct CommandResult(Arc<EndedCommand>);

impl CommandOutcome {
    pub fn object<'py>(
        py: Python<'py>,
        ended: RowOutcome<Done>,
        item: Option<Bound<'py, PyAny>>,
        as_text: bool,
    ) -> PyResult<Bound<'py, Self>> {
        let ended = Arc::new(EndedCommand { ended, as_text, stdout: PyOnceLock::new(), stderr: PyOnceLock::new() });
        let outcome = Outcome::of(&ended.ended, item, ended.clone());
        Bound::new(py, PyClassInitializer::from(outcome).add_subclass(Self(ended)))
    }
}

#[pymethods]
impl CommandOutcome {
    /// The program and its arguments, filled in.
    #[getter]
    fn argv(&self) -> &[OsString] {
        &self.0.done().argv
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<ReducedOutcome<'py, CommandState>> {
        let (py, ended) = (slf.py(), &slf.get().0);
        let state = (Ending::of(&ended.ended), ended.state(py)?, slf.as_super().get().given(py));
        Ok((maker(py, "restored_command_outcome")?, state))
    }
}

#[pymethods]
impl CommandResult {
    /// The program and its arguments, filled in.
    #[getter]
    fn argv(&self) -> &[OsString] {
        &self.0.done().argv
    }

    /// Its exit code; 127 and 126 when it was not found or could not be executed; `None` when a signal ended it.
    #[getter]
    fn exit_code(&self) -> Option<i32> {
        self.0.done().exit
    }

    /// The number of the signal that ended it.
    #[getter]
    fn signal(&self) -> Option<i32> {
        self.0.done().signal
    }

    /// What it printed: bytes, or text where that was asked for.
    #[getter]
    fn stdout<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.0.as_asked(self.0.stdout(py)?)
    }

    /// What it printed to standard error: bytes, or text where that was asked for.
    #[getter]
    fn stderr<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.0.as_asked(self.0.stderr(py)?)
    }

    /// What it printed, as text in UTF-8; what is not text in it is replaced.
    #[getter]
    fn text<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        decoded(&self.0.stdout(py)?)
    }

    /// What it printed, as JSON.
    fn json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        loads(py, self.0.stdout(py)?.as_bytes())
    }

    /// When its last attempt was started, in seconds since 1970; `None` when it was not.
    #[getter]
    fn started(&self) -> Option<f64> {
        let since = self.0.done().started?.duration_since(UNIX_EPOCH).ok()?;
        Some(since.as_secs_f64())
    }

    /// Processor time of it and its children, in seconds.
    #[getter]
    fn cpu_seconds(&self) -> f64 {
        Duration::from_micros(self.0.done().cpu_micros).as_secs_f64()
    }

    /// Its largest resident set, in bytes; the kernel counts that of this process in.
    #[getter]
    fn peak_memory(&self) -> u64 {
        self.0.done().peak_memory
    }

    /// How many processes outlived it, and were ended.
    #[getter]
    fn left_over(&self) -> u32 {
        self.0.done().left_over
    }

    /// The file that its output was saved to.
    #[getter]
    fn saved(&self) -> Option<&Path> {
        self.0.done().saved.as_deref()
    }

    /// The file that what it printed to standard error was saved to.
    #[getter]
    fn saved_stderr(&self) -> Option<&Path> {
        self.0.done().saved_stderr.as_deref()
    }

    /// It is taken from its outcome again.
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Reduced<'py, CommandState>> {
        Ok((maker(py, "restored_command_result")?, (Ending::of(&self.0.ended), self.0.state(py)?)))
    }

    fn __repr__(&self) -> String {
        let end = match (self.exit_code(), self.signal()) {
            (Some(code), _) => format!("exit_code={code}"),
            (None, Some(signal)) => format!("signal={signal}"),
            (None, None) => "no end".to_owned(),
        };
        unisono_core::printable(&format!("<CommandResult {} {end}>", self.0.program())).into_owned()
    }
}

impl EndedCommand {
    fn done(&self) -> &Done {
        &self.ended.done
    }

    fn stdout<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        kept(py, &self.stdout, &self.done().stdout)
    }

    fn stderr<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        kept(py, &self.stderr, &self.done().stderr)
    }

    fn state(&self, py: Python<'_>) -> PyResult<CommandState> {
        let (stdout, stderr) = (self.stdout(py)?.as_bytes().to_vec(), self.stderr(py)?.as_bytes().to_vec());
        Ok(CommandState::of(self.done(), self.as_text, stdout, stderr))
    }

    fn as_asked<'py>(&self, bytes: Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyAny>> {
        if self.as_text { decoded(&bytes) } else { Ok(bytes.into_any()) }
    }

    /// The program alone: arguments may hold secrets.
    fn program(&self) -> String {
        let program = self.done().argv.first();
        program.map_or_else(|| self.ended.id.to_string(), |program| program.to_string_lossy().into_owned())
    }
}

/// A pickled outcome of a command.
#[pyfunction]
pub fn restored_command_outcome<'py>(
    py: Python<'py>,
    ending: Ending,
    state: CommandState,
    item: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, CommandOutcome>> {
    let as_text = state.as_text;
    CommandOutcome::object(py, ending.ended(state.done()?)?, item, as_text)
}

/// A pickled result of a command.
#[pyfunction]
pub fn restored_command_result(py: Python<'_>, ending: Ending, state: CommandState) -> PyResult<Option<Py<PyAny>>> {
    restored_command_outcome(py, ending, state, None)?.as_super().get().result(py)
}

impl OutcomeDetail for EndedCommand {
    /// What it printed and how its process ended, unless it was never to be started.
    fn result<'py>(self: Arc<Self>, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let done = self.done();
        if done.started.is_none() && done.exit.is_none() && done.signal.is_none() {
            return Ok(None);
        }
        Ok(Some(Bound::new(py, CommandResult(self))?.into_any()))
    }

    fn error<'py>(self: Arc<Self>, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some((kind, why)) = &self.done().error else { return Ok(None) };
        let (stdout, stderr) = (self.stdout(py)?, self.stderr(py)?);
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
        fields.set_item("effect", self.ended.effect.as_str())?;
        fields.set_item("argv", &self.done().argv)?;
        fields.set_item("exit_code", self.done().exit)?;
        fields.set_item("signal", self.done().signal)?;
        fields.set_item("stdout", self.as_asked(stdout)?)?;
        fields.set_item("stderr", self.as_asked(stderr)?)?;
        fields.set_item("attempts", self.ended.attempts)?;
        let subject = Subject::Command { is_found: self.done().exit != Some(127) };
        errors::exception(py, subject, self.ended.kind, *kind, &message, &fields).map(Some)
    }

    fn shown(&self) -> String {
        let why = self.done().error.as_ref().map_or(String::new(), |(_, why)| format!(": {why}"));
        format!("{} {}{why}", self.program(), self.ended.kind)
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
    let tail = &stderr[stderr.len().saturating_sub(LONGEST_LINE_BYTES)..];
    let text = String::from_utf8_lossy(tail);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.to_owned())
}

/// Longer than a message should be, but not than what some programs end with is.
const LONGEST_LINE_BYTES: usize = 1000;
