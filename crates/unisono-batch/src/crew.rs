//! Work that blocks, on threads of our own, as futures of the reactor.
//!
//! [`Crew::put`] puts a piece of work on the desk and answers a future of its end; [`Crew::relay`] must be polled beside whatever
//! waits. A thread takes several pieces at once ([`Desk::take`]) and gives them back as they are done, so one wake-up of
//! the reactor carries all that ended since the last one.
//!
//! A thread cannot be stopped. When the one who waits asks for it or goes away, the piece is marked: a thread that looks
//! ([`Desk::is_stopped`]) ends early, and until it does, the slot of the item stays held. A piece that a thread drops,
//! or panics over, comes back as nothing; the thread begins anew.
//!
//! The hands may also be somebody else's: [`Crew::open`] starts no threads, and rings a bell when there is something on
//! the desk. That is how functions of Python are run, on whatever runs them there.

use std::{
    cell::RefCell,
    collections::{HashSet, VecDeque},
    future::poll_fn,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    thread,
};

use slab::Slab;

use crate::job::Hold;

/// Threads, seen from the reactor. They end when it is dropped, each after what it has in hand.
pub struct Crew<W, R> {
    shared: Opening<W, R>,
    pieces: RefCell<Slab<Piece<R>>>,
}

/// A crew that is not on its reactor's thread yet. When it is dropped, its desk is closed.
pub struct Opening<W, R>(Arc<Shared<W, R>>);

/// The crew, seen from one of its threads.
pub struct Desk<W, R>(Arc<Shared<W, R>>);

/// Called when there is something on a desk. Must not block, and must not call back.
pub type DeskBell = Arc<dyn Fn() + Send + Sync>;

/// A piece of work in the hands of a thread.
pub struct Task<W, R> {
    /// What is to be done.
    pub work: W,
    ticket: Ticket<W, R>,
}

/// Gives a piece back when it is dropped, as nothing unless there is a result.
struct Ticket<W, R> {
    number: usize,
    shared: Option<Arc<Shared<W, R>>>,
}

/// A piece of work, seen from the reactor.
enum Piece<R> {
    Running {
        waker: Option<Waker>,
        hold: Hold,
    },
    Done(Option<R>),
    /// Nobody waits any more; the slot is held until a thread gives it back.
    Abandoned(#[expect(dead_code, reason = "held for its drop")] Hold),
}

struct Shared<W, R> {
    /// Held to move pieces in or out; never while one is worked on.
    queue: Mutex<Queue<W, R>>,
    arrived: Condvar,
    /// As the queue's.
    done: Mutex<Done<R>>,
    /// Pieces that are to stop; looked at only when `stops` is not 0.
    stopped: Mutex<Stopped>,
    stops: AtomicUsize,
    /// Where the hands are somebody else's.
    bell: Option<DeskBell>,
}

#[derive(Default)]
struct Stopped {
    numbers: HashSet<usize>,
    /// Those that nobody has been told of.
    untold: Vec<usize>,
}

struct Queue<W, R> {
    pieces: VecDeque<(usize, W)>,
    /// Threads that wait for a piece.
    idle: usize,
    closed: bool,
    /// What becomes of a piece that comes after the hands have gone, where they have said it.
    refusal: Option<Refusal<R>>,
}

/// Makes the result of a piece that nobody has begun.
type Refusal<R> = Box<dyn Fn() -> R + Send>;

struct Done<R> {
    pieces: Vec<(usize, Option<R>)>,
    waker: Option<Waker>,
}

impl<W: Send + 'static, R: Send + 'static> Crew<W, R> {
    /// Starts so many threads, each of which does what `hand` does until the desk is closed.
    ///
    /// # Errors
    /// When not even one thread can be started.
    pub fn start(threads: usize, name: &str, hand: impl Fn(&Desk<W, R>) + Send + Sync + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(None));
        let hand = Arc::new(hand);
        for started in 0..threads.max(1) {
            let (desk, hand) = (Desk(shared.clone()), hand.clone());
            // What a hand had taken when it panicked has been given back; its own state is made anew.
            let work = move || while catch_unwind(AssertUnwindSafe(|| hand(&desk))).is_err() {};
            match thread::Builder::new().name(name.to_owned()).spawn(work) {
                Ok(_) => {}
                // Fewer threads do the same work.
                Err(_) if started > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(Opening(shared).crew())
    }

    /// A crew whose hands are whoever has the desk. The bell is rung when there are pieces on it, pieces to stop, or when
    /// it is closed. When the desk is dropped, what is put on it comes back as nothing.
    pub fn open(bell: DeskBell) -> (Opening<W, R>, Desk<W, R>) {
        let shared = Arc::new(Shared::new(Some(bell)));
        (Opening(shared.clone()), Desk(shared))
    }

    /// Puts a piece of work on the desk. `hold` is kept until a thread is through with it, even when what is answered
    /// here is dropped before.
    pub fn put(&self, work: W, hold: Hold) -> Underway<'_, W, R> {
        let number = self.pieces.borrow_mut().insert(Piece::Running { waker: None, hold });
        let underway = Underway { crew: self, number, is_stopped: false };
        self.shared.0.put(number, work);
        underway
    }

