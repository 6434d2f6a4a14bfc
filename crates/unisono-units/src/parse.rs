//! The error of every small parser here: what was given, what it should have been.

use alloc::{borrow::ToOwned, string::String};
use core::fmt;

/// A word that could not be understood, with an example of one that can.
///
/// ```
/// let error = unisono_units::parse_duration("soon").unwrap_err();
/// assert_eq!(error.to_string(), "`soon` is not a duration (try `10s`, `500ms` or `1h30m`)");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    given: String,
    wanted: &'static str,
    example: &'static str,
}

impl ParseError {
    /// `given` is not `wanted`; `example` shows what would be, with its quotes.
    pub fn new(given: &str, wanted: &'static str, example: &'static str) -> Self {
        Self { given: given.to_owned(), wanted, example }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not {} (try {})", self.given, self.wanted, self.example)
    }
}

impl core::error::Error for ParseError {}
