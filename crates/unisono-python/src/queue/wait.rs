//! What `aget`, `aput` and `ajoin` return: a coroutine, written by hand.
//!
//! One that need not wait ends at its first step, without a future and without its event loop. One that must wait parks
//! a future in the line. However it ends early (cancelled, closed, forgotten with its task), what it was given goes to
//! the next one: a cancelled `aget` loses no item, and the item of a cancelled `aput` was not put.

use std::{mem, sync::Mutex};

use pyo3::{
    PyTraverseError, PyVisit,
    exceptions::{PyRuntimeError, PyStopAsyncIteration, PyStopIteration},
    intern,
    prelude::*,
};
use unisono_batch::channel::{Served, TryError, Wakes, Withdrawn};

use crate::{
    queue::core::{Item, QueueCore, closed},
    queue::wake::{Wake, running_loop},
};

/// What a coroutine is for.
pub enum Wish {
    Get,
    /// As `Get`, and the end of the queue is the end of an iteration.
    Next,
    Put(Item),
    Join,
}

enum Stage {
    /// Not begun.
    Fresh(Wish),
    Parked {
        wish: Wish,
        ticket: u64,
        /// `future.__await__()`: what the task is told to wait for.
        steps: Py<PyAny>,
    },
    Ended,
}

/// A coroutine that waits at a queue.
#[pyclass(frozen, weakref, module = "unisono._native")]
pub struct QueueWait {
    queue: Py<QueueCore>,
    /// Taken out while a step runs, so that no lock is held while code of Python's runs.
    stage: Mutex<Stage>,
}

impl QueueWait {
    pub fn new(queue: Py<QueueCore>, wish: Wish) -> Self {
        Self { queue, stage: Mutex::new(Stage::Fresh(wish)) }
    }

    fn swap(&self, stage: Stage) -> Stage {
        mem::replace(&mut *self.stage.lock().expect("nothing panics while it holds the lock"), stage)
    }
}

/// What a step found: it has ended with this, or it has to wait.
enum Step {
    Ended(Item),
    Wait(Wish),
}

#[pymethods]
impl QueueWait {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self.swap(Stage::Ended) {
            Stage::Fresh(wish) => match self.attempt(py, wish)? {
                Step::Ended(value) => Err(PyStopIteration::new_err((value,))),
                Step::Wait(wish) => self.park(py, wish),
            },
            Stage::Parked { wish, ticket, steps } => {
                let stepped = steps.call_method0(py, intern!(py, "__next__"));
                let Err(error) = stepped else {
                    self.swap(Stage::Parked { wish, ticket, steps });
                    return stepped;
                };
                if error.is_instance_of::<PyStopIteration>(py) {
                    return self.collect(py, wish, ticket);
                }
                self.queue.get().give_up(self.queue.bind(py), ticket);
                Err(error)
            }
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
        if let Stage::Parked { ticket, .. } = self.swap(Stage::Ended) {
            self.queue.get().give_up(self.queue.bind(py), ticket);
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.queue)?;
        let Ok(stage) = self.stage.try_lock() else { return Ok(()) };
        let wish = match &*stage {
            Stage::Fresh(wish) => wish,
            Stage::Parked { wish, steps, .. } => {
                visit.call(steps)?;
                wish
            }
            Stage::Ended => return Ok(()),
        };
        match wish {
            Wish::Put(item) => visit.call(item),
            Wish::Get | Wish::Next | Wish::Join => Ok(()),
        }
    }

    fn __clear__(&self, py: Python<'_>) {
        self.close(py);
    }
}

impl QueueWait {
    /// Does what is wished, if that can be done now.
    fn attempt(&self, py: Python<'_>, wish: Wish) -> PyResult<Step> {
        let queue = self.queue.bind(py);
        let core = queue.get();
        match wish {
            Wish::Get | Wish::Next => match core.try_get(queue) {
                Ok(Some(item)) => Ok(Step::Ended(item)),
                Ok(None) => Ok(Step::Wait(wish)),
                Err(error) => Err(end_of(&wish, error)),
            },
            Wish::Put(item) => Ok(match core.try_put(queue, item)? {
                Ok(()) => Step::Ended(py.None()),
                Err(item) => Step::Wait(Wish::Put(item)),
            }),
            Wish::Join if core.state().channel.unfinished() == 0 => Ok(Step::Ended(py.None())),
            Wish::Join => Ok(Step::Wait(wish)),
        }
    }

