//! Why a word or a digest could not be read. Hashing itself cannot fail.

use std::fmt;

/// What [`Digest::from_hex`](crate::Digest::from_hex) and the `FromStr` implementations return: no retry would help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into() }
    }

    /// What went wrong, for a program to decide on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Never: the same text is wrong again.
    pub fn is_retryable(&self) -> bool {
        false
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// The kinds of [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No algorithm or kernel has this name.
    UnknownName,
    /// A digest of this algorithm has another number of digits.
    WrongLength,
    /// A digest has a character that is no hexadecimal digit.
    NotHexadecimal,
}
