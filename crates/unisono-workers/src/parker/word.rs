//! A word that a thread can sleep in: futex(2).

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use rustix::{fs::Timespec, io::Errno, thread::futex};

#[derive(Default)]
pub(super) struct Word(AtomicU32);

impl Word {
    pub(super) fn load(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }

    pub(super) fn swap(&self, new: u32) -> u32 {
        self.0.swap(new, Ordering::AcqRel)
    }

    pub(super) fn exchange(&self, from: u32, to: u32) -> Result<u32, u32> {
        self.0.compare_exchange(from, to, Ordering::Acquire, Ordering::Acquire)
    }

    /// Sleeps while the word is this, until it is woken. Returns whether to look again: false when time is over, or a
    /// signal has come.
    pub(super) fn wait(&self, expected: u32, left: Option<Duration>) -> bool {
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        matches!(futex::wait(&self.0, futex::Flags::PRIVATE, expected, timeout.as_ref()), Ok(()) | Err(Errno::AGAIN))
    }

    pub(super) fn wake(&self) {
        // It fails for addresses that are none.
        let _ = futex::wake(&self.0, futex::Flags::PRIVATE, 1);
    }
}