    /// Waits, unless it can be done after all.
    fn park(&self, py: Python<'_>, wish: Wish) -> PyResult<Py<PyAny>> {
        let queue = self.queue.bind(py);
        queue.get().reclaim(queue)?;
        let event_loop = running_loop(py)?.ok_or_else(|| PyRuntimeError::new_err("no running event loop"))?;
        let future = event_loop.call_method0(intern!(py, "create_future"))?;
        let steps = future.call_method0(intern!(py, "__await__"))?;
        let wake = Wake::Task { event_loop: event_loop.unbind(), future: future.unbind() };
        match self.park_with(wish, wake) {
            Parking::Parked(wish, ticket) => {
                self.swap(Stage::Parked { wish, ticket, steps: steps.clone().unbind() });
                // Tells the task to wait for the future.
                Ok(steps.call_method0(intern!(py, "__next__"))?.unbind())
            }
            Parking::Done(value, wakes) => {
                queue.get().wake(queue, wakes);
                Err(PyStopIteration::new_err((value.unwrap_or_else(|| py.None()),)))
            }
            Parking::Closed(wish) => Err(end_of(&wish, closed(py))),
        }
    }

    /// Under one lock: tries again, and parks.
    fn park_with(&self, wish: Wish, wake: Wake) -> Parking {
        let mut state = self.queue.get().state();
        let channel = &mut state.channel;
        match wish {
            Wish::Get | Wish::Next => match channel.take() {
                Ok((item, wakes)) => Parking::Done(Some(item), wakes),
                Err(TryError::Wait) => Parking::Parked(wish, channel.park_getter(wake)),
                Err(TryError::Closed) => Parking::Closed(wish),
            },
            Wish::Put(item) => match channel.put(item) {
                Ok(wakes) => Parking::Done(None, wakes),
                Err((TryError::Wait, item)) => Parking::Parked(Wish::Put(item), channel.park_putter(wake, None)),
                Err((TryError::Closed, item)) => Parking::Closed(Wish::Put(item)),
            },
            Wish::Join if channel.unfinished() == 0 => Parking::Done(None, Vec::new()),
            Wish::Join => Parking::Parked(wish, channel.park_joiner(wake)),
        }
    }

    /// The future is done: what became of it.
    fn collect(&self, py: Python<'_>, wish: Wish, ticket: u64) -> PyResult<Py<PyAny>> {
        let queue = self.queue.bind(py);
        let Withdrawn::Served(served) = queue.get().withdraw(ticket) else {
            return Err(PyRuntimeError::new_err("somebody else has ended the future that a queue waits for"));
        };
        let value = match (served, wish) {
            (Served::Item(_, item), _) => item,
            (Served::Granted, Wish::Put(item)) => {
                let put = queue.get().state().channel.put_granted(item);
                match put {
                    Ok(wakes) => queue.get().wake(queue, wakes),
                    Err(_item) => return Err(closed(py)),
                }
                py.None()
            }
            (Served::Closed, wish) => return Err(end_of(&wish, closed(py))),
            (Served::Granted | Served::Accepted | Served::Joined, _) => py.None(),
        };
        Err(PyStopIteration::new_err((value,)))
    }
}

/// What `throw` of a coroutine is to raise.
pub fn thrown(
    kind: Bound<'_, PyAny>,
    value: Option<Bound<'_, PyAny>>,
    traceback: Option<Bound<'_, PyAny>>,
) -> PyResult<PyErr> {
    let py = kind.py();
    let error = match value {
        Some(value) if value.is_instance_of::<pyo3::exceptions::PyBaseException>() => PyErr::from_value(value),
        Some(value) => PyErr::from_value(kind.call1((value,))?),
        None => PyErr::from_value(if kind.is_callable() { kind.call0()? } else { kind }),
    };
    if let Some(traceback) = traceback {
        error.set_traceback(py, traceback.cast_into().ok());
    }
    Ok(error)
}

enum Parking {
    Parked(Wish, u64),
    Done(Option<Item>, Wakes<Wake>),
    Closed(Wish),
}

/// The end of the queue, as it is told.
fn end_of(wish: &Wish, error: PyErr) -> PyErr {
    match wish {
        Wish::Next => PyStopAsyncIteration::new_err(()),
        _ => error,
    }
}

impl Drop for QueueWait {
    fn drop(&mut self) {
        // A task that nothing waits for any more is dropped as it is. At the end of the interpreter nothing waits.
        Python::try_attach(|py| self.close(py));
    }
}
