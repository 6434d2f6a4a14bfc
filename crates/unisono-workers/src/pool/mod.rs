//! The pool: one queue, a worker per core or as many as asked for, driven by the threads that wait.
//!
//! Everything is under one lock, held for short and never while the interpreter is entered. `pump` is the whole of it:
//! read what the workers have published, see which of them have died, stop what is past its time, hand out what waits.
//! It is run by each thread that submits, asks or waits. Of those that wait, one sleeps in epoll (the *driver*), the
//! others on a condition; the driver tells them when something has ended, and when it leaves. [`Pool::serve`] is for a
//! thread in the background that drives only while no other thread does, or while a task is observed.
//!
//! Deaths: what a worker had ended counts, what it had not begun goes back to the front of the queue, and what it was
//! running has died with it, or is tried again if its terms allow that and it has not killed three workers. Starts that
//! fail are `starting.rs`.

mod drive;
mod flow;
mod news;
#[cfg(test)]
mod simulated;
mod starting;
mod starts;
mod state;
mod system;
mod telling;
mod waiting;

use std::{
    io,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

pub use news::{Importance, PoolNews, TaskNews};
pub use state::{Awaited, Loss, Pool, PoolOptions};
pub use system::PoolDescriptors;

use starting::ALWAYS;
use state::{Core, Lifecycle, Server};
use system::System;

use crate::{
    blob::{Arena, Blob},
    message::MOST,
    task::{Function, State, Task, TaskOutcome, Terms, held},
    zygote::Zygote,
};

impl Pool {
    /// A pool; workers start when there is something for them to do.
    ///
    /// # Errors
    /// When there are no descriptors left, or workers are to inherit too many.
    pub fn new(options: PoolOptions, zygote: Arc<Zygote>, given: PoolDescriptors) -> io::Result<Self> {
        if given.inherited.len() > MOST - ALWAYS {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "workers cannot inherit so many descriptors"));
        }
        Ok(Self {
            core: Mutex::new(Core::new(options.per_key, System::new(given)?)),
            options,
            zygote,
            arena: Arena::default(),
            changed: Condvar::new(),
            wanted: Condvar::new(),
            next_task: AtomicU64::new(0),
        })
    }

    /// Where long arguments are put.
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// Submits a task. `Err` when the pool is closed, with the reason when it is broken; `observed` tasks are told by
    /// [`Pool::serve`].
    ///
    /// # Errors
    /// Why nothing can be submitted any more.
    pub fn submit(
        &self,
        function: Arc<Function>,
        arguments: Blob,
        terms: Terms,
        observed: bool,
    ) -> Result<Arc<Task>, Option<String>> {
        let number = self.next_task.fetch_add(1, Ordering::Relaxed);
        let task = Arc::new(Task::new(number, function, arguments, terms, observed));
        let mut core = held(&self.core);
        match &core.lifecycle {
            Lifecycle::Open => {}
            Lifecycle::Closed => return Err(None),
            Lifecycle::Broken(why) => return Err(Some(why.clone())),
        }
        core.open += 1;
        core.observed += usize::from(observed);
        core.waiting.push(task.clone());
        self.hand_out(&mut core);
        if !core.waiting.is_empty() {
            self.read(&mut core);
            self.hand_out(&mut core);
        }
        if core.server == Server::Dormant {
            core.server = Server::Resting;
            self.wake_server(&core);
        }
        Ok(task)
    }

    /// Whether `submit` may have to wait for room.
    pub fn is_bounded(&self) -> bool {
        self.options.pending.is_some()
    }

    /// Where a task is now.
    pub fn state(&self, task: &Task) -> State {
        if !task.has_ended() {
            let mut core = held(&self.core);
            self.pump(&mut core);
            if !task.has_ended() {
                let place = held(&task.inner).place;
                let begun = place.is_some_and(|(worker, cell)| {
                    core.workers.get(&worker).is_some_and(|worker| worker.has_begun(cell))
                });
                return if begun { State::Running } else { State::Waiting };
            }
        }
        if task.is_cancelled() { State::Cancelled } else { State::Ended }
    }

    /// Has a task told by [`Pool::serve`] when it ends; false when it has ended already.
    pub fn observe(&self, task: &Task) -> bool {
        let mut core = held(&self.core);
        if task.has_ended() {
            return false;
        }
        if !task.observed.swap(true, Ordering::Relaxed) {
            core.observed += 1;
            self.wake_server(&core);
        }
        true
    }

    /// Cancels a task that waits, or kills the worker of one that runs if `running`. False when it is too late.
    pub fn cancel(&self, task: &Arc<Task>, running: bool) -> bool {
        let mut core = held(&self.core);
        self.pump(&mut core);
        if task.has_ended() {
            return task.is_cancelled();
        }
        let place = || held(&task.inner).place;
        if let Some((number, _)) = place() {
            // Not this one alone: a later one may rely on what came with it.
            self.give_back(&mut core, number);
        }
        if let Some((number, cell)) = place() {
            let is_under_way = self.is_under_way(&mut core, number, cell);
            if is_under_way && !running || task.has_ended() {
                self.hand_out(&mut core);
                return false;
            }
            if is_under_way && let Some(worker) = core.workers.get_mut(&number) {
                worker.kill_for(task);
            }
        }
        // It may still stand in the queue, which passes over what has ended.
        self.end(&mut core, task, TaskOutcome::Cancelled);
        self.hand_out(&mut core);
        true
    }

    /// No more tasks. Those that wait are cancelled if `cancel`, those that run are killed if `kill`.
    pub fn close(&self, cancel: bool, kill: bool) {
        let mut core = held(&self.core);
        if !core.is_closed() {
            core.lifecycle = Lifecycle::Closed;
        }
        if cancel {
            self.cancel_waiting(&mut core);
        }
        if kill {
            let running: Vec<_> = core
                .workers
                .values_mut()
                .flat_map(|worker| {
                    worker.kill();
                    worker.entries.iter().filter_map(|entry| entry.task.clone()).collect::<Vec<_>>()
                })
                .collect();
            for task in running {
                self.end(&mut core, &task, TaskOutcome::Cancelled);
            }
        }
        self.drop_unmade(&mut core);
        self.pump(&mut core);
        core.notify();
        self.wanted.notify_all();
        self.changed.notify_all();
    }

    /// Nothing more can be done, for a reason of the face's: what waits is refused with it, and so is what comes.
    pub fn break_off(&self, why: &str) {
        let mut core = held(&self.core);
        self.give_up(&mut core, why);
        self.pump(&mut core);
    }

    /// Whether, and why, nothing can be submitted any more; the reason is known when the pool is broken.
    pub fn refuses(&self) -> Option<Option<String>> {
        let core = held(&self.core);
        match &core.lifecycle {
            Lifecycle::Open => None,
            Lifecycle::Closed => Some(None),
            Lifecycle::Broken(why) => Some(Some(why.clone())),
        }
    }

    /// How the last worker ended that had worked and was not let go, whether or not a task was under way.
    pub fn loss(&self) -> Option<Loss> {
        held(&self.core).loss.clone()
    }

    /// Ends [`Pool::serve`].
    pub fn stop(&self) {
        let mut core = held(&self.core);
        core.server = Server::Stopped;
        core.notify();
        drop(core);
        self.wanted.notify_all();
    }

    /// How many workers there are, and how many tasks without an outcome.
    pub fn counts(&self) -> (usize, usize) {
        let core = held(&self.core);
        (core.workers.len(), core.open)
    }
}
