//! Seeing inside: what Python hands to `unisono-watch`, and what is looked at with the interpreter's lock.

mod kinds;
mod look;
mod objects;
mod output;
pub mod ping;
mod stacks;
pub mod tasks;
mod threads;
mod waits;
pub mod watchdog;
