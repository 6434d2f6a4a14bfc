//! What a pool holds, all of it under one lock, and the states that it can be in.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    sync::{Arc, Condvar, Mutex, atomic::AtomicU64},
    time::Duration,
};

use super::{starts::Starts, system::System, waiting::Waiting};
use crate::{blob::Arena, spin::Spin, task::Task, worker::Worker, zygote::Zygote};

/// What a pool is like.
#[derive(Debug, Clone)]
pub struct PoolOptions {
    /// How many workers at most.
    pub workers: usize,
    /// How the zygote makes them.
    pub method: u8,
    /// After so many tasks a worker is replaced.
    pub tasks_per_worker: Option<u64>,
    /// How many tasks may wait or run before `submit` waits; `None` for any number.
    pub pending: Option<usize>,
    /// How many tasks with the same key may run at once.
    pub per_key: usize,
}

/// Executes tasks in worker processes.
#[derive(Debug)]
pub struct Pool {
    pub(super) options: PoolOptions,
    pub(super) zygote: Arc<Zygote>,
    pub(super) arena: Arena,
    pub(super) core: Mutex<Core>,
    /// Something ended, or the driver has left.
    pub(super) changed: Condvar,
    /// There is something to watch over, for [`Pool::serve`].
    pub(super) wanted: Condvar,
    pub(super) next_task: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Core {
    /// `None` once the pool is over.
    pub(super) system: Option<Arc<System>>,
    pub(super) waiting: Waiting,
    pub(super) workers: HashMap<usize, Worker>,
    pub(super) last_worker: usize,
    /// When to look whether a task is past its time: (when, worker, cell).
    pub(super) deadlines: BinaryHeap<Reverse<(u64, usize, u64)>>,
    /// Tasks that have ended, and of which [`Pool::serve`] is to tell.
    pub(super) told: Vec<u64>,
    /// How many tasks are observed and have not ended.
    pub(super) observed: usize,
    /// How many tasks have no outcome.
    pub(super) open: usize,
    pub(super) driver: Driver,
    pub(super) followers: usize,
    /// The worker that would have been given more, had it had a free cell.
    pub(super) lacks_cell: Option<usize>,
    pub(super) lifecycle: Lifecycle,
    pub(super) server: Server,
    pub(super) starts: Starts,
    /// What is to be said to the program's people.
    pub(super) notices: Vec<String>,
    /// When was last looked after what nothing announces, in nanoseconds.
    pub(super) looked: u64,
    /// How long a task takes, in nanoseconds; a mean that forgets.
    pub(super) mean: u64,
    /// Something was read at the last look.
    pub(super) is_fresh: bool,
    /// Room for a message, used again and again.
    pub(super) text: Vec<u8>,
    /// What workers have written to their standard error and was not passed on yet.
    pub(super) words: Vec<u8>,
    /// When a driver was last woken.
    pub(super) woken: u64,
    pub(super) spin: Spin,
}

/// Whether tasks are taken.
#[derive(Debug)]
pub(super) enum Lifecycle {
    Open,
    /// No more, and it ends when those that it has are done.
    Closed,
    /// There will be no workers, and why.
    Broken(String),
}

/// The one of those that wait which sleeps in epoll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Driver {
    /// None of them does.
    Absent,
    /// It looks for results before it sleeps, or at what has woken it.
    Awake,
    /// Until then at the latest, in nanoseconds.
    Asleep { until: u64 },
}

/// The thread in [`Pool::serve`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Server {
    /// It drives, or there is none.
    Awake,
    /// It sleeps until something is wanted of it, or for a moment.
    Resting,
    /// It sleeps until something is wanted of it, the next task included.
    Dormant,
    /// It is to return, as is each that comes.
    Stopped,
}

impl Core {
    pub(super) fn new(per_key: usize, system: System) -> Self {
        Self {
            system: Some(Arc::new(system)),
            waiting: Waiting::new(per_key),
            workers: HashMap::new(),
            last_worker: 0,
            deadlines: BinaryHeap::new(),
            told: Vec::new(),
            observed: 0,
            open: 0,
            driver: Driver::Absent,
            followers: 0,
            lacks_cell: None,
            lifecycle: Lifecycle::Open,
            server: Server::Awake,
            starts: Starts::default(),
            notices: Vec::new(),
            looked: 0,
            mean: 0,
            is_fresh: false,
            text: Vec::new(),
            words: Vec::new(),
            woken: 0,
            spin: Spin::new(),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        !matches!(self.lifecycle, Lifecycle::Open)
    }

    /// Why there will be no workers, if that is so.
    pub(super) fn broken(&self) -> Option<&String> {
        match &self.lifecycle {
            Lifecycle::Broken(why) => Some(why),
            Lifecycle::Open | Lifecycle::Closed => None,
        }
    }

    pub(super) fn has_driver(&self) -> bool {
        self.driver != Driver::Absent
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_closed() && self.open == 0 && self.workers.is_empty()
    }

    /// Wakes the driver.
    pub(super) fn notify(&self) {
        if let Some(system) = &self.system {
            system.notify();
        }
    }
}

/// What one may wait for.
#[derive(Debug, Clone, Copy)]
pub enum Awaited<'a> {
    /// The end of a task.
    End(&'a Task),
    /// Room for another task, if their number is bounded.
    Room,
    /// That nothing is left of a closed pool.
    Over,
}

pub(super) fn nanoseconds_of(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 4).min(u64::MAX / 4)
}
