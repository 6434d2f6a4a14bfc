//! `unisono.Queue`, the part that is hot: put, get, and who is woken.
//!
//! The line is behind a mutex that is held for a few instructions and never while code of Python's may run: not while
//! somebody is woken, not while a value is dropped. So a put from a destructor or from a signal's handler is fine, and
//! nothing here relies on the interpreter's lock. (Under that lock the mutex is never contended.)
//!
//! After a fork the child has the items, and not those who waited: they are threads of the parent.
//!
//! What is built of these calls alone (`aget_many`, the documentation) is in `python/unisono/queue.py`.

pub mod line;
pub mod loop_wakes;
pub mod wait;
pub mod wake;

use std::{
    mem,
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use pyo3::{
    PyTraverseError, PyVisit,
    exceptions::{PyStopIteration, PyTimeoutError, PyValueError},
    prelude::*,
    types::PyList,
};

use crate::{
    errors::class,
    forks, numbers,
    queue::line::{Line, Refusal, Served, Withdrawn},
    queue::loop_wakes::LoopWakes,
    queue::wait::{QueueWait, Wish},
    queue::wake::{Parker, Wake, refuse_on_loop, resolve},
};

pub type Item = Py<PyAny>;

/// What is behind the lock.
pub struct State {
    pub line: Line<Item, Wake>,
    /// Futures of coroutines that were served from another thread, until their loop comes round to them.
    pub loop_wakes: Vec<LoopWakes>,
    forks: u64,
}

/// A queue between threads and coroutines.
#[pyclass(frozen, subclass, weakref, module = "unisono._native")]
pub struct QueueCore {
    state: Mutex<State>,
    maxsize: isize,
}

#[pymethods]
impl QueueCore {
    #[new]
    #[pyo3(signature = (maxsize=Maxsize(0)), text_signature = "(maxsize=0)")]
    fn new(maxsize: Maxsize) -> Self {
        let Maxsize(maxsize) = maxsize;
        let room = usize::try_from(maxsize).ok().filter(|room| *room > 0).unwrap_or(usize::MAX);
        let state = State { line: Line::new(room), loop_wakes: Vec::new(), forks: forks::generation() };
        Self { state: Mutex::new(state), maxsize }
    }

    /// How many items it holds at most; 0 or less for no bound.
    #[getter]
    fn maxsize(&self) -> isize {
        self.maxsize
    }

    /// Whether `close` was called.
    #[getter]
    fn closed(&self) -> bool {
        self.state().line.is_closed()
    }

    /// How many items were put and are not done yet.
    #[getter]
    fn unfinished_tasks(&self) -> usize {
        self.state().line.unfinished()
    }

    /// How many items are in it.
    fn qsize(&self) -> usize {
        self.state().line.len()
    }

    fn __len__(&self) -> usize {
        self.qsize()
    }

    /// A queue is true even when it is empty, so that `queue or Queue()` does not throw one away.
    fn __bool__(&self) -> bool {
        true
    }

    /// Whether nothing is in it.
    fn empty(&self) -> bool {
        self.qsize() == 0
    }

    /// Whether there is no room.
    fn full(&self) -> bool {
        self.state().line.is_full()
    }

    /// How many wait for an item, for room, and until all is done.
    fn waiting(&self) -> (usize, usize, usize) {
        self.state().line.waiting()
    }

    /// Puts an item, or raises `QueueFull` or `QueueClosed` at once.
    fn put_nowait(slf: &Bound<'_, Self>, item: Item) -> PyResult<()> {
        slf.get().try_put(slf, item)?.map_err(|_item| error(slf.py(), "QueueFull", "the queue is full"))
    }

    /// Takes the first item, or raises `QueueEmpty` or `QueueClosed` at once.
    fn get_nowait(slf: &Bound<'_, Self>) -> PyResult<Item> {
        slf.get().try_get(slf)?.ok_or_else(|| error(slf.py(), "QueueEmpty", "the queue is empty"))
    }

    /// Puts an item; waits for room.
    #[pyo3(signature = (item, block=true, timeout=None))]
    fn put(slf: &Bound<'_, Self>, item: Item, block: bool, timeout: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let Err(item) = slf.get().try_put(slf, item)? else { return Ok(()) };
        if !block {
            return Err(error(slf.py(), "QueueFull", "the queue is full"));
        }
        refuse_on_loop(slf.py(), "put()", "await queue.aput(item)")?;
        slf.get().put_waiting(slf, item, Limit::of(timeout.as_ref())?)
    }

    /// Takes the first item; waits for one.
    #[pyo3(signature = (block=true, timeout=None))]
    fn get(slf: &Bound<'_, Self>, block: bool, timeout: Option<Bound<'_, PyAny>>) -> PyResult<Item> {
        if let Some(item) = slf.get().try_get(slf)? {
            return Ok(item);
        }
        if !block {
            return Err(error(slf.py(), "QueueEmpty", "the queue is empty"));
        }
        let limit = Limit::of(timeout.as_ref())?;
        refuse_on_loop(slf.py(), "get()", "await queue.aget()")?;
        slf.get().get_waiting(slf, limit)?.ok_or_else(|| error(slf.py(), "QueueEmpty", "no item came in time"))
    }

    /// Takes 1 to `count` items: waits for the first as `get` does, and then up to `max_wait` seconds for more.
    #[pyo3(signature = (count, *, max_wait=None, timeout=None), text_signature = "($self, count, *, max_wait=0.0, timeout=None)")]
    fn get_many<'py>(
        slf: &Bound<'py, Self>,
        count: &Bound<'py, PyAny>,
        max_wait: Option<&Bound<'py, PyAny>>,
        timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyList>> {
        let count = numbers::whole_within("count", count, 1, isize::MAX as i128)? as usize;
        let max_wait = max_wait.map(|wait| numbers::wait("max_wait", wait)).transpose()?.unwrap_or_default();
        let instead = "await queue.aget_many(count)";
        let first = match slf.get().try_get(slf)? {
            Some(item) => item,
            None => {
                let limit = Limit::of(timeout.as_ref())?;
                refuse_on_loop(slf.py(), "get_many()", instead)?;
                let item = slf.get().get_waiting(slf, limit)?;
                item.ok_or_else(|| error(slf.py(), "QueueEmpty", "no item came in time"))?
            }
        };
        let mut items = vec![first];
        let limit = Limit::after(max_wait);
        loop {
            slf.get().take_many(slf, count - items.len(), &mut items);
            if items.len() == count || limit.is_over() {
                break;
            }
            // A closed queue keeps nobody waiting.
            let refused = if slf.get().closed() { Ok(()) } else { refuse_on_loop(slf.py(), "get_many()", instead) };
            match refused.and_then(|()| slf.get().get_waiting(slf, limit)) {
                Ok(Some(item)) => items.push(item),
                Ok(None) => break,
                Err(error) if is_closed(slf.py(), &error) => break,
                Err(error) => {
                    slf.get().give_back_front(slf, items);
                    return Err(error);
                }
            }
        }
        PyList::new(slf.py(), items)
    }

    /// Takes up to `count` items that are there.
    fn _take(slf: &Bound<'_, Self>, count: usize) -> Vec<Item> {
        let mut items = Vec::new();
        slf.get().take_many(slf, count, &mut items);
        items
    }

    /// Items that were taken go back to the front, in their order.
    fn _give_back(slf: &Bound<'_, Self>, items: Vec<Item>) {
        slf.get().give_back_front(slf, items);
    }

    /// Puts an item without a bound; whether somebody waited for it.
    fn _offer(slf: &Bound<'_, Self>, item: Item) -> PyResult<bool> {
        let put = slf.get().state().line.put(item);
        let wakes = put.map_err(|(_, _item)| error(slf.py(), "QueueClosed", "the queue is closed"))?;
        let is_awaited = !wakes.is_empty();
        slf.get().wake(slf, wakes);
        Ok(is_awaited)
    }

    /// Puts an item; a coroutine.
    fn aput(slf: Bound<'_, Self>, item: Item) -> QueueWait {
        QueueWait::new(slf.unbind(), Wish::Put(item))
    }

    /// Takes the first item; a coroutine.
    fn aget(slf: Bound<'_, Self>) -> QueueWait {
        QueueWait::new(slf.unbind(), Wish::Get)
    }

    /// `count` items that were taken are done.
    #[pyo3(signature = (count=None), text_signature = "($self, count=1)")]
    fn task_done(slf: &Bound<'_, Self>, count: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let count = count.map(|count| numbers::whole("count", count)).transpose()?.unwrap_or(1);
        let done = slf.get().state().line.done(count);
        let wakes = done.ok_or_else(|| PyValueError::new_err("task_done() called too many times"))?;
        slf.get().wake(slf, wakes);
        Ok(())
    }

    /// Waits until everything that was put is done.
    #[pyo3(signature = (timeout=None))]
    fn join(slf: &Bound<'_, Self>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let limit = Limit::of(timeout)?;
        let parker = Parker::default();
        let ticket = {
            let mut state = slf.get().state();
            if state.line.unfinished() == 0 {
                return Ok(());
            }
            drop(state);
            refuse_on_loop(slf.py(), "join()", "await queue.ajoin()")?;
            state = slf.get().state();
            if state.line.unfinished() == 0 {
                return Ok(());
            }
            state.line.park_joiner(Wake::Thread(parker.clone()))
        };
        let slept = parker.park(slf.py(), limit.0);
        match (slf.get().withdraw(ticket), slept) {
            (_, Err(error)) => Err(error),
            (Withdrawn::Served(_), Ok(())) => Ok(()),
            (_, Ok(())) => {
                Err(PyTimeoutError::new_err(format!("{} items are not done yet", Self::unfinished_tasks(slf.get()))))
            }
        }
    }

    /// Waits until everything that was put is done; a coroutine.
    fn ajoin(slf: Bound<'_, Self>) -> QueueWait {
        QueueWait::new(slf.unbind(), Wish::Join)
    }

    /// Nothing can be put any more; consumers drain what is in it, and end.
    #[pyo3(signature = (immediate=false))]
    fn close(slf: &Bound<'_, Self>, immediate: bool) {
        let (_dropped, wakes) = slf.get().state().line.close(immediate);
        slf.get().wake(slf, wakes);
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(slf: &Bound<'_, Self>) -> PyResult<Item> {
        let got = slf.get().try_get(slf).and_then(|item| match item {
            Some(item) => Ok(item),
            None => {
                refuse_on_loop(slf.py(), "a plain `for`", "async for")?;
                let item = slf.get().get_waiting(slf, Limit(None))?;
                Ok(item.expect("who waits without limit ends with an item or an error"))
            }
        });
        got.map_err(|error| if is_closed(slf.py(), &error) { PyStopIteration::new_err(()) } else { error })
    }

    fn __aiter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __anext__(slf: Bound<'_, Self>) -> QueueWait {
        QueueWait::new(slf.unbind(), Wish::Next)
    }

    /// Called by an event loop: its coroutines were served.
    fn _deliver(slf: &Bound<'_, Self>, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        for (_, future) in slf.get().take_loop_wakes(event_loop) {
            resolve(future.bind(slf.py()))?;
        }
        Ok(())
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let name = slf.get_type().qualname()?;
        let (length, is_closed) = {
            let state = slf.get().state();
            (state.line.len(), state.line.is_closed())
        };
        let closed = if is_closed { " closed" } else { "" };
        Ok(format!("<{name} items={length} maxsize={}{closed}>", slf.get().maxsize))
    }

    #[classmethod]
    fn __class_getitem__<'py>(
        cls: &Bound<'py, pyo3::types::PyType>,
        item: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        cls.py().import("types")?.getattr("GenericAlias")?.call1((cls, item))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // The collector runs between instructions of Python's, where nobody holds the lock.
        let Ok(state) = self.state.try_lock() else { return Ok(()) };
        let (items, wakes) = state.line.held();
        for item in items {
            visit.call(item)?;
        }
        for wake in wakes {
            wake.traverse(&visit)?;
        }
        for wakes in &state.loop_wakes {
            visit.call(&wakes.event_loop)?;
            for (_, future) in &wakes.futures {
                visit.call(future)?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        let _dropped = {
            let mut state = self.state();
            (state.line.clear(), mem::take(&mut state.loop_wakes))
        };
    }
}

impl QueueCore {
    /// The line, without those whom a fork has left behind.
    pub fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().expect("nothing panics while it holds the lock");
        let forks = forks::generation();
        if state.forks != forks {
            state.forks = forks;
            let forgotten = (state.line.forget_waiters(), mem::take(&mut state.loop_wakes));
            drop(state);
            drop(forgotten);
            state = self.state.lock().expect("nothing panics while it holds the lock");
        }
        state
    }

    /// Puts the item, or hands it back when there is no room.
    pub fn try_put(&self, slf: &Bound<'_, Self>, item: Item) -> PyResult<Result<(), Item>> {
        let put = self.state().line.put(item);
        match put {
            Ok(wakes) => {
                self.wake(slf, wakes);
                Ok(Ok(()))
            }
            Err((Refusal::Wait, item)) => Ok(Err(item)),
            Err((Refusal::Closed, _item)) => Err(closed(slf.py())),
        }
    }

    /// Takes an item, if there is one.
    pub fn try_get(&self, slf: &Bound<'_, Self>) -> PyResult<Option<Item>> {
        let taken = self.state().line.take();
        match taken {
            Ok((item, wakes)) => {
                self.wake(slf, wakes);
                Ok(Some(item))
            }
            Err(Refusal::Wait) => Ok(None),
            Err(Refusal::Closed) => Err(closed(slf.py())),
        }
    }

    /// Puts an item from a thread that may wait.
    fn put_waiting(&self, slf: &Bound<'_, Self>, item: Item, limit: Limit) -> PyResult<()> {
        let parker = Parker::default();
        let wake = Wake::Thread(parker.clone());
        let attempt = {
            let mut state = self.state();
            match state.line.put(item) {
                Ok(wakes) => Ok(wakes),
                Err((Refusal::Wait, item)) => Err(Ok(state.line.park_putter(wake, Some(item)))),
                Err((Refusal::Closed, item)) => Err(Err(item)),
            }
        };
        let ticket = match attempt {
            Ok(wakes) => {
                self.wake(slf, wakes);
                return Ok(());
            }
            Err(ticket) => ticket.map_err(|_item| closed(slf.py()))?,
        };
        let slept = parker.park(slf.py(), limit.0);
        match (self.withdraw(ticket), slept) {
            (_, Err(error)) => Err(error),
            (Withdrawn::Served(Served::Accepted), Ok(())) => Ok(()),
            (Withdrawn::Served(_), Ok(())) => Err(closed(slf.py())),
            (Withdrawn::Unserved(..) | Withdrawn::Unknown, Ok(())) => {
                Err(error(slf.py(), "QueueFull", "there was no room in time"))
            }
        }
    }

    /// Takes an item from a thread that may wait; `None` when none came in time.
    fn get_waiting(&self, slf: &Bound<'_, Self>, limit: Limit) -> PyResult<Option<Item>> {
        self.reclaim(slf)?;
        let parker = Parker::default();
        let wake = Wake::Thread(parker.clone());
        let attempt = {
            let mut state = self.state();
            match state.line.take() {
                Ok(taken) => Ok(taken),
                Err(Refusal::Wait) => Err(Some(state.line.park_getter(wake))),
                Err(Refusal::Closed) => Err(None),
            }
        };
        let ticket = match attempt {
            Ok((item, wakes)) => {
                self.wake(slf, wakes);
                return Ok(Some(item));
            }
            Err(ticket) => ticket.ok_or_else(|| closed(slf.py()))?,
        };
        let slept = parker.park(slf.py(), limit.0);
        match (self.withdraw(ticket), slept) {
            (Withdrawn::Served(Served::Item(number, item)), Err(error)) => {
                let wakes = self.state().line.give_back(number, item);
                self.wake(slf, wakes);
                Err(error)
            }
            (_, Err(error)) => Err(error),
            (Withdrawn::Served(Served::Item(_, item)), Ok(())) => Ok(Some(item)),
            (Withdrawn::Served(_), Ok(())) => Err(closed(slf.py())),
            (Withdrawn::Unserved(..) | Withdrawn::Unknown, Ok(())) => Ok(None),
        }
    }

    fn take_many(&self, slf: &Bound<'_, Self>, count: usize, items: &mut Vec<Item>) {
        let mut wakes = Vec::new();
        self.state().line.take_many(count, items, &mut wakes);
        self.wake(slf, wakes);
    }

    fn give_back_front(&self, slf: &Bound<'_, Self>, items: Vec<Item>) {
        let wakes = self.state().line.give_back_front(items);
        self.wake(slf, wakes);
    }

    pub fn withdraw(&self, ticket: u64) -> Withdrawn<Item, Wake> {
        self.state().line.withdraw(ticket)
    }
}

/// How many items a queue holds; 0 or less for no bound, as in the standard library.
struct Maxsize(isize);

impl<'py> FromPyObject<'_, 'py> for Maxsize {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let (least, most) = (i128::from(i64::MIN), i128::from(i64::MAX));
        Ok(Self(numbers::whole_within("maxsize", &object, least, most)? as isize))
    }
}

/// Until when somebody waits; `None` for as long as it takes.
#[derive(Clone, Copy)]
struct Limit(Option<Instant>);

impl Limit {
    fn of(timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        timeout.map_or(Ok(Self(None)), |timeout| Ok(Self::after(numbers::wait("timeout", timeout)?)))
    }

    /// More than the clock can tell is as good as no limit.
    fn after(duration: Duration) -> Self {
        Self(numbers::moment_after(duration))
    }

    fn is_over(self) -> bool {
        self.0.is_some_and(|until| Instant::now() >= until)
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

fn is_closed(py: Python<'_>, error: &PyErr) -> bool {
    class(py, "QueueClosed").is_ok_and(|class| error.is_instance(py, &class))
}
