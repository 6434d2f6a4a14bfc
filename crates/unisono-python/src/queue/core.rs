//! What a queue is: a channel behind a mutex, and the futures that are to be resolved on their loops.
//!
//! The mutex is held for a few instructions and never while code of Python's may run: not while a waiter is woken, not
//! while a value is dropped. So a put from a destructor or from a signal's handler is fine, and nothing here relies on
//! the interpreter's lock. (Under that lock the mutex is never contended.)
//!
//! After a fork the child has the items, and not those that waited: they are threads of the parent.

use std::{
    mem,
    sync::{Mutex, MutexGuard},
};

use pyo3::prelude::*;
use unisono_batch::channel::{Channel, Withdrawn};

use crate::{
    errors::class,
    forks,
    queue::{looking::Looks, wake::Wake},
};

pub type Item = Py<PyAny>;

/// What is behind the lock.
pub struct State {
    pub channel: Channel<Item, Wake>,
    /// Futures of coroutines that were served from another thread, until their loop comes round to them.
    pub loop_wakes: Vec<LoopWakes>,
    forks: u64,
}

/// A queue between threads and coroutines.
#[pyclass(frozen, subclass, weakref, module = "unisono._native")]
pub struct QueueCore {
    pub state: Mutex<State>,
    pub maxsize: isize,
    /// How consumers have waited.
    pub looks: Looks,
}

/// Futures of one loop.
pub struct LoopWakes {
    pub event_loop: Py<PyAny>,
    /// With their tickets.
    pub futures: Vec<(u64, Py<PyAny>)>,
}

impl QueueCore {
    /// For so many items at most; `room` is `usize::MAX` for no bound.
    pub fn with_room(maxsize: isize, room: usize) -> Self {
        let state = State { channel: Channel::new(room), loop_wakes: Vec::new(), forks: forks::generation() };
        Self { state: Mutex::new(state), maxsize, looks: Looks::new() }
    }

    /// The line, without the waiters that a fork has left behind.
    pub fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().expect("nothing panics while it holds the lock");
        let forks = forks::generation();
        if state.forks != forks {
            state.forks = forks;
            let forgotten = (state.channel.forget_waiters(), mem::take(&mut state.loop_wakes));
            drop(state);
            drop(forgotten);
            state = self.state.lock().expect("nothing panics while it holds the lock");
        }
        state
    }

    pub fn withdraw(&self, ticket: u64) -> Withdrawn<Item, Wake> {
        self.state().channel.withdraw(ticket)
    }
}

pub fn error(py: Python<'_>, name: &str, message: &'static str) -> PyErr {
    match class(py, name) {
        Ok(class) => PyErr::from_type(class, message),
        Err(error) => error,
    }
}

pub fn closed(py: Python<'_>) -> PyErr {
    error(py, "QueueClosed", "the queue is closed")
}
