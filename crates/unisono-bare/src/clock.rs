//! The monotonic clock, for programs without the standard library.

#![allow(unsafe_code)]

use core::time::Duration;

/// Time since some fixed moment before the start of this process; never goes back, stands still while the machine
/// sleeps. Source: clock_gettime(2), `CLOCK_MONOTONIC`.
pub fn monotonic() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is ours and outlives the call, which writes nothing else.
    let answer = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    debug_assert_eq!(answer, 0, "every Linux has this clock");
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_goes_back() {
        let before = monotonic();
        assert!(before <= monotonic());
        assert!(before > Duration::ZERO);
    }
}
