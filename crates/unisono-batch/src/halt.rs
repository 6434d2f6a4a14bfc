//! Why the engine ends an item or stops an attempt, and what that means for the item: said once, for all kinds of work.
//!
//! A job that knows more (a request whose last hop can be sent again, a time of its own) says that in the place of what
//! is here, and leaves the rest as it is.

use std::{
    fmt,
    time::{Duration, Instant},
};

use unisono_core::{CancelReason, Effect, ErrorKind, OutcomeKind, clock, format_duration, format_roughly};

use crate::{too_long::TooLong, verdict::Verdict};

/// Why the engine ends an item, or stopped an attempt. `effect` is that of the item, over all its attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Halt {
    /// The attempt took longer than its timeout.
    AttemptTimeout {
        /// The timeout.
        after: Duration,
        /// What may have been carried out.
        effect: Effect,
    },
    /// The item took longer than its deadline.
    Deadline {
        /// The deadline.
        after: Duration,
        /// What may have been carried out.
        effect: Effect,
    },
    /// The batch was stopped.
    Cancelled {
        /// Why.
        reason: Option<CancelReason>,
        /// Whether the item had been started.
        started: bool,
        /// What may have been carried out.
        effect: Effect,
    },
    /// The wait for the next attempt is longer than allowed.
    RateLimited {
        /// The wait.
        wait: TooLong,
        /// What may have been carried out.
        effect: Effect,
    },
    /// The peer has been away for as long as it is waited for.
    Away {
        /// Since when.
        since: Instant,
        /// It took what it was given, and nothing came back.
        is_silent: bool,
        /// What may have been carried out.
        effect: Effect,
    },
    /// The item failed, and the repeats that all items of its key have together are used up.
    RetryBudget {
        /// What may have been carried out.
        effect: Effect,
    },
    /// The attempt panicked: a fault of the job.
    Panicked {
        /// What the panic said.
        message: String,
        /// What may have been carried out.
        effect: Effect,
    },
}

impl Halt {
    /// What may have been carried out.
    pub fn effect(&self) -> Effect {
        match self {
            Self::AttemptTimeout { effect, .. }
            | Self::Deadline { effect, .. }
            | Self::Cancelled { effect, .. }
            | Self::RateLimited { effect, .. }
            | Self::Away { effect, .. }
            | Self::RetryBudget { effect }
            | Self::Panicked { effect, .. } => *effect,
        }
    }

    /// What went wrong.
    pub fn error_kind(&self) -> ErrorKind {
        match self {
            Self::AttemptTimeout { .. } => ErrorKind::Timeout,
            Self::Deadline { .. } => ErrorKind::Deadline,
            Self::Cancelled { .. } => ErrorKind::Cancelled,
            Self::RateLimited { .. } => ErrorKind::RateLimited,
            Self::Away { .. } => ErrorKind::Away,
            Self::RetryBudget { .. } => ErrorKind::RetryBudget,
            Self::Panicked { .. } => ErrorKind::Internal,
        }
    }

    /// How the item ends, unless it is tried again. `repeatable` says whether it bears being done twice.
    pub fn outcome(&self, repeatable: bool) -> OutcomeKind {
        let outcome = match self {
            Self::AttemptTimeout { .. } | Self::Deadline { .. } => OutcomeKind::TimedOut,
            Self::Cancelled { .. } => OutcomeKind::Cancelled,
            Self::RateLimited { .. } | Self::Away { .. } | Self::RetryBudget { .. } | Self::Panicked { .. } => {
                OutcomeKind::Failed
            }
        };
        self.effect().outcome(outcome, repeatable)
    }

    /// What it means for the item: another attempt where one that timed out may be repeated, and otherwise its end.
    pub fn verdict(&self, repeatable: bool) -> Verdict {
        let otherwise = self.outcome(repeatable);
        match self {
            Self::AttemptTimeout { effect, .. } if effect.allows_repeat(repeatable) => {
                Verdict::Retry { otherwise, not_before: None }
            }
            _ => Verdict::Final(otherwise),
        }
    }

