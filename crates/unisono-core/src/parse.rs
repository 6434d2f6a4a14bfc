//! The error of every small parser here: what was given, what it should have been.

use std::fmt;

/// A word that could not be understood, with an example of one that can.
///
/// ```
/// let error = unisono_core::parse_duration("soon").unwrap_err();
/// assert_eq!(error.to_string(), "`soon` is not a duration (try `10s`, `500ms` or `1h30m`)");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    given: String,
    wanted: &'static str,
    example: &'static str,
}

impl ParseError {
    pub(crate) fn new(given: &str, wanted: &'static str, example: &'static str) -> Self {
        Self { given: given.to_owned(), wanted, example }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not {} (try {})", self.given, self.wanted, self.example)
    }
}

impl std::error::Error for ParseError {}
