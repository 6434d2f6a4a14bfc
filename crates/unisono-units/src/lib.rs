//! Durations as people write them, for every face and for `unisono-init`.
//!
//! Without the standard library, because `unisono-init` does not carry it. What needs more than `core` and `alloc`
//! (sizes, rates) lives in `unisono-core`, which hands these on as its own.

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod duration;
mod parse;

pub use duration::{FOR_EVER, Span, format_duration, format_roughly, parse_duration};
pub use parse::ParseError;
