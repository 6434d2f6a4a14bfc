//! Files, many at once: walked, digested on native threads, listed in manifests and checked against them.
//!
//! [`walk()`] finds them, [`Files`] digests them (several at once on each core, since a digest of one file is bound by
//! latency), and [`manifest`] writes and reads the formats of coreutils, the BSDs, b3sum and hashdeep.
//!
//! Nothing here hangs on what is no regular file: only a FIFO that was named is waited for, where that can be stopped;
//! and a file that changes while it is read is told from one that does not. No file is mapped: a file that another
//! process cuts short would end this one.

mod error;
mod files;
pub mod manifest;
mod request;
mod split;
mod stat;
mod stream;
mod walk;
mod worker;

pub use error::Error;
pub use files::Files;
pub use request::{DigestRequest, Digested, FilesOptions, Known};
pub use stat::{Special, Stat};
pub use walk::{EntryKind, Hidden, WalkEntry, WalkOptions, walk, walk_steps};
