//! The native half of `unisono.ProcessPool`: pickles calls, submits them, and tells of their ends.
//!
//! A function that is pickled by its name is pickled once and known to the workers by a number; anything else may have
//! changed since it was last sent, so it is sent with each task.

use std::{
    collections::HashMap,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use pyo3::{
    exceptions::{PyRuntimeError, PyValueError},
    prelude::*,
    types::{PyCFunction, PyDict, PyFunction, PyTuple, PyType},
};
use unisono_workers::{
    Awaited, Function, Options, Pool, PoolGiven, Terms, Zygote,
    blob::Blob,
    forks::{Moment, Since},
};

use super::{
    codec::{self, Buffers},
    future::FutureCore,
    results::Results,
};
use crate::{errors, numbers::moment_in};

/// A program that makes workers; shared by pools with the same preloaded modules.
#[pyclass(frozen, module = "unisono._native")]
pub struct ZygoteHandle(Arc<Zygote>);

#[pymethods]
impl ZygoteHandle {
    #[new]
    #[pyo3(signature = (command=None))]
    fn new(command: Option<Vec<std::ffi::OsString>>) -> Self {
        Self(Arc::new(command.map_or_else(Zygote::forked, Zygote::new)))
    }

    /// Takes over a fork of this program that makes the workers, and our end of its socket.
    fn adopt(&self, socket: Given, process: i32) -> PyResult<()> {
        let process = rustix::process::Pid::from_raw(process);
        let process = process.ok_or_else(|| PyValueError::new_err("a process has a number above 0"))?;
        Ok(self.0.adopt(socket.0, process)?)
    }

    /// Ends the program, and with it every worker that it has made; the next worker starts another one.
    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.0.stop());
    }
}

type Known = HashMap<usize, (Py<PyAny>, Arc<Function>)>;

/// A pool of worker processes.
#[pyclass(frozen, name = "PoolEngine", module = "unisono._native")]
pub struct Engine {
    pool: Arc<Pool>,
    future: Py<PyType>,
    /// Functions that the workers know by a number, by their address; kept, so that no other comes to lie there.
    functions: Mutex<Known>,
    /// Futures of which somebody wants to be told.
    observed: Mutex<HashMap<u64, Py<FutureCore>>>,
    /// What arrays are that come back.
    pub buffers: Buffers,
    /// Which process it belongs to, and since when: its forks have none of its threads.
    process: u32,
    since: Moment,
}

#[pymethods]
impl Engine {
    #[new]
    fn new(
        zygote: &Bound<'_, ZygoteHandle>,
        future: Py<PyType>,
        given: (Given, Given, Vec<Given>),
        bounds: Bounds,
    ) -> PyResult<Self> {
        let Bounds { workers, method, tasks_per_worker, pending, per_key, read_only_views } = bounds;
        let options = Options { workers, method, tasks_per_worker, pending, per_key };
        let (settings, output, inherited) = given;
        let inherited = inherited.into_iter().map(|given| given.0).collect();
        let given = PoolGiven { settings: settings.0, output: output.0, inherited };
        let pool = Pool::new(options, zygote.get().0.clone(), given)?;
        Ok(Self {
            pool: Arc::new(pool),
            future,
            functions: Mutex::default(),
            observed: Mutex::default(),
            buffers: Buffers::read_only(read_only_views),
            process: std::process::id(),
            since: Moment::now()?,
        })
    }

