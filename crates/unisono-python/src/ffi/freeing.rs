//! Objects of the program that an engine's thread may let go of, and when they are freed.
//!
//! Such a thread never has the interpreter. What it drops is kept by pyo3 until some thread next enters this module,
//! which may be never: an exception would stay, and with it all that its frames hold. So the interpreter is asked for a
//! call in the main thread (`Py_AddPendingCall`), which comes as that next runs code of Python's.

use std::{
    ffi::{c_int, c_void},
    ops::Deref,
    ptr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use pyo3::{ffi, prelude::*};

/// An object that may be dropped on any thread, and is freed soon.
pub struct ProgramObject(Option<Py<PyAny>>);

impl ProgramObject {
    pub fn new(object: Py<PyAny>) -> Self {
        Self(Some(object))
    }
}

impl Deref for ProgramObject {
    type Target = Py<PyAny>;

    fn deref(&self) -> &Py<PyAny> {
        self.0.as_ref().expect("it is there until the drop")
    }
}

impl Drop for ProgramObject {
    fn drop(&mut self) {
        // SAFETY: it looks at what this thread has, and may be called by any thread at any time.
        let is_attached = unsafe { ffi::PyGILState_Check() } != 0;
        // Before the call is asked for, or that could come too early.
        drop(self.0.take());
        if !is_attached {
            free_soon();
        }
    }
}

fn free_soon() {
    // One that is on its way frees this as well.
    if IS_ASKED_FOR.swap(true, SeqCst) {
        return;
    }
    // In a fork, another thread may have held the lock.
    let Ok(has_ended) = HAS_ENDED.try_lock() else { return };
    // SAFETY: it needs no interpreter lock, but an interpreter, which is there until `stop_freeing` has had this lock;
    // `free` is a function, and takes nothing.
    let is_refused = !*has_ended && unsafe { ffi::Py_AddPendingCall(Some(free), ptr::null_mut()) } != 0;
    if is_refused {
        // Too many calls wait. The next object that is let go of asks again.
        IS_ASKED_FOR.store(false, SeqCst);
    }
}

extern "C" fn free(_: *mut c_void) -> c_int {
    // First: what is let go of from here on asks for another one.
    IS_ASKED_FOR.store(false, SeqCst);
    // As it attaches, pyo3 drops what was left to it.
    Python::attach(|_| 0)
}

/// The interpreter ends: nothing is asked of it any more, and what is let go of stays.
#[pyfunction]
pub fn stop_freeing(py: Python<'_>) {
    // The thread that has the lock asks for a call, and waits for nothing of Python's.
    py.detach(|| *HAS_ENDED.lock().unwrap_or_else(PoisonError::into_inner) = true);
}

static IS_ASKED_FOR: AtomicBool = AtomicBool::new(false);
static HAS_ENDED: Mutex<bool> = Mutex::new(false);
