//! Work that blocks, on threads of our own, as futures of the reactor.
//!
//! [`BlockingPool::submit`] puts a task into the queue and returns a handle, a future of its result;
//! [`BlockingPool::deliver`] must be polled beside the handles. A worker takes several tasks at once
//! ([`WorkQueue::take`]) and gives them back as they are done, so one wake-up of the reactor carries all that ended
//! since the last one.
//!
//! A thread cannot be stopped. When a handle asks for it or is dropped, the task is marked: a worker that looks
//! ([`WorkQueue::is_stopped`]) ends it early, and until it does, the slot of the item stays held. A task that a worker
//! drops, or panics over, comes back without a result; the thread begins anew.
//!
//! The workers may also be foreign: [`BlockingPool::with_foreign_workers`] starts no threads, and calls a notifier when
//! there is something in the queue. That is how functions of Python are run, on whatever runs them there. What lies in
//! the queue when the pool is dropped is handed out no more, and [`WorkQueue::refuse`] tells of it: a task that was
//! decided without its worker is known by nothing else.

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

/// Workers, seen from the reactor. They end when it is dropped, each after the tasks that it has taken.
pub struct BlockingPool<W, R> {
    shared: UnattachedPool<W, R>,
    tasks: RefCell<Slab<TaskState<R>>>,
}

/// A pool that is not on its reactor's thread yet. When it is dropped, its queue is closed.
pub struct UnattachedPool<W, R>(Arc<Shared<W, R>>);

/// The tasks, seen from a worker.
pub struct WorkQueue<W, R>(Arc<Shared<W, R>>);

/// Called when there is something in a queue. Must not block, and must not call back.
pub type WorkNotifier = Arc<dyn Fn() + Send + Sync>;

/// A task that a worker has taken.
pub struct BlockingTask<W, R> {
    /// What is to be done.
    pub work: W,
    guard: TaskGuard<W, R>,
}

/// Gives a task back when it is dropped, without a result unless there is one.
struct TaskGuard<W, R> {
    number: usize,
    shared: Option<Arc<Shared<W, R>>>,
}

/// A task, seen from the reactor.
enum TaskState<R> {
    Running {
        waker: Option<Waker>,
        hold: Hold,
    },
    Done(Option<R>),
    /// Its handle is gone; the slot is held until a worker gives it back.
    Abandoned(#[expect(dead_code, reason = "held for its drop")] Hold),
}

struct Shared<W, R> {
    /// Held to move tasks in or out; never while one is worked on.
    queue: Mutex<Queue<W, R>>,
    arrived: Condvar,
    /// As the queue's.
    done: Mutex<Done<R>>,
    /// Tasks that are to stop; looked at only when `stops` is not 0.
    stopped: Mutex<Stopped>,
    stops: AtomicUsize,
    /// Where the workers are foreign.
    notifier: Option<WorkNotifier>,
}

#[derive(Default)]
struct Stopped {
    numbers: HashSet<usize>,
    /// Those that no worker has been told of.
    untold: Vec<usize>,
}

struct Queue<W, R> {
    tasks: VecDeque<(usize, W)>,
    /// Workers that wait for a task.
    idle: usize,
    closed: bool,
    /// What becomes of a task that comes after the workers have gone, where they have said it.
    refusal: Option<Refusal<R>>,
}

/// Makes the result of a task that was never begun.
type Refusal<R> = Box<dyn Fn() -> R + Send>;

struct Done<R> {
    tasks: Vec<(usize, Option<R>)>,
    waker: Option<Waker>,
}

impl<W: Send + 'static, R: Send + 'static> BlockingPool<W, R> {
    /// Starts so many threads, each of which runs `worker` until the queue is closed.
    ///
    /// # Errors
    /// When not even one thread can be started.
    pub fn start(
        threads: usize,
        name: &str,
        worker: impl Fn(&WorkQueue<W, R>) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(None));
        let worker = Arc::new(worker);
        for started in 0..threads.max(1) {
            let (queue, worker) = (WorkQueue(shared.clone()), worker.clone());
            // What a worker had taken when it panicked has been given back; its own state is made anew.
            let work = move || while catch_unwind(AssertUnwindSafe(|| worker(&queue))).is_err() {};
            match thread::Builder::new().name(name.to_owned()).spawn(work) {
                Ok(_) => {}
                // Fewer threads do the same work.
                Err(_) if started > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(UnattachedPool(shared).attach())
    }

    /// A pool without threads, whose worker is what takes from the queue returned here. The notifier is called when
    /// there are tasks in it, tasks to stop, or when it is closed. When the queue is dropped, what is submitted comes
    /// back without a result.
    pub fn with_foreign_workers(notifier: WorkNotifier) -> (UnattachedPool<W, R>, WorkQueue<W, R>) {
        let shared = Arc::new(Shared::new(Some(notifier)));
        (UnattachedPool(shared.clone()), WorkQueue(shared))
    }

    /// Puts a task into the queue. `hold` is kept until a worker is through with it, even when the handle is dropped
    /// before.
    pub fn submit(&self, work: W, hold: Hold) -> JoinHandle<'_, W, R> {
        let number = self.tasks.borrow_mut().insert(TaskState::Running { waker: None, hold });
        self.shared.0.push(number, work);
        JoinHandle { pool: self, number, is_stopped: false }
    }