    /// What is said of it. `peer` is what the item's key stands for, where it has a name to be shown.
    pub fn message(&self, peer: Option<&dyn fmt::Display>) -> String {
        let or = |unnamed: &str| peer.map_or_else(|| unnamed.to_owned(), ToString::to_string);
        match self {
            Self::AttemptTimeout { after, .. } => format!("not done within its timeout of {}", format_duration(*after)),
            Self::Deadline { after, .. } => format!("not done within its deadline of {}", format_duration(*after)),
            Self::Cancelled { started: true, .. } => "stopped before it was done".to_owned(),
            Self::Cancelled { started: false, .. } => "stopped before it began".to_owned(),
            Self::RateLimited { wait, .. } => format!("{} {wait}", or("its key")),
            Self::Away { since, is_silent, .. } => {
                let waited = format_roughly(clock::now().saturating_duration_since(*since));
                let what = if *is_silent { "answered nothing" } else { "was away" };
                format!("{} {what} for {waited}, which is longer than it is waited for", or("what it is for"))
            }
            Self::RetryBudget { .. } => match peer {
                Some(peer) => format!("the repeats that all rows of {peer} have together are used up"),
                None => "it failed, and the repeats that all of its key have together are used up".to_owned(),
            },
            Self::Panicked { message, .. } => format!("a fault of unisono: {message}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::too_long::{Asker, Bound};

    /// One of each, of an item with this effect.
    fn all(effect: Effect) -> [Halt; 8] {
        let (after, since) = (Duration::from_secs(5), clock::now());
        let wait = TooLong::new(since, since + after, Asker::Answer, Bound::MaxWait(Duration::from_secs(1)));
        [
            Halt::AttemptTimeout { after, effect },
            Halt::Deadline { after, effect },
            Halt::Cancelled { reason: None, started: true, effect },
            Halt::Cancelled { reason: None, started: false, effect },
            Halt::RateLimited { wait, effect },
            Halt::Away { since, is_silent: false, effect },
            Halt::RetryBudget { effect },
            Halt::Panicked { message: "oh".to_owned(), effect },
        ]
    }

    #[test]
    fn whatever_ends_an_item_what_may_have_been_done_and_must_not_be_repeated_is_ambiguous_and_not_repeated() {
        for halt in all(Effect::Maybe) {
            assert_eq!(halt.verdict(false), Verdict::Final(OutcomeKind::Ambiguous), "{halt:?}");
            assert_ne!(halt.outcome(true), OutcomeKind::Ambiguous, "{halt:?}");
        }
        for (effect, repeatable) in [(Effect::None, false), (Effect::Maybe, true), (Effect::Done, true)] {
            let repeated = all(effect).map(|halt| matches!(halt.verdict(repeatable), Verdict::Retry { .. }));
            assert_eq!(repeated, [true, false, false, false, false, false, false, false]);
        }
        assert_eq!(all(Effect::Done)[0].verdict(false), Verdict::Final(OutcomeKind::TimedOut));
    }

    #[test]
    fn each_is_said_of_the_peer_by_its_name_or_without_one() {
        let said = |peer: Option<&dyn fmt::Display>| all(Effect::None).map(|halt| halt.message(peer));
        let alike = |which: usize, text: &str| assert_eq!([&said(None)[which], &said(Some(&"db"))[which]], [text; 2]);
        alike(0, "not done within its timeout of 5s");
        alike(1, "not done within its deadline of 5s");
        alike(2, "stopped before it was done");
        alike(3, "stopped before it began");
        alike(7, "a fault of unisono: oh");
        assert_eq!(said(None)[4], "its key asks to wait 5s, longer than max_wait (1s)");
        assert_eq!(said(Some(&"db"))[4], "db asks to wait 5s, longer than max_wait (1s)");
        assert!(said(None)[5].starts_with("what it is for was away for "), "{}", said(None)[5]);
        assert!(said(Some(&"db"))[5].starts_with("db was away for "), "{}", said(Some(&"db"))[5]);
        assert_eq!(said(None)[6], "it failed, and the repeats that all of its key have together are used up");
        assert_eq!(said(Some(&"db"))[6], "the repeats that all rows of db have together are used up");
    }
}
