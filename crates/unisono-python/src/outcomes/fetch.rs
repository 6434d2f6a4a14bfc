//! How a request ended.

use std::sync::Arc;

use pyo3::{PyClassInitializer, prelude::*, types::PyDict};

use super::{
    Outcome, OutcomeDetail,
    pickled::{Ending, FetchedState, ReducedOutcome, maker},
    response::{EndedFetch, Response, loads},
};
use crate::errors::{self, Subject};

/// How one request ended.
#[pyclass(frozen, extends = Outcome, module = "unisono")]
pub struct FetchOutcome {
    ended: Arc<EndedFetch>,
}

impl FetchOutcome {
    pub fn object<'py>(
        py: Python<'py>,
        ended: EndedFetch,
        item: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        let ended = Arc::new(ended);
        let outcome = Outcome::of(&ended, item, ended.clone());
        Bound::new(py, PyClassInitializer::from(outcome).add_subclass(Self { ended }))
    }
}

#[pymethods]
impl FetchOutcome {
    /// Page of the row, from 1; 0 where there are no pages.
    #[getter]
    fn page(&self) -> u32 {
        self.ended.key.page
    }

    /// What was asked for; `None` when that cannot be told.
    #[getter]
    fn url(&self) -> Option<String> {
        url_of(&self.ended)
    }

    /// How it was asked for.
    #[getter]
    fn method(&self) -> Option<&str> {
        self.ended.done.asked.as_ref().map(|(method, _)| method.as_str())
    }

    /// The file that the body was saved to.
    #[getter]
    fn saved(&self) -> Option<String> {
        self.ended.done.saved.as_ref().map(|(path, _)| path.to_string_lossy().into_owned())
    }

    /// What `select=` made of the body.
    #[getter]
    fn selected<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.ended.done.selected.as_ref().filter(|json| !json.is_empty()).map(|json| loads(py, json)).transpose()
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<ReducedOutcome<'py, FetchedState>> {
        let (py, ended) = (slf.py(), &slf.get().ended);
        let state = (Ending::of(ended), FetchedState::of(&ended.done), slf.as_super().get().given(py));
        Ok((maker(py, "restored_fetch_outcome")?, state))
    }
}

/// A pickled outcome of a request.
#[pyfunction]
pub fn restored_fetch_outcome<'py>(
    py: Python<'py>,
    ending: Ending,
    state: FetchedState,
    item: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, FetchOutcome>> {
    FetchOutcome::object(py, ending.ended(state.done()?)?, item)
}

impl OutcomeDetail for EndedFetch {
    /// The response, whatever its status.
    fn result<'py>(self: Arc<Self>, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let response = Response::of(&self).map(|response| Bound::new(py, response)).transpose()?;
        Ok(response.map(Bound::into_any))
    }

    fn error<'py>(self: Arc<Self>, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        error_of(py, &self)
    }

    fn shown(&self) -> String {
        let response = self.done.reply.response.as_ref();
        let status = response.map_or(String::new(), |response| format!(" {}", response.status.as_u16()));
        let error = self.done.reply.error.as_ref().map_or(String::new(), |error| format!(": {}", error.chain()));
        format!("{} {}{status}{error}", self.id, self.kind)
    }
}

/// Why a call did not go well, as an exception that has not been raised.
pub fn error_of<'py>(py: Python<'py>, ended: &Arc<EndedFetch>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some(error) = &ended.done.reply.error else { return Ok(None) };
    let fields = PyDict::new(py);
    fields.set_item("kind", error.kind().as_str())?;
    fields.set_item("outcome", ended.kind.as_str())?;
    fields.set_item("effect", ended.effect.as_str())?;
    fields.set_item("url", url_of(ended))?;
    fields.set_item("response", Response::of(ended))?;
    fields.set_item("attempts", ended.attempts)?;
    let retry_at = ended.done.reply.retry_at.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    fields.set_item("retry_at", retry_at.map(|at| at.as_secs_f64()))?;
    errors::exception(py, Subject::Call, ended.kind, error.kind(), &error.chain(), &fields).map(Some)
}

fn url_of(ended: &EndedFetch) -> Option<String> {
    ended.done.asked.as_ref().map(|(_, url)| url.to_string())
}
