//! How those who wait at a queue sleep and are woken: threads by a lock of Python's, coroutines by a future.
//!
//! A thread sleeps in `lock.acquire`, which lets go of the interpreter, ends in time, and lets Ctrl-C through in the main
//! thread. A coroutine of the loop that runs here is woken by its future; one of another loop through a mailbox of that
//! loop, so that many of them cost one `call_soon_threadsafe`.

use pyo3::{PyTraverseError, PyVisit, intern, prelude::*, sync::PyOnceLock};

/// How somebody is woken.
pub enum Wake {
    /// A thread: this lock is held, and he waits for it.
    Thread(Py<PyAny>),
    /// A coroutine.
    Task {
        /// Where it runs.
        event_loop: Py<PyAny>,
        /// What it waits for.
        future: Py<PyAny>,
    },
}

impl Wake {
    /// For the garbage collector.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Thread(lock) => visit.call(lock),
            Self::Task { event_loop, future } => visit.call(event_loop).and_then(|()| visit.call(future)),
        }
    }
}

/// A lock that is held, for a thread to sleep by.
pub fn bed(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static ALLOCATE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let lock = ALLOCATE.import(py, "_thread", "allocate_lock")?.call0()?;
    lock.call_method0(intern!(py, "acquire"))?;
    Ok(lock)
}

/// Sleeps until the lock is released or `seconds` have passed. Raises what a signal's handler raises.
pub fn sleep(bed: &Bound<'_, PyAny>, seconds: Option<f64>) -> PyResult<()> {
    let py = bed.py();
    // Python's bound of what it can wait is 292 years, and it refuses more.
    let seconds = seconds.filter(|seconds| *seconds < 9e9).unwrap_or(-1.0);
    bed.call_method1(intern!(py, "acquire"), (true, seconds))?;
    Ok(())
}

/// The event loop that runs in this thread.
pub fn running_loop(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    static FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let event_loop = FUNCTION.import(py, "asyncio", "_get_running_loop")?.call0()?;
    Ok((!event_loop.is_none()).then_some(event_loop))
}

/// Lets a coroutine of the running loop go on. One that was cancelled meanwhile goes on by itself.
pub fn resolve(future: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = future.py();
    if !future.call_method0(intern!(py, "done"))?.is_truthy()? {
        future.call_method1(intern!(py, "set_result"), (py.None(),))?;
    }
    Ok(())
}
