//! `unisono.Queue`, the part that is hot: put, get, and which waiter is woken.
//!
//! The state machine is `unisono_batch::channel`; `core.rs` has it behind a lock, `threads.rs` and `wait.rs` are how
//! threads and coroutines wait, `looking.rs` is what a thread does before it sleeps, and `loop_wakes.rs` wakes them.
//!
//! What is built of these calls alone (`aget_many`, the documentation) is in `python/unisono/_queue/queue.py`.

mod core;
pub mod handing_over;
pub mod looking;
mod loop_wakes;
mod threads;
pub mod wait;
pub mod wake;

use std::mem;

use pyo3::{
    PyTraverseError, PyVisit,
    exceptions::{PyStopIteration, PyTimeoutError, PyValueError},
    prelude::*,
    types::PyList,
};
use unisono_batch::channel::{Parked, Withdrawn};

pub use self::core::QueueCore;
use self::{
    core::{Item, error},
    threads::Limit,
    wait::{QueueWait, Wish},
    wake::{Parker, Wake, refuse_on_loop, resolve},
};
use crate::{
    errors::class,
    numbers::{self, moment_in},
};

#[pymethods]
impl QueueCore {
    #[new]
    #[pyo3(signature = (maxsize=Maxsize(0)), text_signature = "(maxsize=0)")]
    fn new(maxsize: Maxsize) -> Self {
        let Maxsize(maxsize) = maxsize;
        let room = usize::try_from(maxsize).ok().filter(|room| *room > 0).unwrap_or(usize::MAX);
        Self::with_room(maxsize, room)
    }

    /// How many items it holds at most; 0 or less for no bound.
    #[getter]
    fn maxsize(&self) -> isize {
        self.maxsize
    }

    /// Whether `close` was called.
    #[getter]
    fn closed(&self) -> bool {
        self.state().channel.is_closed()
    }

    /// How many items were put and are not done yet.
    #[getter]
    fn unfinished_tasks(&self) -> usize {
        self.state().channel.unfinished()
    }

    /// How many items are in it.
    fn qsize(&self) -> usize {
        self.state().channel.len()
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
        self.state().channel.is_full()
    }

    /// How many wait for an item, for room, and until all is done.
    fn waiting(&self) -> (usize, usize, usize) {
        self.state().channel.waiting()
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
            // A closed queue keeps nothing waiting.
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

    /// Puts an item without a bound; returns whether a consumer waited for it. Of several, the one that came last has
    /// it: where all are alike, that one is the most awake, and those that are too many find out that they are.
    fn _offer(slf: &Bound<'_, Self>, item: Item) -> PyResult<bool> {
        let hands_over = handing_over::submitted(item.bind(slf.py()));
        let put = slf.get().state().channel.put_for_last(item);
        let wakes = put.map_err(|(_, _item)| error(slf.py(), "QueueClosed", "the queue is closed"))?;
        let is_awaited = !wakes.is_empty();
        match &wakes[..] {
            [Parked { wake: Wake::Thread(parker), .. }] if hands_over => parker.hand_over(slf.py()),
            _ => slf.get().wake(slf, wakes),
        }
        Ok(is_awaited)
    }

    /// Adds the first item to `taken`, waiting for so many seconds. For a thread that does nothing else: what is set
    /// into it from another as this returns (`PyThreadState_SetAsyncExc`) would take a returned item with it.
    fn _next_offer(slf: &Bound<'_, Self>, idle: Option<f64>, taken: &Bound<'_, PyList>) -> PyResult<()> {
        match slf.get().get_waiting(slf, Limit(idle.and_then(moment_in)))? {
            Some(item) => taken.append(item),
            None => Ok(()),
        }
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
        let done = slf.get().state().channel.done(count);
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
            if state.channel.unfinished() == 0 {
                return Ok(());
            }
            drop(state);
            refuse_on_loop(slf.py(), "join()", "await queue.ajoin()")?;
            state = slf.get().state();
            if state.channel.unfinished() == 0 {
                return Ok(());
            }
            state.channel.park_joiner(Wake::Thread(parker.clone()))
        };
        let slept = parker.park(slf.py(), limit.0, None);
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
        let (_dropped, wakes) = slf.get().state().channel.close(immediate);
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
                Ok(item.expect("a wait without limit ends with an item or an error"))
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
            (state.channel.len(), state.channel.is_closed())
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
        // The collector runs between instructions of Python's, where no thread holds the lock.
        let Ok(state) = self.state.try_lock() else { return Ok(()) };
        let (items, wakes) = state.channel.held();
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
            (state.channel.clear(), mem::take(&mut state.loop_wakes))
        };
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

fn is_closed(py: Python<'_>, error: &PyErr) -> bool {
    class(py, "QueueClosed").is_ok_and(|class| error.is_instance(py, &class))
}
