//! The watchdog as Python starts and stops it.

use std::{
    mem::ManuallyDrop,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use pyo3::{exceptions::PyRuntimeError, prelude::*, types::PyCode};
use unisono_watch::{
    event::ThreadName,
    folder,
    interpreter::{Interpreter, Thread},
    memory::OwnMemory,
    origin::Origin,
    samples::LoopCode,
    server::Server,
    thread_activity::ThreadActivity,
    versions::layout_of,
    view::View,
    watchdog::{Settings, Watchdog},
    watched_loop::{LoopRun, WatchedLoop},
};

use super::{
    output::{Output, Records},
    ping::LoopPing,
};
use crate::{ffi, forks};

/// One frame as the interpreter's memory shows it: file, function, line.
type SeenFrame = (String, String, Option<u32>);
/// What is seen of the thread that asks: its stack, whether it has the lock, whether garbage is collected.
type Seen = (Vec<SeenFrame>, bool, bool);

/// The watchdog of this process. It ends with [`WatchdogThread::stop`], or with the object.
#[pyclass(frozen, module = "unisono._native")]
pub struct WatchdogThread {
    watchdog: Mutex<Option<ManuallyDrop<Watchdog>>>,
    server: Mutex<Option<ManuallyDrop<Server>>>,
    /// For the server.
    origin: Origin,
    sees_lines: bool,
    records: Records,
    home: forks::HomeProcess,
}

#[pymethods]
impl WatchdogThread {
    /// Starts it. `stall` is in seconds; `file` a descriptor that is given away, or standard error where there is none;
    /// code below `libraries` is not the program's own; `loops` and `handle` are what runs callbacks. Where
    /// `sees_lines` is false, the interpreter's memory is not looked at.
    #[new]
    #[pyo3(signature = (*, stall, file, json, libraries, loops, handle, sees_lines))]
    #[expect(clippy::too_many_arguments, reason = "each is named where it is called")]
    fn new(
        py: Python<'_>,
        stall: f64,
        file: Option<i32>,
        json: bool,
        libraries: Vec<String>,
        loops: Vec<Bound<'_, PyCode>>,
        handle: &Bound<'_, PyCode>,
        sees_lines: bool,
    ) -> PyResult<Self> {
        let origin = Origin::new(libraries);
        let seen_from = origin.clone();
        let records = Records::default();
        let output =
            Output { file: file.map(ffi::owned), is_json: json, origin: origin.clone(), records: records.clone() };
        let settings = Settings {
            stall: Duration::from_secs_f64(stall),
            interpreter: if sees_lines { interpreter(py).ok() } else { None },
            loop_code: LoopCode {
                loops: loops.iter().map(|code| code.as_ptr().addr() as u64).collect(),
                handle: handle.as_ptr().addr() as u64,
            },
            origin,
            tell: Box::new(move |event| output.tell(&event)),
        };
        let watchdog = Watchdog::start(settings)?;
        Ok(Self {
            watchdog: Mutex::new(Some(ManuallyDrop::new(watchdog))),
            server: Mutex::new(None),
            origin: seen_from,
            sees_lines,
            records,
            home: forks::HomeProcess::new(),
        })
    }

    /// Says where this process stands to programs of the same user, by a socket in the folder of `runtime`
    /// (`$XDG_RUNTIME_DIR`), or of `/tmp`. Returns the socket's path.
    fn serve(&self, py: Python<'_>, runtime: Option<PathBuf>) -> PyResult<PathBuf> {
        let view = View {
            census: self.with(Watchdog::census)?,
            interpreter: if self.sees_lines { interpreter(py).ok() } else { None },
            origin: self.origin.clone(),
            python: Python::version_str().split_whitespace().next().unwrap_or_default().to_owned(),
        };
        let folder = folder::of_user(runtime.as_deref(), rustix::process::geteuid().as_raw());
        let respond = move |question| {
            serde_json::to_string(&view.answer(question)).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
        };
        let server = Server::start(&folder, Box::new(respond))?;
        let path = server.path().to_owned();
        *self.server() = Some(ManuallyDrop::new(server));
        Ok(path)
    }

    /// Watches a loop; `log` is called on its thread with what was told.
    fn add(&self, log: Py<PyAny>) -> PyResult<LoopPing> {
        let watched = Arc::new(WatchedLoop::new()?);
        self.with(|watchdog| watchdog.add(&watched))?;
        Ok(LoopPing::new(watched, self.records.clone(), log))
    }

    /// The loop runs from now on, in this thread, which the program calls `name`; where it runs already
    /// (`is_under_way`), its end is found by its stack.
    fn begin(&self, py: Python<'_>, ping: &LoopPing, name: String, is_under_way: bool) -> PyResult<()> {
        let id = thread_id();
        let thread = Thread(ffi::addresses(py).thread);
        let base = if is_under_way { interpreter(py).ok().and_then(|within| within.base(thread)) } else { None };
        let run = LoopRun { thread, base, name: ThreadName { name, id }, activity: ThreadActivity::of(id)? };
        ping.watched().begin(run);
        self.with(Watchdog::wake)
    }

    /// The loop runs no more.
    fn end(&self, ping: &LoopPing) {
        ping.watched().end();
    }

    /// How often it woke, how often it has asked a loop, and how many stalls there were.
    fn counts(&self) -> PyResult<(u64, u64, u64)> {
        let counts = self.with(Watchdog::census)?.counts();
        Ok((counts.wakes, counts.pings, counts.stalls))
    }

    /// Ends it and waits for that.
    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.end_threads());
    }

    /// What is seen of the thread that asks, as the watchdog would see it; an error says why nothing can be.
    #[staticmethod]
    fn seen(py: Python<'_>) -> PyResult<Seen> {
        let interpreter = interpreter(py)?;
        let thread = Thread(ffi::addresses(py).thread);
        let stack = interpreter.stack(thread).unwrap_or_default();
        let frames = stack.iter().filter_map(|frame| interpreter.named(frame));
        let has_lock = interpreter.lock_holder() == unisono_watch::interpreter::LockHolder::Thread(thread);
        let frames = frames.map(|frame| (frame.file, frame.function, frame.line)).collect();
        Ok((frames, has_lock, interpreter.is_collecting()))
    }
}

