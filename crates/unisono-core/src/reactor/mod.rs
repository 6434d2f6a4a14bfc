//! Where an engine runs: one thread with its sockets, its timers and its clock.
//!
//! - [`Reactor`] says where that is. An engine has one such home from its first step to its last.
//! - [`spawn`], [`spawn_local`] and [`spawn_blocking`] are for what an engine runs beside itself, at home or on threads
//!   that may wait. They take the reactor that runs them, so an engine is never told which it is.
//! - [`Turn`], [`late`] and [`timeout_at`] are about time there: nothing is late before the sockets were looked at.
//!
//! Engines use the last two and take [`clock::now`](crate::clock::now), which is the reactor's; only faces make a
//! [`Reactor`].

mod home;
mod spawn;
mod turn;

pub use home::{Panicked, Reactor, StartError};
pub use spawn::{spawn, spawn_blocking, spawn_local, with_local_tasks};
pub use turn::{Late, TURNS, Turn, grace, late, timeout_at};
