//! What a limiter is: `unisono_batch::Limiter` behind a lock, its waiters, and the clock of its rates.
//!
//! The mutex is held for a few instructions and never while code of Python's may run. Where there is a rate, a thread
//! of ours keeps the time while anything waits (`Shared::keep_time`). It takes the mutex only with the interpreter's
//! lock, so that no fork comes while it has it.

use std::{
    num::NonZeroU32,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use pyo3::{PyTraverseError, PyVisit, exceptions::PyRuntimeError, intern, prelude::*, types::PyTuple};
use rustix::{fs::Timespec, thread::futex};
use unisono_batch::{Admitted, Limiter, Visit};
use unisono_core::{Limits, clock};

use crate::{
    forks,
    options::NewLimits,
    queue::wake::{Parker, refuse_on_loop, resolve, running_loop},
};

/// What bounds how many are inside at once and how often one enters.
#[pyclass(frozen, subclass, weakref, module = "unisono._native")]
pub struct LimiterCore {
    pub shared: Arc<Shared>,
}

/// What waiters, those that wake them and the clock have in common.
pub struct Shared {
    pub state: Mutex<State>,
    /// Counts up when the clock is to look again; it sleeps in this futex.
    notified: AtomicU32,
}

pub struct State {
    pub limiter: Limiter<Waiter>,
    /// As it was given; the limiter has a number for "no bound" as well.
    pub limit: Option<NonZeroU32>,
    clock: Clock,
    forks: u64,
}

/// The thread that keeps time.
#[derive(PartialEq, Eq)]
enum Clock {
    Stopped,
    /// It looks again then at the latest; `None` when only something that happens can let a waiter in.
    Runs(Option<Instant>),
}

/// How a caller is woken.
pub enum Waiter {
    /// A thread.
    Thread(Parker),
    /// A coroutine.
    Task {
        /// Where it runs.
        event_loop: Py<PyAny>,
        /// What it waits for.
        future: Py<PyAny>,
        /// Resolves the future, on its loop.
        notice: Py<Notice>,
    },
}

impl Waiter {
    /// Fails when the loop is closed.
    pub fn wake(&self, py: Python<'_>) -> PyResult<()> {
        match self {
            Self::Thread(parker) => {
                parker.unpark();
                Ok(())
            }
            Self::Task { event_loop, future, notice } => {
                let event_loop = event_loop.bind(py);
                if running_loop(py)?.is_some_and(|running| running.is(event_loop)) {
                    notice.get().deliver();
                    return resolve(future.bind(py));
                }
                event_loop.call_method1(intern!(py, "call_soon_threadsafe"), (notice,)).map(drop)
            }
        }
    }

    /// For the garbage collector.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Thread(_) => Ok(()),
            Self::Task { event_loop, future, notice } => {
                visit.call(event_loop)?;
                visit.call(future)?;
                visit.call(notice)
            }
        }
    }
}

/// Something that a loop is to call. When it is dropped instead, the place that it was about goes to the next one.
#[pyclass(frozen, module = "unisono._native")]
pub struct Notice {
    shared: Arc<Shared>,
    visit: Visit,
    /// What it resolves; `None` for one that follows a future and only sees that its loop goes on.
    future: Option<Py<PyAny>>,
    delivered: AtomicBool,
}

impl Notice {
    pub fn new(shared: &Arc<Shared>, visit: Visit, future: Option<Py<PyAny>>) -> Self {
        Self { shared: shared.clone(), visit, future, delivered: AtomicBool::new(false) }
    }

    fn deliver(&self) {
        self.delivered.store(true, Ordering::Relaxed);
    }
}

#[pymethods]
impl Notice {
    #[pyo3(signature = (*_future))]
    fn __call__(&self, py: Python<'_>, _future: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.deliver();
        self.future.as_ref().map_or(Ok(()), |future| resolve(future.bind(py)))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.future.as_ref().map_or(Ok(()), |future| visit.call(future))
    }
}

impl Drop for Notice {
    fn drop(&mut self) {
        if !self.delivered.load(Ordering::Relaxed) {
            quietly(|py| self.shared.give_up_unheard(py, self.visit));
        }
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
    pub fn new(limits: Limits, limit: Option<NonZeroU32>) -> Self {
        let state = State { limiter: Limiter::new(limits), limit, clock: Clock::Stopped, forks: forks::generation() };
        Self { state: Mutex::new(state), notified: AtomicU32::new(0) }
    }

    /// The state, without what a fork has left behind. With the interpreter's lock, so that no thread forks
    /// meanwhile.
    pub fn state(&self, _py: Python<'_>) -> MutexGuard<'_, State> {
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
            // Again, under the lock under which it is listed: a place that came since it asked would wake nothing.
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

    pub fn acquire(self: &Arc<Self>, py: Python<'_>, key: &str) -> PyResult<()> {
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
            if let Err(error) = parker.park(py, until, None) {
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

    pub fn release(self: &Arc<Self>, py: Python<'_>, key: &str) -> PyResult<()> {
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
    pub fn set_limits(self: &Arc<Self>, py: Python<'_>, new: &NewLimits) -> PyResult<()> {
        let admitted = {
            let mut state = self.state(py);
            let mut limits = state.limiter.limits();
            new.change(&mut limits);
            // First, since waiters would wait for good under a rate whose time is not kept.
            self.have_time_kept(&mut state, &limits).map_err(no_clock)?;
            let admitted = state.limiter.set_limits(clock::now(), limits);
            state.limit = new.limit().or(state.limit);
            self.tell_clock(&mut state);
            admitted
        };
        self.wake(py, admitted);
        Ok(())
    }

    /// Wakes the waiters that were admitted. A coroutine whose loop is closed cannot be: what it got goes to the next
    /// one.
    fn wake(self: &Arc<Self>, py: Python<'_>, admitted: Admitted<Waiter>) {
        for (visit, waiter) in admitted {
            if waiter.wake(py).is_err() {
                self.give_up_unheard(py, visit);
            }
        }
    }

    /// While anything waits and there is a rate, a clock runs.
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

    /// A waiter may be let in earlier than the clock thinks, or nothing waits any more.
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

    /// Admits those whose time has come. Ends a moment after nothing waits.
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

    /// One look of the clock: until when it sleeps, and whether nothing waits. `None` when it is to end.
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

/// For what happens as something is dropped: an exception that is under way there goes on.
pub fn quietly(call: impl FnOnce(Python<'_>)) {
    Python::try_attach(|py| {
        let under_way = PyErr::take(py);
        call(py);
        if let Some(error) = under_way {
            error.restore(py);
        }
    });
}

/// A loop that waits for its rate again and again does not start a thread for each time.
const LINGER: Duration = Duration::from_millis(100);
const A_MOMENT: Duration = Duration::from_millis(5);
