//! A wait that is longer than allowed, so that the item ends instead, as rate limited.
//!
//! It says what asks for that wait and which bound forbids it: a server that asked for an hour, one that refused and
//! said nothing, and a pause that another item brought about are three things, and each calls for something else to be
//! done.

use std::{
    fmt,
    time::{Duration, Instant},
};

use unisono_core::format_duration;

/// The wait of an item for its next attempt, which it may not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong {
    /// When it may be tried again.
    pub retry_at: Instant,
    /// How long that is from now, rounded to a second so that items of one pause say the same.
    pub wait: Duration,
    /// What asks for it.
    pub asker: Asker,
    /// What forbids it.
    pub bound: Bound,
}

/// What asks an item to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// The answer to the item's own attempt.
    Answer,
    /// The pause of its key, which another item was told.
    Pause,
    /// The peer refused and named no time: it is a backoff of our own.
    Backoff,
}

/// What forbids a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// The longest wait, [`RetryPolicy::max_wait`](unisono_core::RetryPolicy).
    MaxWait(Duration),
    /// The item's deadline comes first.
    Deadline(Duration),
}

impl TooLong {
    pub(crate) fn new(now: Instant, retry_at: Instant, asker: Asker, bound: Bound) -> Self {
        let wait = retry_at.saturating_duration_since(now);
        let rounded = Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_millis() >= 500));
        Self { retry_at, wait: if rounded.is_zero() { wait } else { rounded }, asker, bound }
    }
}

/// To be read behind the name of the peer.
impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wait = format_duration(self.wait);
        match self.asker {
            Asker::Answer => write!(f, "asks to wait {wait}")?,
            Asker::Pause => write!(f, "is paused by an earlier answer for another {wait}")?,
            Asker::Backoff => write!(f, "refuses and does not say for how long; the next attempt would be in {wait}")?,
        }
        match self.bound {
            Bound::MaxWait(most) => write!(f, ", longer than max_wait ({})", format_duration(most)),
            Bound::Deadline(most) => write!(f, ", and the item's deadline ({}) comes first", format_duration(most)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_who_wants_to_wait_for_how_long_and_what_forbids_it() {
        let now = Instant::now();
        let say =
            |seconds, asker, bound| TooLong::new(now, now + Duration::from_secs_f64(seconds), asker, bound).to_string();
        let (max_wait, deadline) = (Bound::MaxWait(Duration::from_secs(60)), Bound::Deadline(Duration::from_secs(900)));
        assert_eq!(say(3600.0, Asker::Answer, max_wait), "asks to wait 1h, longer than max_wait (1m)");
        assert_eq!(
            say(3598.3, Asker::Pause, max_wait),
            "is paused by an earlier answer for another 59m58s, longer than max_wait (1m)"
        );
        assert_eq!(
            say(12.1, Asker::Backoff, deadline),
            "refuses and does not say for how long; the next attempt would be in 12s, and the item's deadline (15m) comes first"
        );
    }
}
