//! What becomes of an item that the engine ends, for the kinds of work that have nothing of their own to say of it: a
//! [`Halt`] as a value.

use unisono_batch::{Halt, Verdict};
use unisono_core::{Effect, ErrorKind};

use crate::{
    stages::{AttemptStop, OwnTimes},
    work::Done,
};

/// What an attempt ends with that finds its run stopped already.
pub(crate) fn unbegun<D: Done>() -> (Verdict, D) {
    halted(&Halt::Cancelled { reason: None, started: false, effect: Effect::None }, true)
}

/// What the engine says of it.
pub(crate) fn halted<D: Done>(halt: &Halt, repeatable: bool) -> (Verdict, D) {
    (halt.verdict(repeatable), D::failed(halt.error_kind(), halt.message(None)))
}

/// For work whose attempts keep their own times: it waited for a repeat, or was given up in the middle.
pub(crate) fn halted_between_attempts<D: Done>(halt: &Halt, times: OwnTimes, repeatable: bool) -> (Verdict, D) {
    let (kind, message) = match halt {
        Halt::Cancelled { started: true, effect: Effect::Maybe, .. } => {
            (ErrorKind::Cancelled, "given up before its end was known".to_owned())
        }
        // The engine's is a last resort; the item is told its own.
        Halt::Deadline { .. } => times.why(AttemptStop::Deadline),
        _ => (halt.error_kind(), halt.message(None)),
    };
    (halt.verdict(repeatable), D::failed(kind, message))
}
