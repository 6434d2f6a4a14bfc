//! When and how often something is tried again.

use std::time::Duration;

/// How often a failed attempt may be repeated, and how long to wait before each repeat.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    /// Repeats after the first attempt; 0 tries once.
    pub repeats: u16,
    /// How long to wait between attempts.
    pub backoff: Backoff,
    /// Bounds the repeats of all items of a key together; `None`: only `repeats` bounds them.
    pub budget: Option<RetryBudget>,
    /// The longest wait that a server may ask for; beyond it the item ends as `rate_limited`.
    pub max_wait: Duration,
    /// How long a host that is away is waited for, by whatever is to be sent to it; `None`: not at all.
    pub host_away: Option<Duration>,
}

impl RetryPolicy {
    /// Try once. The default for commands and Python functions: no deployment is to run three times.
    pub fn never() -> Self {
        Self { repeats: 0, ..Self::default() }
    }

    /// The same, with so long a wait for hosts that are away (zero: none). `None` is the default: none where each item
    /// is tried once.
    pub fn waiting(self, host_away: Option<Duration>) -> Self {
        let asked = host_away.unwrap_or(if self.repeats == 0 { Duration::ZERO } else { DEFAULT_HOST_AWAY });
        Self { host_away: Some(asked).filter(|away| !away.is_zero()), ..self }
    }
}

impl Default for RetryPolicy {
    /// Three repeats with full jitter and a budget: the default for HTTP.
    fn default() -> Self {
        Self {
            repeats: 3,
            backoff: Backoff::default(),
            budget: Some(RetryBudget::default()),
            max_wait: Duration::from_secs(60),
            host_away: Some(DEFAULT_HOST_AWAY),
        }
    }
}

/// Most restarts are over by then; what takes longer is for a person to look at.
const DEFAULT_HOST_AWAY: Duration = Duration::from_secs(60);

/// Exponential backoff with full jitter: the n-th wait is uniform in `0..min(cap, base * 2^n)`.
///
/// Source: "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The upper end of the first wait.
    pub base: Duration,
    /// The upper end of every wait.
    pub cap: Duration,
}

impl Backoff {
    /// The upper end of the wait after so many attempts (1 after the first).
    pub fn ceiling(&self, attempts: u16) -> Duration {
        let doublings = u32::from(attempts.saturating_sub(1)).min(31);
        self.base.saturating_mul(1 << doublings).min(self.cap)
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: Duration::from_millis(250), cap: Duration::from_secs(20) }
    }
}

/// A token bucket of repeats per key, so that an outage does not multiply the load.
///
/// Each first attempt earns `ratio` tokens, each repeat costs one; the bucket starts with `reserve` tokens and never
/// holds more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryBudget {
    /// Repeats earned by each first attempt.
    pub ratio: f32,
    /// What the bucket starts with, and the most it holds.
    pub reserve: u32,
}

impl Default for RetryBudget {
    /// One repeat for five first attempts, and a hundred on credit: short hiccups pass, long outages do not double the
    /// load.
    fn default() -> Self {
        Self { ratio: 0.2, reserve: 100 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_up_to_its_cap_and_never_overflows() {
        let backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(10) };
        let ceilings: Vec<u64> = [1, 2, 3, 4, 5, u16::MAX].map(|n| backoff.ceiling(n).as_secs()).into();
        assert_eq!(ceilings, [1, 2, 4, 8, 10, 10]);
    }
}
