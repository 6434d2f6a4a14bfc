//! Worker processes: tasks are handed to them, their ends are told, and no task is lost or run twice by accident.
//!
//! What is run is bytes to us; a face says what they mean on both sides. A [`Pool`] holds one queue; each worker has an
//! [`exchange`] of shared memory and a socket of its own, so that a death concerns one worker and at most one task. A
//! worker's side of it is [`Inside`]. A thread that waits for a task drives the pool, and nothing here starts a thread.
//!
//! Needs Linux (memfd, pidfd, epoll). Leaves out other machines, and priorities.

pub mod exchange;
mod memory;
mod parker;

// Of these a model has nothing; see `memory.rs`.
#[cfg(not(loom))]
mod begun;
#[cfg(not(loom))]
pub mod blob;
#[cfg(not(loom))]
mod inside;
#[cfg(not(loom))]
mod message;
#[cfg(not(loom))]
mod pool;
#[cfg(not(loom))]
mod spin;
#[cfg(not(loom))]
mod task;
#[cfg(not(loom))]
mod worker;
#[cfg(not(loom))]
mod zygote;

pub use crate::parker::{Parker, wake_those_left};
#[cfg(not(loom))]
pub use crate::{
    inside::{Given, Inside, kind},
    pool::{Awaited, Importance, Loss, Pool, PoolDescriptors, PoolNews, PoolOptions, TaskNews},
    spin::{Look, Spin},
    task::{Death, Function, State, Task, TaskOutcome, Terms},
    zygote::Zygote,
};
#[cfg(not(loom))]
pub use unisono_sys::{forks, monotonic::nanoseconds};
