//! Walking folders for a program that wants the files themselves.
//!
//! A plain iterator and no batch: what is found is an answer and no item, it can be neither tried again nor resumed,
//! and it comes in the order of names. The walk goes on as it is asked for, on the thread that asks, without the
//! interpreter's lock, a slice at a time, so that Ctrl-C is noticed even where nothing is found.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use pyo3::{
    PyTraverseError, PyVisit,
    exceptions::PyValueError,
    prelude::*,
    types::{PyDict, PyIterator},
};
use unisono_runner::file_tools::{EntryKind, WalkEntry, WalkOptions, walk_steps};

use crate::{errors::usage, options::Keywords, values::path_of};

/// Something that a walk came upon. It can be given where a path can.
#[pyclass(frozen, module = "unisono.files")]
pub struct Found(WalkEntry);

#[pymethods]
impl Found {
    /// Where.
    #[getter]
    fn path(&self) -> &Path {
        &self.0.path
    }

    /// `file`, `symbolic_link`, `fifo`, `socket`, `device`, `unknown`, or `unreadable`.
    #[getter]
    fn kind(&self) -> &'static str {
        match &self.0.kind {
            EntryKind::File(_) => "file",
            EntryKind::Special(special) => special.as_str(),
            EntryKind::Unreadable { .. } => "unreadable",
        }
    }

    /// Why it is unreadable.
    #[getter]
    fn why(&self) -> Option<&str> {
        match &self.0.kind {
            EntryKind::Unreadable { why, .. } => Some(why),
            _ => None,
        }
    }

    fn __fspath__(&self) -> &std::ffi::OsStr {
        self.0.path.as_os_str()
    }

    fn __repr__(&self) -> String {
        let why = self.why().map_or(String::new(), |why| format!(": {why}"));
        unisono_core::printable(&format!("<Found {} {}{why}>", self.0.path.display(), self.kind())).into_owned()
    }
}

/// What is found at some paths, folder by folder.
#[pyclass(frozen, module = "unisono._native")]
pub struct Walk {
    options: WalkOptions,
    /// Taken out while the next one is looked for, so that no lock is held meanwhile.
    state: Mutex<Option<State>>,
}

struct State {
    paths: Py<PyIterator>,
    steps: Option<Steps>,
    ready: VecDeque<WalkEntry>,
}

type Steps = Box<dyn Iterator<Item = Option<WalkEntry>> + Send>;

#[pymethods]
impl Walk {
    #[new]
    #[pyo3(signature = (paths, **keywords))]
    fn new(paths: &Bound<'_, PyAny>, keywords: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let py = paths.py();
        let keywords = Keywords::new(keywords.unwrap_or(&PyDict::new(py)))?;
        let options = keywords.walk(false)?;
        keywords.finish()?;
        // A glob that is none is known before anything is walked.
        walk_steps(&["/".into()], &options).map(drop).map_err(|why| usage(py, why))?;
        let paths = paths.try_iter()?.unbind();
        let state = State { paths, steps: None, ready: VecDeque::new() };
        Ok(Self { options, state: Mutex::new(Some(state)) })
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Found>> {
        let taken = self.state.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut state = taken.ok_or_else(|| PyValueError::new_err("another thread is asking this walk already"))?;
        let found = state.next(py, &self.options);
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = Some(state);
        found
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // The collector runs where the interpreter allocates, and there no thread holds the lock.
        let Ok(state) = self.state.try_lock() else { return Ok(()) };
        visit.call(state.as_ref().map(|state| &state.paths))
    }

    fn __clear__(&self) {
        let _state = self.state.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl State {
    fn next(&mut self, py: Python<'_>, options: &WalkOptions) -> PyResult<Option<Found>> {
        loop {
            if let Some(found) = self.ready.pop_front() {
                return Ok(Some(Found(found)));
            }
            let (steps, ready) = (&mut self.steps, &mut self.ready);
            match steps {
                Some(walk) => {
                    let may_go_on = py.detach(|| go_on(walk, ready));
                    if !may_go_on {
                        *steps = None;
                    }
                    py.check_signals()?;
                }
                None => match self.paths.bind(py).clone().next() {
                    None => return Ok(None),
                    Some(path) => {
                        let path: PathBuf = path_of(&path?)?;
                        let walk = py.detach(|| walk_steps(&[path], options)).map_err(|why| usage(py, why))?;
                        self.steps = Some(Box::new(walk));
                    }
                },
            }
        }
    }
}

/// Walks for a moment. Returns whether there may be more.
fn go_on(walk: &mut Steps, ready: &mut VecDeque<WalkEntry>) -> bool {
    for _ in 0..STEPS {
        match walk.next() {
            None => return false,
            Some(step) => ready.extend(step),
        }
    }
    true
}

/// A step is a microsecond or a few; the interpreter's lock is given up for long enough to be worth it.
const STEPS: usize = 256;
