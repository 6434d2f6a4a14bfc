//! The loop within a worker: take a task, call, publish, until the pool is gone.
//!
//! One thread, which holds the interpreter but while it sleeps. Functions are kept by their numbers. An exception is
//! described by Python code (`unisono._pools.worker`); what ends the interpreter (`SystemExit`) is that task's
//! exception too, as with `concurrent.futures`.
//!
//! A task may fork. The child is no worker: what it returns or raises is its own end, and the memory, the socket and
//! the next tasks are its parent's.

use std::{cell::Cell, collections::HashMap};

use pyo3::{prelude::*, types::PyAny};
use unisono_workers::{Given, Inside, kind};

use super::codec::{self, Buffers};
use crate::forks::HomeProcess;

/// Works until the pool is gone. `socket` and `memory` are descriptors that this takes over; `describe` makes of an
/// exception and of where it came up what is sent, `prepare` is called first, and arrays come as read-only views if
/// `read_only_views`. Returns whether this is still the worker and no child that a task has forked, which raises what
/// the task has raised there.
#[pyfunction]
pub fn work(
    py: Python<'_>,
    socket: i32,
    memory: i32,
    prepare: &Bound<'_, PyAny>,
    describe: &Bound<'_, PyAny>,
    read_only_views: bool,
) -> PyResult<bool> {
    let buffers = Buffers::read_only(read_only_views);
    let mut inside = Inside::new(crate::ffi::owned(socket), crate::ffi::owned(memory))?;
    let home = HomeProcess::new();
    let prepared = prepare.call0();
    if !home.is_here() {
        return leave(inside, prepared.map(drop));
    }
    if let Err(error) = prepared {
        let why: String = describe.call1((error, "start"))?.extract()?;
        inside.unfit(why.as_bytes())?;
        return Ok(true);
    }
    inside.ready()?;
    let mut functions: HashMap<u64, PyResult<Py<PyAny>>> = HashMap::new();
    loop {
        let Some(mut task) = inside.take()? else {
            if !py.detach(|| inside.sleep())? {
                return Ok(true);
            }
            let handled = py.check_signals();
            if !home.is_here() {
                return leave(inside, handled);
            }
            handled?;
            continue;
        };
        let called = call(py, &mut functions, &mut task, buffers);
        if !home.is_here() {
            return leave(inside, called.map(drop));
        }
        let published = match called {
            Ok(value) => match codec::encode_value(py, &value) {
                Ok(encoded) => publish(py, &mut inside, kind::RETURNED, &task, &encoded),
                Err(error) => Err(error),
            }
            .map_err(|error| (error, "result")),
            Err(error) => Err((error, "call")),
        };
        if let Err((error, place)) = published {
            let described = describe.call1((error, place))?;
            publish(py, &mut inside, kind::RAISED, &task, &codec::encode_value(py, &described)?)?;
        }
    }
}

/// Ends the loop in a child that was forked from here, which leaves to its parent what both have.
fn leave(inside: Inside, ended: PyResult<()>) -> PyResult<bool> {
    std::mem::forget(inside);
    ended.map(|()| false)
}

/// Whether this thread is reading a function or its arguments, for which modules may be imported: a pool that one of
/// them makes would have workers that import it once more.
#[pyfunction]
pub fn is_reading() -> bool {
    READING.get()
}

thread_local! {
    static READING: Cell<bool> = const { Cell::new(false) };
}

fn reading<T>(read: impl FnOnce() -> T) -> T {
    READING.set(true);
    let value = read();
    READING.set(false);
    value
}

fn call<'py>(
    py: Python<'py>,
    functions: &mut HashMap<u64, PyResult<Py<PyAny>>>,
    task: &mut Given,
    buffers: Buffers,
) -> PyResult<Bound<'py, PyAny>> {
    let arguments = std::mem::replace(&mut task.arguments, Ok(unisono_workers::blob::Received::Inline(Vec::new())));
    if let Some(definition) = task.definition.take() {
        // One that cannot be read fails each of its tasks in the same way.
        let function = definition.map_err(codec::no_memory);
        let function = function.and_then(|definition| reading(|| codec::decode_value(py, definition, buffers)));
        functions.insert(task.function, function.map(Bound::unbind));
    }
    let function = match functions.get(&task.function) {
        Some(Ok(function)) => function.bind(py).clone(),
        Some(Err(error)) => return Err(error.clone_ref(py)),
        None => return Err(crate::errors::usage(py, "a task came before its function")),
    };
    if task.function == 0 {
        functions.remove(&0);
    }
    let arguments = arguments.map_err(codec::no_memory)?;
    let (arguments, keywords) = reading(|| codec::decode_call(py, arguments, buffers))?;
    function.call(arguments, keywords.as_ref())
}

fn publish(py: Python<'_>, inside: &mut Inside, kind: u32, task: &Given, encoded: &codec::Encoded) -> PyResult<()> {
    encoded.with_parts(py, |length, parts| inside.publish(kind, task, length, parts)).map_err(codec::no_memory)
}
