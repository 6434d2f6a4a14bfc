//! One task: what is to be run, and what became of it, exactly once.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::Duration,
};

use crate::blob::{Blob, Received};

/// What is called; sent to each worker once when it has a number.
#[derive(Debug)]
pub struct Function {
    /// By which the workers know it; 0 for one that is sent with each task.
    pub number: u64,
    /// What people know it by; empty where that is nothing.
    pub name: String,
    /// Its bytes.
    pub definition: Blob,
}

/// How a task is run.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// How long an attempt may run, from when it begins.
    pub timeout: Option<Duration>,
    /// How often it is tried again after it has failed.
    pub retries: u32,
    /// What it shares with others of which only so many may run at once.
    pub key: Option<Arc<str>>,
}

/// How a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// By itself.
    Exit(i32),
    /// By a signal.
    Signal(i32),
    /// It was not seen: the process that started it is gone as well.
    Unknown,
    /// It never was: it could not be made, for this error of the system's.
    Unmade(i32),
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Exit(code) => write!(f, "exited with code {code}"),
            Self::Signal(number) => match NAMES.iter().find(|(known, _)| *known == number) {
                Some((_, name)) => write!(f, "was killed by {name}"),
                None => write!(f, "was killed by signal {number}"),
            },
            Self::Unknown => f.write_str("vanished, and so did the process that started it"),
            Self::Unmade(error) => write!(f, "could not be made: {}", std::io::Error::from_raw_os_error(error)),
        }
    }
}

/// Those by which processes end that were not asked to.
const NAMES: [(i32, &str); 8] = [
    (4, "SIGILL"),
    (6, "SIGABRT"),
    (7, "SIGBUS"),
    (8, "SIGFPE"),
    (9, "SIGKILL"),
    (11, "SIGSEGV"),
    (15, "SIGTERM"),
    (31, "SIGSYS"),
];

/// What became of a task.
#[derive(Debug)]
pub enum TaskOutcome {
    /// It returned this.
    Returned(Received),
    /// It raised this.
    Raised(Received),
    /// Its worker died under it.
    Died {
        /// How.
        death: Death,
        /// So many workers have.
        deaths: u8,
        /// The last that the worker wrote to its standard error.
        stderr_tail: Vec<u8>,
    },
    /// It ran longer than this.
    TimedOut(Duration),
    /// It lay for so long, all the time that it has, before a worker that was still starting.
    NotBegun(Duration),
    /// It was stopped on request.
    Cancelled,
    /// There are no workers to run it, and why.
    Refused(String),
}

/// Where a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// It may still be cancelled.
    Waiting,
    /// A worker has begun it.
    Running,
    /// It has its outcome.
    Ended,
    /// Cancelled before it began, or killed on request.
    Cancelled,
}

/// A task, shared by its pool and those that wait for it.
#[derive(Debug)]
pub struct Task {
    /// Its number in its pool.
    pub number: u64,
    pub(crate) function: Arc<Function>,
    pub(crate) arguments: Mutex<Option<Blob>>,
    pub(crate) terms: Terms,
    pub(crate) observed: AtomicBool,
    pub(crate) inner: Mutex<Inner>,
    ended: AtomicU8,
    outcome: Mutex<Option<TaskOutcome>>,
}

/// What only the pool touches, under its lock.
#[derive(Debug, Default)]
pub(crate) struct Inner {
    pub attempts: u32,
    pub deaths: u8,
    /// The worker that has it, and the cell.
    pub place: Option<(usize, u64)>,
    /// It counts for its key, if it has one.
    pub is_admitted: bool,
    /// Its worker was killed for it and may still be there, and so may what it did: its key is not free, nor is it
    /// tried again.
    pub is_held_by_dying: bool,
}

impl Task {
    pub(crate) fn new(number: u64, function: Arc<Function>, arguments: Blob, terms: Terms, observed: bool) -> Self {
        Self {
            number,
            function,
            arguments: Mutex::new(Some(arguments)),
            terms,
            observed: AtomicBool::new(observed),
            inner: Mutex::default(),
            ended: AtomicU8::new(0),
            outcome: Mutex::new(None),
        }
    }

    /// Whether it has its outcome.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire) != 0
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.ended.load(Ordering::Acquire) == 2
    }

    /// Takes its outcome, which there is once.
    pub fn take_outcome(&self) -> Option<TaskOutcome> {
        held(&self.outcome).take()
    }

    /// False when it has ended already.
    pub(crate) fn end(&self, outcome: TaskOutcome) -> bool {
        if self.has_ended() {
            return false;
        }
        let ended = if matches!(outcome, TaskOutcome::Cancelled) { 2 } else { 1 };
        *held(&self.outcome) = Some(outcome);
        *held(&self.arguments) = None;
        self.ended.store(ended, Ordering::Release);
        true
    }
}

/// A lock of ours; a panic under it has left it whole, since each update is a single step.
pub(crate) fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}
