//! Values that must never be shown.

use std::fmt;

/// A password or token: it can be used, but neither printed nor logged by mistake.
///
/// ```
/// let token = unisono_core::Secret::new("hunter2");
/// assert_eq!(format!("{token:?}"), "Secret(***)");
/// assert_eq!(token.reveal(), "hunter2");
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(Box<str>);

impl Secret {
    /// Wraps a value that must not be shown.
    pub fn new(value: impl Into<Box<str>>) -> Self {
        Self(value.into())
    }

    /// The value itself, for sending it where it belongs.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}
