//! How a call of a function ended: what it returned or raised is the program's own object.

use std::sync::Arc;

use pyo3::{PyClassInitializer, prelude::*, types::PyDict};
use unisono_runner::{Returned, RowOutcome};

use super::{
    Outcome, OutcomeDetail,
    pickled::{Ending, FunctionState, ReducedOutcome, maker},
};
use crate::{
    errors::{self, Subject},
    ffi::ProgramObject,
};

type EndedFunction = RowOutcome<Returned<ProgramObject>>;

/// How the call for one item ended.
#[pyclass(frozen, extends = Outcome, generic, module = "unisono")]
pub struct FunctionOutcome(Arc<EndedFunction>);

impl FunctionOutcome {
    pub fn object<'py>(
        py: Python<'py>,
        ended: EndedFunction,
        item: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        let ended = Arc::new(ended);
        let outcome = Outcome::of(&ended, item, ended.clone());
        Bound::new(py, PyClassInitializer::from(outcome).add_subclass(Self(ended)))
    }
}

#[pymethods]
impl FunctionOutcome {
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<ReducedOutcome<'py, FunctionState>> {
        let (py, ended) = (slf.py(), &slf.get().0);
        let state = (Ending::of(ended), FunctionState::of(py, &ended.done)?, slf.as_super().get().given(py));
        Ok((maker(py, "restored_function_outcome")?, state))
    }
}

/// A pickled outcome of a function.
#[pyfunction]
pub fn restored_function_outcome<'py>(
    py: Python<'py>,
    ending: Ending,
    state: FunctionState,
    item: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, FunctionOutcome>> {
    let done = state.done(py)?;
    FunctionOutcome::object(py, ending.ended(done)?, item)
}

impl OutcomeDetail for EndedFunction {
    /// What the function returned.
    fn result<'py>(self: Arc<Self>, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let value = self.done.value.as_ref().filter(|_| self.done.error.is_none());
        Ok(value.map(|value| value.bind(py).clone()))
    }

    /// The exception that the function raised, with its traceback, or one that says what else it was.
    fn error<'py>(self: Arc<Self>, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some((kind, message)) = &self.done.error else { return Ok(None) };
        if let Some(raised) = &self.done.value {
            return Ok(Some(raised.bind(py).clone()));
        }
        let name = name_of(&self);
        let fields = PyDict::new(py);
        fields.set_item("kind", kind.as_str())?;
        fields.set_item("outcome", self.kind.as_str())?;
        fields.set_item("effect", self.effect.as_str())?;
        fields.set_item("name", name)?;
        fields.set_item("attempts", self.attempts)?;
        errors::exception(py, Subject::Function, self.kind, *kind, &format!("{name}: {message}"), &fields).map(Some)
    }

    fn shown(&self) -> String {
        let why = self.done.error.as_ref().map_or(String::new(), |(_, why)| format!(": {why}"));
        format!("{} {}{why}", name_of(self), self.kind)
    }

    fn held(&self) -> Option<&Py<PyAny>> {
        self.done.value.as_deref()
    }
}

/// What a person knows its item by.
fn name_of(ended: &EndedFunction) -> &str {
    ended.done.label.as_deref().unwrap_or(&ended.id)
}
