//! Why a file has no digest.

use std::{error::Error as StdError, fmt, io};

use unisono_core::ErrorKind;

use crate::Special;

/// Why a file has no digest: what was done to it, and what came of that. Its path is the caller's to tell.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: &'static str,
    source: Option<io::Error>,
    special: Option<Special>,
}

impl Error {
    pub(crate) fn io(message: &'static str, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ErrorKind::Missing,
            _ => ErrorKind::Unreadable,
        };
        Self { kind, message, source: Some(source), special: None }
    }

    pub(crate) fn special(special: Special) -> Self {
        Self { kind: ErrorKind::Unreadable, message: special.why(), source: None, special: Some(special) }
    }

    pub(crate) fn changed() -> Self {
        Self { kind: ErrorKind::Changed, message: "it changed while it was read", source: None, special: None }
    }

    pub(crate) fn stopped() -> Self {
        Self { kind: ErrorKind::Cancelled, message: "stopped before its end", source: None, special: None }
    }

    /// No thread could finish it: a fault of ours.
    pub(crate) fn lost() -> Self {
        Self { kind: ErrorKind::Internal, message: "the thread that read it panicked", source: None, special: None }
    }

    /// The reason in one word.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What it is, when it is no regular file.
    pub fn as_special(&self) -> Option<Special> {
        self.special
    }

    /// Whether another attempt may go better.
    pub fn is_retryable(&self) -> bool {
        self.kind == ErrorKind::Changed
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
