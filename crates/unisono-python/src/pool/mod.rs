//! `unisono.ProcessPool` on both of its sides: the engine that submits, the futures, and the loop within a worker.
//!
//! The pool's lock is never held while the interpreter is entered, and the interpreter is let go of while anything
//! waits. Pickles are made when a task is submitted and read when its result is asked for, both on the thread
//! that does so.

mod codec;
mod engine;
mod future;
mod inside;
mod results;
mod shared;

pub use engine::{PoolEngine, ZygoteHandle};
pub use future::{FutureCore, cancelled};
pub use inside::{is_reading, work};
pub use results::Results;
