//! A rate limit that can change while it is used: the generic cell rate algorithm, one instant of state.
//!
//! `allowed_at` is the theoretical arrival time of ITU-T I.371: each start moves it one interval on, and a start
//! conforms when it is at most `burst - 1` intervals ahead of now. Exact: nothing is lost to rounding beyond a
//! nanosecond per interval, and always to the slow side.

use std::time::{Duration, Instant};

use unisono_core::Rate;

/// The state of one rate limit.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Gcra {
    /// When the next start would be due if starts came evenly; `None` before the first.
    due: Option<Instant>,
}

impl Gcra {
    /// The first moment at which a start conforms to the rate; at most `now` when one may start at once.
    pub(crate) fn next(&self, rate: &Rate, now: Instant) -> Instant {
        let ahead = interval(rate) * (rate.burst.get() - 1);
        self.due.map_or(now, |due| due.checked_sub(ahead).unwrap_or(now))
    }

    /// Counts a start at `now`, which must conform.
    pub(crate) fn start(&mut self, rate: &Rate, now: Instant) {
        let due = self.due.map_or(now, |due| due.max(now));
        self.due = Some(due + interval(rate));
    }

    /// The rate may have changed: what was started under a slower one delays the next by no more than a burst under
    /// this one does. When it has not changed, this changes nothing.
    pub(crate) fn retune(&mut self, rate: &Rate, now: Instant) {
        self.due = self.due.map(|due| due.min(now + interval(rate) * rate.burst.get()));
    }

    /// Whether forgetting this state changes nothing: the next start would be free in full burst.
    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        self.due.is_none_or(|due| due <= now)
    }
}

/// Rounded up to a whole nanosecond, since rounding down would let more start than the rate allows.
fn interval(rate: &Rate) -> Duration {
    let nanos = rate.per().as_nanos().div_ceil(u128::from(rate.count.get()));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_spent_once_and_earned_again_by_waiting() {
        let rate: Rate = "10/s burst 3".parse().unwrap();
        let start = Instant::now();
        let mut bucket = Gcra::default();
        for _ in 0..3 {
            assert!(bucket.next(&rate, start) <= start);
            bucket.start(&rate, start);
        }
        assert_eq!(bucket.next(&rate, start), start + Duration::from_millis(100));
        let later = start + Duration::from_secs(5);
        assert!(bucket.is_idle(later));
        for _ in 0..3 {
            assert!(bucket.next(&rate, later) <= later);
            bucket.start(&rate, later);
        }
        assert!(bucket.next(&rate, later) > later);
    }
}
