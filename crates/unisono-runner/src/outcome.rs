//! What became of a row, or of one page of it.

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use http::Method;
use unisono_core::OutcomeKind;
use unisono_http::{Reply, Url};
use unisono_journal::RowKey;

/// One outcome: what was asked, how it ended, and what came back.
#[derive(Debug)]
pub struct Outcome {
    /// Which row, and which page of it.
    pub key: RowKey,
    /// The row's name.
    pub id: Box<str>,
    /// How it ended.
    pub kind: OutcomeKind,
    /// What was asked for; `None` when nobody could tell.
    pub asked: Option<(Method, Url)>,
    /// Where a row stood that nobody could understand.
    pub place: Option<Box<str>>,
    /// The answer, the error, or both.
    pub reply: Reply,
    /// What was selected of the answer, as JSON.
    pub selected: Option<Bytes>,
    /// Where the body was saved to, and how long it is.
    pub saved: Option<(PathBuf, u64)>,
    /// The next page: `None` where there are no pages, or nobody knows; `Some(None)` after the last.
    pub next: Option<Option<Url>>,
    /// How often it was tried; 0 when it was never started.
    pub attempts: u16,
    /// From its first start to its end.
    pub elapsed: Duration,
    /// What the row asks for, in short.
    pub(crate) fingerprint: u64,
    /// Whether running it again does no harm.
    pub(crate) repeatable: bool,
}

impl Outcome {
    /// The outcome of a single call, outside of any run.
    pub fn of_call(
        number: u64,
        kind: OutcomeKind,
        asked: (Method, Url),
        reply: Reply,
        attempts: u16,
        elapsed: Duration,
    ) -> Self {
        Self {
            key: RowKey { row: number, page: 0 },
            id: format!("r{number}").into(),
            kind,
            asked: Some(asked),
            place: None,
            reply,
            selected: None,
            saved: None,
            next: None,
            attempts,
            elapsed,
            fingerprint: 0,
            repeatable: true,
        }
    }
}
