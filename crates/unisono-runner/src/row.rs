//! One row of the input, ready to be run or known to be bad.

use std::{fmt, path::PathBuf, sync::Arc};

use unisono_http::Request;

/// A row of the input.
#[derive(Debug)]
pub struct Row {
    /// Its name, if it has one of its own; otherwise it is named after its number.
    pub id: Option<Box<str>>,
    /// Where it stood.
    pub origin: Origin,
    /// What it asks for, or why nobody can tell.
    pub call: Result<Call, String>,
}

/// What a row asks for.
#[derive(Debug)]
pub struct Call {
    /// What to send.
    pub request: Request,
    /// Where the body of a success goes, if it is to be a file.
    pub save: Option<PathBuf>,
}

/// Where a row stood.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// The name of the input: a file, or `arguments`.
    pub name: Option<Arc<str>>,
    /// Line of that file, from 1; for arguments their position; 0 where there is nothing to count.
    pub line: u64,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name}:{}", self.line),
            None => write!(f, "argument {}", self.line),
        }
    }
}

/// The fields of a row, by name.
pub trait Fields {
    /// A field's text.
    ///
    /// # Errors
    /// When there is no such field, or it is not text.
    fn field(&self, name: &str) -> Result<&str, String>;
}

/// A row without fields.
pub struct NoFields;

impl Fields for NoFields {
    fn field(&self, name: &str) -> Result<&str, String> {
        Err(format!("no column `{name}`: there is no input to take it from (give one with --from)"))
    }
}