    /// Tells those who wait what has been done. Never ends; to be polled beside them.
    pub async fn relay(&self) {
        let mut batch = Vec::new();
        poll_fn(|context| {
            self.shared.0.take_done(context.waker(), &mut batch);
            let mut pieces = self.pieces.borrow_mut();
            for (number, result) in batch.drain(..) {
                match std::mem::replace(&mut pieces[number], Piece::Done(result)) {
                    Piece::Running { waker, hold } => {
                        drop(hold);
                        waker.into_iter().for_each(Waker::wake);
                    }
                    Piece::Abandoned(_) => {
                        self.shared.0.forget(number);
                        pieces.remove(number);
                    }
                    Piece::Done(_) => unreachable!("a piece is given back once"),
                }
            }
            Poll::Pending
        })
        .await
    }
}

impl<W, R> Opening<W, R> {
    /// The crew, on the thread where it stays.
    pub fn crew(self) -> Crew<W, R> {
        Crew { shared: self, pieces: RefCell::default() }
    }
}

impl<W, R> Drop for Opening<W, R> {
    fn drop(&mut self) {
        self.0.close();
        // Nobody is told any more, and a waker holds its reactor, with descriptors, for as long as hands keep the desk.
        let _waker = lock(&self.0.done).waker.take();
        self.0.ring();
    }
}

impl<W, R> Drop for Desk<W, R> {
    fn drop(&mut self) {
        // One thread of ours that ends leaves the desk to the others.
        if self.0.bell.is_some() {
            let left = self.0.close();
            self.0.put_done(left.into_iter().map(|number| (number, None)));
        }
    }
}

/// A piece that somebody waits for: a future of its result, or of nothing when no thread could do it.
pub struct Underway<'a, W, R> {
    crew: &'a Crew<W, R>,
    number: usize,
    is_stopped: bool,
}

impl<W, R> Underway<'_, W, R> {
    /// Asks whoever has it in hand to end early.
    pub fn stop(&mut self) {
        if !std::mem::replace(&mut self.is_stopped, true) {
            self.crew.shared.0.stop(self.number);
        }
    }
}

impl<W, R> Future for Underway<'_, W, R> {
    type Output = Option<R>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<R>> {
        let mut pieces = self.crew.pieces.borrow_mut();
        match pieces.get_mut(self.number) {
            Some(Piece::Running { waker, .. }) => {
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
            Some(Piece::Done(result)) => Poll::Ready(result.take()),
            _ => unreachable!("a piece stays as long as somebody waits for it"),
        }
    }
}

impl<W, R> Drop for Underway<'_, W, R> {
    fn drop(&mut self) {
        let mut pieces = self.crew.pieces.borrow_mut();
        if let Piece::Running { hold, .. } = std::mem::replace(&mut pieces[self.number], Piece::Done(None)) {
            pieces[self.number] = Piece::Abandoned(hold);
            drop(pieces);
            self.stop();
        } else {
            pieces.remove(self.number);
            drop(pieces);
            if self.is_stopped {
                self.crew.shared.0.forget(self.number);
            }
        }
    }
}

