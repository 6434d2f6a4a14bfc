//! Which threads wait for each task that they submit, one at a time.
//!
//! Such a thread lets go of the interpreter as it wakes the one that is to run its task: that one needs it at once, and
//! would otherwise wake up only to fall asleep in the interpreter's lock. A thread that submits many must not, since on
//! one core each of them would cost two switches. Which of the two a thread is, is told by what it did with the last
//! task. It is a guess, and nothing but the cost of a wake-up depends on it.

use std::cell::Cell;

use pyo3::prelude::*;

/// This thread submits a task. Returns whether it is likely to wait for it.
pub fn submitted(task: &Bound<'_, PyAny>) -> bool {
    LAST.replace(Last::Submitted(task.as_ptr().addr())) == Last::AskedFor
}

/// This thread asks for the end of a task.
pub fn asked_for(task: &Bound<'_, PyAny>) {
    if LAST.get() == Last::Submitted(task.as_ptr().addr()) {
        LAST.set(Last::AskedFor);
    }
}

/// The last task of a thread; by its address, which keeps nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    None,
    Submitted(usize),
    AskedFor,
}

thread_local! {
    static LAST: Cell<Last> = const { Cell::new(Last::None) };
}
