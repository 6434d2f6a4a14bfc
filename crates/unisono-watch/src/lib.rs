//! Seeing inside a program of Python while it runs or hangs: from memory, without the interpreter and without its lock.
//!
//! Nothing here calls the interpreter, takes its lock or follows a pointer of its own accord: every read goes through
//! the kernel (`memory.rs`), which refuses what is not there, and what is read is checked before it is believed.

pub mod cause;
mod descriptor;
pub mod event;
pub mod folder;
pub mod interpreter;
pub mod layout;
mod lines;
pub mod loop_state;
pub mod memory;
pub mod origin;
pub mod protocol;
mod rates;
pub mod render;
pub mod samples;
pub mod server;
pub mod tasks;
mod text;
pub mod versions;
pub mod view;
pub mod watchdog;
pub mod watched_loop;

pub use unisono_sys::thread_activity;
