//! Repeats without a batch: callers that make their attempts by themselves, and ask when there may be another.
//!
//! A plain state machine over [`Machine`]: it makes no call and waits for nothing. What it adds to a policy is what
//! several calls share, which is the budget of repeats of their key.
//!
//! Rules: (1) nothing is in the way of an attempt but the wait before it, so an attempt is told and not asked for;
//! (2) no attempt starts later than `deadline` after the first one of its call; (3) a call that is over stays over,
//! and whatever is said of it afterwards changes nothing.
//!
//! No limits: those are in `limiter.rs`.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use unisono_core::{Limits, Peer, RetryPolicy, Times};

use crate::{
    machine::Machine,
    protocol::{Finish, Ruling, Settings},
    ticket::Ticket,
};

/// Says when calls may be repeated.
#[derive(Debug)]
pub struct Retries {
    machine: Machine,
    /// How long after the first start of a call another attempt may start. It is kept here and not by the machine,
    /// which would have to be asked again and again what is late.
    deadline: Option<Duration>,
}

impl Retries {
    /// `seed` is that of the jitter.
    pub fn new(retry: RetryPolicy, deadline: Option<Duration>, seed: u64) -> Self {
        let limits = Limits::new(Some(NonZeroU32::MAX), None);
        let times = Times { timeout: None, deadline: None, ..Times::default() };
        let settings = Settings { limits, times, retry, ordered_by_key: false };
        Self { machine: Machine::new(settings, seed), deadline }
    }

    /// A call that shares the budget of this key. Its first attempt may start at once.
    pub fn begin(&mut self, now: Instant, key: &str) -> Ticket {
        self.machine.offer(now, key)
    }

    /// An attempt starts, after its wait.
    pub fn start_attempt(&mut self, now: Instant) {
        // The machine leases in its own order, and all that are due: each of them starts now or has started.
        while self.machine.lease(now).is_some() {}
    }

    /// An attempt failed: when the next one may start. `None` when there is no other, and the call is over.
    pub fn repeat(&mut self, now: Instant, ticket: Ticket) -> Option<Instant> {
        let by = self.machine.first_start(ticket).zip(self.deadline).map(|(start, deadline)| start + deadline);
        match self.machine.finish(now, ticket, Finish::Retry { not_before: None }, Peer::Unknown) {
            Ruling::Again { at, .. } if by.is_none_or(|by| at < by) => Some(at),
            _ => {
                self.end(now, ticket);
                None
            }
        }
    }

    /// The call is over, however it ended.
    pub fn end(&mut self, now: Instant, ticket: Ticket) {
        self.machine.finish(now, ticket, Finish::Final, Peer::Unknown);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn retries(repeats: u16, deadline: Option<Duration>) -> Retries {
        Retries::new(RetryPolicy { repeats, ..RetryPolicy::default() }, deadline, 7)
    }

    /// How many attempts a call has that never succeeds.
    fn attempts(retries: &mut Retries, mut now: Instant) -> u32 {
        let ticket = retries.begin(now, "");
        let mut count = 0;
        loop {
            retries.start_attempt(now);
            count += 1;
            let Some(at) = retries.repeat(now, ticket) else { return count };
            now = at;
        }
    }

    #[test]
    fn a_call_has_one_attempt_and_its_repeats_and_is_over_then() {
        let mut retries = retries(3, None);
        assert_eq!(attempts(&mut retries, Instant::now()), 4);
        assert_eq!(retries.machine.in_flight(), 0);
    }

    #[test]
    fn no_attempt_starts_after_the_deadline_of_its_call() {
        let mut retries = retries(1_000, Some(SECOND));
        let now = Instant::now();
        let ticket = retries.begin(now, "");
        retries.start_attempt(now);
        let mut at = now;
        while let Some(next) = retries.repeat(at, ticket) {
            assert!(next < now + SECOND);
            at = next;
            retries.start_attempt(at);
        }
        assert_eq!(retries.machine.in_flight(), 0);
    }

    #[test]
    fn the_calls_of_a_key_share_a_budget_and_other_keys_have_their_own() {
        let mut retries = retries(1, None);
        let now = Instant::now();
        let failing = |retries: &mut Retries, key: &str| {
            let ticket = retries.begin(now, key);
            retries.start_attempt(now);
            let is_repeated = retries.repeat(now, ticket).is_some();
            retries.end(now, ticket);
            is_repeated
        };
        let repeated = (0..1_000).filter(|_| failing(&mut retries, "down")).count();
        assert!(repeated > 0 && repeated < 500, "{repeated} of 1,000 calls were repeated");
        assert!(failing(&mut retries, "up"));
    }

    #[test]
    fn what_is_said_of_a_call_that_is_over_changes_nothing() {
        let mut retries = retries(3, None);
        let now = Instant::now();
        let over = retries.begin(now, "");
        retries.end(now, over);
        let other = retries.begin(now, "");
        retries.start_attempt(now);
        retries.end(now, over);
        assert_eq!(retries.repeat(now, over), None);
        assert_eq!(retries.machine.in_flight(), 1);
        assert!(retries.repeat(now, other).is_some());
    }
}
