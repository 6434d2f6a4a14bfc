//! What those need to know who have waiters: how often this process was forked, and which thread went on in the child.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, ThreadId},
};

use pyo3::prelude::*;

/// How often this process is a child of itself, so to speak: a fork adds one.
static FORKS: AtomicU64 = AtomicU64::new(0);
/// How many threads of ours, which the interpreter does not know, have its lock or wait for it. At the end of the
/// interpreter such a thread is unwound by `pthread_exit`, and our frames below it make that an abort, so it is waited
/// for.
pub static ATTACHING: AtomicUsize = AtomicUsize::new(0);
static FORKER: Mutex<Option<ThreadId>> = Mutex::new(None);

/// Called in the child after a fork: who waits at a queue or a limiter waits in the parent.
#[pyfunction]
pub fn forget_waiters() {
    *FORKER.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread::current().id());
    // They are in the parent.
    ATTACHING.store(0, Ordering::SeqCst);
    FORKS.fetch_add(1, Ordering::Release);
}

/// How many forks lie between this process and the one that loaded the module.
pub fn count() -> u64 {
    FORKS.load(Ordering::Acquire)
}

/// The only thread that went on in this child.
pub fn forker() -> ThreadId {
    let forker = *FORKER.lock().unwrap_or_else(PoisonError::into_inner);
    forker.unwrap_or_else(|| thread::current().id())
}
