//! `unisono-init`: the first process of a container, and a supervisor for one command anywhere else.
//!
//! It runs a command in a group of its own, forwards every signal to it, reaps every orphan, and ends with the
//! command's exit code once the last descendant is gone. What is asked to end has a grace for it, and is killed after.
//!
//! `options` is the table that both faces read; `supervisor` decides, as a pure machine; `drive` is the loop around it;
//! `start` finds the command; `command_line` is the small binary. Everything of the system is in `unisono-bare`.
//!
//! Not here: restarting (that is for what runs the container), several commands, configuration files, logging of what
//! the command writes. Without the standard library: it lies in memory as long as its container lives, and the standard
//! library alone would take twice of what all the rest does (`main.rs` has the numbers).

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod command_line;
mod drive;
mod options;
mod start;
pub mod supervisor;

pub use drive::run;
pub use options::{InitOptions, OPTIONS, OptionError, OptionSpec};
/// Every signal, held back; a face makes it before anything else.
pub use unisono_bare::signals::HeldSignals;
