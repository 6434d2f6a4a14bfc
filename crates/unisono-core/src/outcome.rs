//! How an item ended. Every item that was pulled ends in exactly one of these.

use std::{fmt, str::FromStr};

use crate::ParseError;

/// The six ways in which an item can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OutcomeKind {
    /// Done as expected.
    Ok,
    /// It did not work; its error says why.
    Failed,
    /// Its deadline passed, and nothing of it can still take effect.
    TimedOut,
    /// It may have taken effect, and must not be repeated by itself.
    Ambiguous,
    /// Started, then stopped on request.
    Cancelled,
    /// Not run on purpose.
    Skipped,
}

impl OutcomeKind {
    /// All of them, in the order in which summaries list them.
    pub const ALL: [Self; 6] =
        [Self::Ok, Self::Failed, Self::TimedOut, Self::Ambiguous, Self::Cancelled, Self::Skipped];

    /// The word that is written to results files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Ambiguous => "ambiguous",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }
}

impl fmt::Display for OutcomeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for OutcomeKind {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| ParseError::new(text, "an outcome", "`ok`, `failed` or `ambiguous`"))
    }
}

/// How many items ended in which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutcomeCounts([u64; 6]);

impl OutcomeCounts {
    /// Counts one more.
    pub fn add(&mut self, kind: OutcomeKind) {
        self.0[kind as usize] += 1;
    }

    /// Counts these as well.
    pub fn join(&mut self, others: &Self) {
        self.0.iter_mut().zip(others.0).for_each(|(count, other)| *count += other);
    }

    /// Counts these no more.
    pub fn subtract(&mut self, others: &Self) {
        self.0.iter_mut().zip(others.0).for_each(|(count, other)| *count -= other);
    }

    /// How many ended in this way.
    pub fn get(&self, kind: OutcomeKind) -> u64 {
        self.0[kind as usize]
    }

    /// How many ended at all.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Those that are neither `ok` nor skipped on purpose.
    pub fn not_ok(&self) -> u64 {
        self.total() - self.get(OutcomeKind::Ok) - self.get(OutcomeKind::Skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_reads_back_and_counts_apart() {
        let mut counts = OutcomeCounts::default();
        for kind in OutcomeKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
            counts.add(kind);
        }
        assert!(OutcomeKind::ALL.iter().all(|kind| counts.get(*kind) == 1));
        assert_eq!((counts.total(), counts.not_ok()), (6, 4));
    }
}