    /// Hands results to their handles. Never ends; to be polled beside them.
    pub async fn deliver(&self) {
        let mut batch = Vec::new();
        poll_fn(|context| {
            self.shared.0.take_done(context.waker(), &mut batch);
            let mut tasks = self.tasks.borrow_mut();
            for (number, result) in batch.drain(..) {
                match std::mem::replace(&mut tasks[number], TaskState::Done(result)) {
                    TaskState::Running { waker, hold } => {
                        // Before the attempt goes on: if it ended with a hold, its place would count as abandoned.
                        drop(hold);
                        waker.into_iter().for_each(Waker::wake);
                    }
                    TaskState::Abandoned(_) => {
                        self.shared.0.forget(number);
                        tasks.remove(number);
                    }
                    TaskState::Done(_) => unreachable!("a task is given back once"),
                }
            }
            Poll::Pending
        })
        .await
    }
}

impl<W, R> UnattachedPool<W, R> {
    /// The pool, on the thread where it stays.
    pub fn attach(self) -> BlockingPool<W, R> {
        BlockingPool { shared: self, tasks: RefCell::default() }
    }
}

impl<W, R> Drop for UnattachedPool<W, R> {
    fn drop(&mut self) {
        self.0.close();
        // No handle is told any more, and a waker holds its reactor, with descriptors, for as long as workers keep the
        // queue.
        let _waker = lock(&self.0.done).waker.take();
        self.0.notify();
    }
}

impl<W, R> Drop for WorkQueue<W, R> {
    fn drop(&mut self) {
        // One thread of ours that ends leaves the queue to the others.
        if self.0.notifier.is_some() {
            // Closed before the tasks are given back: what is pushed meanwhile is refused there, and is not left over.
            self.0.close();
            let left = std::mem::take(&mut lock(&self.0.queue).tasks);
            self.0.put_done(left.into_iter().map(|(number, _)| (number, None)));
        }
    }
}

/// A task that is waited for: a future of its result, or of `None` when no worker could do it.
pub struct JoinHandle<'a, W, R> {
    pool: &'a BlockingPool<W, R>,
    number: usize,
    is_stopped: bool,
}

impl<W, R> JoinHandle<'_, W, R> {
    /// Asks the worker that has taken it to end it early.
    pub fn stop(&mut self) {
        if !std::mem::replace(&mut self.is_stopped, true) {
            self.pool.shared.0.stop(self.number);
        }
    }
}

impl<W, R> Future for JoinHandle<'_, W, R> {
    type Output = Option<R>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<R>> {
        let mut tasks = self.pool.tasks.borrow_mut();
        match tasks.get_mut(self.number) {
            Some(TaskState::Running { waker, .. }) => {
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
            Some(TaskState::Done(result)) => Poll::Ready(result.take()),
            _ => unreachable!("a task stays as long as its handle"),
        }
    }
}

impl<W, R> Drop for JoinHandle<'_, W, R> {
    fn drop(&mut self) {
        let mut tasks = self.pool.tasks.borrow_mut();
        if let TaskState::Running { hold, .. } = std::mem::replace(&mut tasks[self.number], TaskState::Done(None)) {
            // The number stays taken until a worker gives it back, or the stop could hit the next task that gets it.
            tasks[self.number] = TaskState::Abandoned(hold);
            drop(tasks);
            self.stop();
        } else {
            tasks.remove(self.number);
            drop(tasks);
            if self.is_stopped {
                self.pool.shared.0.forget(self.number);
            }
        }
    }
}

