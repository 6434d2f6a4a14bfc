//! Worker processes: tasks are handed to them, their ends are told, and no task is lost or run twice by accident.
//!
//! What is run is bytes to us; a face says what they mean on both sides. A [`Pool`] holds one queue; each worker has an
//! [`exchange`] of shared memory and a socket of its own, so that a death concerns one worker and at most one task. A
//! worker's side of it is [`Inside`]. Whoever waits for a task drives the pool, and nothing here starts a thread.
//!
//! Needs Linux (memfd, pidfd, epoll). Leaves out other machines, and priorities.

pub mod blob;
pub mod exchange;
mod inside;
mod message;
mod pool;
mod task;
mod worker;
mod zygote;

pub use inside::{Given, Inside, kind};
pub use pool::{Awaited, Given as PoolGiven, Options, Pool};
pub use task::{Death, Function, Outcome, State, Task, Terms};
pub use zygote::Zygote;
