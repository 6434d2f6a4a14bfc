//! What became of a row, or of one page of it.

use std::time::Duration;

use unisono_core::{Effect, OutcomeKind};
use unisono_journal::{Repeat, RowKey};

use crate::row::{LineNumber, RowIndex};

/// One outcome: how a row ended, and what came of it.
#[derive(Debug)]
pub struct RowOutcome<D> {
    /// Which row, and which page of it.
    pub key: RowKey,
    /// Where it stands in the input of this run. `key.row` is the same number, unless rows of earlier runs, known by
    /// their content, came before.
    pub index: RowIndex,
    /// The line of the input that its row came from, as in [`RowOrigin`](crate::RowOrigin). A line may be several rows.
    pub line: LineNumber,
    /// The row's name.
    pub id: Box<str>,
    /// How it ended.
    pub kind: OutcomeKind,
    /// Whether what it asked for was carried out.
    pub effect: Effect,
    /// Where a row stood that cannot be understood.
    pub location: Option<Box<str>>,
    /// How often it was tried; 0 when it was never started.
    pub attempts: u16,
    /// From its first start to its end.
    pub elapsed: Duration,
    /// What was asked for, and what came of it.
    pub done: D,
    /// What the row asks for, in short.
    pub(crate) fingerprint: u64,
    /// Whether, and by what, running it again does no harm.
    pub(crate) repeat: Repeat,
    /// The key that it went out with.
    pub(crate) idempotency_key: Option<Box<str>>,
    /// Up to which page behind this one others may have been started before.
    pub(crate) begun_to: u32,
}

impl<D> RowOutcome<D> {
    /// The outcome of a single call, outside of any run.
    pub fn of_call(number: u64, kind: OutcomeKind, effect: Effect, done: D, attempts: u16, elapsed: Duration) -> Self {
        Self {
            key: RowKey { row: number, page: 0 },
            index: RowIndex::new(number),
            line: LineNumber::NONE,
            id: format!("r{number}").into(),
            kind,
            effect,
            location: None,
            attempts,
            elapsed,
            done,
            fingerprint: 0,
            repeat: Repeat::ByNature,
            idempotency_key: None,
            begun_to: 0,
        }
    }
}
