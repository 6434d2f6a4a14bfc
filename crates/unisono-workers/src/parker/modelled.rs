//! A word of a model that a thread can sleep in.
//!
//! The lock stands for that of the kernel: it is held while the word is compared, and for a wake. So a wake that comes
//! between the two is not lost, and one that comes before both is no reason to wake.

use std::time::Duration;

use loom::sync::{
    Condvar, Mutex,
    atomic::{AtomicU32, Ordering},
};

#[derive(Default)]
pub(super) struct Word {
    word: AtomicU32,
    kernel: Mutex<()>,
    woken: Condvar,
}

impl Word {
    pub(super) fn load(&self) -> u32 {
        self.word.load(Ordering::Acquire)
    }

    pub(super) fn swap(&self, new: u32) -> u32 {
        self.word.swap(new, Ordering::AcqRel)
    }

    pub(super) fn exchange(&self, from: u32, to: u32) -> Result<u32, u32> {
        self.word.compare_exchange(from, to, Ordering::Acquire, Ordering::Acquire)
    }

    /// As that of `word.rs`; any time is over at once.
    pub(super) fn wait(&self, expected: u32, left: Option<Duration>) -> bool {
        let kernel = self.kernel.lock().unwrap();
        // What has been written before the kernel was entered is seen there, and what comes later may be.
        if self.word.load(Ordering::Relaxed) != expected {
            return true;
        }
        if left.is_some() {
            return false;
        }
        drop(self.woken.wait(kernel).unwrap());
        true
    }

    pub(super) fn wake(&self) {
        let _kernel = self.kernel.lock().unwrap();
        self.woken.notify_one();
    }
}
