//! The native half of a future: where its task is, and what became of it.
//!
//! Its Python half makes it a `concurrent.futures.Future`; what the standard library looks at (`_condition`, `_state`,
//! `_waiters`) is made there when it is looked at. Until then, waiting for a result drives the pool from the caller's
//! own thread.

use std::sync::{Arc, Mutex, OnceLock};

use pyo3::{
    PyTraverseError, PyVisit,
    exceptions::PyTimeoutError,
    prelude::*,
    sync::{MutexExt, PyOnceLock},
};
use unisono_workers::{Awaited, Death, State, Task, TaskOutcome};

use super::{
    codec::{self, Buffers},
    shared::{SharedPool, wait},
};

/// What a future of a pool holds.
#[pyclass(frozen, subclass, weakref, module = "unisono._native")]
#[derive(Default)]
pub struct FutureCore {
    task: OnceLock<(Py<SharedPool>, Arc<Task>)>,
    /// Held while a result is read, so that it is read once.
    settled: Mutex<Option<Settled>>,
}

/// What came of a task, as an object of Python's. An error's frames may hold the future, so the collector must see it.
enum Settled {
    Value(Py<PyAny>),
    Error(Py<PyAny>),
}

#[pymethods]
impl FutureCore {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// `pending`, `running`, `ended` or `cancelled`.
    fn place(&self, py: Python<'_>) -> &'static str {
        let Some((shared, task)) = self.task() else { return "ended" };
        // Asked several times of each future by a loop; letting go of the interpreter would have threads take turns.
        if task.has_ended() {
            return if task.is_cancelled() { "cancelled" } else { "ended" };
        }
        if !shared.is_ours() {
            return "pending";
        }
        match py.detach(|| shared.pool().state(task)) {
            State::Waiting => "pending",
            State::Running => "running",
            State::Ended => "ended",
            State::Cancelled => "cancelled",
        }
    }

    /// Waits so many seconds at most; returns whether it has ended.
    #[pyo3(signature = (seconds=None))]
    fn wait(&self, py: Python<'_>, seconds: Option<f64>) -> PyResult<bool> {
        match self.task() {
            Some((shared, task)) if !task.has_ended() => {
                shared.refuse_if_forked()?;
                wait(py, shared.pool(), seconds, Awaited::End(task))
            }
            _ => Ok(true),
        }
    }

    /// The result, waited for.
    #[pyo3(signature = (timeout=None))]
    fn result(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        if !self.wait(py, timeout)? {
            return Err(PyTimeoutError::new_err(()));
        }
        if self.task().is_some_and(|(_, task)| task.is_cancelled()) {
            return Err(cancelled(py));
        }
        self.settle(py)
    }

    /// The exception, waited for; `None` when there is none.
    #[pyo3(signature = (timeout=None))]
    fn exception(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Py<PyAny>>> {
        if !self.wait(py, timeout)? {
            return Err(PyTimeoutError::new_err(()));
        }
        if self.task().is_some_and(|(_, task)| task.is_cancelled()) {
            return Err(cancelled(py));
        }
        Ok(self.settle(py).err().map(|error| error.into_value(py).into_any()))
    }

    /// Cancels it if it waits, or kills its worker if `running`.
    #[pyo3(signature = (*, running=false))]
    fn stop(&self, py: Python<'_>, running: bool) -> bool {
        let Some((shared, task)) = self.task() else { return false };
        shared.is_ours() && py.detach(|| shared.pool().cancel(task, running))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(self.task.get().map(|(shared, _)| shared))?;
        // What holds it now uses it, and will be seen next time.
        if let Ok(settled) = self.settled.try_lock()
            && let Some(Settled::Value(object) | Settled::Error(object)) = &*settled
        {
            visit.call(object)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        if let Ok(mut settled) = self.settled.try_lock() {
            let object = settled.take();
            drop(settled);
            drop(object);
        }
    }

    /// Refuses in the child of a fork, unless it has ended: nothing is told of it there.
    fn refuse_if_forked(&self) -> PyResult<()> {
        match self.task() {
            Some((shared, task)) if !task.has_ended() => shared.refuse_if_forked(),
            _ => Ok(()),
        }
    }

    /// Has the thread in the background tell of its end; false when it has ended.
    fn observe(slf: &Bound<'_, Self>) -> bool {
        let py = slf.py();
        slf.get().task().is_some_and(|(shared, task)| shared.observe(py, slf.as_any(), task))
    }
}

impl FutureCore {
    pub fn begin(&self, shared: Py<SharedPool>, task: Arc<Task>) {
        let fresh = self.task.set((shared, task)).is_ok();
        debug_assert!(fresh, "a future has one task");
    }

    pub fn fail(&self, py: Python<'_>, error: PyErr) {
        *self.settled.lock_py_attached(py).unwrap_or_else(std::sync::PoisonError::into_inner) =
            Some(Settled::Error(error.into_value(py).into_any()));
    }

    fn task(&self) -> Option<(&SharedPool, &Arc<Task>)> {
        self.task.get().map(|(shared, task)| (shared.get(), task))
    }

    fn settle(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let mut settled = self.settled.lock_py_attached(py).unwrap_or_else(std::sync::PoisonError::into_inner);
        let outcome = match (&*settled, self.task()) {
            (None, Some((shared, task))) => task.take_outcome().map(|outcome| (outcome, shared.buffers)),
            _ => None,
        };
        if let Some((outcome, buffers)) = outcome {
            *settled = Some(match read(py, outcome, buffers) {
                Ok(value) => Settled::Value(value.unbind()),
                Err(error) => Settled::Error(error.into_value(py).into_any()),
            });
        }
        match &*settled {
            Some(Settled::Value(value)) => Ok(value.clone_ref(py)),
            Some(Settled::Error(error)) => Err(PyErr::from_value(error.bind(py).clone())),
            None => Err(cancelled(py)),
        }
    }
}

/// What an outcome means to Python.
pub fn read(py: Python<'_>, outcome: TaskOutcome, buffers: Buffers) -> PyResult<Bound<'_, PyAny>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module = || MODULE.get_or_try_init(py, || py.import("unisono._pools.pickling").map(Bound::unbind));
    let helper = |name: &str| module()?.bind(py).getattr(name);
    let error = match outcome {
        TaskOutcome::Returned(bytes) => {
            // Whatever it raises, `SystemExit` too: the task fails by it, and not the thread that happens to read.
            let error = match codec::decode_value(py, bytes, buffers) {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            unless_interrupted(&helper("unreadable_result")?.call1((error,))?)?
        }
        TaskOutcome::Raised(bytes) => {
            unless_interrupted(&helper("restore_error")?.call1((codec::decode_value(py, bytes, buffers)?,))?)?
        }
        TaskOutcome::Died { death, deaths, stderr_tail } => {
            let (exit_code, signal) = exit_code_or_signal(death);
            helper("death")?.call1((exit_code, signal, deaths, String::from_utf8_lossy(&stderr_tail)))?
        }
        TaskOutcome::TimedOut(after) => helper("timed_out")?.call1((after.as_secs_f64(),))?,
        TaskOutcome::NotBegun(after) => helper("not_begun")?.call1((after.as_secs_f64(),))?,
        TaskOutcome::Refused(why) => helper("refused")?.call1((why,))?,
        TaskOutcome::Cancelled => return Err(cancelled(py)),
    };
    Err(PyErr::from_value(error))
}

/// At most one of the two, and neither where the end was not seen.
pub fn exit_code_or_signal(death: Death) -> (Option<i32>, Option<i32>) {
    match death {
        Death::Exit(code) => (Some(code), None),
        Death::Signal(number) => (None, Some(number)),
        Death::Unknown | Death::Unmade(_) => (None, None),
    }
}

/// An error; when Ctrl-C was pressed while it was read, it is as if it were pressed now, since no code of Python's runs
/// from here until the reader is back.
fn unless_interrupted<'py>(read: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let (error, is_interrupted): (Bound<'py, PyAny>, bool) = read.extract()?;
    if is_interrupted {
        read.py().import("_thread")?.call_method0("interrupt_main")?;
    }
    Ok(error)
}

/// `concurrent.futures.CancelledError`.
pub fn cancelled(py: Python<'_>) -> PyErr {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    match CLASS.import(py, "concurrent.futures", "CancelledError").and_then(|class: &Bound<'_, PyAny>| class.call0()) {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}
