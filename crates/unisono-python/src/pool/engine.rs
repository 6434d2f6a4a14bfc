//! The native half of `unisono.ProcessPool`: pickles calls, submits them, and tells of their ends.
//!
//! A function that is pickled by its name is pickled once and known to the workers by a number; anything else may have
//! changed since it was last sent, so it is sent with each task.

use std::{os::fd::OwnedFd, sync::Arc, time::Duration};

use pyo3::{
    PyTraverseError, PyVisit,
    exceptions::PyValueError,
    prelude::*,
    types::{PyDict, PyTuple, PyType},
};
use unisono_workers::{Awaited, Importance, Loss, Pool, PoolDescriptors, PoolNews, PoolOptions, Terms, Zygote};

use super::{
    codec::{self, Buffers},
    future::{FutureCore, exit_code_or_signal},
    results::Results,
    shared::{SharedPool, key_of, wait},
};
use crate::{
    errors,
    events::{INFO, WARNING},
};

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
    fn adopt(&self, socket: OwnedDescriptor, process: i32) -> PyResult<()> {
        let process = rustix::process::Pid::from_raw(process);
        let process = process.ok_or_else(|| PyValueError::new_err("a process has a number above 0"))?;
        Ok(self.0.adopt(socket.0, process)?)
    }

    /// Ends the program, and with it every worker that it has made; the next worker starts another one.
    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.0.stop());
    }
}

/// A pool of worker processes.
#[pyclass(frozen, name = "PoolEngine", module = "unisono._native")]
pub struct PoolEngine {
    shared: Py<SharedPool>,
    future: Py<PyType>,
}

