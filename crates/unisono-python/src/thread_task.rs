//! The native half of a `ThreadPool`'s future: the call on its way to a thread, its end, and what waits for that.
//!
//! Its Python half makes it a `concurrent.futures.Future`; what the standard library looks at (`_condition`, `_state`,
//! `_waiters`) is made there when it is looked at, and told by `_announce`. A thread that asks for a result sleeps in a
//! futex: a lock and a condition for each task would cost more than the rest of it, and be three objects more for the
//! collector.
//!
//! Nothing of Python's runs while the lock is held: no call, no allocation of an object, and no drop of the last
//! reference to one. So a destructor or a signal's handler may look at any future at any moment.

use std::{
    mem,
    sync::{
        LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use pyo3::{
    PyTraverseError, PyVisit,
    exceptions::{PyRuntimeError, PyTimeoutError},
    prelude::*,
    types::{PyDict, PyTuple},
};
use unisono_core::clock;

use crate::{
    forks,
    numbers::moment_in,
    pool::cancelled,
    queue::{handing_over, looking::Looks, wake::Parker},
};

/// One call, on its way to a thread and back.
#[pyclass(frozen, subclass, weakref, module = "unisono._native")]
pub struct ThreadTask {
    state: Mutex<State>,
    /// Whether it holds one of the places of `max_pending`.
    has_place: AtomicBool,
    forks: u64,
}

struct State {
    stage: Stage,
    /// Whether `_announce` is to be called at the end.
    is_observed: bool,
    sleepers: Vec<Parker>,
}

enum Stage {
    Pending(WorkItem),
    Running(WorkItem, Instant),
    /// It has returned, and lets go of what its call held.
    Returning,
    Returned(Py<PyAny>),
    Raised(Py<PyAny>),
    Cancelled,
}

impl Stage {
    fn has_ended(&self) -> bool {
        !matches!(self, Self::Pending(_) | Self::Running(..) | Self::Returning)
    }
}

/// Function, arguments, keywords and context.
type CallParts = (Py<PyAny>, Py<PyTuple>, Option<Py<PyDict>>, Py<PyAny>);

struct WorkItem {
    function: Py<PyAny>,
    arguments: Py<PyTuple>,
    keywords: Option<Py<PyDict>>,
    /// The `contextvars.Context` in which the function is called.
    context: Py<PyAny>,
}

impl WorkItem {
    fn clone_ref(&self, py: Python<'_>) -> Self {
        Self {
            function: self.function.clone_ref(py),
            arguments: self.arguments.clone_ref(py),
            keywords: self.keywords.as_ref().map(|keywords| keywords.clone_ref(py)),
            context: self.context.clone_ref(py),
        }
    }
}

#[pymethods]
impl ThreadTask {
    #[new]
    fn new(
        function: Py<PyAny>,
        arguments: Py<PyTuple>,
        keywords: Option<Py<PyDict>>,
        context: Py<PyAny>,
        has_place: bool,
    ) -> Self {
        let stage = Stage::Pending(WorkItem { function, arguments, keywords, context });
        let state = State { stage, is_observed: false, sleepers: Vec::new() };
        Self { state: Mutex::new(state), has_place: AtomicBool::new(has_place), forks: forks::generation() }
    }

    /// Whether it held one of the places of `max_pending`, which is the caller's to give back now; true once.
    fn give_up_place(&self) -> bool {
        self.has_place.swap(false, Ordering::Relaxed)
    }

    /// What is to be called, with what, and in which context; `None` when it was cancelled. From now on it runs.
    ///
    /// The call itself is made by Python, not here: a thread that the end of the interpreter finds in it is unwound by
    /// `pthread_exit`, and frames of Rust's below it would make that an abort.
    fn begin(&self, py: Python<'_>) -> Option<CallParts> {
        let mut state = self.state();
        let Stage::Pending(call) = &state.stage else { return None };
        let (running, call) = (call.clone_ref(py), call.clone_ref(py));
        // What is replaced is not the last reference.
        state.stage = Stage::Running(running, clock::now());
        Some((call.function, call.arguments, call.keywords, call.context))
    }

    /// It returned this; whether `_announce` is to be called. For the thread that ran it, which waits for its next task
    /// then.
    ///
    /// What the call held goes first: its destructors are code of the program's, and none of that is to run between the
    /// end and the wait by which the waiters are woken.
    fn returned(&self, value: Py<PyAny>) -> bool {
        let call = mem::replace(&mut self.state().stage, Stage::Returning);
        drop(call);
        self.end(Stage::Returned(value), Parker::unpark_soon)
    }

    /// It raised this, or fails before it has begun; whether `_announce` is to be called.
    fn raised(&self, error: Py<PyAny>) -> bool {
        self.end(Stage::Raised(error), |sleeper| sleeper.unpark())
    }

    /// Cancels it, when it has not begun; whether this call did. To tell its observers is left to the caller.
    fn stop(&self) -> bool {
        let state = self.state();
        let is_pending = matches!(state.stage, Stage::Pending(_));
        if is_pending {
            settle(state, Stage::Cancelled, |sleeper| sleeper.unpark());
        }
        is_pending
    }

    /// `pending`, `running`, `ended` or `cancelled`.
    fn place(&self) -> &'static str {
        match self.state().stage {
            Stage::Pending(_) => "pending",
            Stage::Running(..) | Stage::Returning => "running",
            Stage::Returned(_) | Stage::Raised(_) => "ended",
            Stage::Cancelled => "cancelled",
        }
    }

    /// The function, its arguments, and for how many seconds it has been running; `None` when it does not run.
    fn running_call(&self, py: Python<'_>) -> Option<(Py<PyAny>, Py<PyTuple>, f64)> {
        match &self.state().stage {
            Stage::Running(call, since) => {
                Some((call.function.clone_ref(py), call.arguments.clone_ref(py), clock::since(*since).as_secs_f64()))
            }
            _ => None,
        }
    }

    /// Has `_announce` called at the end; false when it has ended.
    fn observe(&self) -> bool {
        let mut state = self.state();
        state.is_observed = !state.stage.has_ended();
        state.is_observed
    }

    /// Refuses in the child of a fork, unless it has ended: nothing ends it there.
    fn refuse_if_forked(&self) -> PyResult<()> {
        if self.forks == forks::generation() || self.state().stage.has_ended() {
            return Ok(());
        }
        Err(PyRuntimeError::new_err("this task's thread is in the parent of this process"))
    }

    /// What the task returned, waited for.
    ///
    /// Args:
    ///     timeout: How many seconds to wait at most; the task itself is not bounded by it.
    ///
    /// Raises:
    ///     TimeoutError: It has not ended within `timeout`.
    ///     concurrent.futures.CancelledError: It was cancelled.
    ///     BaseException: Whatever it raised.
    #[pyo3(signature = (timeout=None))]
    fn result(slf: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        let (py, task) = (slf.py(), slf.get());
        handing_over::asked_for(slf.as_any());
        task.wait(py, timeout)?;
        let raised = match &task.state().stage {
            Stage::Returned(value) => return Ok(value.clone_ref(py)),
            Stage::Raised(error) => Some(error.clone_ref(py)),
            _ => None,
        };
        Err(raised.map_or_else(|| cancelled(py), |error| PyErr::from_value(error.into_bound(py))))
    }

    /// What the task raised, waited for; `None` when it returned. Raises as `result` does.
    #[pyo3(signature = (timeout=None))]
    fn exception(slf: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<Option<Py<PyAny>>> {
        let (py, task) = (slf.py(), slf.get());
        handing_over::asked_for(slf.as_any());
        task.wait(py, timeout)?;
        match &task.state().stage {
            Stage::Returned(_) => return Ok(None),
            Stage::Raised(error) => return Ok(Some(error.clone_ref(py))),
            _ => {}
        }
        Err(cancelled(py))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // The collector runs where the interpreter allocates, and there no thread holds the lock.
        let Ok(state) = self.state.try_lock() else { return Ok(()) };
        match &state.stage {
            Stage::Pending(call) | Stage::Running(call, _) => {
                visit.call(&call.function)?;
                visit.call(&call.arguments)?;
                visit.call(&call.keywords)?;
                visit.call(&call.context)
            }
            Stage::Returned(object) | Stage::Raised(object) => visit.call(object),
            Stage::Returning | Stage::Cancelled => Ok(()),
        }
    }

    fn __clear__(&self) {
        let _held = mem::replace(&mut self.state().stage, Stage::Cancelled);
    }
}

impl ThreadTask {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends it, unless it was cancelled; returns whether its observers are to be told.
    fn end(&self, ended: Stage, wake: fn(Parker)) -> bool {
        let state = self.state();
        !state.stage.has_ended() && settle(state, ended, wake)
    }

    /// Returns when it has ended.
    fn wait(&self, py: Python<'_>, seconds: Option<f64>) -> PyResult<()> {
        self.refuse_if_forked()?;
        let parker = {
            let mut state = self.state();
            if state.stage.has_ended() {
                return Ok(());
            }
            // Listed under the lock under which it has not ended, so its end cannot be missed.
            let parker = Parker::default();
            state.sleepers.push(parker.clone());
            parker
        };
        let slept = parker.park(py, seconds.and_then(moment_in), Some(&LOOKS));
        let mut state = self.state();
        state.sleepers.retain(|other| !other.is(&parker));
        let has_ended = state.stage.has_ended();
        drop(state);
        slept?;
        if has_ended { Ok(()) } else { Err(PyTimeoutError::new_err(())) }
    }
}

/// How tasks of this process were waited for.
static LOOKS: LazyLock<Looks> = LazyLock::new(Looks::new);

/// Ends a task and wakes its waiters; returns whether it is observed. What its call held is dropped after the lock.
fn settle(mut state: MutexGuard<'_, State>, ended: Stage, wake: fn(Parker)) -> bool {
    // Ended before any sleeper wakes, and under the lock: a thread that comes later sees the end and does not sleep.
    let _call = mem::replace(&mut state.stage, ended);
    let sleepers = mem::take(&mut state.sleepers);
    let is_observed = state.is_observed;
    drop(state);
    // Callbacks come before that thread's next wait, and may take as long as they like.
    sleepers.into_iter().for_each(if is_observed { |sleeper: Parker| sleeper.unpark() } else { wake });
    is_observed
}
