//! Waking the waiters that were served, and what becomes of those that cannot be woken.
//!
//! Futures belong to their loop, so a thread puts them into the list of that loop and calls it once; what is put there
//! until it comes costs nothing more. A loop that is closed never comes: what its coroutines were given goes to others.

use std::collections::VecDeque;

use pyo3::{intern, prelude::*};
use unisono_batch::channel::{Served, Wakes, Withdrawn};

use crate::{
    queue::core::{LoopWakes, QueueCore},
    queue::wake::{Wake, resolve, running_loop},
};

impl QueueCore {
    /// A waiter goes without what may be its own: that goes to the next one.
    pub fn give_up(&self, slf: &Bound<'_, Self>, ticket: u64) {
        let wakes = self.pass_on(ticket);
        self.wake(slf, wakes);
    }

    /// Returns the waiters to be woken since one goes without what may be its own.
    fn pass_on(&self, ticket: u64) -> Wakes<Wake> {
        // What is withdrawn is dropped after the lock is released.
        let withdrawn = self.withdraw(ticket);
        match withdrawn {
            Withdrawn::Served(Served::Item(number, item)) => self.state().channel.give_back(number, item),
            Withdrawn::Served(Served::Granted) => self.state().channel.give_back_place(),
            _ => Vec::new(),
        }
    }

    /// Wakes the waiters that were served. One whose loop is closed cannot be: what it got goes to the next one.
    pub fn wake(&self, slf: &Bound<'_, Self>, wakes: Wakes<Wake>) {
        if wakes.is_empty() {
            return;
        }
        let py = slf.py();
        let mut waiting = VecDeque::from(wakes);
        while let Some(parked) = waiting.pop_front() {
            let woken = match &parked.wake {
                Wake::Thread(parker) => {
                    parker.unpark();
                    Ok(())
                }
                Wake::Task { event_loop, future } => {
                    self.wake_task(slf, parked.ticket, event_loop.bind(py), future.bind(py))
                }
            };
            if woken.is_err() {
                waiting.extend(self.pass_on(parked.ticket));
            }
        }
    }

    fn wake_task(
        &self,
        slf: &Bound<'_, Self>,
        ticket: u64,
        event_loop: &Bound<'_, PyAny>,
        future: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        if running_loop(slf.py())?.is_some_and(|running| running.is(event_loop)) {
            return resolve(future);
        }
        {
            let mut state = self.state();
            let mine = (ticket, future.clone().unbind());
            if let Some(wakes) = state.loop_wakes.iter_mut().find(|wakes| wakes.event_loop.is(event_loop)) {
                // Its loop has been called and has not come yet.
                wakes.futures.push(mine);
                return Ok(());
            }
            // Listed before the loop is called: one that comes at once finds it.
            state.loop_wakes.push(LoopWakes { event_loop: event_loop.clone().unbind(), futures: vec![mine] });
        }
        let deliver = slf.getattr(intern!(slf.py(), "_deliver"))?;
        let called = event_loop.call_method1(intern!(slf.py(), "call_soon_threadsafe"), (deliver, event_loop));
        if called.is_err() {
            // Others may have come to this list since; the caller looks after the first.
            self.give_up_loop(slf, event_loop, Some(ticket));
        }
        called.map(drop)
    }

    pub fn take_loop_wakes(&self, event_loop: &Bound<'_, PyAny>) -> Vec<(u64, Py<PyAny>)> {
        let wakes = {
            let mut state = self.state();
            let at = state.loop_wakes.iter().position(|wakes| wakes.event_loop.is(event_loop));
            at.map(|at| state.loop_wakes.swap_remove(at))
        };
        wakes.map(|wakes| wakes.futures).unwrap_or_default()
    }

    /// What coroutines of a closed loop were given goes to others. The caller looks after `but`.
    fn give_up_loop(&self, slf: &Bound<'_, Self>, event_loop: &Bound<'_, PyAny>, but: Option<u64>) {
        for (ticket, _future) in self.take_loop_wakes(event_loop) {
            if Some(ticket) != but {
                self.give_up(slf, ticket);
            }
        }
    }

    /// A loop may have been closed after it was called: looks after that before a thread waits for what lies there.
    pub fn reclaim(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let called: Vec<Py<PyAny>> = {
            let state = self.state();
            state.loop_wakes.iter().map(|wakes| wakes.event_loop.clone_ref(slf.py())).collect()
        };
        for event_loop in called {
            let event_loop = event_loop.bind(slf.py());
            if event_loop.call_method0(intern!(slf.py(), "is_closed"))?.is_truthy()? {
                self.give_up_loop(slf, event_loop, None);
            }
        }
        Ok(())
    }
}
