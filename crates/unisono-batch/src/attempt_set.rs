//! The attempts under way: one reusable cell each, polled only when woken.
//!
//! A cell keeps its box and its waker from one attempt to the next, so starting one allocates nothing; and there are
//! only as many as attempts at once, since an attempt's future is large. Unlike futures-util's `FuturesUnordered`, one
//! can be stopped by the number of its slot, which deadlines need.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

pub(crate) struct AttemptSet<F> {
    cells: Vec<AttemptCell<F>>,
    /// Cells without a future.
    vacant: Vec<usize>,
    /// By slot: the cell of its attempt.
    by_slot: Vec<Option<usize>>,
    woken: Arc<Woken>,
    /// Those that an earlier turn has left over, and then those of this one.
    turn: VecDeque<usize>,
    /// Filled and emptied in each turn; kept for its capacity.
    listed: Vec<usize>,
}

struct AttemptCell<F> {
    slot: usize,
    future: Pin<Box<Option<F>>>,
    waker: Waker,
}

/// Which cells were woken since the last turn. A waker may be called from any thread.
#[derive(Default)]
struct Woken {
    state: Mutex<WokenState>,
}

#[derive(Default)]
struct WokenState {
    cells: Vec<usize>,
    /// By cell: whether it is in `cells` already.
    listed: Vec<bool>,
    driver: Option<Waker>,
}

struct CellWaker {
    cell: usize,
    woken: Arc<Woken>,
}

impl<F: Future> AttemptSet<F> {
    pub(crate) fn new() -> Self {
        let (cells, vacant, by_slot) = (Vec::new(), Vec::new(), Vec::new());
        Self { cells, vacant, by_slot, woken: Arc::default(), turn: VecDeque::new(), listed: Vec::new() }
    }

    /// Takes in the attempt of a slot, and lists it to be polled in the next turn.
    pub(crate) fn start(&mut self, slot: usize, future: F) {
        let cell = self.vacant.pop().unwrap_or_else(|| self.make_cell());
        self.cells[cell].slot = slot;
        self.cells[cell].future.set(Some(future));
        if self.by_slot.len() <= slot {
            self.by_slot.resize(slot + 1, None);
        }
        self.by_slot[slot] = Some(cell);
        self.woken.list(cell);
    }

    /// Drops the attempt of a slot, if there is one.
    pub(crate) fn stop(&mut self, slot: usize) {
        if let Some(cell) = self.by_slot.get_mut(slot).and_then(Option::take) {
            self.cells[cell].future.set(None);
            self.vacant.push(cell);
        }
    }

    /// Polls each that was woken, once, and hands those that are done to `done`. Those woken meanwhile have their
    /// turn next time, so that a busy one cannot keep the others or the reactor waiting; and so have those beyond the
    /// first few hundred.
    pub(crate) fn turn(&mut self, driver: &Waker, mut done: impl FnMut(usize, F::Output)) {
        self.woken.take(driver, &mut self.listed);
        self.turn.extend(self.listed.drain(..));
        let now = self.turn.len().min(MOST_POLLED);
        for index in self.turn.drain(..now) {
            let cell = &mut self.cells[index];
            let Some(future) = cell.future.as_mut().as_pin_mut() else { continue };
            if let Poll::Ready(output) = future.poll(&mut Context::from_waker(&cell.waker)) {
                cell.future.set(None);
                self.by_slot[cell.slot] = None;
                self.vacant.push(index);
                done(cell.slot, output);
            }
        }
    }

    fn make_cell(&mut self) -> usize {
        let cell = self.cells.len();
        let waker = Waker::from(Arc::new(CellWaker { cell, woken: self.woken.clone() }));
        self.cells.push(AttemptCell { slot: 0, future: Box::pin(None), waker });
        cell
    }

    pub(crate) fn has_woken(&self) -> bool {
        !self.turn.is_empty() || !self.woken.lock().cells.is_empty()
    }
}

impl Woken {
    fn list(&self, cell: usize) -> Option<Waker> {
        let mut state = self.lock();
        if state.listed.len() <= cell {
            state.listed.resize(cell + 1, false);
        }
        if std::mem::replace(&mut state.listed[cell], true) {
            return None;
        }
        state.cells.push(cell);
        // The first one wakes the driver; the others find it awake.
        if state.cells.len() == 1 { state.driver.clone() } else { None }
    }

    fn take(&self, driver: &Waker, into: &mut Vec<usize>) {
        let mut state = self.lock();
        let WokenState { cells, listed, driver: known } = &mut *state;
        std::mem::swap(cells, into);
        into.iter().for_each(|cell| listed[*cell] = false);
        if known.as_ref().is_none_or(|known| !known.will_wake(driver)) {
            *known = Some(driver.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, WokenState> {
        // Nothing in here panics half way, so what a panicking thread left is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for CellWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Outside of the lock: the driver's waker may do anything.
        if let Some(driver) = self.woken.list(self.cell) {
            driver.wake();
        }
    }
}

/// Each may take some tens of microseconds, and the reactor should not wait for much longer than its timers are exact.
const MOST_POLLED: usize = 256;
