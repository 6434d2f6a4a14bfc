//! How an item ended: what the outcomes of all kinds of work have in common, and one file for what each has of its own.

mod command;
mod fetch;
mod file;
mod function;
mod pickled;
mod response;

use std::{sync::Arc, time::Duration};

use pyo3::{PyTraverseError, PyVisit, prelude::*, sync::PyOnceLock};
use unisono_core::{Effect, OutcomeKind, printable};
use unisono_runner::RowOutcome as Ended;

pub use command::{CommandOutcome, CommandResult, restored_command_outcome, restored_command_result};
pub use fetch::{FetchOutcome, error_of, restored_fetch_outcome};
pub use file::{Digest, FileOutcome, restored_digest, restored_file_outcome};
pub use function::{FunctionOutcome, restored_function_outcome};
pub use response::{Response, loads, restored_response};

/// What only one kind of work knows of how its item ended. It becomes objects of Python only when they are asked for.
trait OutcomeDetail: Send + Sync + 'static {
    /// What came of the item, or nothing.
    fn result<'py>(self: Arc<Self>, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>>;

    /// Why it did not go well, as an exception that has not been raised.
    fn error<'py>(self: Arc<Self>, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>>;

    /// The outcome in a few words, behind the name of its class.
    fn shown(&self) -> String;

    /// An object of the program's that it holds, which its result is, or its error.
    fn held(&self) -> Option<&Py<PyAny>> {
        None
    }
}

/// How one item ended.
#[pyclass(frozen, subclass, generic, module = "unisono")]
pub struct Outcome {
    kind: OutcomeKind,
    effect: Effect,
    row: u64,
    /// As the caller counts what it gives, from 0, whatever number an earlier run gave the row.
    number: u64,
    id: Box<str>,
    attempts: u16,
    elapsed: Duration,
    /// What the caller gave for it.
    #[pyo3(get)]
    item: Option<Py<PyAny>>,
    ending: Arc<dyn OutcomeDetail>,
    /// Kept, so that what is asked for twice is the same object; but not what `ending` holds.
    result: PyOnceLock<Option<Py<PyAny>>>,
}

impl Outcome {
    fn of<D>(ended: &Ended<D>, item: Option<Bound<'_, PyAny>>, ending: Arc<dyn OutcomeDetail>) -> Self {
        Self {
            kind: ended.kind,
            effect: ended.effect,
            row: ended.key.row,
            // What none of the program's items stands for has a number that no item has.
            number: ended.line.index().unwrap_or(u64::MAX),
            id: ended.id.clone(),
            attempts: ended.attempts,
            elapsed: ended.elapsed,
            item: item.map(Bound::unbind),
            ending,
            result: PyOnceLock::new(),
        }
    }

    /// What the caller gave for it.
    fn given(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.item.as_ref().map(|item| item.clone_ref(py))
    }
}

#[pymethods]
impl Outcome {
    /// Whether it went well.
    #[getter]
    fn ok(&self) -> bool {
        self.kind == OutcomeKind::Ok
    }

    /// `ok`, `failed`, `timed_out`, `ambiguous`, `cancelled` or `skipped`.
    #[getter]
    fn kind(&self) -> &'static str {
        self.kind.as_str()
    }

    /// Whether what was asked for has been carried out: `none`, `maybe` or `done`.
    #[getter]
    fn effect(&self) -> &'static str {
        self.effect.as_str()
    }

    /// Position in the input, from 0.
    #[getter]
    fn row(&self) -> u64 {
        self.row
    }

    /// What the batch counts it by, which may be another number than its row's.
    #[getter]
    fn _number(&self) -> u64 {
        self.number
    }

    /// Its name.
    #[getter]
    fn id(&self) -> &str {
        &self.id
    }

    /// How often it was tried.
    #[getter]
    fn attempts(&self) -> u16 {
        self.attempts
    }

    /// Seconds from its first start to its end.
    #[getter]
    fn elapsed(&self) -> f64 {
        self.elapsed.as_secs_f64()
    }

    /// What came of it: a response, a digest, a command's result, what a function returned. `None` when nothing did. It
    /// may be there although the item did not end well: an answer with status 404 is a response.
    #[getter]
    fn result(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let make = || PyResult::Ok(self.ending.clone().result(py)?.map(Bound::unbind));
        if self.ending.held().is_some() {
            return make();
        }
        let result = self.result.get_or_try_init(py, make)?;
        Ok(result.as_ref().map(|result| result.clone_ref(py)))
    }

    /// Why it did not end well, as an exception that has not been raised; `None` when it did.
    #[getter]
    fn error<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.ending.clone().error(py)
    }

    /// The result, or raises the error.
    fn check(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match self.error(py)? {
            Some(error) => Err(PyErr::from_value(error)),
            None => self.result(py),
        }
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let class = slf.get_type().name()?;
        Ok(printable(&format!("<{class} {}>", slf.get().ending.shown())).into_owned())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.item)?;
        visit.call(self.ending.held())
    }
}
