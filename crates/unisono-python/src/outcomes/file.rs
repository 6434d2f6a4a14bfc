//! How a file ended: what it was when it was read, and its digests.

use std::{path::Path, sync::Arc};

use pyo3::{PyClassInitializer, exceptions::PyAttributeError, prelude::*, types::PyDict};
use unisono_runner::{DigestResult, RowOutcome};

use super::{
    Outcome, OutcomeDetail,
    pickled::{Ending, FileState, Reduced, ReducedOutcome, maker},
};
use crate::errors::{self, Subject};

/// How a file ended, as the engine holds it. Its digest shares it.
type EndedFile = RowOutcome<DigestResult>;

/// How one file ended.
#[pyclass(frozen, extends = Outcome, module = "unisono")]
pub struct FileOutcome(Arc<EndedFile>);

/// What a file was when it was read, and its digests.
#[pyclass(frozen, module = "unisono")]
pub struct Digest(Arc<EndedFile>);

impl FileOutcome {
    pub fn object<'py>(
        py: Python<'py>,
        ended: EndedFile,
        item: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        let ended = Arc::new(ended);
        let outcome = Outcome::of(&ended, item, ended.clone());
        Bound::new(py, PyClassInitializer::from(outcome).add_subclass(Self(ended)))
    }
}

#[pymethods]
impl FileOutcome {
    /// The file; `None` when that cannot be told.
    #[getter]
    fn path(&self) -> Option<&Path> {
        self.0.done.path.as_deref()
    }

    /// What it is, when it is no regular file: `symbolic_link`, `fifo`, `socket`, `device`, `folder` or `unknown`;
    /// `output` when the run itself writes it.
    #[getter]
    fn special(&self) -> Option<&'static str> {
        self.0.done.special.map(|special| special.as_str())
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<ReducedOutcome<'py, FileState>> {
        let (py, ended) = (slf.py(), &slf.get().0);
        let state = (Ending::of(ended), FileState::of(&ended.done), slf.as_super().get().given(py));
        Ok((maker(py, "restored_file_outcome")?, state))
    }
}

#[pymethods]
impl Digest {
    /// The file.
    #[getter]
    fn path(&self) -> Option<&Path> {
        self.0.done.path.as_deref()
    }

    /// The digests, in hexadecimal, by the name of the algorithm.
    #[getter]
    fn digests<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let digests = PyDict::new(py);
        for digest in &self.0.done.digests {
            digests.set_item(digest.algorithm().as_str(), digest.to_string())?;
        }
        Ok(digests)
    }

    /// The only digest, in hexadecimal.
    #[getter]
    fn hex(&self) -> PyResult<String> {
        match &*self.0.done.digests {
            [digest] => Ok(digest.to_string()),
            several => {
                let why = format!("there are {} digests: take one from `digests`", several.len());
                Err(PyAttributeError::new_err(why))
            }
        }
    }

    /// How many bytes the file has.
    #[getter]
    fn size(&self) -> Option<u64> {
        self.0.done.stat.map(|stat| stat.size)
    }

    /// When its content was last changed, in nanoseconds since 1970.
    #[getter]
    fn mtime_ns(&self) -> Option<i64> {
        self.0.done.stat.map(|stat| stat.mtime_ns)
    }

    /// It is taken from its outcome again.
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Reduced<'py, FileState>> {
        Ok((maker(py, "restored_digest")?, (Ending::of(&self.0), FileState::of(&self.0.done))))
    }

    fn __repr__(&self) -> String {
        let digests: Vec<_> =
            self.0.done.digests.iter().map(|digest| format!(" {}={digest}", digest.algorithm().as_str())).collect();
        unisono_core::printable(&format!("<Digest {}{}>", name_of(&self.0), digests.concat())).into_owned()
    }
}

/// A pickled outcome of a file.
#[pyfunction]
pub fn restored_file_outcome<'py>(
    py: Python<'py>,
    ending: Ending,
    state: FileState,
    item: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, FileOutcome>> {
    FileOutcome::object(py, ending.ended(state.done()?)?, item)
}

/// A pickled digest.
#[pyfunction]
pub fn restored_digest(py: Python<'_>, ending: Ending, state: FileState) -> PyResult<Option<Py<PyAny>>> {
    restored_file_outcome(py, ending, state, None)?.as_super().get().result(py)
}

impl OutcomeDetail for EndedFile {
    /// Its digests, if it was read to its end.
    fn result<'py>(self: Arc<Self>, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if self.done.digests.is_empty() {
            return Ok(None);
        }
        Ok(Some(Bound::new(py, Digest(self))?.into_any()))
    }

    fn error<'py>(self: Arc<Self>, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some((kind, why)) = self.done.error.as_deref() else { return Ok(None) };
        let path = self.done.path.as_deref();
        let fields = PyDict::new(py);
        fields.set_item("kind", kind.as_str())?;
        fields.set_item("outcome", self.kind.as_str())?;
        fields.set_item("effect", self.effect.as_str())?;
        fields.set_item("path", path)?;
        fields.set_item("attempts", self.attempts)?;
        let message = path.map_or_else(|| why.clone(), |path| format!("{}: {why}", path.display()));
        errors::exception(py, Subject::File, self.kind, *kind, &message, &fields).map(Some)
    }

    fn shown(&self) -> String {
        let why = self.done.error.as_deref().map_or(String::new(), |(_, why)| format!(": {why}"));
        format!("{} {}{why}", name_of(self), self.kind)
    }
}

fn name_of(ended: &EndedFile) -> String {
    ended.done.path.as_deref().map_or_else(|| ended.id.to_string(), |path| path.display().to_string())
}
