//! The attempts under way: one reusable place each, polled only when woken.
//!
//! A place keeps its box and its waker from one attempt to the next, so starting one allocates nothing; and there are
//! only as many as attempts at once, since an attempt's future is large. Unlike futures-util's `FuturesUnordered`, one
//! can be stopped by the number of its slot, which deadlines need.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

pub(crate) struct Tasks<F> {
    places: Vec<Place<F>>,
    /// Places without a future.
    vacant: Vec<usize>,
    /// By slot: the place of its attempt.
    by_slot: Vec<Option<usize>>,
    woken: Arc<Woken>,
    /// Those of an earlier turn that had no place in it, and then those of this one.
    turn: VecDeque<usize>,
    /// Filled and emptied in each turn; kept for its capacity.
    listed: Vec<usize>,
}

struct Place<F> {
    slot: usize,
    future: Pin<Box<Option<F>>>,
    waker: Waker,
}

/// Which places were woken since the last turn. A waker may be called from any thread.
#[derive(Default)]
struct Woken {
    state: Mutex<WokenState>,
}

#[derive(Default)]
struct WokenState {
    places: Vec<usize>,
    /// By place: whether it is in `places` already.
    listed: Vec<bool>,
    driver: Option<Waker>,
}

struct PlaceWaker {
    place: usize,
    woken: Arc<Woken>,
}

impl<F: Future> Tasks<F> {
    pub(crate) fn new() -> Self {
        let (places, vacant, by_slot) = (Vec::new(), Vec::new(), Vec::new());
        Self { places, vacant, by_slot, woken: Arc::default(), turn: VecDeque::new(), listed: Vec::new() }
    }

    /// Takes in the attempt of a slot, and lists it to be polled in the next turn.
    pub(crate) fn start(&mut self, slot: usize, future: F) {
        let place = self.vacant.pop().unwrap_or_else(|| self.make_place());
        self.places[place].slot = slot;
        self.places[place].future.set(Some(future));
        if self.by_slot.len() <= slot {
            self.by_slot.resize(slot + 1, None);
        }
        self.by_slot[slot] = Some(place);
        self.woken.list(place);
    }

    /// Drops the attempt of a slot, if there is one.
    pub(crate) fn stop(&mut self, slot: usize) {
        if let Some(place) = self.by_slot.get_mut(slot).and_then(Option::take) {
            self.places[place].future.set(None);
            self.vacant.push(place);
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
            let place = &mut self.places[index];
            let Some(future) = place.future.as_mut().as_pin_mut() else { continue };
            if let Poll::Ready(output) = future.poll(&mut Context::from_waker(&place.waker)) {
                place.future.set(None);
                self.by_slot[place.slot] = None;
                self.vacant.push(index);
                done(place.slot, output);
            }
        }
    }

    fn make_place(&mut self) -> usize {
        let place = self.places.len();
        let waker = Waker::from(Arc::new(PlaceWaker { place, woken: self.woken.clone() }));
        self.places.push(Place { slot: 0, future: Box::pin(None), waker });
        place
    }

    pub(crate) fn has_woken(&self) -> bool {
        !self.turn.is_empty() || !self.woken.lock().places.is_empty()
    }
}

impl Woken {
    fn list(&self, place: usize) -> Option<Waker> {
        let mut state = self.lock();
        if state.listed.len() <= place {
            state.listed.resize(place + 1, false);
        }
        if std::mem::replace(&mut state.listed[place], true) {
            return None;
        }
        state.places.push(place);
        // The first one wakes the driver; the others find it awake.
        if state.places.len() == 1 { state.driver.clone() } else { None }
    }

    fn take(&self, driver: &Waker, into: &mut Vec<usize>) {
        let mut state = self.lock();
        let WokenState { places, listed, driver: known } = &mut *state;
        std::mem::swap(places, into);
        into.iter().for_each(|place| listed[*place] = false);
        if known.as_ref().is_none_or(|known| !known.will_wake(driver)) {
            *known = Some(driver.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, WokenState> {
        // Nothing in here panics half way, so what a panicking thread left is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for PlaceWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Outside of the lock: the driver's waker may do anything.
        if let Some(driver) = self.woken.list(self.place) {
            driver.wake();
        }
    }
}

/// Each may take some tens of microseconds, and the reactor should not wait for much longer than its timers are exact.
const MOST_POLLED: usize = 256;
