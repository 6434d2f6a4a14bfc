//! The monotonic clock as a plain number, so that two processes can compare what they read.
//!
//! `Instant` cannot be written into shared memory; this can, since CLOCK_MONOTONIC is one for the whole system
//! (clock_gettime(2)).

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since some moment before the start of this process.
pub fn nanoseconds() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    // Neither is ever negative for this clock; 584 years fit.
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}
