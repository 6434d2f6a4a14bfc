//! How a call of a function ended: what it answered or raised is the program's own object.

use pyo3::{
    PyClassInitializer,
    prelude::*,
    types::{PyDict, PyType},
};
use unisono_runner::{Outcome as RunOutcome, Returned};

use crate::{
    ended::Ended,
    errors::{self, Subject},
};

/// How the call for one item ended.
#[pyclass(frozen, extends = Ended, module = "unisono")]
pub struct FunctionOutcome {
    ended: RunOutcome<Returned<Py<PyAny>>>,
}

impl FunctionOutcome {
    pub fn object<'py>(
        py: Python<'py>,
        ended: RunOutcome<Returned<Py<PyAny>>>,
        item: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        let common = Ended::of(&ended, item.map(Bound::unbind));
        Bound::new(py, PyClassInitializer::from(common).add_subclass(Self { ended }))
    }
}

#[pymethods]
impl FunctionOutcome {
    #[classmethod]
    #[pyo3(name = "__class_getitem__", signature = (item, /))]
    fn of_type<'py>(class: &Bound<'py, PyType>, item: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        class.py().import("types")?.getattr("GenericAlias")?.call1((class, item))
    }

    /// What the function answered; `None` when it did not.
    #[getter]
    fn result(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let done = &self.ended.done;
        done.value.as_ref().filter(|_| done.error.is_none()).map(|value| value.clone_ref(py))
    }

    /// What the function answered, or the error raised.
    fn check(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self.error(py)? {
            Some(error) => Err(PyErr::from_value(error)),
            None => Ok(self.result(py).unwrap_or_else(|| py.None())),
        }
    }

    /// Why it did not go well: the exception that the function raised, with its traceback, or one that says what else it
    /// was.
    #[getter]
    fn error<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some((kind, message)) = &self.ended.done.error else { return Ok(None) };
        if let Some(raised) = &self.ended.done.value {
            return Ok(Some(raised.bind(py).clone()));
        }
        let fields = PyDict::new(py);
        fields.set_item("kind", kind.as_str())?;
        fields.set_item("outcome", self.ended.kind.as_str())?;
        fields.set_item("name", self.name())?;
        fields.set_item("attempts", self.ended.attempts)?;
        let message = format!("{}: {message}", self.name());
        errors::exception(py, Subject::Function, self.ended.kind, *kind, &message, &fields).map(Some)
    }

    fn __repr__(&self) -> String {
        let why = self.ended.done.error.as_ref().map_or(String::new(), |(_, why)| format!(": {why}"));
        unisono_core::printable(&format!("<FunctionOutcome {} {}{why}>", self.name(), self.ended.kind)).into_owned()
    }
}

impl FunctionOutcome {
    /// What a person knows its item by.
    fn name(&self) -> &str {
        self.ended.done.label.as_deref().unwrap_or(&self.ended.id)
    }
}
