//! The coroutine that `aacquire` and `async with` wait with.
//!
//! However a coroutine ends early (cancelled, closed, forgotten with its task), what it was given goes to the next one.
//! One whose loop is closed before it has heard is found by what the loop drops: a `Notice` that was not delivered
//! gives the place up.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use pyo3::{
    PyTraverseError, PyVisit,
    exceptions::{PyRuntimeError, PyStopIteration},
    intern,
    prelude::*,
};
use unisono_batch::Visit;

use crate::{
    limiter::core::{LimiterCore, Notice, Shared, Waiter, quietly},
    queue::wait::thrown,
    queue::wake::running_loop,
};

/// What a coroutine that waited for a place returns.
pub enum WaitResult {
    Nothing,
    Limiter,
}

enum Stage {
    /// Not begun.
    Fresh,
    Parked {
        visit: Visit,
        /// `future.__await__()`: what the task is told to wait for.
        steps: Py<PyAny>,
    },
    /// There is nothing to wait for.
    Done,
    Ended,
}

/// A coroutine that waits for a place.
#[pyclass(frozen, weakref, module = "unisono._native")]
pub struct PlaceWait {
    limiter: Py<LimiterCore>,
    key: String,
    outcome: WaitResult,
    /// Taken out while a step runs, so that no lock is held while code of Python's runs.
    stage: Mutex<Stage>,
}

impl PlaceWait {
    pub fn new(limiter: Py<LimiterCore>, key: String, outcome: WaitResult) -> Self {
        Self { limiter, key, outcome, stage: Mutex::new(Stage::Fresh) }
    }

    /// One with nothing to wait for.
    pub fn ended(limiter: Py<LimiterCore>) -> Self {
        Self { limiter, key: String::new(), outcome: WaitResult::Nothing, stage: Mutex::new(Stage::Done) }
    }

    fn swap(&self, stage: Stage) -> Stage {
        mem::replace(&mut *self.stage.lock().unwrap_or_else(PoisonError::into_inner), stage)
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.limiter.get().shared
    }

    /// The coroutine returns.
    fn returns<T>(&self, py: Python<'_>) -> PyResult<T> {
        let value = match self.outcome {
            WaitResult::Nothing => py.None(),
            WaitResult::Limiter => self.limiter.clone_ref(py).into_any(),
        };
        Err(PyStopIteration::new_err((value,)))
    }

    /// Asks for a place, and waits unless there is one.
    fn begin(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let event_loop = running_loop(py)?.ok_or_else(|| PyRuntimeError::new_err("no running event loop"))?;
        let (visit, is_inside) = self.shared().ask(py, &self.key);
        if is_inside {
            return self.returns(py);
        }
        match self.park(py, &event_loop, visit) {
            Ok(Some(step)) => Ok(step),
            Ok(None) => self.returns(py),
            Err(error) => {
                self.shared().give_up(py, visit);
                Err(error)
            }
        }
    }

    /// What the task is told to wait for; `None` when the caller is inside.
    fn park(&self, py: Python<'_>, event_loop: &Bound<'_, PyAny>, visit: Visit) -> PyResult<Option<Py<PyAny>>> {
        let future = event_loop.call_method0(intern!(py, "create_future"))?;
        // It comes before what the task adds, in the same turn of the loop.
        let follows = Py::new(py, Notice::new(self.shared(), visit, None))?;
        future.call_method1(intern!(py, "add_done_callback"), (follows,))?;
        let steps = future.call_method0(intern!(py, "__await__"))?;
        let notice = Py::new(py, Notice::new(self.shared(), visit, Some(future.clone().unbind())))?;
        let waiter = Waiter::Task { event_loop: event_loop.clone().unbind(), future: future.unbind(), notice };
        if !self.shared().wait(py, visit, waiter)? {
            return Ok(None);
        }
        self.swap(Stage::Parked { visit, steps: steps.clone().unbind() });
        Ok(Some(steps.call_method0(intern!(py, "__next__"))?.unbind()))
    }
}

#[pymethods]
impl PlaceWait {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self.swap(Stage::Ended) {
            Stage::Fresh => self.begin(py),
            Stage::Parked { visit, steps } => {
                let stepped = steps.call_method0(py, intern!(py, "__next__"));
                let Err(error) = stepped else {
                    self.swap(Stage::Parked { visit, steps });
                    return stepped;
                };
                if error.is_instance_of::<PyStopIteration>(py) && self.shared().enter(py, visit) {
                    return self.returns(py);
                }
                self.shared().give_up(py, visit);
                if error.is_instance_of::<PyStopIteration>(py) {
                    return Err(PyRuntimeError::new_err(
                        "the future that waits for a place was ended by somebody else",
                    ));
                }
                Err(error)
            }
            Stage::Done => self.returns(py),
            Stage::Ended => Err(PyRuntimeError::new_err("cannot reuse an already awaited coroutine")),
        }
    }

    fn send(&self, py: Python<'_>, _value: Py<PyAny>) -> PyResult<Py<PyAny>> {
        self.__next__(py)
    }

    #[pyo3(signature = (kind, value=None, traceback=None))]
    fn throw(
        &self,
        py: Python<'_>,
        kind: Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        self.close(py);
        Err(thrown(kind, value, traceback)?)
    }

    fn close(&self, py: Python<'_>) {
        if let Stage::Parked { visit, .. } = self.swap(Stage::Ended) {
            self.shared().give_up(py, visit);
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.limiter)?;
        let Ok(stage) = self.stage.try_lock() else { return Ok(()) };
        match &*stage {
            Stage::Parked { steps, .. } => visit.call(steps),
            Stage::Fresh | Stage::Done | Stage::Ended => Ok(()),
        }
    }

    fn __clear__(&self, py: Python<'_>) {
        self.close(py);
    }
}

impl Drop for PlaceWait {
    fn drop(&mut self) {
        // A task that nothing waits for any more is dropped as it is. At the end of the interpreter nothing waits.
        quietly(|py| self.close(py));
    }
}
