//! The tasks of a program as plain data: where each stands, what it waits for, and what could wake it.
//!
//! A [`Snapshot`] is made in one go by what can look at objects (the Python module, with the interpreter's lock), and
//! read here without the interpreter: who could still move (`liveness.rs`), what is wrong (`findings/`), and both in
//! words (`report.rs`, `text.rs`). Tasks, sites and things are known by their numbers.
//!
//! Nothing of a program's values is in it: no locals, no reprs. Names of tasks are, and are escaped where shown.

pub mod findings;
pub mod heap;
pub mod liveness;
pub mod report;
pub mod roles;
pub mod text;
pub mod with_blocks;
pub mod words;

use self::{heap::Heap, roles::Role};

/// A program's tasks, at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The version of the interpreter.
    pub python: String,
    /// The process.
    pub process: u32,
    /// Loops, in the order of their first task.
    pub loops: Vec<Loop>,
    /// Tasks that are not done, and those of the others that ended by an exception which nothing has fetched.
    pub tasks: Vec<Task>,
    /// Lines that any stack has.
    pub sites: Vec<Site>,
    /// What tasks wait in.
    pub things: Vec<Thing>,
    /// Threads with frames of Python's.
    pub threads: Vec<Thread>,
    /// Executors and their like.
    pub pools: Vec<Pool>,
    /// Coroutines that were dropped before they began, as the interpreter has warned of them.
    pub never_awaited: Vec<NeverAwaited>,
    /// Who refers to whom.
    pub heap: Heap,
    /// The program has handlers of signals, which may do anything at any time.
    pub has_signal_handlers: bool,
    /// What could not be seen, in words.
    pub not_visible: Vec<String>,
}

/// An event loop.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Loop {
    /// Its class, with its module.
    pub kind: String,
    /// The thread that runs it (`threads`), as far as known.
    pub thread: Option<usize>,
    /// What is known of what it has to do beside its tasks.
    pub activity: Activity,
    /// It waits for its sockets and timers at this moment; false as well where that is not visible.
    pub is_parked: bool,
    /// It has cancelled all of its tasks, and waits for their ends: the end of `asyncio.run`.
    pub is_ending: bool,
}

/// What a loop has to do that no task shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Activity {
    /// The loop hides it.
    #[default]
    NotVisible,
    /// Seen.
    Known {
        /// Callbacks that are to run at once.
        ready: usize,
        /// Timers that were not cancelled.
        timers: usize,
        /// Sockets and pipes that are watched, but for the loop's own.
        descriptors: usize,
        /// Signals with a handler of the loop.
        signals: usize,
    },
}

/// A task.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Task {
    /// The address, which tells it from others for as long as it lives.
    pub identity: usize,
    /// The address of the future that it waits for, or 0.
    pub waiter: usize,
    /// Its name, if that is plain text.
    pub name: Option<String>,
    /// Its loop.
    pub of_loop: usize,
    /// From the coroutine of the task to what it awaits, and so on (`sites`).
    pub stack: Vec<usize>,
    /// What it waits for.
    pub wait: Wait,
    /// The future that it waits for is done: it is about to go on.
    pub is_woken: bool,
    /// What it has taken and not given back.
    pub holds: Vec<Hold>,
    /// It has a deadline of its own: it will go on by itself.
    pub has_deadline: bool,
    /// How often it was asked to stop, and has not taken that back.
    pub cancels: u32,
    /// It is at work on its cancellation: an `except` or `finally` that has not ended.
    pub is_cleaning_up: bool,
}

/// Something that a task has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// What (`things`).
    pub thing: usize,
    /// The line that took it (`sites`).
    pub site: usize,
}

/// What a task waits for.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Wait {
    /// For its turn.
    #[default]
    Ready,
    /// Runs at this moment.
    Running,
    /// It is done, by an exception that nothing has fetched.
    Failed {
        /// The type of the exception.
        kind: String,
        /// The line that raised it.
        site: Option<usize>,
    },
    /// For a time.
    Timer {
        /// Seconds from now; `None` where the loop does not say.
        left: Option<f64>,
    },
    /// For other tasks.
    Tasks {
        /// By what.
        how: Together,
        /// Those that are not done.
        of: Vec<usize>,
        /// Futures among them that are no tasks, and are not done.
        others: usize,
        /// How many there were.
        all: usize,
    },
    /// In something that other tasks change.
    Thing {
        /// What (`things`).
        thing: usize,
        /// The function: `Queue.get`.
        call: &'static str,
    },
    /// For the network.
    Network {
        /// The function.
        call: &'static str,
        /// The other end, if it is visible.
        peer: Option<String>,
    },
    /// For a child process.
    Subprocess {
        /// Its id.
        process: Option<i64>,
    },
    /// For a job of an executor.
    Job {
        /// The thread that runs it (`threads`); none yet, or none that is visible.
        thread: Option<usize>,
        /// It has not begun.
        is_queued: bool,
    },
    /// For a worker thread of anyio's that runs its function.
    WorkerThread {
        /// Which (`threads`).
        thread: Option<usize>,
    },
    /// For one of the places of a limiter of anyio's.
    Limiter {
        /// Places that are taken.
        taken: usize,
        /// All places.
        places: Option<f64>,
    },
    /// For a future that tells nothing of itself.
    Future {
        /// What (`things`).
        thing: usize,
    },
    /// For something of a kind that is not known here.
    Other {
        /// Its type.
        kind: String,
    },
}

