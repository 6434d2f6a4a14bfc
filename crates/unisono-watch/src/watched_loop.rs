//! One loop that is watched, as the loop's own thread and the watchdog share it.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use unisono_sys::{monotonic, thread_activity::ThreadActivity};

use crate::{
    descriptor::GuardedEvent,
    event::ThreadName,
    interpreter::{RawFrame, Thread},
};

/// A loop, whether it runs or not.
#[derive(Debug)]
pub struct WatchedLoop {
    /// What the loop waits for, with its other descriptors; it answers by reading it.
    ping: GuardedEvent,
    asked: AtomicU64,
    asked_at: AtomicU64,
    answered: AtomicU64,
    answered_at: AtomicU64,
    run: Mutex<Option<Arc<LoopRun>>>,
}

/// From the start of a loop to its end, in one thread.
#[derive(Debug)]
pub struct LoopRun {
    /// The interpreter's thread.
    pub thread: Thread,
    /// The same, as the program and the kernel know it.
    pub name: ThreadName,
    /// The frame that the loop is called from, where its end is not told: it runs while that frame stands there.
    pub base: Option<RawFrame>,
    /// What the kernel tells of it.
    pub activity: ThreadActivity,
}

/// Now, counted from some moment before the start of this process.
pub fn now() -> Duration {
    Duration::from_nanos(monotonic::nanoseconds())
}

impl WatchedLoop {
    /// A loop that does not run yet.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            ping: GuardedEvent::new()?,
            asked: AtomicU64::new(0),
            asked_at: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            answered_at: AtomicU64::new(0),
            run: Mutex::new(None),
        })
    }

    /// It runs from now on.
    pub fn begin(&self, run: LoopRun) {
        self.set(Some(Arc::new(run)));
    }

    /// It runs no more.
    pub fn end(&self) {
        self.set(None);
    }

    fn set(&self, run: Option<Arc<LoopRun>>) {
        *self.run.lock().unwrap_or_else(PoisonError::into_inner) = run;
    }

    /// The run that is under way.
    pub fn run(&self) -> Option<Arc<LoopRun>> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The loop's answer, on its own thread.
    pub fn answer(&self) {
        // Nothing may be in it, when loops are nested or the answer comes twice; that is an answer as well.
        self.ping.clear();
        self.answered_at.store(monotonic::nanoseconds(), Ordering::Relaxed);
        self.answered.store(self.asked.load(Ordering::Acquire), Ordering::Release);
    }

    /// Asks the loop to answer.
    pub fn ask(&self) {
        self.asked_at.store(monotonic::nanoseconds(), Ordering::Relaxed);
        self.asked.fetch_add(1, Ordering::AcqRel);
        self.ping.set();
    }

    /// Whether it can answer: its descriptor is still what it was.
    pub fn can_answer(&self) -> bool {
        self.ping.is_ours()
    }

    /// When the last question was asked, if there was one.
    pub fn asked(&self) -> Option<Duration> {
        Some(self.asked_at.load(Ordering::Relaxed)).filter(|at| *at != 0).map(Duration::from_nanos)
    }

    /// When the last question was answered, if it was.
    pub fn answered(&self) -> Option<Duration> {
        (self.answered.load(Ordering::Acquire) == self.asked.load(Ordering::Acquire))
            .then(|| Duration::from_nanos(self.answered_at.load(Ordering::Relaxed)))
    }
}

impl AsFd for WatchedLoop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ping.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_open_until_it_is_answered() {
        let watched = WatchedLoop::new().unwrap();
        watched.ask();
        assert_eq!(watched.answered(), None);
        let before = now();
        watched.answer();
        assert!(watched.answered().unwrap() >= before);
        watched.ask();
        watched.ask();
        assert_eq!(watched.answered(), None);
        watched.answer();
        assert!(watched.answered().is_some());
    }
}
