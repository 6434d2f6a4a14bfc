//! What it means for an item that the engine ends it: said once, for all kinds of work.

use unisono_batch::{Halt, Verdict};
use unisono_core::{Effect, ErrorKind, OutcomeKind, clock, format_duration, format_roughly};

use crate::{
    stages::{AttemptStop, OwnTimes},
    work::Done,
};

/// What an attempt says that finds its run stopped already.
pub(crate) const UNBEGUN: Halt = Halt::Cancelled { reason: None, started: false, effect: Effect::None };

/// For work that leaves nothing behind, or that is not under way when the engine halts it.
pub(crate) fn halted_without_effect<D: Done>(halt: Halt) -> (Verdict, D) {
    let (kind, error, message) = match halt {
        Halt::AttemptTimeout { after, .. } => {
            let message = format!("not done within its timeout of {}", format_duration(after));
            let verdict = Verdict::Retry { otherwise: OutcomeKind::TimedOut, not_before: None };
            return (verdict, D::failed(ErrorKind::Timeout, message));
        }
        Halt::Deadline { after, .. } => {
            let message = format!("not done within its deadline of {}", format_duration(after));
            (OutcomeKind::TimedOut, ErrorKind::Deadline, message)
        }
        Halt::Cancelled { started, .. } => {
            let message = if started { "stopped before it was done" } else { "stopped before it began" };
            (OutcomeKind::Cancelled, ErrorKind::Cancelled, message.to_owned())
        }
        Halt::RateLimited { wait, .. } => (OutcomeKind::Failed, ErrorKind::RateLimited, format!("its key {wait}")),
        Halt::Away { since, is_silent, .. } => {
            let waited = format_roughly(clock::now().saturating_duration_since(since));
            let what = if is_silent { "answered nothing" } else { "was away" };
            let message = format!("what it is for {what} for {waited}, which is longer than it is waited for");
            (OutcomeKind::Failed, ErrorKind::Away, message)
        }
        Halt::RetryBudget { .. } => {
            let message = "it failed, and the repeats that all of its key have together are used up".to_owned();
            (OutcomeKind::Failed, ErrorKind::RetryBudget, message)
        }
        Halt::Panicked { message, .. } => {
            (OutcomeKind::Failed, ErrorKind::Internal, format!("a fault of unisono: {message}"))
        }
    };
    (Verdict::Final(kind), D::failed(error, message))
}

/// For work whose attempts keep their own times: it waited for a repeat, or was given up in the middle.
pub(crate) fn halted_between_attempts<D: Done>(halt: Halt, times: OwnTimes, is_repeatable: bool) -> (Verdict, D) {
    match halt {
        Halt::Cancelled { started: true, effect: Effect::Maybe, .. } => {
            let message = "given up before its end was known".to_owned();
            let kind = Effect::Maybe.outcome(OutcomeKind::Cancelled, is_repeatable);
            (Verdict::Final(kind), D::failed(ErrorKind::Cancelled, message))
        }
        Halt::Deadline { .. } | Halt::AttemptTimeout { .. } => {
            let (kind, message) = times.why(AttemptStop::Deadline);
            (Verdict::Final(OutcomeKind::TimedOut), D::failed(kind, message))
        }
        halt => halted_without_effect(halt),
    }
}
