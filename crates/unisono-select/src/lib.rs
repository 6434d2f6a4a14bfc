//! The plain part of jq, bounded by construction: what to keep of a JSON body, on the thread that everything else runs
//! on.
//!
//! A body is checked once, from its first byte to its last, and then read in place: a value is a slice of the body, so
//! nothing is built of what is not wanted, and digits and escapes come out as they went in. What is written is JSON,
//! since it is made of slices of JSON.
//!
//! **What is in it:** `.`, `.a`, `."a b"`, `.["a"]`, `.[0]`, `.[-1]`, `.[1:3]`, `.[]`, each with `?`; `|`, `,`, `//`,
//! `and`, `or`, `==`, `!=`, `<`, `<=`, `>`, `>=`; parentheses; `[...]`, `{a, "b": .c, (.d): .e}`; numbers, strings,
//! `true`, `false`, `null`; `length`, `keys`, `not`, `type`, `empty`, `select(...)`, `map(...)`. They mean what they
//! mean in jaq.
//!
//! **Where it stops:** at whatever makes new text or numbers (`+`, `"\(...)"`, `tostring`), goes round (`..`, `reduce`,
//! `def`, `range`), binds (`as`), catches (`try`, `(...)?`), changes (`|=`), or computes what to look at (`.[.a]`).
//! Those cannot be bounded by looking at them; [`Expression::parse`] returns `None`, and they are for a process that
//! can be killed.
//!
//! **Bounds.** An expression has at most [`MAX_NODES`] parts and [`MAX_NESTING`] levels, a body [`MAX_DEPTH`] levels of
//! brackets and [`MAX_DIGITS`] bytes per number. Each step and each byte that is looked at or written after the check
//! is counted, and there are [`work_for`] of them; so that is also a bound of the output. Recursion goes as deep as
//! those levels and parts.

mod budget;
mod compare;
mod error;
mod eval;
mod json;
mod outputs;
mod parse;
mod value;

pub use error::{Error, ErrorKind};
pub use json::{CheckedJson, MAX_DEPTH, MAX_DIGITS, check, checked};
pub use outputs::Outputs;
pub use parse::{MAX_NESTING, MAX_NODES};

use parse::Node;

/// An expression of the plain part.
///
/// ```
/// let expression = unisono_select::Expression::parse(".items[] | {id, n: .tags | length}").unwrap();
/// let outputs = expression.run(br#"{"items": [{"id": 1.10, "tags": ["a", "b"]}]}"#).unwrap();
/// assert_eq!(outputs.into_json(), br#"{"id":1.10,"n":2}"#);
/// ```
#[derive(Debug, Clone)]
pub struct Expression {
    root: Node,
}

impl Expression {
    /// Reads an expression; `None` when it is none, or not of the plain part.
    pub fn parse(text: &str) -> Option<Self> {
        parse::parse(text).map(|root| Self { root })
    }

    /// All outputs for one body, within the work that is due to a body of its length.
    ///
    /// # Errors
    /// When the body is not JSON within the bounds, when the expression fails on it, or when it would take too much
    /// work.
    pub fn run(&self, body: &[u8]) -> Result<Outputs, Error> {
        self.run_within(body, work_for(body.len()))
    }

    /// The same for a body that was checked before, for another expression.
    ///
    /// # Errors
    /// When the expression fails on it, or when it would take too much work.
    ///
    /// ```
    /// use unisono_select::{Expression, checked};
    /// let body = checked(br#"{"next": "/2", "items": [1]}"#).unwrap();
    /// let next = Expression::parse(".next").unwrap().run_checked(&body).unwrap();
    /// let items = Expression::parse(".items").unwrap().run_checked(&body).unwrap();
    /// assert_eq!((next.into_json(), items.into_json()), (b"\"/2\"".to_vec(), b"[1]".to_vec()));
    /// ```
    pub fn run_checked(&self, body: &CheckedJson<'_>) -> Result<Outputs, Error> {
        eval::run(&self.root, body, work_for(body.len()))
    }

    /// The same within so many steps.
    ///
    /// # Errors
    /// As [`Expression::run`].
    pub fn run_within(&self, body: &[u8], work: usize) -> Result<Outputs, Error> {
        eval::run(&self.root, &json::checked(body)?, work)
    }
}

/// How many steps and bytes an expression may take on a body of this length, apart from checking it: as much as a dozen
/// looks at all of it, which a path of names does not come near, and what a small body may need at least.
pub fn work_for(body: usize) -> usize {
    body.saturating_mul(12).saturating_add(1 << 20)
}

/// Any expression on any body: what a fuzzer calls.
///
/// # Panics
/// When an output is not JSON, or larger than its bound.
pub fn fuzz(expression: &[u8], body: &[u8]) {
    let Ok(text) = std::str::from_utf8(expression) else { return };
    let Some(expression) = Expression::parse(text) else { return };
    if let Ok(outputs) = expression.run(body) {
        let count = outputs.len();
        let json = outputs.into_json();
        assert!(json.len() <= work_for(body.len()) + 2);
        assert!(count == 0 || json::checked_to(&json, MAX_DEPTH + MAX_NESTING + 1).is_ok());
    }
}
