//! One row of the input, ready to be run or known to be bad.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde_json::value::RawValue;
use unisono_core::redacted;

/// A row of the input.
#[derive(Debug)]
pub struct Row<C> {
    /// Its name, if it has one of its own; otherwise it is named after its number.
    pub id: Option<Box<str>>,
    /// Where it stood.
    pub origin: Origin,
    /// What it asks for, or why nobody can tell.
    pub call: Result<C, String>,
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

    /// The row as it is written, where a row is one plain value.
    fn line(&self) -> Option<&[u8]> {
        None
    }

    /// The row as JSON, where it is.
    fn json(&self) -> Option<Json<'_>> {
        None
    }
}

/// A row of JSON.
#[derive(Clone, Copy)]
pub enum Json<'a> {
    /// A string.
    Text(&'a str),
    /// An object's members, as they are written.
    Object(&'a BTreeMap<String, &'a RawValue>),
}

/// Its names alone: a password may be in any value.
impl fmt::Debug for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.debug_tuple("Text").field(&redacted(text)).finish(),
            Self::Object(members) => f.debug_set().entries(members.keys()).finish(),
        }
    }
}

/// A row without fields.
pub struct NoFields;

impl Fields for NoFields {
    fn field(&self, name: &str) -> Result<&str, String> {
        Err(format!("no column `{name}`: there is no input to take it from (give one with --from)"))
    }
}

/// Makes calls of rows.
pub trait Maker: Send + 'static {
    /// What it makes.
    type Call;

    /// Makes all rows that one record stands for, in order, until `push` returns false.
    fn make(&self, fields: &dyn Fields, origin: Origin, push: &mut dyn FnMut(Row<Self::Call>) -> bool);

    /// How many rows one record is.
    fn combinations(&self) -> u64 {
        1
    }

    /// Whether lines are taken as they are: white space, empty lines and `#` included.
    fn takes_lines_whole(&self) -> bool {
        false
    }
}
