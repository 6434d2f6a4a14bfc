//! `unisono.Limiter`: the engine's limits without a batch, for threads and coroutines together.
//!
//! The state is `unisono_batch::Limiter`, behind a mutex that is held for a few instructions and never while code of
//! Python's may run. All methods are native, those of `with` included: an exception that comes between two steps of a
//! program (Ctrl-C, one that is set from another thread) finds a place either taken and inside a `with` that gives it
//! back, or not taken, as with a lock of the standard library.
//!
//! Threads sleep in a futex, coroutines in a future of their loop (`wait.rs`). Where there is a rate, a thread
//! of ours keeps the time while anybody waits (`Shared::keep_time`). It takes the mutex only with the interpreter's
//! lock, so that no fork comes while it has it.
//!
//! After a fork nobody waits in the child, and only who has entered by the thread that forked is inside.

pub mod wait;

use std::{
    num::NonZeroU32,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use pyo3::{
    PyTraverseError, PyVisit,
    exceptions::PyRuntimeError,
    prelude::*,
    types::{PyDict, PyTuple},
};
use rustix::{fs::Timespec, thread::futex};
use unisono_batch::{Admitted, Limiter, Visit};
use unisono_core::{Limits, Rate, clock};

use crate::{
    forks,
    limiter::wait::{PlaceWait, WaitResult, Waiter},
    options::{Keywords, NewLimits},
    queue::wake::{Parker, refuse_on_loop},
};

/// What bounds how many are inside at once and how often somebody enters.
#[pyclass(frozen, subclass, weakref, module = "unisono._native")]
pub struct LimiterCore {
    pub shared: Arc<Shared>,
}

/// A limiter, entered with a key.
#[pyclass(frozen, module = "unisono")]
pub struct Held {
    limiter: Py<LimiterCore>,
    key: String,
}

/// What those who wait, those who wake and the clock have in common.
pub struct Shared {
    state: Mutex<State>,
    /// Counts up when the clock is to look again; it sleeps in this futex.
    notified: AtomicU32,
}

struct State {
    limiter: Limiter<Waiter>,
    /// As it was given; the limiter has a number for "no bound" as well.
    limit: Option<NonZeroU32>,
    clock: Clock,
    forks: u64,
}

/// The thread that keeps time.
#[derive(PartialEq, Eq)]
enum Clock {
    Stopped,
    /// It looks again then at the latest; `None` when only something that happens can let somebody in.
    Runs(Option<Instant>),
}

#[pymethods]
impl LimiterCore {
    #[new]
    #[pyo3(signature = (limit=None, *, rate=None, per_key=None, per_key_rate=None))]
    fn new(
        py: Python<'_>,
        limit: Option<&Bound<'_, PyAny>>,
        rate: Option<&Bound<'_, PyAny>>,
        per_key: Option<&Bound<'_, PyAny>>,
        per_key_rate: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let given = PyDict::new(py);
        for (name, value) in [("limit", limit), ("rate", rate), ("per_key", per_key), ("per_key_rate", per_key_rate)] {
            given.set_item(name, value)?;
        }
        let keywords = Keywords::new(&given)?;
        let limit = keywords.whole::<NonZeroU32>("limit")?;
        let mut limits = Limits::new(Some(limit.unwrap_or(NonZeroU32::MAX)), keywords.whole("per_key")?);
        limits.rate = keywords.parsed("rate", str::parse::<Rate>)?;
        limits.per_key_rate = keywords.parsed("per_key_rate", str::parse::<Rate>)?;
        let state = State { limiter: Limiter::new(limits), limit, clock: Clock::Stopped, forks: forks::generation() };
        Ok(Self { shared: Arc::new(Shared { state: Mutex::new(state), notified: AtomicU32::new(0) }) })
    }

    /// What is entered by those that share a key.
    fn of(slf: Bound<'_, Self>, key: Key) -> Held {
        Held { key: key.0, limiter: slf.unbind() }
    }

    /// Waits until there is a place, and takes it.
    #[pyo3(signature = (key=Key::default()), text_signature = "($self, key='')")]
    fn acquire(&self, py: Python<'_>, key: Key) -> PyResult<()> {
        self.shared.acquire(py, &key.0)
    }

    /// As `acquire`, for coroutines.
    #[pyo3(signature = (key=Key::default()), text_signature = "($self, key='')")]
    fn aacquire(slf: Bound<'_, Self>, key: Key) -> PlaceWait {
        PlaceWait::new(slf.unbind(), key.0, WaitResult::Nothing)
    }

    /// Gives a place back.
    #[pyo3(signature = (key=Key::default()), text_signature = "($self, key='')")]
    fn release(&self, py: Python<'_>, key: Key) -> PyResult<()> {
        self.shared.release(py, &key.0)
    }

    /// How many are inside.
    #[getter]
    fn inside(&self, py: Python<'_>) -> u32 {
        self.shared.state(py).limiter.inside()
    }

    /// How many wait for a place.
    #[getter]
    fn waiting(&self, py: Python<'_>) -> usize {
        self.shared.state(py).limiter.waiting()
    }

    /// Most inside at once, which may be changed at any time; `None` for no bound.
    #[getter]
    fn limit(&self, py: Python<'_>) -> Option<NonZeroU32> {
        self.shared.state(py).limit
    }

    #[setter]
    fn set_limit(&self, py: Python<'_>, limit: &Bound<'_, PyAny>) -> PyResult<()> {
        // `None` is no number, and is refused as one.
        self.shared.set_limits(py, &NewLimits::new(Some(limit), ("per_key", None), None, ("per_key_rate", None))?)
    }

    /// Changes bounds; they hold from then on. A rate of `"none"` takes it away. Who is inside stays.
    #[pyo3(signature = (*, limit=None, per_key=None, rate=None, per_key_rate=None))]
    fn set_limits(
        &self,
        py: Python<'_>,
        limit: Option<&Bound<'_, PyAny>>,
        per_key: Option<&Bound<'_, PyAny>>,
        rate: Option<&Bound<'_, PyAny>>,
        per_key_rate: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let new = NewLimits::new(limit, ("per_key", per_key), rate, ("per_key_rate", per_key_rate))?;
        self.shared.set_limits(py, &new)
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        slf.get().shared.acquire(slf.py(), "")?;
        Ok(slf)
    }

    #[pyo3(signature = (*_raised))]
    fn __exit__(&self, py: Python<'_>, _raised: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.shared.release(py, "")
    }

    fn __aenter__(slf: Bound<'_, Self>) -> PlaceWait {
        PlaceWait::new(slf.unbind(), String::new(), WaitResult::Limiter)
    }

    /// The place is given back at once, not when this is awaited.
    #[pyo3(signature = (*_raised))]
    fn __aexit__(slf: Bound<'_, Self>, _raised: &Bound<'_, PyTuple>) -> PyResult<PlaceWait> {
        slf.get().shared.release(slf.py(), "")?;
        Ok(PlaceWait::ended(slf.unbind()))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let name = slf.get_type().qualname()?;
        let state = slf.get().shared.state(slf.py());
        let (limits, limiter) = (state.limiter.limits(), &state.limiter);
        let mut text = format!("<{name}");
        if let Some(limit) = state.limit {
            text += &format!(" limit={limit}");
        }
        if limits.per_key != limits.limit {
            text += &format!(" per_key={}", limits.per_key);
        }
        for (name, rate) in [("rate", limits.rate), ("per_key_rate", limits.per_key_rate)] {
            if let Some(rate) = rate {
                text += &format!(" {name}={rate}");
            }
        }
        Ok(format!("{text} inside={} waiting={}>", limiter.inside(), limiter.waiting()))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // The collector runs between instructions of Python's, where nobody holds the lock.
        let Ok(state) = self.shared.state.try_lock() else { return Ok(()) };
        state.limiter.wakes().try_for_each(|waiter| waiter.traverse(&visit))
    }
}

#[pymethods]
impl Held {
    fn __enter__(&self, py: Python<'_>) -> PyResult<Py<LimiterCore>> {
        self.limiter.get().shared.acquire(py, &self.key)?;
        Ok(self.limiter.clone_ref(py))
    }

    #[pyo3(signature = (*_raised))]
    fn __exit__(&self, py: Python<'_>, _raised: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.limiter.get().shared.release(py, &self.key)
    }

    fn __aenter__(&self, py: Python<'_>) -> PlaceWait {
        PlaceWait::new(self.limiter.clone_ref(py), self.key.clone(), WaitResult::Limiter)
    }

    /// The place is given back at once, not when this is awaited.
    #[pyo3(signature = (*_raised))]
    fn __aexit__(&self, py: Python<'_>, _raised: &Bound<'_, PyTuple>) -> PyResult<PlaceWait> {
        self.limiter.get().shared.release(py, &self.key)?;
        Ok(PlaceWait::ended(self.limiter.clone_ref(py)))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("{}.of({})", self.limiter.bind(py).repr()?, pyo3::types::PyString::new(py, &self.key).repr()?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.limiter)
    }
}

/// The end of the program: the clocks stop, and none of them is on its way to the interpreter.
#[pyfunction]
pub fn stop_clocks(py: Python<'_>) {
    ENDS.store(true, Ordering::SeqCst);
    py.detach(|| {
        while forks::ATTACHING.load(Ordering::SeqCst) > 0 {
            thread::sleep(Duration::from_millis(1));
        }
    });
}

static ENDS: AtomicBool = AtomicBool::new(false);

impl Shared {
    /// The state, without those whom a fork has left behind. With the interpreter's lock, so that nobody forks
    /// meanwhile.
    fn state(&self, _py: Python<'_>) -> MutexGuard<'_, State> {
        let lock = || self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = lock();
        if state.forks != forks::generation() {
            state.forks = forks::generation();
            // The thread of the clock is in the parent.
            state.clock = Clock::Stopped;
            let forgotten = state.limiter.keep_only(clock::now(), forks::forker());
            drop(state);
            drop(forgotten);
            state = lock();
        }
        state
    }

    /// Gets in line. True when the caller is inside already.
    pub fn ask(self: &Arc<Self>, py: Python<'_>, key: &str) -> (Visit, bool) {
        let (visit, is_inside, admitted) = {
            let mut state = self.state(py);
            let (visit, admitted) = state.limiter.ask(clock::now(), key);
            let is_inside = state.limiter.enter(visit, thread::current().id());
            (visit, is_inside, admitted)
        };
        self.wake(py, admitted);
        (visit, is_inside)
    }

    /// How a caller that has asked is woken. True when they wait now, false when they are inside.
    ///
    /// On an error they have left the line.
    pub fn wait(self: &Arc<Self>, py: Python<'_>, visit: Visit, waiter: Waiter) -> PyResult<bool> {
        // Handed back by the line, a waiter is dropped after the lock is.
        let (_unused, waits) = {
            let mut state = self.state(py);
            if state.limiter.enter(visit, thread::current().id()) {
                (Some(waiter), Ok(false))
            } else {
                let unused = state.limiter.wait(visit, waiter).err();
                let limits = state.limiter.limits();
                (unused, self.have_time_kept(&mut state, &limits).map(|()| true))
            }
        };
        waits.map_err(|error| {
            self.give_up(py, visit);
            no_clock(error)
        })
    }

    /// A caller that was woken goes in.
    pub fn enter(&self, py: Python<'_>, visit: Visit) -> bool {
        self.state(py).limiter.enter(visit, thread::current().id())
    }

    /// A caller does not want to go in any more: what they may have been given goes to the next one.
    pub fn give_up(self: &Arc<Self>, py: Python<'_>, visit: Visit) {
        let (_waiter, admitted) = {
            let mut state = self.state(py);
            let withdrawn = state.limiter.withdraw(clock::now(), visit);
            self.tell_clock(&mut state);
            withdrawn
        };
        self.wake(py, admitted);
    }

    /// A caller will not hear that they were admitted, if they were.
    pub fn give_up_unheard(self: &Arc<Self>, py: Python<'_>, visit: Visit) {
        let admitted = {
            let mut state = self.state(py);
            let admitted = state.limiter.withdraw_admitted(clock::now(), visit);
            self.tell_clock(&mut state);
            admitted
        };
        self.wake(py, admitted);
    }

    fn acquire(self: &Arc<Self>, py: Python<'_>, key: &str) -> PyResult<()> {
        let (visit, is_inside) = self.ask(py, key);
        if is_inside {
            return Ok(());
        }
        let instead = if key.is_empty() { "async with limiter" } else { "async with limiter.of(key)" };
        if let Err(error) = refuse_on_loop(py, "a plain `with` or acquire()", instead) {
            self.give_up(py, visit);
            return Err(error);
        }
        let parker = Parker::default();
        if !self.wait(py, visit, Waiter::Thread(parker.clone()))? {
            return Ok(());
        }
        loop {
            // At the end of the program there is no clock.
            let until = ENDS.load(Ordering::SeqCst).then(|| clock::now() + A_MOMENT);
            if let Err(error) = parker.park(py, until) {
                self.give_up(py, visit);
                return Err(error);
            }
            if self.enter(py, visit) {
                return Ok(());
            }
            let admitted = self.state(py).limiter.admit(clock::now());
            self.wake(py, admitted);
        }
    }

    fn release(self: &Arc<Self>, py: Python<'_>, key: &str) -> PyResult<()> {
        let left = {
            let mut state = self.state(py);
            let left = state.limiter.leave(clock::now(), key, thread::current().id());
            self.tell_clock(&mut state);
            left
        };
        let Some(admitted) = left else {
            let whose = if key.is_empty() { "the limiter".to_owned() } else { format!("with the key `{key}`") };
            return Err(PyRuntimeError::new_err(format!("nobody is inside {whose}")));
        };
        self.wake(py, admitted);
        Ok(())
    }

    /// On an error nothing has changed.
    fn set_limits(self: &Arc<Self>, py: Python<'_>, new: &NewLimits) -> PyResult<()> {
        let admitted = {
            let mut state = self.state(py);
            let mut limits = state.limiter.limits();
            new.change(&mut limits);
            // First, since those who wait would wait for good under a rate whose time nobody keeps.
            self.have_time_kept(&mut state, &limits).map_err(no_clock)?;
            let admitted = state.limiter.set_limits(clock::now(), limits);
            state.limit = new.limit().or(state.limit);
            self.tell_clock(&mut state);
            admitted
        };
        self.wake(py, admitted);
        Ok(())
    }

    /// Wakes those who were admitted. A coroutine whose loop is closed cannot be: what it got goes to the next one.
    fn wake(self: &Arc<Self>, py: Python<'_>, admitted: Admitted<Waiter>) {
        for (visit, waiter) in admitted {
            if waiter.wake(py).is_err() {
                self.give_up_unheard(py, visit);
            }
        }
    }

    /// While somebody waits and there is a rate, a clock runs.
    fn have_time_kept(self: &Arc<Self>, state: &mut State, limits: &Limits) -> std::io::Result<()> {
        let has_rate = limits.rate.is_some() || limits.per_key_rate.is_some();
        if !has_rate || state.limiter.waiting() == 0 || ENDS.load(Ordering::SeqCst) {
            return Ok(());
        }
        if state.clock == Clock::Stopped {
            let (shared, forks) = (self.clone(), state.forks);
            thread::Builder::new().name("unisono-limiter".into()).spawn(move || shared.keep_time(forks))?;
            state.clock = Clock::Runs(Some(clock::now()));
        }
        self.tell_clock(state);
        Ok(())
    }

    /// Somebody may be let in earlier than the clock thinks, or nobody waits any more.
    fn tell_clock(&self, state: &mut State) {
        let Clock::Runs(next) = state.clock else { return };
        if state.limiter.waiting() == 0 {
            return;
        }
        let until = state.limiter.until(clock::now());
        if until.is_some_and(|until| next.is_none_or(|next| until < next)) {
            // Only the first to see it rings.
            state.clock = Clock::Runs(until);
            self.notified.fetch_add(1, Ordering::Release);
            let _ = futex::wake(&self.notified, futex::Flags::PRIVATE, 1);
        }
    }

    /// Admits those whose time has come. Ends a moment after nobody waits.
    fn keep_time(self: Arc<Self>, forks: u64) {
        let mut was_idle = false;
        loop {
            // Before the look: what rings after it is not slept over.
            let notified = self.notified.load(Ordering::Acquire);
            let Some((next, is_idle)) = attached(|py| self.tick(py, forks, was_idle)).flatten() else { return };
            was_idle = is_idle;
            let left = next.map(|next| next.saturating_duration_since(clock::now()));
            let left = if is_idle { Some(LINGER) } else { left };
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            // A signal or a word that has changed: there is something to look at.
            let _ = futex::wait(&self.notified, futex::Flags::PRIVATE, notified, timeout.as_ref());
        }
    }

    /// One look of the clock: until when it sleeps, and whether nobody waits. `None` when it is to end.
    fn tick(self: &Arc<Self>, py: Python<'_>, forks: u64, was_idle: bool) -> Option<(Option<Instant>, bool)> {
        let (admitted, next) = {
            let mut state = self.state(py);
            let is_over = state.limiter.waiting() == 0 && (was_idle || Arc::strong_count(self) == 1);
            if is_over || state.forks != forks {
                state.clock = Clock::Stopped;
                return None;
            }
            let now = clock::now();
            let admitted = state.limiter.admit(now);
            let is_idle = state.limiter.waiting() == 0;
            let until = if is_idle { None } else { state.limiter.until(now) };
            state.clock = Clock::Runs(until);
            (admitted, (until, is_idle))
        };
        self.wake(py, admitted);
        Some(next)
    }
}

fn no_clock(error: std::io::Error) -> PyErr {
    PyRuntimeError::new_err(format!("the limiter cannot have a thread that keeps the time of its rate: {error}"))
}

/// Calls with the interpreter's lock; `None` at the end of the program.
fn attached<T>(call: impl FnOnce(Python<'_>) -> T) -> Option<T> {
    forks::ATTACHING.fetch_add(1, Ordering::SeqCst);
    let called = if ENDS.load(Ordering::SeqCst) { None } else { Python::try_attach(call) };
    forks::ATTACHING.fetch_sub(1, Ordering::SeqCst);
    called
}

/// What shares bounds of its own: anything, known by its text.
#[derive(Default)]
struct Key(String);

impl<'py> FromPyObject<'_, 'py> for Key {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        Ok(Self(object.str()?.to_string_lossy().into_owned()))
    }
}

/// A loop that waits for its rate again and again does not start a thread for each time.
const LINGER: Duration = Duration::from_millis(100);
const A_MOMENT: Duration = Duration::from_millis(5);
