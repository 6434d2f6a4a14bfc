//! What may have become of something in the world, apart from how its item ended.
//!
//! An outcome says how an item ended; its effect says whether what it asked for was carried out. Both together decide
//! whether it may be done again: a request that was carried out and whose answer was then found wrong has `failed`, and
//! must still not be sent twice.
//!
//! "Not carried out" is taken from what should have done it: a refusal (HTTP 4xx), an exit status, an exception.
//! What else they did before they refused is theirs to know.

use std::{fmt, str::FromStr};

use crate::{OutcomeKind, ParseError};

/// Whether what was asked for has been carried out.
///
/// The order is that of joining: of two hops or attempts the larger one holds for both.
///
/// ```
/// use unisono_core::Effect;
/// assert_eq!(Effect::Maybe.join(Effect::None), Effect::Maybe);
/// assert_eq!(Effect::Maybe.join(Effect::Done), Effect::Done);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Effect {
    /// Certainly not: never begun, or refused by what should have done it.
    #[default]
    None,
    /// It is not known.
    Maybe,
    /// Certainly, whatever was found wrong afterwards.
    Done,
}

impl Effect {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::None, Self::Maybe, Self::Done];

    /// The word that is written to results files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Maybe => "maybe",
            Self::Done => "done",
        }
    }

    /// What holds for both together.
    pub fn join(self, other: Self) -> Self {
        self.max(other)
    }

    /// Whether what had this effect may be done once more without being asked.
    pub fn allows_repeat(self, repeatable: bool) -> bool {
        repeatable || self == Self::None
    }

    /// How an item ends that would end as `outcome`, were it not for its effect: what may have been carried out, and
    /// must not be repeated, is ambiguous, whatever went wrong.
    ///
    /// ```
    /// use unisono_core::{Effect, OutcomeKind};
    /// assert_eq!(Effect::Maybe.outcome(OutcomeKind::TimedOut, false), OutcomeKind::Ambiguous);
    /// assert_eq!(Effect::Maybe.outcome(OutcomeKind::TimedOut, true), OutcomeKind::TimedOut);
    /// assert_eq!(Effect::Done.outcome(OutcomeKind::Failed, false), OutcomeKind::Failed);
    /// ```
    pub fn outcome(self, outcome: OutcomeKind, repeatable: bool) -> OutcomeKind {
        let settled = matches!(outcome, OutcomeKind::Ok | OutcomeKind::Skipped);
        if self == Self::Maybe && !repeatable && !settled { OutcomeKind::Ambiguous } else { outcome }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Effect {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::ALL
            .into_iter()
            .find(|effect| effect.as_str() == text)
            .ok_or_else(|| ParseError::new(text, "an effect", "`none`, `maybe` or `done`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joining_forgets_nothing_and_every_word_reads_back() {
        for one in Effect::ALL {
            assert_eq!(one.as_str().parse(), Ok(one));
            for other in Effect::ALL {
                let both = one.join(other);
                assert_eq!(both, other.join(one));
                assert!(both >= one && both >= other);
            }
        }
        assert!("sent".parse::<Effect>().is_err());
    }

    #[test]
    fn only_what_had_no_effect_or_bears_it_twice_is_repeated() {
        let repeated = |effect: Effect| [false, true].map(|repeatable| effect.allows_repeat(repeatable));
        assert_eq!(Effect::ALL.map(repeated), [[true, true], [false, true], [false, true]]);
    }
}