impl WatchdogThread {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<ManuallyDrop<Watchdog>>> {
        self.watchdog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn server(&self) -> std::sync::MutexGuard<'_, Option<ManuallyDrop<Server>>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In a fork there are none to wait for, and the socket is the parent's.
    fn end_threads(&self) {
        let (server, watchdog) = (self.server().take(), self.lock().take());
        if self.home.is_here() {
            drop(server.map(ManuallyDrop::into_inner));
            drop(watchdog.map(ManuallyDrop::into_inner));
        }
    }

    fn with<T>(&self, call: impl FnOnce(&Watchdog) -> T) -> PyResult<T> {
        self.home.check()?;
        self.lock().as_ref().map(|watchdog| call(watchdog)).ok_or_else(|| PyRuntimeError::new_err("nothing is watched"))
    }
}

impl Drop for WatchdogThread {
    fn drop(&mut self) {
        self.end_threads();
    }
}

fn interpreter(py: Python<'_>) -> PyResult<Interpreter<OwnMemory>> {
    let addresses = ffi::addresses(py);
    let hex = py.import("sys")?.getattr("hexversion")?.extract()?;
    let layout = layout_of(hex, addresses.runtime, &OwnMemory)
        .map_err(|unknown| PyRuntimeError::new_err(unknown.to_string()))?;
    Ok(Interpreter::new(OwnMemory, layout, addresses.runtime, addresses.state, addresses.code_type))
}

fn thread_id() -> u64 {
    rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs().into()
}
