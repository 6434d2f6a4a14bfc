//! An error and what caused it, on one line.

use std::{error::Error, io};

/// The message of an error and those of its causes, parted by colons. Libraries like to repeat their cause in their own
/// message; it is said once. Where the process has no descriptors left, it is said what to do about that.
///
/// ```
/// let cause = std::io::Error::other(unisono_core::parse_duration("soon").unwrap_err());
/// assert!(unisono_core::error_chain(&cause).starts_with("`soon` is not a duration"));
/// ```
pub fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    let mut lacks_descriptors = is_out_of_descriptors(error);
    while let Some(error) = source {
        lacks_descriptors |= is_out_of_descriptors(error);
        let cause = error.to_string();
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    if lacks_descriptors {
        text.push_str(" (raise `ulimit -n`)");
    }
    text
}

fn is_out_of_descriptors(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.raw_os_error() == Some(EMFILE))
}

/// Of Linux.
const EMFILE: i32 = 24;
