//! The lines of earlier runs: those whose rows run again, and those that the input has no row for.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use unisono_core::{Effect, OutcomeKind};

use crate::{Repeat, RerunMode, RowKey, line::Head};

/// A line whose row runs again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldLine {
    /// How that ended.
    pub outcome: OutcomeKind,
    /// What it did, which the next attempt does not undo.
    pub effect: Effect,
    /// What it takes for it to run again.
    pub again: Option<RerunMode>,
    /// In which way it may be repeated.
    pub repeat: Repeat,
    /// What it asked for.
    pub fingerprint: u64,
    /// The key that it went out with, if it may have taken effect.
    pub idempotency_key: Option<Box<str>>,
    /// Up to which page behind its own others may have been started before, as in [`Record`](crate::Record).
    pub begun_to: u32,
    /// Whether its error says nothing of its row.
    pub(crate) is_passing: bool,
    /// It could not be told what its row asked for.
    pub(crate) not_understood: bool,
}

impl OldLine {
    pub(crate) fn of(head: &Head<'_>) -> Self {
        Self {
            outcome: head.outcome,
            effect: head.effect,
            again: RerunMode::of_line(head),
            repeat: head.repeat(),
            fingerprint: head.fingerprint,
            idempotency_key: head.key_text().map(Into::into),
            begun_to: head.begun_to,
            is_passing: head.is_passing,
            not_understood: head.not_understood,
        }
    }
}

/// The lines of rows that run again, by what they are the lines of.
pub type OldLines = HashMap<RowKey, OldLine>;

/// Lines of earlier runs that the input of this one had no row for.
#[derive(Debug, Default)]
pub struct LeftOver {
    /// Lines from this row on are this run's.
    pub(crate) first_row: u64,
    /// How many of each content.
    pub(crate) contents: HashMap<u64, u32>,
    /// Those whose rows would have run again.
    pub(crate) rows: HashSet<u64>,
    /// Others of these are not to be taken for one of the above that asks for the same.
    pub(crate) old: Arc<OldLines>,
}

impl LeftOver {
    /// How many they are.
    pub fn count(&self) -> u64 {
        self.contents.values().map(|count| u64::from(*count)).sum::<u64>() + self.rows.len() as u64
    }

    /// Whether the line with this head, the next one of the file, is one of them.
    pub(crate) fn takes(&mut self, head: &Head<'_>) -> bool {
        if self.rows.remove(&head.key.row) {
            return true;
        }
        head.key.row < self.first_row
            && !self.old.contains_key(&head.key)
            && self.contents.get_mut(&head.fingerprint).is_some_and(|count| {
                let goes = *count > 0;
                *count -= u32::from(goes);
                goes
            })
    }
}
