//! A run that a program feeds and whose outcomes it takes: two queues with room for so many, and a notifier.
//!
//! Neither end ever waits inside. When outcomes are there, when there is room for rows, or when the run has ended, the
//! notifier is notified, and the program comes and looks: from a thread, an event loop, or whatever it is. When the
//! outcomes' queue is full the engine stops pulling; when the taker goes away, the run is stopped.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use crate::{
    Row, RowOutcome,
    input::{Feed, RowBatch},
};

/// Called when there is something to look at. Must not block, and must not call back.
pub type Notifier = Arc<dyn Fn() + Send + Sync>;

/// The end that the run puts outcomes into.
#[derive(Debug)]
pub struct Outlet<D> {
    shared: Arc<Shared<RowOutcome<D>>>,
    /// Which outcomes the taker cares for.
    wanted: fn(&RowOutcome<D>) -> bool,
}

/// The end that the program takes outcomes from.
#[derive(Debug)]
pub struct Taker<D>(Arc<Shared<RowOutcome<D>>>);

/// The end that the program puts rows into.
#[derive(Debug)]
pub struct Inlet<C>(Arc<Shared<Row<C>>>);

/// The end that the run takes rows from.
#[derive(Debug)]
pub struct Intake<C>(Arc<Shared<Row<C>>>);

/// What there is to take.
#[derive(Debug)]
pub enum Taken<D> {
    /// Some outcomes; perhaps none yet.
    Outcomes(Vec<RowOutcome<D>>),
    /// All are taken, and there will be no more.
    Ended,
}

struct Shared<T> {
    /// Held to move things in or out; never across a wait.
    state: Mutex<State<T>>,
    notifier: Notifier,
    capacity: usize,
}

struct State<T> {
    queue: VecDeque<T>,
    /// No more will be put in.
    ended: bool,
    /// Why no more will be put in, when that is a failure.
    failed: Option<String>,
    /// The other end has gone: nothing is taken any more.
    abandoned: bool,
    /// The run, when it waits for this queue.
    runner: Option<Waker>,
}

/// An outlet with room for `capacity` outcomes, and its taker.
pub fn outlet<D>(capacity: usize, notifier: Notifier) -> (Outlet<D>, Taker<D>) {
    let shared = Shared::new(capacity, notifier);
    (Outlet { shared: shared.clone(), wanted: |_| true }, Taker(shared))
}

/// An inlet with room for `capacity` rows, and the feed for the run.
pub fn inlet<C>(capacity: usize, notifier: Notifier) -> (Inlet<C>, Intake<C>) {
    let shared = Shared::new(capacity, notifier);
    (Inlet(shared.clone()), Intake(shared))
}

impl<D> Outlet<D> {
    /// Only those outcomes of which `wanted` says so are for the taker; it is not woken for the others.
    #[must_use]
    pub fn only(mut self, wanted: fn(&RowOutcome<D>) -> bool) -> Self {
        self.wanted = wanted;
        self
    }

    /// Adds outcomes; never waits.
    pub(crate) fn put(&self, mut outcomes: Vec<RowOutcome<D>>) {
        outcomes.retain(self.wanted);
        if !outcomes.is_empty() {
            add(&mut self.shared.lock().queue, outcomes);
            (self.shared.notifier)();
        }
    }

    /// How many more there is room for; when there is none, the waker is called once there is.
    pub(crate) fn poll_room(&self, context: &mut Context<'_>) -> usize {
        let mut state = self.shared.lock();
        // Always known, so that a run that waits for something else learns that the taker has gone.
        state.runner = Some(context.waker().clone());
        if state.abandoned { usize::MAX } else { self.shared.capacity.saturating_sub(state.queue.len()) }
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.shared.lock().abandoned
    }
}

impl<D> Drop for Outlet<D> {
    fn drop(&mut self) {
        let runner = {
            let mut state = self.shared.lock();
            state.ended = true;
            // It waits for nothing any more, and a waker holds its reactor, with descriptors.
            state.runner.take()
        };
        drop(runner);
        (self.shared.notifier)();
    }
}

impl<D> Taker<D> {
    /// Everything that is there.
    pub fn take(&self) -> Taken<D> {
        let mut state = self.0.lock();
        if state.queue.is_empty() && state.ended {
            return Taken::Ended;
        }
        let outcomes = std::mem::take(&mut state.queue).into();
        let waker = state.runner.take();
        drop(state);
        wake(waker);
        Taken::Outcomes(outcomes)
    }

    /// Looks at each outcome that is there, until one is an error. `look` must not block, and must not call back.
    ///
    /// # Errors
    /// With what `look` returns.
    pub fn look<E>(&self, look: impl FnMut(&RowOutcome<D>) -> Result<(), E>) -> Result<(), E> {
        self.0.lock().queue.iter().try_for_each(look)
    }
}

impl<D> Drop for Taker<D> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

impl<C> Inlet<C> {
    /// How many rows there is room for; 0 when the run takes no more.
    pub fn room(&self) -> usize {
        let state = self.0.lock();
        if state.abandoned { 0 } else { self.0.capacity.saturating_sub(state.queue.len()) }
    }

    /// Adds rows, even beyond the room.
    pub fn put(&self, rows: Vec<Row<C>>) {
        let mut state = self.0.lock();
        add(&mut state.queue, rows);
        let waker = state.runner.take();
        drop(state);
        wake(waker);
    }

    /// There are no more rows; `failed` says why, when there should have been.
    pub fn end(&self, failed: Option<String>) {
        let mut state = self.0.lock();
        state.ended = true;
        state.failed = failed;
        let waker = state.runner.take();
        drop(state);
        wake(waker);
    }
}

impl<C> Feed<C> for Intake<C> {
    fn poll_rows(&mut self, context: &mut Context<'_>) -> Poll<Option<RowBatch<C>>> {
        let mut state = self.0.lock();
        if !state.queue.is_empty() {
            let rows = std::mem::take(&mut state.queue).into();
            drop(state);
            // There is room now.
            (self.0.notifier)();
            return Poll::Ready(Some(RowBatch::Rows(rows)));
        }
        if let Some(why) = state.failed.take() {
            return Poll::Ready(Some(RowBatch::Failed(why)));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        state.runner = Some(context.waker().clone());
        Poll::Pending
    }
}

impl<C> Drop for Intake<C> {
    fn drop(&mut self) {
        self.0.abandon();
        (self.0.notifier)();
    }
}

impl<T> Shared<T> {
    fn new(capacity: usize, notifier: Notifier) -> Arc<Self> {
        let state = State { queue: VecDeque::new(), ended: false, failed: None, abandoned: false, runner: None };
        Arc::new(Self { state: Mutex::new(state), notifier, capacity: capacity.max(1) })
    }

    fn abandon(&self) {
        let mut state = self.lock();
        state.abandoned = true;
        let waker = state.runner.take();
        drop(state);
        wake(waker);
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing in here panics half way, so what a panicking thread left is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("length", &self.lock().queue.len()).finish_non_exhaustive()
    }
}

/// Adds things to a queue, without moving each when there is nothing before them.
fn add<T>(queue: &mut VecDeque<T>, things: Vec<T>) {
    if queue.is_empty() {
        *queue = things.into();
    } else {
        queue.extend(things);
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
