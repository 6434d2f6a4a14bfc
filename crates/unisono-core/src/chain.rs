//! An error and what caused it, on one line.

use std::error::Error;

/// The message of an error and those of its causes, parted by colons. Libraries like to repeat their cause in their own
/// message; it is said once.
///
/// ```
/// let cause = std::io::Error::other(unisono_core::parse_duration("soon").unwrap_err());
/// assert!(unisono_core::error_chain(&cause).starts_with("`soon` is not a duration"));
/// ```
pub fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    text
}
