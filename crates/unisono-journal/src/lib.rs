//! The results file is the journal: one JSON object per line, appended as outcomes come, and enough to resume from.
//!
//! [`Journal::open`] reads what an earlier run left ([`Recovered`]) and starts a writer thread; [`Journal::append`]
//! adds outcomes; [`Journal::started`] makes durable that something is about to start which must not be repeated.
//! Beside the results stands a run file: the lock, and these notes. It goes away when nothing is in doubt.
//!
//! What is promised: `kill -9` loses only outcomes that were not written yet (a few milliseconds' worth), and their
//! rows run again or are `ambiguous`; power loss at most the last second's. Nothing that is not ours is overwritten.

mod error;
mod journal;
mod line;
mod recover;
mod runfile;
mod sort;
mod writer;

pub use error::Error;
pub use journal::{Journal, Note, Open};
pub use line::{Head, Next, Record, RowKey, push_json_string, scan, unescape};
pub use recover::{Disposition, Identity, LeftOver, Mode, Recovered};
pub use sort::sort;
pub use writer::Closed;
