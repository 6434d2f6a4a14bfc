//! Tasks that workers took from a queue and have not given back, by their numbers.
//!
//! For workers that cannot keep a [`BlockingTask`] itself: a loop of the program, an executor, or another machine. They
//! are told numbers, and say by a number what became of it.
//!
//! Rules: (1) a task is taken from the queue and kept here under one lock, so that none is between the two when what is
//! outstanding is settled; (2) a number is settled once, and one that is not known any more is passed over, since a
//! stop and an end may cross; (3) nothing is given back under the lock, as that wakes the engine.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::blocking::{BlockingTask, WorkQueue};

/// A work queue, seen from workers that know its tasks by number.
pub struct Outstanding<W, R> {
    queue: WorkQueue<W, R>,
    /// By number: the queue gives the lowest that are free, so that it is as long as there were tasks at once.
    tasks: Mutex<Vec<Option<BlockingTask<W, R>>>>,
}

/// What workers are to begin and to stop.
#[derive(Debug)]
pub struct Assignments<T> {
    /// The tasks to begin: their numbers, and what was made of their work.
    pub begun: Vec<(usize, T)>,
    /// The numbers of those to stop, each once.
    pub stopped: Vec<usize>,
    /// Whether there may be more.
    pub is_open: bool,
}

impl<W, R> Outstanding<W, R> {
    /// With nothing taken.
    pub fn new(queue: WorkQueue<W, R>) -> Self {
        Self { queue, tasks: Mutex::default() }
    }

    /// Takes all that is in the queue, without waiting. `begin` makes of each task's work what its worker needs; it is
    /// called under the lock, and must not call back.
    pub fn take<T>(&self, mut begin: impl FnMut(&mut W) -> T) -> Assignments<T> {
        let mut taken = Vec::new();
        let mut tasks = self.lock();
        let is_open = self.queue.take(usize::MAX, false, &mut taken);
        let begun = taken.into_iter().map(|mut task| {
            let (number, work) = (task.number(), begin(&mut task.work));
            if tasks.len() <= number {
                tasks.resize_with(number + 1, || None);
            }
            tasks[number] = Some(task);
            (number, work)
        });
        let begun = begun.collect();
        // After the tasks: a number that was free until now may have been that of one that was stopped. And only of
        // tasks that were taken: one that has come since then is begun the next time, and would not be stopped then.
        let stopped = self.queue.take_stopped(|number| matches!(tasks.get(number), Some(Some(_))));
        Assignments { begun, stopped, is_open }
    }

    /// Gives tasks back with their results, all at once.
    pub fn give_back(&self, ends: impl IntoIterator<Item = (usize, R)>) {
        let (mut done, mut unknown) = (Vec::new(), Vec::new());
        let mut tasks = self.lock();
        for (number, result) in ends {
            match tasks.get_mut(number).and_then(Option::take) {
                Some(task) => done.push((task, result)),
                // Dropped after the lock: a result may be an object of the program, and run its code.
                None => unknown.push(result),
            }
        }
        drop(tasks);
        self.queue.give_back(&mut done);
    }

    /// Takes nothing more: what lies in the queue and whatever is submitted later comes back as `refusal`, without
    /// having been begun. What has been taken comes back as `lost`, but for these numbers, which go on. Returns what
    /// lay in the queue.
    pub fn refuse(
        &self,
        but: &HashSet<usize>,
        refusal: impl Fn() -> R + Send + 'static,
        lost: impl Fn() -> R,
    ) -> Vec<W> {
        // First: what is given back makes room, and nothing is to be begun in its place.
        let untaken = self.queue.refuse(refusal);
        let mut tasks = self.lock();
        let left = tasks.iter_mut().enumerate().filter(|(number, _)| !but.contains(number));
        let mut done = left.filter_map(|(_, task)| Some((task.take()?, lost()))).collect();
        drop(tasks);
        self.queue.give_back(&mut done);
        untaken
    }

    /// No step under this lock leaves the tasks half changed, so what a panicking thread left is whole.
    fn lock(&self) -> MutexGuard<'_, Vec<Option<BlockingTask<W, R>>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
