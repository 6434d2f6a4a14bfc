//! What a thread sleeps in until another one wakes it: one word, with three states.
//!
//! Waking takes a system call only when the thread sleeps: one that is still about to, or looks at the word instead,
//! sees it change. A thread may also leave a wake-up to its own next wait, where what it wakes could not go on before
//! that ([`Parker::unpark_soon`]).
//!
//! Under `cfg(loom)` it is what `models.rs` tries; all but the system call is the same then.

#[cfg(loom)]
mod modelled;
#[cfg(all(test, loom))]
mod models;
#[cfg(not(loom))]
mod word;

use std::{cell::RefCell, time::Duration};

#[cfg(not(loom))]
use std::{sync::Arc, thread::AccessError, thread_local};

#[cfg(loom)]
use loom::{sync::Arc, thread::AccessError, thread_local};

#[cfg(loom)]
use self::modelled::Word;
#[cfg(not(loom))]
use self::word::Word;

/// What one wait of a thread sleeps in. It is woken once, and stays so.
///
/// What wakes it leaves it a note, of 30 bits.
#[derive(Clone, Default)]
pub struct Parker(Arc<Word>);

/// Not woken, and not asleep either.
const AWAKE: u32 = 0;
/// Not woken, and asleep or about to be.
const ASLEEP: u32 = 1;
/// Woken. The bits above are the note.
const WOKEN: u32 = 2;
const STATE_BITS: u32 = 2;

impl Parker {
    /// Sleeps until it is woken, nothing is left of its time, or a signal has come. `left` says how much there is;
    /// `None` for no bound.
    pub fn sleep(&self, left: impl Fn() -> Option<Duration>) {
        // It fails when it was woken, and when it sleeps on, where the word says so already.
        let _ = self.0.exchange(AWAKE, ASLEEP);
        while !self.is_woken() && self.0.wait(ASLEEP, left()) {}
    }

    /// Whether it was woken.
    pub fn is_woken(&self) -> bool {
        self.0.load() & WOKEN != 0
    }

    /// What the one that woke it has left.
    pub fn note(&self) -> u32 {
        self.0.load() >> STATE_BITS
    }

    /// Wakes it.
    pub fn unpark(&self, note: u32) {
        if self.tell(note) {
            self.wake();
        }
    }

    /// The first half of [`Parker::unpark`]: from now on it does not go to sleep. Returns whether it sleeps, and must
    /// be woken by [`Parker::wake`].
    pub fn tell(&self, note: u32) -> bool {
        // Before the wake: the kernel compares the word with `ASLEEP` as it puts a thread to sleep, so none sleeps over
        // it. And a thread that has not said yet that it sleeps finds here that it need not.
        self.0.swap(WOKEN | note << STATE_BITS) == ASLEEP
    }

    /// The other half.
    pub fn wake(&self) {
        self.0.wake();
    }

    /// Has it woken by the next wait of this thread, or by its end, whichever comes first: for a thread that waits
    /// soon, and says so by [`wake_those_left`].
    pub fn unpark_soon(self) {
        // It fails as the thread ends.
        if let Err(AccessError { .. }) = LEFT_TO_WAKE.try_with(|left| left.0.borrow_mut().push(self.clone())) {
            self.unpark(0);
        }
    }

    /// Whether both are the same.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Wakes those that this thread has left to its next wait. To be called before it waits for anything, and when it finds
/// that it need not.
pub fn wake_those_left(note: u32) {
    // It fails as the thread ends, which wakes them too.
    let _ = LEFT_TO_WAKE.try_with(|left| left.wake(note));
}

/// Those that a thread wakes with its next wait; with its end at the latest.
struct LeftToWake(RefCell<Vec<Parker>>);

impl LeftToWake {
    fn wake(&self, note: u32) {
        self.0.borrow_mut().drain(..).for_each(|parker| parker.unpark(note));
    }
}

impl Drop for LeftToWake {
    fn drop(&mut self) {
        self.wake(0);
    }
}

#[cfg(not(loom))]
thread_local! {
    static LEFT_TO_WAKE: LeftToWake = const { LeftToWake(RefCell::new(Vec::new())) };
}

#[cfg(loom)]
thread_local! {
    static LEFT_TO_WAKE: LeftToWake = LeftToWake(RefCell::new(Vec::new()));
}
