//! One row of the input, ready to be run or known to be bad.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde_json::value::RawValue;
use unisono_core::redacted;

use crate::Error;

/// A row of the input.
#[derive(Debug)]
pub struct Row<C> {
    /// Its name, if it has one of its own; otherwise it is named after its number.
    pub id: Option<Box<str>>,
    /// Where it stood.
    pub origin: RowOrigin,
    /// What it asks for, or why that cannot be understood.
    pub call: Result<C, String>,
}

/// Which row of the input it is, from 0: what order, canary and resume count by. It says nothing about lines,
/// of which one may be several rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowIndex(u64);

impl RowIndex {
    /// The row with so many before it.
    pub const fn new(index: u64) -> Self {
        Self(index)
    }

    /// How many rows are before it.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Its number from 1, as templates and the environment of commands have it.
    pub const fn sequence(self) -> u64 {
        self.0 + 1
    }

    /// The row after it.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The line of the input that a row came from, from 1, as people are shown it; of arguments and of items that a
/// program hands over, which of them it is. A line may be several rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LineNumber(u64);

impl LineNumber {
    /// No line stands for it.
    pub const NONE: Self = Self(0);

    /// The line with this number, from 1; 0 is none.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number, from 1; 0 where there is none.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Which of the lines or items it is, from 0, where there is one.
    pub const fn index(self) -> Option<u64> {
        self.0.checked_sub(1)
    }
}

impl fmt::Display for LineNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a row stood.
#[derive(Debug, Clone, Default)]
pub struct RowOrigin {
    /// The name of the input: a file, or `arguments`.
    pub name: Option<Arc<str>>,
    /// The line of that file, or which of the arguments.
    pub line: LineNumber,
}

impl RowOrigin {
    /// A line of a file, from 1.
    pub fn of_line(name: Arc<str>, number: u64) -> Self {
        Self { name: Some(name), line: LineNumber::new(number) }
    }

    /// An argument, or an item that a program hands over: which of them, from 1.
    pub fn of_item(number: u64) -> Self {
        Self { name: None, line: LineNumber::new(number) }
    }
}

impl fmt::Display for RowOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name}:{}", self.line),
            None => write!(f, "argument {}", self.line),
        }
    }
}

/// The fields of a row, by name.
pub trait RowFields {
    /// A field's text.
    ///
    /// # Errors
    /// When there is no such field, or it is not text.
    fn field(&self, name: &str) -> Result<&str, String>;

    /// Why no row of an input like this has such a field; `None` where this one has it, be it as no text, which says
    /// nothing of the others.
    fn lacks(&self, name: &str) -> Option<String> {
        self.field(name).err()
    }

    /// The row as it is written, where a row is one plain value.
    fn line(&self) -> Option<&[u8]> {
        None
    }

    /// The row as JSON, where it is.
    fn json(&self) -> Option<RowJson<'_>> {
        None
    }
}

/// A row of JSON.
#[derive(Clone, Copy)]
pub enum RowJson<'a> {
    /// A string.
    Text(&'a str),
    /// An object's members, as they are written.
    Object(&'a BTreeMap<String, &'a RawValue>),
}

/// Its names alone: a password may be in any value.
impl fmt::Debug for RowJson<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.debug_tuple("Text").field(&redacted(text)).finish(),
            Self::Object(members) => f.debug_set().entries(members.keys()).finish(),
        }
    }
}

/// A row without fields.
pub struct NoFields;

impl RowFields for NoFields {
    fn field(&self, name: &str) -> Result<&str, String> {
        Err(format!("no column `{name}`: there is no input to take it from (give one with --from)"))
    }
}

/// Makes calls of rows.
pub trait Maker: Send + 'static {
    /// What it makes.
    type Call;

    /// Makes all rows that one record stands for, in order, until `push` returns false.
    fn make(&self, fields: &dyn RowFields, origin: RowOrigin, push: &mut dyn FnMut(Row<Self::Call>) -> bool);

    /// How many rows one record is.
    fn combinations(&self) -> u64 {
        1
    }

    /// Whether an input can be taken: `first` has the columns that all of its rows will have, or is the first of its
    /// rows. Asked before any row is made.
    ///
    /// # Errors
    /// What no row could be made for, and what to do about it.
    fn check(&self, _first: &dyn RowFields) -> Result<(), Error> {
        Ok(())
    }

    /// Whether lines are taken as they are: white space, empty lines and `#` included.
    fn takes_lines_whole(&self) -> bool {
        false
    }
}

/// Refuses an input whose rows lack one of these columns.
pub(crate) fn check_columns<'a>(
    first: &dyn RowFields,
    columns: impl IntoIterator<Item = &'a str>,
) -> Result<(), Error> {
    let missing = columns.into_iter().find_map(|name| first.lacks(name));
    missing.map_or(Ok(()), |why| Err(Error::usage(why)))
}
