//! The results file is the journal: one JSON object per line, appended as outcomes come, and enough to resume from.
//!
//! [`Journal::open`] reads what an earlier run left ([`Recovered`]) and starts a writer thread; [`Journal::append`]
//! adds outcomes; [`Journal::started`] makes durable that something is about to start which must not be repeated.
//! Beside the results stands a run file: the lock, and these notes. It goes away when nothing is in doubt.
//!
//! What is promised: `kill -9` loses only outcomes that were not written yet (a few milliseconds' worth), and their
//! rows run again or are `ambiguous`; power loss at most the last second's. Nothing that is not ours is overwritten.
//! Lock and notes belong to the file and not to a spelling of its name: see `results.rs`.

mod beside;
mod disposition;
mod error;
mod in_doubt;
mod journal;
mod json;
#[cfg(test)]
mod kill_tests;
mod line;
mod lines;
mod members;
mod mode;
mod old_lines;
mod order;
mod place;
mod recover;
mod repeat;
mod rerun;
mod results;
mod retell;
mod rewrite;
mod row_table;
mod runfile;
mod spelling;
mod steps;
mod writer;

pub use beside::beside;
pub use disposition::{Disposition, Fate, Later};
pub use error::Error;
pub use journal::{Journal, Note};
pub use json::Json;
pub use line::{ANY_PAGE, Head, Next, Record, RowKey, scan, unescape};
pub use members::{Elements, Fields, Members, push_json_string};
pub use mode::Mode;
pub use old_lines::{LeftOver, OldLine, OldLines};
pub use order::InputOrder;
pub use recover::{Gone, Identity, Recovered};
pub use repeat::Repeat;
pub use rerun::{RerunCounts, RerunMode};
pub use results::Open;
pub use spelling::respelled;
pub use writer::{Closed, Finish};
