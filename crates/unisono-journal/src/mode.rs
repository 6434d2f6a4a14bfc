//! Which rows with a line run again.

use unisono_core::{Effect, OutcomeKind};

use crate::line::Head;

/// Which rows with a line run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// There must be no results yet.
    Fresh,
    /// Those that were cancelled, and those that a peer's absence or a limit on waiting for it has decided.
    Resume,
    /// Also those that failed or timed out.
    RetryFailed {
        /// And those of which it is not known whether they took effect.
        ambiguous: bool,
    },
}

impl Mode {
    /// Whether the row of this line runs again.
    pub fn repeats(self, head: &Head<'_>) -> bool {
        runs_again(head.outcome, head.effect, head.repeatable, head.is_passing, self)
    }
}

/// Whether a row that ended like this runs again. What may have been carried out, and must not be repeated, does so
/// only where the user asked for what is ambiguous, whatever word its outcome has.
pub(crate) fn runs_again(outcome: OutcomeKind, effect: Effect, repeatable: bool, is_passing: bool, mode: Mode) -> bool {
    let asked = match (outcome, mode) {
        (OutcomeKind::Ok | OutcomeKind::Skipped, _) => false,
        (OutcomeKind::Cancelled, _) => true,
        (OutcomeKind::Failed, Mode::Fresh | Mode::Resume) => is_passing,
        (OutcomeKind::Failed | OutcomeKind::TimedOut, Mode::RetryFailed { .. }) => true,
        (OutcomeKind::TimedOut, _) => false,
        (OutcomeKind::Ambiguous, mode) => matches!(mode, Mode::RetryFailed { ambiguous: true }),
    };
    asked && (effect.allows_repeat(repeatable) || matches!(mode, Mode::RetryFailed { ambiguous: true }))
}
