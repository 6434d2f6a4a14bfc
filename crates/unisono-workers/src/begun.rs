//! How many tasks a worker has begun, in memory of its own beside the exchange.
//!
//! What a task writes over the exchange takes away what is known of the tasks that lie there: which have begun, and
//! which have not and could be run by another. So the worker notes as well how many it has begun, where only it writes,
//! and the pool asks this once the worker is dead and its exchange cannot be believed. A note that was written over
//! itself is not believed either.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::Ordering,
};

use unisono_sys::shared::Shared;

/// The note of one worker; both sides have it.
#[derive(Debug)]
pub(crate) struct BegunCounter(Shared);

impl BegunCounter {
    /// The worker's side: a new one.
    ///
    /// # Errors
    /// As [`Shared::new`].
    pub fn new() -> io::Result<Self> {
        let counter = Self(Shared::new("unisono-begun", 4096)?);
        counter.note(0);
        Ok(counter)
    }

    /// The pool's side: one that its worker has made.
    ///
    /// # Errors
    /// When it is none.
    pub fn open(descriptor: OwnedFd) -> io::Result<Self> {
        let memory = Shared::open(descriptor)?;
        if memory.size() < 16 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a counter without room for a number"));
        }
        Ok(Self(memory))
    }

    /// The worker's side: so many have begun.
    pub fn note(&self, begun: u64) {
        self.0.word64(0).store(begun, Ordering::Relaxed);
        self.0.word64(8).store(begun ^ CHECK, Ordering::Relaxed);
    }

    /// The pool's side: how many a dead worker has begun; `None` when that was written over.
    pub fn begun(&self) -> Option<u64> {
        let begun = self.0.word64(0).load(Ordering::Relaxed);
        (self.0.word64(8).load(Ordering::Relaxed) == begun ^ CHECK).then_some(begun)
    }
}

impl AsFd for BegunCounter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// As which number of memory it is sent.
pub(crate) const BEGUN: u64 = u64::MAX;
const CHECK: u64 = 0x6c65_6467_6572_2e2e;

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::BegunCounter;

    #[test]
    fn what_was_noted_is_read_and_what_was_written_over_is_not() {
        let worker = BegunCounter::new().unwrap();
        let pool = BegunCounter::open(rustix::io::dup(&worker).unwrap()).unwrap();
        assert_eq!(pool.begun(), Some(0));
        worker.note(7);
        assert_eq!(pool.begun(), Some(7));
        for value in [0, 8, u64::MAX] {
            worker.0.word64(0).store(value, Ordering::Relaxed);
            assert_eq!(pool.begun(), None);
        }
        (0..2).for_each(|word| worker.0.word64(8 * word).store(0, Ordering::Relaxed));
        assert_eq!(pool.begun(), None);
    }
}