impl<W, R> WorkQueue<W, R> {
    /// Takes up to `most` tasks, and leaves their share to workers that wait. Waits for the first one if `wait` says
    /// so. Returns false when the queue is closed and there will be no more.
    pub fn take(&self, most: usize, wait: bool, into: &mut Vec<BlockingTask<W, R>>) -> bool {
        let mut queue = lock(&self.0.queue);
        while wait && queue.tasks.is_empty() && !queue.closed {
            queue.idle += 1;
            queue = self.0.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
        // Workers that wait were woken by the same tasks, and may not have come as far as this lock.
        let share = queue.tasks.len().div_ceil(queue.idle + 1);
        // Nothing waits for what a closed queue holds.
        let count = if queue.closed { 0 } else { share.min(most) };
        into.extend(
            queue
                .tasks
                .drain(..count)
                .map(|(number, work)| BlockingTask { work, guard: TaskGuard { number, shared: Some(self.0.clone()) } }),
        );
        !queue.closed
    }

    /// Whether this task is to end early.
    pub fn is_stopped(&self, task: &BlockingTask<W, R>) -> bool {
        self.0.stops.load(Relaxed) > 0 && lock(&self.0.stopped).numbers.contains(&task.number())
    }

    /// The numbers of the tasks that are to end early, each once, of those that the caller knows. The others, which
    /// are in the queue still, are told when they have been taken.
    pub fn take_stopped(&self, is_known: impl Fn(usize) -> bool) -> Vec<usize> {
        if self.0.stops.load(Relaxed) == 0 {
            return Vec::new();
        }
        let Stopped { numbers, untold } = &mut *lock(&self.0.stopped);
        untold.retain(|number| numbers.contains(number));
        untold.extract_if(.., |number| is_known(*number)).collect()
    }

    /// Takes nothing more: what lies in the queue, and whatever is submitted later, comes back as this without having
    /// been begun. What has been taken is still to be given back. Returns what lay in the queue.
    pub fn refuse(&self, refusal: impl Fn() -> R + Send + 'static) -> Vec<W> {
        let mut queue = lock(&self.0.queue);
        queue.closed = true;
        let (numbers, left): (Vec<_>, Vec<_>) = std::mem::take(&mut queue.tasks).into_iter().unzip();
        let refused: Vec<_> = numbers.into_iter().map(|number| (number, Some(refusal()))).collect();
        // Under the same lock as `closed`: a push that finds the queue closed finds what to say.
        queue.refusal = Some(Box::new(refusal));
        drop(queue);
        self.0.put_done(refused.into_iter());
        left
    }

    /// Gives tasks back with their results, all at once.
    pub fn give_back(&self, done: &mut Vec<(BlockingTask<W, R>, R)>) {
        self.0.put_done(done.drain(..).map(|(mut task, result)| {
            task.guard.shared = None;
            (task.guard.number, Some(result))
        }));
    }
}

impl<W, R> BlockingTask<W, R> {
    /// Its number among the tasks that are not done.
    pub fn number(&self) -> usize {
        self.guard.number
    }
}

impl<W, R> Drop for TaskGuard<W, R> {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            shared.put_done(std::iter::once((self.number, None)));
        }
    }
}

impl<W, R> Shared<W, R> {
    fn new(notifier: Option<WorkNotifier>) -> Self {
        Self {
            queue: Mutex::new(Queue { tasks: VecDeque::new(), idle: 0, closed: false, refusal: None }),
            arrived: Condvar::new(),
            done: Mutex::new(Done { tasks: Vec::new(), waker: None }),
            stopped: Mutex::default(),
            stops: AtomicUsize::new(0),
            notifier,
        }
    }

    fn push(&self, number: usize, work: W) {
        let mut queue = lock(&self.queue);
        if queue.closed {
            let refused = queue.refusal.as_ref().map(|refusal| refusal());
            drop(queue);
            return self.put_done(std::iter::once((number, refused)));
        }
        queue.tasks.push_back((number, work));
        // A worker that is busy looks into the queue before it waits. The lock goes first, or the worker that is woken
        // runs into it.
        let has_idle = queue.idle > 0;
        drop(queue);
        if has_idle {
            self.arrived.notify_one();
        }
        self.notify();
    }

    fn notify(&self) {
        if let Some(notifier) = &self.notifier {
            notifier();
        }
    }

    /// What is in the queue is left undone.
    fn close(&self) {
        lock(&self.queue).closed = true;
        self.arrived.notify_all();
    }

    fn put_done(&self, tasks: impl Iterator<Item = (usize, Option<R>)>) {
        let mut done = lock(&self.done);
        done.tasks.extend(tasks);
        // The waker that was called leads to a turn that takes all that is there.
        let waker = if done.tasks.is_empty() { None } else { done.waker.take() };
        // Outside of the lock: a waker may run anything.
        drop(done);
        waker.into_iter().for_each(Waker::wake);
    }

    fn take_done(&self, waker: &Waker, into: &mut Vec<(usize, Option<R>)>) {
        // Both under one lock: what is put there after the look finds the waker.
        let mut done = lock(&self.done);
        std::mem::swap(&mut done.tasks, into);
        done.waker = Some(waker.clone());
    }

    fn stop(&self, number: usize) {
        let mut stopped = lock(&self.stopped);
        stopped.numbers.insert(number);
        if self.notifier.is_some() {
            stopped.untold.push(number);
        }
        drop(stopped);
        // Counted once it is listed, and told of last: a foreign worker looks once for each notice, and a count of 0
        // would send it away. One of ours that comes too early looks again after its next piece.
        self.stops.fetch_add(1, Relaxed);
        self.notify();
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
