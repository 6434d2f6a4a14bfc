//! What a fork does to the objects of this module: the one place that says so. That there was one is noticed by
//! `unisono_sys::forks`.
//!
//! A child has a copy of everything and one thread. An object of ours is one of three things in it:
//! - *refused*, where threads or sockets of the parent serve it: it has a [`HomeProcess`], and every call checks that
//!   first (a run, a client's engine, a pool, the queues of calls and of remote requests);
//! - *reset*, where it goes on in the child, without the parent's threads: it has a [`generation`] beside its state,
//!   which is compared when the state is locked (queues, limiters, the tasks of threads);
//! - *left behind*, where to drop it would reach what the parent has: such a `Drop` does nothing outside of the home.
//!
//! What is Python's to reset is in `python/unisono/_forks.py`, which calls [`after_fork_in_child`] first.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, ThreadId},
};

use pyo3::{exceptions::PyRuntimeError, prelude::*};
use unisono_workers::forks;

/// How many threads of ours, which the interpreter does not know, have its lock or wait for it. At the end of the
/// interpreter such a thread is unwound by `pthread_exit`, and our frames below it make that an abort, so it is waited
/// for.
pub static ATTACHING: AtomicUsize = AtomicUsize::new(0);
/// How many threads look for something before they sleep (`queue/looking.rs`).
pub static LOOKING: AtomicUsize = AtomicUsize::new(0);
/// The thread that went on in the child, and the generation of that child.
static FORKER: Mutex<Option<(u64, ThreadId)>> = Mutex::new(None);

/// The process in which something was made. A fork of it has a copy of that thing, and none of the threads behind it.
#[pyclass(frozen, module = "unisono._native")]
#[derive(Debug, Clone, Copy)]
pub struct HomeProcess {
    generation: u64,
    /// For messages.
    number: u32,
}

#[pymethods]
impl HomeProcess {
    /// This one.
    #[new]
    pub fn new() -> Self {
        Self { generation: generation(), number: std::process::id() }
    }

    /// Whether this is that process, and no fork of it.
    pub fn is_here(&self) -> bool {
        self.generation == generation()
    }
}

impl HomeProcess {
    /// Refuses in a fork of it.
    pub fn check(&self) -> PyResult<()> {
        if self.is_here() {
            return Ok(());
        }
        let number = self.number;
        Err(PyRuntimeError::new_err(format!("this object belongs to process {number}; after a fork, make a new one")))
    }
}

/// Has forks noticed from now on; before anything is made.
pub fn watch() -> PyResult<()> {
    forks::generation()?;
    Ok(())
}

/// How many forks lie between this process and the one that loaded the module.
pub fn generation() -> u64 {
    forks::generation().expect("they are watched since the module was loaded")
}

/// The first step in the child of a fork: what the threads of the parent held or waited for is forgotten.
#[pyfunction]
pub fn after_fork_in_child() {
    *FORKER.lock().unwrap_or_else(PoisonError::into_inner) = Some((generation(), thread::current().id()));
    ATTACHING.store(0, Ordering::SeqCst);
    LOOKING.store(0, Ordering::SeqCst);
}

/// The only thread that went on in this child.
pub fn forker() -> ThreadId {
    let forker = *FORKER.lock().unwrap_or_else(PoisonError::into_inner);
    // Until the child has said which it is, there is no other than this one.
    forker.filter(|(of, _)| *of == generation()).map_or_else(|| thread::current().id(), |(_, thread)| thread)
}
