//! Puts and takes of threads: at once, or asleep in a futex until they are served.

use std::time::{Duration, Instant};

use pyo3::prelude::*;
use unisono_batch::channel::{Served, TryError, Withdrawn};
use unisono_core::clock;

use crate::{
    numbers,
    queue::core::{Item, QueueCore, closed, error},
    queue::wake::{Parker, Wake, wake_those_left},
};

impl QueueCore {
    /// Puts the item, or hands it back when there is no room.
    pub fn try_put(&self, slf: &Bound<'_, Self>, item: Item) -> PyResult<Result<(), Item>> {
        let put = self.state().channel.put(item);
        match put {
            Ok(wakes) => {
                self.wake(slf, wakes);
                Ok(Ok(()))
            }
            Err((TryError::Wait, item)) => Ok(Err(item)),
            Err((TryError::Closed, _item)) => Err(closed(slf.py())),
        }
    }

    /// Takes an item, if there is one.
    pub fn try_get(&self, slf: &Bound<'_, Self>) -> PyResult<Option<Item>> {
        let taken = self.state().channel.take();
        match taken {
            Ok((item, wakes)) => {
                self.wake(slf, wakes);
                Ok(Some(item))
            }
            Err(TryError::Wait) => Ok(None),
            Err(TryError::Closed) => Err(closed(slf.py())),
        }
    }

    /// Puts an item from a thread that may wait.
    pub fn put_waiting(&self, slf: &Bound<'_, Self>, item: Item, limit: Limit) -> PyResult<()> {
        let parker = Parker::default();
        let wake = Wake::Thread(parker.clone());
        // Tried and parked under one lock, or an item that is taken in between would wake no producer.
        let attempt = {
            let mut state = self.state();
            match state.channel.put(item) {
                Ok(wakes) => Ok(wakes),
                Err((TryError::Wait, item)) => Err(Ok(state.channel.park_putter(wake, Some(item)))),
                Err((TryError::Closed, item)) => Err(Err(item)),
            }
        };
        let ticket = match attempt {
            Ok(wakes) => {
                self.wake(slf, wakes);
                return Ok(());
            }
            Err(ticket) => ticket.map_err(|_item| closed(slf.py()))?,
        };
        let slept = parker.park(slf.py(), limit.0, None);
        // However the sleep ended: what this thread was given between that and here is found by withdrawing.
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
    pub fn get_waiting(&self, slf: &Bound<'_, Self>, limit: Limit) -> PyResult<Option<Item>> {
        self.reclaim(slf)?;
        let parker = Parker::default();
        let wake = Wake::Thread(parker.clone());
        let attempt = {
            let mut state = self.state();
            match state.channel.take() {
                Ok(taken) => Ok(taken),
                Err(TryError::Wait) => Err(Some(state.channel.park_getter(wake))),
                Err(TryError::Closed) => Err(None),
            }
        };
        if !matches!(attempt, Err(Some(_))) {
            // What is to be woken by the next wait of this thread waits for none that does not come.
            wake_those_left();
        }
        let ticket = match attempt {
            Ok((item, wakes)) => {
                self.wake(slf, wakes);
                return Ok(Some(item));
            }
            Err(ticket) => ticket.ok_or_else(|| closed(slf.py()))?,
        };
        let slept = parker.park(slf.py(), limit.0, Some(&self.looks));
        match (self.withdraw(ticket), slept) {
            // A signal's handler has raised, and the item is here already: it goes to the next consumer.
            (Withdrawn::Served(Served::Item(number, item)), Err(error)) => {
                let wakes = self.state().channel.give_back(number, item);
                self.wake(slf, wakes);
                Err(error)
            }
            (_, Err(error)) => Err(error),
            (Withdrawn::Served(Served::Item(_, item)), Ok(())) => Ok(Some(item)),
            (Withdrawn::Served(_), Ok(())) => Err(closed(slf.py())),
            (Withdrawn::Unserved(..) | Withdrawn::Unknown, Ok(())) => Ok(None),
        }
    }

    pub fn take_many(&self, slf: &Bound<'_, Self>, count: usize, items: &mut Vec<Item>) {
        let mut wakes = Vec::new();
        self.state().channel.take_many(count, items, &mut wakes);
        self.wake(slf, wakes);
    }

    pub fn give_back_front(&self, slf: &Bound<'_, Self>, items: Vec<Item>) {
        let wakes = self.state().channel.give_back_front(items);
        self.wake(slf, wakes);
    }
}

/// Until when a thread waits; `None` for as long as it takes.
#[derive(Clone, Copy)]
pub struct Limit(pub Option<Instant>);

impl Limit {
    pub fn of(timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        timeout.map_or(Ok(Self(None)), |timeout| Ok(Self::after(numbers::wait("timeout", timeout)?)))
    }

    /// More than the clock can tell is as good as no limit.
    pub fn after(duration: Duration) -> Self {
        Self(numbers::moment_after(duration))
    }

    pub fn is_over(self) -> bool {
        self.0.is_some_and(|until| clock::now() >= until)
    }
}
