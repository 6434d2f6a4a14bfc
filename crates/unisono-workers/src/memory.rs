//! What an exchange lies in: memory of two processes, or, under `cfg(loom)`, memory of a model.
//!
//! The model checker runs the exchange as it is, over words that may show every value that the memory model allows, and
//! over bytes that know which side was the last to touch them. A model must be small, so the exchange asks here how
//! large things are.
//!
//! Nothing else of this crate is built for a model: sockets and processes are not what it tries.

#[cfg(loom)]
mod modelled;

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, Ordering, fence};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, Ordering, fence};
#[cfg(loom)]
pub(crate) use modelled::Memory;
#[cfg(not(loom))]
pub(crate) use unisono_sys::shared::Shared as Memory;

/// A size: that of what is built, or that of a model.
pub(crate) const fn sized(built: usize, modelled: usize) -> usize {
    if cfg!(loom) { modelled } else { built }
}
