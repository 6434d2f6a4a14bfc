//! What the engine of a pool, its futures and its results have in common: the pool itself, the functions that its
//! workers know, and the futures of which a thread in the background tells.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use pyo3::{
    exceptions::PyRuntimeError,
    prelude::*,
    types::{PyCFunction, PyDict, PyFunction, PyTuple, PyType},
};
use unisono_core::clock;
use unisono_workers::{Awaited, Function, Pool, Terms, blob::Blob};

use super::codec::{self, Buffers};
use crate::{errors, forks::HomeProcess, numbers::moment_in};

type Known = HashMap<usize, (Py<PyAny>, Arc<Function>)>;

/// A pool with what Python has given it.
pub struct SharedPool {
    pool: Pool,
    /// Functions that the workers know by a number, by their address; kept, so that no other comes to lie there.
    functions: Mutex<Known>,
    /// Futures that are to be told of their end, by the numbers of their tasks.
    observed: Mutex<HashMap<u64, Py<PyAny>>>,
    /// What arrays are that come back.
    pub buffers: Buffers,
    /// Its forks have none of its threads.
    home: HomeProcess,
}

impl SharedPool {
    pub fn new(pool: Pool, buffers: Buffers) -> PyResult<Self> {
        Ok(Self { pool, functions: Mutex::default(), observed: Mutex::default(), buffers, home: HomeProcess::new() })
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
        self.observed.lock().unwrap_or_else(PoisonError::into_inner).insert(entry.0, entry.1);
        let is_observed = py.detach(|| self.pool.observe(task));
        if !is_observed {
            // Dropped after the lock, since it may be the last reference.
            let _future = self.observed.lock().unwrap_or_else(PoisonError::into_inner).remove(&task.number);
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
        let mut observed = self.observed.lock().unwrap_or_else(PoisonError::into_inner);
        numbers.iter().filter_map(|number| observed.remove(number)).collect()
    }

    /// Whether this is the process that made it, and no fork of that.
    pub fn is_ours(&self) -> bool {
        self.home.is_here()
    }

    /// The function as the workers know it; pickled, unless it was before.
    pub fn prepare(&self, py: Python<'_>, function: &Bound<'_, PyAny>) -> PyResult<Arc<Function>> {
        let address = function.as_ptr() as usize;
        let known = |functions: &Known| functions.get(&address).map(|(_, known)| known.clone());
        if let Some(known) = known(&self.functions.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(known);
        }
        let encoded = codec::pickled(py, function)?;
        let is_plain = function.is_exact_instance_of::<PyFunction>()
            || function.is_exact_instance_of::<PyCFunction>()
            || function.is_exact_instance_of::<PyType>();
        // By value, it is code and what it closes over, and that may change.
        let is_named = is_plain && encoded.is_by_name(py);
        let definition = encoded.into_blob(py, self.pool.arena())?;
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_named || functions.len() >= MOST_FUNCTIONS {
            return Ok(Arc::new(Function { number: 0, definition }));
        }
        let prepared = Arc::new(Function { number: functions.len() as u64 + 1, definition });
        functions.insert(address, (function.clone().unbind(), prepared.clone()));
        Ok(prepared)
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
const MOST_FUNCTIONS: usize = 256;