#[pymethods]
impl PoolEngine {
    #[new]
    fn new(
        zygote: &Bound<'_, ZygoteHandle>,
        future: Py<PyType>,
        given: (OwnedDescriptor, OwnedDescriptor, Vec<OwnedDescriptor>),
        options: EngineOptions,
    ) -> PyResult<Self> {
        let EngineOptions { workers, method, tasks_per_worker, pending, per_key, read_only_views } = options;
        let options = PoolOptions { workers, method, tasks_per_worker, pending, per_key };
        let (settings, output, inherited) = given;
        let inherited = inherited.into_iter().map(|given| given.0).collect();
        let given = PoolDescriptors { settings: settings.0, output: output.0, inherited };
        let pool = Pool::new(options, zygote.get().0.clone(), given)?;
        let shared = SharedPool::new(pool, Buffers::read_only(read_only_views));
        Ok(Self { shared: Py::new(zygote.py(), shared)?, future })
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
        let (engine, shared) = (slf.get(), slf.get().shared());
        let terms = Terms { key: key_of(key, arguments, keywords)?, ..terms(py, timeout, retries)? };
        shared.wait_for_room(py)?;
        let future = engine.future.bind(py).call0()?;
        let core = future.cast::<FutureCore>()?;
        // What cannot be sent fails its own task, and no other.
        let prepared = shared.prepare(py, function).and_then(|function| {
            Ok((function, codec::encode_call(py, arguments, keywords)?.into_blob(py, shared.pool().arena())?))
        });
        match errors::blame(py, prepared)? {
            Ok((function, arguments)) => {
                let task = shared.send(py, function, arguments, terms)?;
                core.get().begin(engine.shared.clone_ref(py), task);
            }
            Err(error) => {
                shared.refuse_if_closed(py)?;
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
        let shared = slf.get().shared();
        shared.refuse_if_closed(py)?;
        let prepared = errors::blame(py, shared.prepare(py, function))?;
        Results::new(slf.get().shared.clone_ref(py), prepared, calls, ahead, (terms, key))
    }

    /// Drives while no waiting thread does; returns futures that are to be told, or `None` at the end.
    fn serve(&self, py: Python<'_>) -> Option<Vec<Py<PyAny>>> {
        let numbers = py.detach(|| self.shared().pool().serve())?;
        Some(self.shared().ended(&numbers))
    }

    /// Refuses what waits and what comes, for this reason.
    fn break_off(&self, py: Python<'_>, why: &str) {
        py.detach(|| self.shared().pool().break_off(why));
    }

    /// From now on what happens to workers is kept from this level of `logging` on; `None`: nothing.
    #[pyo3(signature = (level))]
    fn log_from(&self, py: Python<'_>, level: Option<u8>) {
        let least = level.map(|level| if level <= INFO { Importance::Usual } else { Importance::Warning });
        py.detach(|| self.shared().pool().keep_news(least));
    }

    /// What has happened since the last call: level, message, and what a record has beside them.
    fn events(&self, py: Python<'_>) -> Vec<(u8, String, RecordMembers)> {
        let news = py.detach(|| self.shared().pool().news());
        news.into_iter().map(record).collect()
    }

    /// No more tasks. Those that wait are cancelled if `cancel`, those that run are killed if `kill`.
    #[pyo3(signature = (*, cancel, kill))]
    fn close(&self, py: Python<'_>, cancel: bool, kill: bool) {
        if self.shared().is_ours() {
            py.detach(|| self.shared().pool().close(cancel, kill));
        }
    }

    /// Waits until nothing is left of a closed pool, or so many seconds; returns whether it is so.
    #[pyo3(signature = (seconds=None))]
    fn wait_closed(&self, py: Python<'_>, seconds: Option<f64>) -> PyResult<bool> {
        // In a child of the program there is nothing to wait for.
        if self.shared().is_ours() { wait(py, self.shared().pool(), seconds, Awaited::Over) } else { Ok(true) }
    }

    /// How the last worker ended that had worked and was not let go: its exit code or signal, and its last words.
    fn loss(&self, py: Python<'_>) -> Option<(Option<i32>, Option<i32>, String)> {
        let Loss { death, stderr_tail } = py.detach(|| self.shared().pool().loss())?;
        let (exit_code, signal) = exit_code_or_signal(death);
        Some((exit_code, signal, String::from_utf8_lossy(&stderr_tail).into_owned()))
    }

    /// Ends `serve`.
    fn stop(&self, py: Python<'_>) {
        if self.shared().is_ours() {
            py.detach(|| self.shared().pool().stop());
        }
    }

    /// How many workers there are.
    #[getter]
    fn workers(&self) -> usize {
        self.shared().pool().counts().0
    }

    /// How many tasks have no outcome yet.
    #[getter]
    fn open(&self) -> usize {
        self.shared().pool().counts().1
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.shared)?;
        visit.call(&self.future)
    }
}

impl PoolEngine {
    fn shared(&self) -> &SharedPool {
        self.shared.get()
    }
}

/// What a pool is like, as a `dict`.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct EngineOptions {
    workers: usize,
    method: u8,
    tasks_per_worker: Option<u64>,
    pending: Option<usize>,
    per_key: usize,
    read_only_views: bool,
}

/// What a record of a pool has beside its message, as a `dict`.
#[derive(IntoPyObject)]
struct RecordMembers {
    item: Option<String>,
    key: Option<String>,
    attempt: Option<u32>,
    task: Option<u64>,
    pid: Option<i32>,
    exit_code: Option<i32>,
    signal: Option<i32>,
}

fn record(news: PoolNews) -> (u8, String, RecordMembers) {
    let level = match news.importance {
        Importance::Usual => INFO,
        Importance::Warning => WARNING,
    };
    let (exit_code, signal) = news.death.map_or((None, None), exit_code_or_signal);
    let (task, pid) = (news.task, news.pid);
    let members = RecordMembers {
        item: task.as_ref().map(|task| task.name.clone()).filter(|name| !name.is_empty()),
        key: task.as_ref().and_then(|task| task.key.as_deref().map(str::to_owned)),
        attempt: task.as_ref().map(|task| task.attempt),
        task: task.map(|task| task.number),
        pid,
        exit_code,
        signal,
    };
    (level, news.text, members)
}

/// A descriptor that Python gives away.
struct OwnedDescriptor(OwnedFd);

impl<'py> FromPyObject<'_, 'py> for OwnedDescriptor {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let number: i32 = object.extract()?;
        Ok(Self(crate::ffi::owned(number)))
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
