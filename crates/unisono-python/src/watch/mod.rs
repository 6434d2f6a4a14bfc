//! Seeing inside: what Python hands to `unisono-watch`, and what is looked at with the interpreter's lock.

mod output;
pub mod ping;
pub mod watchdog;
