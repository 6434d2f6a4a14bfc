//! Outcomes for a program that takes them as they come, in batches: a queue with room for so many.
//!
//! When it is full the engine stops pulling; when the taker goes away, the run is stopped. A taker that waits is woken
//! once per batch, whether it is a thread or a future.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use crate::Outcome;

/// The end that the run puts outcomes into.
#[derive(Debug)]
pub struct Outlet(Arc<Shared>);

/// The end that outcomes are taken from.
#[derive(Debug)]
pub struct Taker(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Held to move outcomes in or out; never across a wait.
    state: Mutex<State>,
    arrived: Condvar,
    capacity: usize,
}

#[derive(Debug, Default)]
struct State {
    outcomes: VecDeque<Outcome>,
    run_ended: bool,
    taker_gone: bool,
    runner: Option<Waker>,
    taker: Option<Waker>,
}

/// An outlet with room for `capacity` outcomes, and its taker.
pub fn outlet(capacity: usize) -> (Outlet, Taker) {
    let shared = Arc::new(Shared { state: Mutex::default(), arrived: Condvar::new(), capacity: capacity.max(1) });
    (Outlet(shared.clone()), Taker(shared))
}

impl Outlet {
    /// Adds outcomes; never waits.
    pub(crate) fn put(&self, outcomes: impl Iterator<Item = Outcome>) {
        let mut state = self.0.lock();
        state.outcomes.extend(outcomes);
        let waker = state.taker.take();
        drop(state);
        self.0.arrived.notify_one();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// How many more there is room for; when there is none, the waker is called once there is.
    pub(crate) fn poll_room(&self, context: &mut Context<'_>) -> usize {
        let mut state = self.0.lock();
        let room = self.0.capacity.saturating_sub(state.outcomes.len());
        // Always known, so that a run that waits learns that the taker has gone.
        state.runner = Some(context.waker().clone());
        if state.taker_gone { usize::MAX } else { room }
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.0.lock().taker_gone
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.run_ended = true;
        let waker = state.taker.take();
        drop(state);
        self.0.arrived.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Taker {
    /// Everything that is there; waits for at least one. `None` when the run has ended and all is taken.
    pub fn poll_take(&self, context: &mut Context<'_>) -> Poll<Option<Vec<Outcome>>> {
        let mut state = self.0.lock();
        match state.take() {
            Some(outcomes) => Poll::Ready(Some(outcomes)),
            None if state.run_ended => Poll::Ready(None),
            None => {
                state.taker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// The same for a thread, which waits at most so long: then the answer is an empty batch.
    pub fn take_within(&self, wait: Duration) -> Option<Vec<Outcome>> {
        let state = self.0.lock();
        let idle = |state: &mut State| state.outcomes.is_empty() && !state.run_ended;
        let (mut state, _) =
            self.0.arrived.wait_timeout_while(state, wait, idle).unwrap_or_else(PoisonError::into_inner);
        match state.take() {
            Some(outcomes) => Some(outcomes),
            None if state.run_ended => None,
            None => Some(Vec::new()),
        }
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.taker_gone = true;
        let waker = state.runner.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl State {
    fn take(&mut self) -> Option<Vec<Outcome>> {
        if self.outcomes.is_empty() {
            return None;
        }
        let outcomes = std::mem::take(&mut self.outcomes).into();
        if let Some(waker) = self.runner.take() {
            waker.wake();
        }
        Some(outcomes)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half way, so what a panicking thread left is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
