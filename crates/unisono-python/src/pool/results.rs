//! The results of a `map`, in order: tasks without futures, since none of them can be asked for.
//!
//! Everything is submitted at once, or `ahead` calls at most beyond what has been taken; then the caller's iterator is
//! pulled while results are taken.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use pyo3::{
    PyTraverseError, PyVisit,
    exceptions::PyTimeoutError,
    prelude::*,
    types::{PyIterator, PyTuple},
};
use unisono_workers::{Awaited, Function, Task, Terms};

use super::{
    codec,
    future::read,
    shared::{SharedPool, key_of, wait},
};
use crate::errors;

/// What came of the calls of a `map`.
#[pyclass(frozen, module = "unisono._native")]
pub struct Results {
    shared: Py<SharedPool>,
    function: Result<Arc<Function>, Raised>,
    calls: Py<PyIterator>,
    terms: Terms,
    key: Option<Py<PyAny>>,
    tasks: Mutex<VecDeque<MapTask>>,
}

enum MapTask {
    Sent(Arc<Task>),
    /// It could not be.
    Failed(Raised),
}

/// An exception as an object of Python's: what its frames hold may hold the results, so the collector must see it.
type Raised = Py<PyAny>;

#[pymethods]
impl Results {
    /// Whether everything that was submitted has been taken.
    #[getter]
    fn is_empty(&self) -> bool {
        self.tasks().is_empty()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.shared)?;
        visit.call(self.function.as_ref().err())?;
        visit.call(&self.calls)?;
        visit.call(&self.key)?;
        // The collector runs where the interpreter allocates, and there no thread holds the lock.
        let Ok(tasks) = self.tasks.try_lock() else { return Ok(()) };
        tasks.iter().try_for_each(|task| match task {
            MapTask::Sent(_) => Ok(()),
            MapTask::Failed(error) => visit.call(error),
        })
    }

    fn __clear__(&self) {
        let _tasks = mem::take(&mut *self.tasks());
    }

    /// The next result; waits for it so many seconds at most. `None` when there are no more.
    #[pyo3(signature = (seconds=None))]
    fn next<'py>(&self, py: Python<'py>, seconds: Option<f64>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let task = match self.tasks().front() {
            None => return Ok(None),
            Some(MapTask::Sent(task)) => Some(task.clone()),
            Some(MapTask::Failed(_)) => None,
        };
        if let Some(task) = &task
            && !task.has_ended()
            && !wait(py, self.shared.get().pool(), seconds, Awaited::End(task))?
        {
            return Err(PyTimeoutError::new_err(()));
        }
        let call = self.tasks().pop_front();
        match call {
            None => Ok(None),
            Some(MapTask::Failed(error)) => Err(PyErr::from_value(error.into_bound(py))),
            Some(MapTask::Sent(task)) => {
                task.take_outcome().map(|outcome| read(py, outcome, self.shared.get().buffers)).transpose()
            }
        }
    }

    /// Submits one more call; false when there are none.
    fn pull(&self, py: Python<'_>) -> PyResult<bool> {
        let Some(arguments) = self.calls.bind(py).clone().next().transpose()? else { return Ok(false) };
        let arguments = arguments.cast::<PyTuple>()?;
        let shared = self.shared.get();
        let key = key_of(self.key.as_ref().map(|key| key.bind(py)), arguments, None)?;
        let terms = Terms { key, ..self.terms.clone() };
        shared.wait_for_room(py)?;
        let prepared = match &self.function {
            Ok(function) => codec::encode_call(py, arguments, None)
                .and_then(|call| call.into_blob(py, shared.pool().arena()))
                .map(|call| (function.clone(), call)),
            Err(error) => Err(PyErr::from_value(error.bind(py).clone())),
        };
        let call = match errors::blame(py, prepared)? {
            Ok((function, arguments)) => MapTask::Sent(shared.send(py, function, arguments, terms)?),
            Err(error) => MapTask::Failed(error.into_value(py).into_any()),
        };
        self.tasks().push_back(call);
        Ok(true)
    }

    /// Cancels what has not begun.
    fn cancel(&self, py: Python<'_>) {
        let calls = mem::take(&mut *self.tasks());
        py.detach(|| {
            for call in &calls {
                if let MapTask::Sent(task) = call {
                    self.shared.get().pool().cancel(task, false);
                }
            }
        });
    }
}

impl Results {
    pub fn new(
        shared: Py<SharedPool>,
        function: Result<Arc<Function>, PyErr>,
        calls: &Bound<'_, PyAny>,
        ahead: Option<usize>,
        (terms, key): (Terms, Option<Py<PyAny>>),
    ) -> PyResult<Self> {
        let py = calls.py();
        let function = function.map_err(|error| error.into_value(py).into_any());
        let results = Self { shared, function, calls: calls.try_iter()?.unbind(), terms, key, tasks: Mutex::default() };
        let mut pulled = 0;
        while ahead.is_none_or(|ahead| pulled < ahead) && results.pull(py)? {
            pulled += 1;
        }
        Ok(results)
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, VecDeque<MapTask>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
