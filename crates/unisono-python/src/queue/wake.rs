//! How the waiters of a queue sleep and are woken: threads by a futex, coroutines by a future.
//!
//! A thread sleeps without the interpreter, and Ctrl-C reaches it when it is the main thread. A coroutine of the loop
//! that runs here is woken by its future; one of another loop through a list of that loop, so that many of them cost
//! one `call_soon_threadsafe`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use pyo3::{PyTraverseError, PyVisit, intern, prelude::*, sync::PyOnceLock};

use rustix::{
    fs::Timespec,
    io::Errno,
    process::getpid,
    thread::{futex, gettid},
};
use unisono_core::clock;

use crate::errors::usage;

/// How a waiter is woken.
pub enum Wake {
    /// A thread.
    Thread(Parker),
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
            Self::Thread(_) => Ok(()),
            Self::Task { event_loop, future } => visit.call(event_loop).and_then(|()| visit.call(future)),
        }
    }
}

/// What a thread sleeps in: a futex(2), 0 until it is woken.
#[derive(Clone, Default)]
pub struct Parker(Arc<AtomicU32>);

impl Parker {
    /// Sleeps without the interpreter until it is woken or `until` has come. Raises what a signal's handler raises.
    ///
    /// This is not a lock of Python's: a daemon thread that sleeps there at the end of the program is unwound by
    /// `pthread_exit` when it wakes, and Rust's frames below it make that an abort. Here it is left hanging.
    pub fn park(&self, py: Python<'_>, until: Option<Instant>) -> PyResult<()> {
        let runs_handlers = gettid() == getpid();
        while !self.is_woken() && until.is_none_or(|until| clock::now() < until) {
            // A signal between the last look and the sleep interrupts neither; nothing else would run its handler.
            let look = runs_handlers.then(|| clock::now() + LOOK_UP);
            py.detach(|| self.park_once(look.into_iter().chain(until).min()));
            py.check_signals()?;
        }
        Ok(())
    }

    /// Sleeps until it is woken, time is over, or a signal has come.
    fn park_once(&self, until: Option<Instant>) {
        while !self.is_woken() {
            let left = until.map(|until| until.saturating_duration_since(clock::now()));
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            match futex::wait(&self.0, futex::Flags::PRIVATE, 0, timeout.as_ref()) {
                Ok(()) | Err(Errno::AGAIN) => {}
                Err(_) => return,
            }
        }
    }

    pub fn unpark(&self) {
        // Before the wake: the kernel compares the word with 0 as it puts a thread to sleep, so none sleeps over it.
        self.0.store(1, Ordering::Release);
        // It fails for addresses that are none.
        let _ = futex::wake(&self.0, futex::Flags::PRIVATE, 1);
    }

    /// Whether both are the same.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn is_woken(&self) -> bool {
        self.0.load(Ordering::Acquire) == 1
    }
}

/// How soon the main thread sees to a signal that came while it was falling asleep.
const LOOK_UP: Duration = Duration::from_millis(250);

/// The event loop that runs in this thread.
pub fn running_loop(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    static FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let event_loop = FUNCTION.import(py, "asyncio", "_get_running_loop")?.call0()?;
    Ok((!event_loop.is_none()).then_some(event_loop))
}

/// Refuses to keep a thread waiting in which an event loop runs: all of its coroutines would wait as well, and often
/// what is waited for is to come from one of them. `await queue.get()`, from code that was written for `asyncio.Queue`,
/// is such a call.
pub fn refuse_on_loop(py: Python<'_>, call: &str, instead: &str) -> PyResult<()> {
    if running_loop(py)?.is_none() {
        return Ok(());
    }
    let why = "would wait, and with it the event loop that runs in this thread";
    Err(usage(py, format!("{call} {why}: use `{instead}` in coroutines")))
}

/// Lets a coroutine of the running loop go on. One that was cancelled meanwhile goes on by itself.
pub fn resolve(future: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = future.py();
    if !future.call_method0(intern!(py, "done"))?.is_truthy()? {
        future.call_method1(intern!(py, "set_result"), (py.None(),))?;
    }
    Ok(())
}
