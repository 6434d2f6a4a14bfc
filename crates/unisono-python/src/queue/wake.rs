//! How the waiters of a queue sleep and are woken: threads by a futex, coroutines by a future.
//!
//! A thread sleeps without the interpreter, and Ctrl-C reaches it when it is the main thread. Before it sleeps it looks
//! for a moment where that may pay (`looking.rs`). What it sleeps in is `unisono_workers::Parker`, beside the models of
//! it. A coroutine of the loop that runs here is woken by its future; one of another loop through a list of that loop,
//! so that many of them cost one `call_soon_threadsafe`.

use std::time::{Duration, Instant};

use pyo3::{PyTraverseError, PyVisit, intern, prelude::*, sync::PyOnceLock};

use rustix::{process::getpid, thread::gettid};
use unisono_core::clock;

use crate::{
    errors::usage,
    queue::looking::{self, Looks},
};

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

/// What a thread sleeps in. What wakes it notes when that was, by `looking::releases`.
#[derive(Clone, Default)]
pub struct Parker(unisono_workers::Parker);

impl Parker {
    /// Sleeps without the interpreter until it is woken or `until` has come. Raises what a signal's handler raises.
    ///
    /// With `looks` it looks before it sleeps: for waits that are often short.
    ///
    /// This is not a lock of Python's: a daemon thread that sleeps there at the end of the program is unwound by
    /// `pthread_exit` when it wakes, and Rust's frames below it make that an abort. Here it is left hanging.
    pub fn park(&self, py: Python<'_>, until: Option<Instant>, mut looks: Option<&Looks>) -> PyResult<()> {
        let runs_handlers = gettid() == getpid();
        while !self.0.is_woken() && until.is_none_or(|until| clock::now() < until) {
            // A signal between the last look and the sleep interrupts neither; nothing else would run its handler.
            let look = runs_handlers.then(|| clock::now() + LOOK_UP);
            let looks = looks.take();
            py.detach(|| {
                looking::released();
                wake_those_left();
                if let Some(looks) = looks {
                    looks.look(|| self.0.is_woken(), || self.0.note());
                }
                let until = look.into_iter().chain(until).min();
                self.0.sleep(|| until.map(|until| until.saturating_duration_since(clock::now())));
            });
            py.check_signals()?;
        }
        Ok(())
    }

    pub fn unpark(&self) {
        self.0.unpark(looking::releases());
    }

    /// Wakes it as a thread that goes on to wait for what the woken one does: without the interpreter, which that one
    /// needs at once.
    pub fn hand_over(&self, py: Python<'_>) {
        if self.0.tell(looking::releases()) {
            py.detach(|| self.0.wake());
        }
    }

    /// Has it woken by the next wait of this thread, or by its end, whichever comes first: for a thread that waits
    /// soon, and until then runs nothing of the program's. What it wakes needs the interpreter, and finds it free then.
    pub fn unpark_soon(self) {
        self.0.unpark_soon();
    }

    /// Whether both are the same.
    pub fn is(&self, other: &Self) -> bool {
        self.0.is(&other.0)
    }
}

/// Wakes those that this thread has left to its next wait.
pub fn wake_those_left() {
    unisono_workers::wake_those_left(looking::releases());
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
