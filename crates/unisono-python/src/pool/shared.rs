//! What the engine of a pool, its futures and its results have in common: the pool itself, the functions that its
//! workers know, and the futures of which a thread in the background tells.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use pyo3::{
    PyTraverseError, PyVisit,
    exceptions::PyRuntimeError,
    prelude::*,
    types::{PyCFunction, PyDict, PyFunction, PyTuple, PyType, PyWeakrefMethods, PyWeakrefReference},
};
use unisono_core::clock;
use unisono_workers::{Awaited, Function, Pool, Terms, blob::Blob};

use super::codec::{self, Buffers};
use crate::{errors, forks::HomeProcess, numbers::moment_in};

/// A pool with what Python has given it.
///
/// An object of Python's itself: the engine, its futures and its results share it, and the garbage collector has to
/// come upon what it holds once, however many of them there are.
///
/// Its locks are held for a few instructions, with the interpreter, and never while code of Python's may run: where the
/// collector runs, no thread has one.
#[pyclass(frozen, module = "unisono._native")]
pub struct SharedPool {
    pool: Pool,
    functions: Mutex<KnownFunctions>,
    /// Futures that are to be told of their end, by the numbers of their tasks.
    observed: Mutex<HashMap<u64, Py<PyAny>>>,
    /// What arrays are that come back.
    pub buffers: Buffers,
    /// Its forks have none of its threads.
    home: HomeProcess,
}

/// Functions that the workers know by a number.
#[derive(Default)]
struct KnownFunctions {
    /// By their address, where another may come to lie once one is gone. They are not kept: each has its module, and
    /// with it perhaps the pool, which would be in use for ever.
    by_address: HashMap<usize, (Py<PyWeakrefReference>, Arc<Function>)>,
    /// How many have got a number; none is given twice, since the workers keep the function that it stands for.
    numbered: u64,
}

#[pymethods]
impl SharedPool {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Ok(observed) = self.observed.try_lock() else { return Ok(()) };
        observed.values().try_for_each(|future| visit.call(future))
    }

    fn __clear__(&self) {
        let _observed = mem::take(&mut *self.observed());
    }
}

impl SharedPool {
    pub fn new(pool: Pool, buffers: Buffers) -> Self {
        Self { pool, functions: Mutex::default(), observed: Mutex::default(), buffers, home: HomeProcess::new() }
    }

    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Refuses in a child of the program, where the pool's lock may be held by a thread that is not there.
    pub fn refuse_if_forked(&self) -> PyResult<()> {
        self.home.check()
    }

    pub fn refuse_if_closed(&self, py: Python<'_>) -> PyResult<()> {
        self.refuse_if_forked()?;
        match py.detach(|| self.pool.refuses()) {
            None => Ok(()),
            Some(why) => Err(closed(py, why)),
        }
    }

    pub fn send(
        &self,
        py: Python<'_>,
        function: Arc<Function>,
        arguments: Blob,
        terms: Terms,
    ) -> PyResult<Arc<unisono_workers::Task>> {
        self.refuse_if_forked()?;
        self.pool.submit(function, arguments, terms, false).map_err(|why| closed(py, why))
    }

    /// Has this future told when the task ends; false when it has ended.
    pub fn observe(&self, py: Python<'_>, future: &Bound<'_, PyAny>, task: &unisono_workers::Task) -> bool {
        // Listed before the pool is asked to tell: its thread in the background may do so at once.
        let entry = (task.number, future.clone().unbind());
        self.observed().insert(entry.0, entry.1);
        let is_observed = py.detach(|| self.pool.observe(task));
        if !is_observed {
            // Dropped after the lock, since it may be the last reference.
            let _future = self.observed().remove(&task.number);
        }
        is_observed
    }

    pub fn wait_for_room(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_ours() && self.pool.is_bounded() {
            wait(py, &self.pool, None, Awaited::Room)?;
        }
        Ok(())
    }

    /// Futures to be told of the ends of these tasks.
    pub fn ended(&self, numbers: &[u64]) -> Vec<Py<PyAny>> {
        let mut observed = self.observed();
        numbers.iter().filter_map(|number| observed.remove(number)).collect()
    }