impl<W, R> Desk<W, R> {
    /// Takes up to `most` pieces, and leaves their share to threads that wait. Waits for the first one if `wait` says
    /// so; answers false when the desk is closed and there will be no more.
    pub fn take(&self, most: usize, wait: bool, into: &mut Vec<Task<W, R>>) -> bool {
        let mut queue = lock(&self.0.queue);
        while wait && queue.pieces.is_empty() && !queue.closed {
            queue.idle += 1;
            queue = self.0.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
        let share = queue.pieces.len().div_ceil(queue.idle + 1);
        let count = share.min(most);
        into.extend(
            queue
                .pieces
                .drain(..count)
                .map(|(number, work)| Task { work, ticket: Ticket { number, shared: Some(self.0.clone()) } }),
        );
        !queue.closed
    }

    /// Whether this piece is to end early.
    pub fn is_stopped(&self, task: &Task<W, R>) -> bool {
        self.0.stops.load(Relaxed) > 0 && lock(&self.0.stopped).numbers.contains(&task.number())
    }

    /// The numbers of the pieces that are to end early, each once.
    pub fn take_stopped(&self) -> Vec<usize> {
        if self.0.stops.load(Relaxed) == 0 {
            return Vec::new();
        }
        let Stopped { numbers, untold } = &mut *lock(&self.0.stopped);
        untold.drain(..).filter(|number| numbers.contains(number)).collect()
    }

    /// Takes nothing more: what lies on the desk, and whatever is put there later, comes back as this, and nobody has begun
    /// it. What has been taken is still to be given back.
    pub fn refuse(&self, refusal: impl Fn() -> R + Send + 'static) {
        let mut queue = lock(&self.0.queue);
        queue.closed = true;
        let left: Vec<_> = queue.pieces.drain(..).map(|(number, _)| (number, Some(refusal()))).collect();
        queue.refusal = Some(Box::new(refusal));
        drop(queue);
        self.0.put_done(left.into_iter());
    }

    /// Gives pieces back, all at once.
    pub fn give_back(&self, done: &mut Vec<(Task<W, R>, R)>) {
        self.0.put_done(done.drain(..).map(|(mut task, result)| {
            task.ticket.shared = None;
            (task.ticket.number, Some(result))
        }));
    }
}

impl<W, R> Task<W, R> {
    /// Its number among the pieces that are not done.
    pub fn number(&self) -> usize {
        self.ticket.number
    }
}

impl<W, R> Drop for Ticket<W, R> {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            shared.put_done(std::iter::once((self.number, None)));
        }
    }
}

impl<W, R> Shared<W, R> {
    fn new(bell: Option<DeskBell>) -> Self {
        Self {
            queue: Mutex::new(Queue { pieces: VecDeque::new(), idle: 0, closed: false, refusal: None }),
            arrived: Condvar::new(),
            done: Mutex::new(Done { pieces: Vec::new(), waker: None }),
            stopped: Mutex::default(),
            stops: AtomicUsize::new(0),
            bell,
        }
    }

    fn put(&self, number: usize, work: W) {
        let mut queue = lock(&self.queue);
        if queue.closed {
            let refused = queue.refusal.as_ref().map(|refusal| refusal());
            drop(queue);
            return self.put_done(std::iter::once((number, refused)));
        }
        queue.pieces.push_back((number, work));
        let someone_waits = queue.idle > 0;
        drop(queue);
        if someone_waits {
            self.arrived.notify_one();
        }
        self.ring();
    }

    fn ring(&self) {
        if let Some(bell) = &self.bell {
            bell();
        }
    }

    /// What is on the desk is left undone.
    fn close(&self) -> Vec<usize> {
        let mut queue = lock(&self.queue);
        queue.closed = true;
        let left = queue.pieces.drain(..).map(|(number, _)| number).collect();
        drop(queue);
        self.arrived.notify_all();
        left
    }

    fn put_done(&self, pieces: impl Iterator<Item = (usize, Option<R>)>) {
        let mut done = lock(&self.done);
        done.pieces.extend(pieces);
        // Whoever has been called will take all that is there.
        let waker = if done.pieces.is_empty() { None } else { done.waker.take() };
        drop(done);
        waker.into_iter().for_each(Waker::wake);
    }

    fn take_done(&self, waker: &Waker, into: &mut Vec<(usize, Option<R>)>) {
        let mut done = lock(&self.done);
        std::mem::swap(&mut done.pieces, into);
        done.waker = Some(waker.clone());
    }

    fn stop(&self, number: usize) {
        let mut stopped = lock(&self.stopped);
        stopped.numbers.insert(number);
        if self.bell.is_some() {
            stopped.untold.push(number);
        }
        drop(stopped);
        self.stops.fetch_add(1, Relaxed);
        self.ring();
    }

    fn forget(&self, number: usize) {
        lock(&self.stopped).numbers.remove(&number);
        self.stops.fetch_sub(1, Relaxed);
    }
}

/// Nothing under these locks panics half way, so what a panicking thread left is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
