//! Why a run could not begin, or not end as it should.

use std::{error::Error as StdError, fmt};

/// An error outside of any item.
#[derive(Debug)]
pub struct Error {
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
    is_usage: bool,
}

impl Error {
    /// The caller's mistake.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, source: None, is_usage: true }
    }

    /// A fault of the machine, or of unisono.
    pub fn fault(message: impl Into<String>) -> Self {
        Self { is_usage: false, ..Self::usage(message) }
    }

    /// The same, with what caused it.
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same, with what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same, of the input with this name.
    #[must_use]
    pub(crate) fn of(mut self, input: &str) -> Self {
        self.message = format!("`{input}`: {}", self.message);
        self
    }

    /// What to do about it.
    pub fn what_to_do(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Whether the caller made a mistake.
    pub fn is_usage(&self) -> bool {
        self.is_usage
    }
}

impl From<unisono_journal::Error> for Error {
    fn from(error: unisono_journal::Error) -> Self {
        let mut wrapped = Self {
            message: error.to_string(),
            hint: error.hint().map(str::to_owned),
            source: None,
            is_usage: error.is_usage(),
        };
        wrapped.source = error.source().map(|source| source.to_string().into());
        wrapped
    }
}

impl From<unisono_http::Error> for Error {
    fn from(error: unisono_http::Error) -> Self {
        Self::usage(error.chain())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