    /// Whether this is the process that made it, and no fork of that.
    pub fn is_ours(&self) -> bool {
        self.home.is_here()
    }

    /// The function as the workers know it; pickled, unless it was before.
    pub fn prepare(&self, py: Python<'_>, function: &Bound<'_, PyAny>) -> PyResult<Arc<Function>> {
        let address = function.as_ptr() as usize;
        let known =
            self.functions().by_address.get(&address).map(|(known, as_sent)| (known.clone_ref(py), as_sent.clone()));
        if let Some((known, as_sent)) = known
            && known.bind(py).upgrade().is_some_and(|known| known.is(function))
        {
            return Ok(as_sent);
        }
        let encoded = codec::pickled(py, function)?;
        let is_by_name = encoded.is_by_name(py);
        let definition = encoded.into_blob(py, self.pool.arena())?;
        let name = name_of(function);
        let numbered = |number, definition| Arc::new(Function { number, name, definition });
        // What is sent by its value is code with what it closes over, or an object, and that may change.
        let Some(known) = is_by_name.then(|| PyWeakrefReference::new(function).ok()).flatten() else {
            return Ok(numbered(0, definition));
        };
        let known = known.unbind();
        let mut functions = self.functions();
        if functions.numbered >= MOST_FUNCTIONS {
            return Ok(numbered(0, definition));
        }
        functions.numbered += 1;
        let prepared = numbered(functions.numbered, definition);
        let _gone = functions.by_address.insert(address, (known, prepared.clone()));
        drop(functions);
        Ok(prepared)
    }

    fn functions(&self) -> MutexGuard<'_, KnownFunctions> {
        self.functions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn observed(&self) -> MutexGuard<'_, HashMap<u64, Py<PyAny>>> {
        self.observed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits with the interpreter let go of, and with an eye on signals; returns whether it is done in time.
pub fn wait(py: Python<'_>, pool: &Pool, seconds: Option<f64>, what: Awaited<'_>) -> PyResult<bool> {
    let until = seconds.and_then(moment_in);
    loop {
        let left = until.map(|until| until.saturating_duration_since(clock::now()));
        if py.detach(|| pool.wait(what, left)) {
            return Ok(true);
        }
        py.check_signals()?;
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(false);
        }
    }
}

/// What a call shares with others: a thing, by its text, or a function of the call's arguments that says so.
pub fn key_of(
    key: Option<&Bound<'_, PyAny>>,
    arguments: &Bound<'_, PyTuple>,
    keywords: Option<&Bound<'_, PyDict>>,
) -> PyResult<Option<Arc<str>>> {
    let Some(key) = key else { return Ok(None) };
    let key = if key.is_callable() { key.call(arguments, keywords)? } else { key.clone() };
    Ok(Some(key.str()?.to_str()?.into()))
}

/// What people know a function by: its module and its name. What stands between them and the pool has none, and of what
/// is another object's nothing is asked, since that may run code of the program's.
fn name_of(function: &Bound<'_, PyAny>) -> String {
    let is_plain = function.is_exact_instance_of::<PyFunction>()
        || function.is_exact_instance_of::<PyCFunction>()
        || function.is_exact_instance_of::<PyType>();
    if !is_plain {
        return String::new();
    }
    let text = |name: &str| function.getattr(name).and_then(|value| value.extract::<String>());
    match (text("__module__"), text("__qualname__")) {
        (Ok(module), Ok(_)) if module.starts_with("unisono._") => String::new(),
        (Ok(module), Ok(name)) => format!("{module}.{name}"),
        (Err(_), Ok(name)) => name,
        (_, Err(_)) => String::new(),
    }
}

fn closed(py: Python<'_>, why: Option<String>) -> PyErr {
    match why {
        None => PyRuntimeError::new_err("cannot schedule new futures after shutdown"),
        Some(why) => match errors::class(py, "PoolBroken").and_then(|class| class.call1((why,))) {
            Ok(error) => PyErr::from_value(error),
            Err(error) => error,
        },
    }
}

/// So many functions have a number; a program that makes more makes them on the fly.
const MOST_FUNCTIONS: u64 = 256;
