//! Why an expression has no outputs.

use std::fmt;

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The body is not JSON within the bounds.
    Body,
    /// The expression cannot be applied to what it found.
    Value,
    /// It would take more work than is due.
    Work,
}

/// Why an expression has no outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

impl Error {
    pub(crate) fn body(message: impl fmt::Display, at: usize) -> Self {
        Self { kind: ErrorKind::Body, message: format!("{message} at byte {at}") }
    }

    pub(crate) fn value(message: String) -> Self {
        Self { kind: ErrorKind::Value, message }
    }

    pub(crate) fn work() -> Self {
        Self { kind: ErrorKind::Work, message: "it takes too many steps for a body of this length".to_owned() }
    }

    /// What is wrong, without saying with what.
    pub fn reason(&self) -> &str {
        &self.message
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ErrorKind::Body => write!(f, "the body is not JSON that can be read: {}", self.message),
            ErrorKind::Value | ErrorKind::Work => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Error {}