/// By what a task waits for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Together {
    /// `await task`.
    One,
    /// `asyncio.gather`.
    Gather,
    /// `asyncio.wait`.
    Wait,
    /// The end of a `TaskGroup`.
    TaskGroup,
    /// `asyncio.shield`.
    Shield,
    /// `asyncio.wait_for`.
    WaitFor,
}

/// Something that tasks wait in.
#[derive(Debug, Clone, PartialEq)]
pub struct Thing {
    /// What it is.
    pub kind: ThingKind,
    /// How many of its kind came before.
    pub number: usize,
    /// Whether it is taken (a lock, a semaphore without places).
    pub is_taken: bool,
    /// How many may hold it.
    pub places: Option<usize>,
}

/// What tasks wait in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ThingKind {
    /// `asyncio.Queue` and its like.
    Queue,
    /// `asyncio.Event`.
    Event,
    /// `asyncio.Condition`.
    Condition,
    /// `asyncio.Lock`.
    Lock,
    /// `asyncio.Semaphore`.
    Semaphore,
    /// `asyncio.Barrier`.
    Barrier,
    /// A future.
    Future,
}

impl ThingKind {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Queue => "Queue",
            Self::Event => "Event",
            Self::Condition => "Condition",
            Self::Lock => "Lock",
            Self::Semaphore => "Semaphore",
            Self::Barrier => "Barrier",
            Self::Future => "Future",
        }
    }
}

/// A line that something stands at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Site {
    /// Its file.
    pub file: String,
    /// Its line, from 1 on.
    pub line: u32,
    /// The qualified name of its function.
    pub function: String,
    /// It is of the standard library, of a package that was installed, or of unisono.
    pub is_framework: bool,
    /// What it does, if it is known here.
    pub role: Option<Role>,
}

/// A thread.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Thread {
    /// Its name, if that is plain text.
    pub name: Option<String>,
    /// From its first function to where it stands (`sites`).
    pub stack: Vec<usize>,
    /// The one that asked for this look.
    pub is_looking: bool,
}

/// Threads that do jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pool {
    /// What it is.
    pub kind: PoolKind,
    /// The most threads that it may have, if that is visible.
    pub most: Option<usize>,
    /// What is being done.
    pub busy: Vec<Busy>,
    /// Threads without a job.
    pub idle: usize,
    /// Jobs that wait for a thread.
    pub waiting: usize,
}

/// Whose threads they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PoolKind {
    /// `concurrent.futures.ThreadPoolExecutor`: `to_thread`, `run_in_executor`.
    #[default]
    Executor,
    /// anyio's worker threads: functions of FastAPI and Starlette that are no coroutines.
    Anyio,
}

/// A thread with a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Busy {
    /// Which (`threads`).
    pub thread: usize,
}

/// A coroutine that was dropped before it began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeverAwaited {
    /// Its function.
    pub function: String,
    /// Where it was dropped (`sites`).
    pub site: usize,
}

impl Snapshot {
    /// The line of the program itself that a stack has last: what its author would look for first.
    pub fn own_site(&self, stack: &[usize]) -> Option<usize> {
        stack.iter().rev().find(|&&site| !self.sites[site].is_framework).or_else(|| stack.last()).copied()
    }

    /// Whether a thread or a handler of a signal may act that belongs to no loop.
    pub fn acts_beside_loops(&self) -> bool {
        self.has_signal_handlers
            || self.threads.iter().enumerate().any(|(number, thread)| {
                !thread.is_looking
                    && !self.loops.iter().any(|seen| seen.thread == Some(number))
                    && !thread.stack.iter().any(|&site| self.sites[site].role.is_some_and(Role::is_of_pool))
            })
    }

    /// By thing: the tasks that have taken it.
    pub fn all_holders(&self) -> Vec<Vec<usize>> {
        let mut holders = vec![Vec::new(); self.things.len()];
        for (task, seen) in self.tasks.iter().enumerate() {
            seen.holds.iter().for_each(|hold| holders[hold.thing].push(task));
        }
        holders
    }

    /// Who has taken one thing, and where. Of many things, `all_holders` is quicker.
    pub fn holders(&self, thing: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.tasks.iter().enumerate().flat_map(move |(task, seen)| {
            seen.holds.iter().filter(move |hold| hold.thing == thing).map(move |hold| (task, hold.site))
        })
    }
}
