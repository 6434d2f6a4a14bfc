//! Looking for a moment before a thread sleeps: two threads that hand work to and fro then need no system call for it.
//!
//! When to look is learned (`unisono_workers::Spin`), and no more threads of the process look at a time than there are
//! cores for beside the one that works. What has come is of use only with the interpreter, and the thread that has
//! brought it still has that: one that takes hold of it now falls asleep in its lock, which costs the wake-up that was
//! to be saved. So it looks on until a thread of ours has let go of the interpreter, but not for long, since that may
//! be far from doing so.

use std::{
    hint::spin_loop,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use unisono_workers::{Look, Spin, nanoseconds};

use crate::forks::LOOKING;

/// When waits of one kind are worth a look.
pub struct Looks(Mutex<Spin>);

impl Looks {
    /// Nothing learned yet.
    pub fn new() -> Self {
        Self(Mutex::new(Spin::new()))
    }

    /// Looks, where that may pay. `at` is what [`releases`] was when it came. To be called without the interpreter.
    pub fn look(&self, has_come: impl Fn() -> bool, at: impl Fn() -> u32) {
        // After a fork, another thread may have held the lock; and where two wait, one looks.
        let is_worth_it =
            self.0.try_lock().is_ok_and(|mut spin| spin.is_worth_it(1 + LOOKING.load(Relaxed), nanoseconds()));
        if !is_worth_it {
            return;
        }
        LOOKING.fetch_add(1, Relaxed);
        let look = Spin::look(&has_come);
        // Before the rest, which is no wait for work: the thread that has brought it may look for what comes next.
        LOOKING.fetch_sub(1, Relaxed);
        if let Ok(mut spin) = self.0.try_lock() {
            spin.learn(look, nanoseconds());
        }
        if look == Look::Came {
            wait_for_release(at());
        }
    }
}

/// A thread of ours has let go of the interpreter, to wait.
pub fn released() {
    RELEASES.fetch_add(1, Relaxed);
}

/// How often that was, modulo 2^30: a hint, which nothing relies on.
pub fn releases() -> u32 {
    RELEASES.load(Relaxed) & (u32::MAX >> 2)
}

fn wait_for_release(at: u32) {
    let begun = nanoseconds();
    while releases() == at && nanoseconds() - begun < LONGEST_HOLD_NS {
        spin_loop();
    }
}

static RELEASES: AtomicU32 = AtomicU32::new(0);
/// From a hand-over to the wait of the thread that made it pass one or two microseconds.
const LONGEST_HOLD_NS: u64 = 5_000;
