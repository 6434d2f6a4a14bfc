//! The mildest mode in which the row of a line runs again, and how many lines need which.
//!
//! It is asked of [`runs_again`], which decides for every later run: what a summary promises is what that run does.

use unisono_core::{Effect, OutcomeKind};

use crate::{
    line::Head,
    mode::{Mode, runs_again},
};

/// The mode that a user has to ask for so that a row runs again; each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RerunMode {
    /// To go on.
    Resume,
    /// That what failed runs again.
    Failed,
    /// That what may have been done, at least in part, is done again.
    Ambiguous,
}

impl RerunMode {
    /// Each of them, the mildest first.
    pub const ALL: [Self; 3] = [Self::Resume, Self::Failed, Self::Ambiguous];

    /// The mildest that runs a row again which ended like this; `is_passing` is said of its error. `None` if nothing
    /// does, since it went well.
    ///
    /// ```
    /// use unisono_core::{Effect, OutcomeKind};
    /// use unisono_journal::RerunMode;
    /// let of = |effect| RerunMode::of(OutcomeKind::Failed, effect, false, true);
    /// assert_eq!(of(Effect::None), Some(RerunMode::Resume));
    /// assert_eq!(of(Effect::Done), Some(RerunMode::Ambiguous));
    /// assert_eq!(RerunMode::of(OutcomeKind::Ok, Effect::Done, true, false), None);
    /// ```
    pub fn of(outcome: OutcomeKind, effect: Effect, repeatable: bool, is_passing: bool) -> Option<Self> {
        Self::ALL.into_iter().find(|again| runs_again(outcome, effect, repeatable, is_passing, again.mode()))
    }

    /// As [`RerunMode::of`], of a line.
    pub fn of_line(head: &Head<'_>) -> Option<Self> {
        Self::of(head.outcome, head.effect, head.repeatable, head.is_passing)
    }

    fn mode(self) -> Mode {
        match self {
            Self::Resume => Mode::Resume,
            Self::Failed => Mode::RetryFailed { ambiguous: false },
            Self::Ambiguous => Mode::RetryFailed { ambiguous: true },
        }
    }
}

/// How many outcomes need which mode to run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RerunCounts([u64; 3]);

impl RerunCounts {
    /// Counts one more; what never runs again is not counted.
    pub fn add(&mut self, again: Option<RerunMode>) {
        if let Some(again) = again {
            self.0[again as usize] += 1;
        }
    }

    /// Counts these as well.
    pub fn join(&mut self, others: &Self) {
        self.0.iter_mut().zip(others.0).for_each(|(count, other)| *count += other);
    }

    /// Counts these no more.
    pub fn subtract(&mut self, others: &Self) {
        self.0.iter_mut().zip(others.0).for_each(|(count, other)| *count -= other);
    }

    /// How many need this and no more.
    pub fn get(&self, again: RerunMode) -> u64 {
        self.0[again as usize]
    }
}
