//! What the operating system offers and Rust has no safe words for: one file per facility, Linux first.
//!
//! Each file wraps a few calls of the system so that its callers need no `unsafe`, argues every block, and holds no
//! policy: when to send a signal is decided elsewhere, how is known here. Without the standard library, so that
//! `unisono-init` can do without it too.

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod clock;
pub mod descendants;
pub mod error;
pub mod process;
pub mod program;
pub mod reap;
pub mod signals;
pub mod spawn;
pub mod stat;
pub mod terminal;
