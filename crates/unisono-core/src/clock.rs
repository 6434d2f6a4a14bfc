//! Time, taken from one place so that tests can own it.
//!
//! Everything asks [`now`] and never `Instant::now` (`clippy.toml`): inside a tokio runtime whose clock is paused it is
//! virtual, so a day-long batch is tested in milliseconds. The state machine of `unisono-batch` does not even ask; it
//! is told.

#![expect(clippy::disallowed_methods, reason = "the one source of time")]

use std::time::{Duration, Instant, SystemTime};

/// The monotonic time, in seconds that never step; virtual under a paused tokio clock.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// How long ago a moment was that [`now`] returned; zero when it is yet to come.
pub fn since(moment: Instant) -> Duration {
    now().saturating_duration_since(moment)
}

/// The calendar time, which may step: only for dates that others wrote, and for those we write.
pub fn wall() -> SystemTime {
    SystemTime::now()
}
