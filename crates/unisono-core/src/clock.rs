//! Time, taken from one place so that tests can own it.
//!
//! Engines ask [`now`] and never `Instant::now`: inside a tokio runtime whose clock is paused it is virtual, so a
//! day-long batch is tested in milliseconds. The state machine of `unisono-batch` does not even ask; it is told.

use std::time::{Instant, SystemTime};

/// The monotonic time, in seconds that never step; virtual under a paused tokio clock.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The calendar time, which may step: only for dates that others wrote, and for those we write.
pub fn wall() -> SystemTime {
    SystemTime::now()
}