    /// Submits a call; returns its future.
    #[pyo3(signature = (function, arguments, keywords=None, timeout=None, retries=0, key=None))]
    fn submit<'py>(
        slf: &Bound<'py, Self>,
        function: &Bound<'py, PyAny>,
        arguments: &Bound<'py, PyTuple>,
        keywords: Option<&Bound<'py, PyDict>>,
        timeout: Option<f64>,
        retries: u32,
        key: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let engine = slf.get();
        let terms = Terms { key: key_of(key, arguments, keywords)?, ..terms(py, timeout, retries)? };
        engine.wait_for_room(py)?;
        let future = engine.future.bind(py).call0()?;
        let core = future.cast::<FutureCore>()?;
        // What cannot be sent fails its own task, and no other.
        let prepared = engine.prepare(py, function).and_then(|function| {
            Ok((function, codec::encode_call(py, arguments, keywords)?.into_blob(py, engine.pool.arena())?))
        });
        match errors::blame(py, prepared)? {
            Ok((function, arguments)) => {
                let task = engine.send(py, function, arguments, terms)?;
                core.get().begin(slf.clone().unbind(), task);
            }
            Err(error) => {
                engine.refuse_if_closed(py)?;
                core.get().fail(py, error);
            }
        }
        Ok(future)
    }

    /// Submits a call for each tuple of arguments; returns their results in order.
    #[pyo3(signature = (function, calls, *, ahead=None, timeout=None, retries=0, key=None))]
    fn map(
        slf: &Bound<'_, Self>,
        function: &Bound<'_, PyAny>,
        calls: &Bound<'_, PyAny>,
        ahead: Option<usize>,
        timeout: Option<f64>,
        retries: u32,
        key: Option<Py<PyAny>>,
    ) -> PyResult<Results> {
        let py = slf.py();
        let terms = terms(py, timeout, retries)?;
        slf.get().refuse_if_closed(py)?;
        let prepared = errors::blame(py, slf.get().prepare(py, function))?;
        Results::new(slf, prepared, calls, ahead, (terms, key))
    }

    /// Drives while nobody else does; returns futures of which somebody wants to be told, or `None` at the end.
    fn serve(&self, py: Python<'_>) -> Option<Vec<Py<FutureCore>>> {
        let numbers = py.detach(|| self.pool.serve())?;
        let mut observed = self.observed.lock().unwrap_or_else(PoisonError::into_inner);
        Some(numbers.iter().filter_map(|number| observed.remove(number)).collect())
    }

    /// Refuses what waits and what comes, for this reason.
    fn break_off(&self, py: Python<'_>, why: &str) {
        py.detach(|| self.pool.break_off(why));
    }

    /// What is to be said to the program's people since the last call.
    fn notices(&self, py: Python<'_>) -> Vec<String> {
        py.detach(|| self.pool.notices())
    }

    /// No more tasks. Those that wait are cancelled if `cancel`, those that run are killed if `kill`.
    #[pyo3(signature = (*, cancel, kill))]
    fn close(&self, py: Python<'_>, cancel: bool, kill: bool) {
        if self.is_ours() {
            py.detach(|| self.pool.close(cancel, kill));
        }
    }

    /// Waits until nothing is left of a closed pool, or so many seconds; returns whether it is so.
    #[pyo3(signature = (seconds=None))]
    fn wait_closed(&self, py: Python<'_>, seconds: Option<f64>) -> PyResult<bool> {
        // In a child of the program there is nothing to wait for.
        if self.is_ours() { wait(py, &self.pool, seconds, Awaited::Over) } else { Ok(true) }
    }

    /// Ends `serve`.
    fn stop(&self, py: Python<'_>) {
        if self.is_ours() {
            py.detach(|| self.pool.stop());
        }
    }

    /// How many workers there are.
    #[getter]
    fn workers(&self) -> usize {
        self.pool.counts().0
    }

    /// How many tasks have no outcome yet.
    #[getter]
    fn open(&self) -> usize {
        self.pool.counts().1
    }
}

impl Engine {
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Refuses in a child of the program, where the pool's lock may be held by a thread that is not there.
    pub fn refuse_if_forked(&self) -> PyResult<()> {
        if self.is_ours() { Ok(()) } else { Err(errors::forked(self.process)) }
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

    /// Has `FutureCore` told when it ends; false when it has ended.
    pub fn observe(&self, py: Python<'_>, future: &Bound<'_, FutureCore>, task: &unisono_workers::Task) -> bool {
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

    pub fn is_ours(&self) -> bool {
        self.since.since() != Since::InFork
    }

    fn prepare(&self, py: Python<'_>, function: &Bound<'_, PyAny>) -> PyResult<Arc<Function>> {
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

/// What a pool is like, as a `dict`.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Bounds {
    workers: usize,
    method: u8,
    tasks_per_worker: Option<u64>,
    pending: Option<usize>,
    per_key: usize,
    read_only_views: bool,
}

/// A descriptor that Python gives away.
struct Given(OwnedFd);

impl<'py> FromPyObject<'_, 'py> for Given {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let number: i32 = object.extract()?;
        Ok(Self(crate::ffi::owned(number)))
    }
}

/// Waits with the interpreter let go of, and with an eye on signals; returns whether it is done in time.
pub fn wait(py: Python<'_>, pool: &Pool, seconds: Option<f64>, what: Awaited<'_>) -> PyResult<bool> {
    let until = seconds.and_then(moment_in);
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        if py.detach(|| pool.wait(what, left)) {
            return Ok(true);
        }
        py.check_signals()?;
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(false);
        }
    }
}

fn terms(py: Python<'_>, timeout: Option<f64>, retries: u32) -> PyResult<Terms> {
    let timeout = match timeout {
        None => None,
        Some(seconds) => match Duration::try_from_secs_f64(seconds) {
            Ok(timeout) if !timeout.is_zero() => Some(timeout),
            _ => return Err(errors::usage(py, format!("a timeout is a number of seconds above 0, not {seconds}"))),
        },
    };
    Ok(Terms { timeout, retries, key: None })
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
