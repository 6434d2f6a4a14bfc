//! A descriptor that tells the reactor when it is ready.
//!
//! Tokio's own type lets the descriptor inside be exchanged, so making one is unsafe. This one keeps it.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    task::{Context, Poll},
};

use tokio::io::{
    Interest,
    unix::{AsyncFd, AsyncFdReadyGuard},
};

/// A descriptor known to the ambient reactor. Events are edges: after one, the caller must read until nothing is left.
#[derive(Debug)]
pub struct Watched(AsyncFd<OwnedFd>);

impl Watched {
    /// Watches for something to read. Must be called within a tokio runtime with I/O.
    ///
    /// # Errors
    /// When the kernel cannot watch it: a regular file, or one watch too many.
    pub fn readable(descriptor: OwnedFd) -> io::Result<Self> {
        Self::new(descriptor, Interest::READABLE)
    }

    /// Watches for room to write. Must be called within a tokio runtime with I/O.
    ///
    /// # Errors
    /// As [`Watched::readable`].
    pub fn writable(descriptor: OwnedFd) -> io::Result<Self> {
        Self::new(descriptor, Interest::WRITABLE)
    }

    fn new(descriptor: OwnedFd, interest: Interest) -> io::Result<Self> {
        // SAFETY: an `OwnedFd` is open and names the same file for as long as it lives. It lives in the `AsyncFd`,
        // which is private here and never lent out mutably, so it cannot be exchanged or closed.
        let watched = unsafe { AsyncFd::register_with_interest(descriptor, interest) };
        watched.map(Self).map_err(io::Error::from)
    }

    /// Ready when there may be something to read; the guard clears that.
    pub fn poll_read_ready<'a>(
        &'a self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<AsyncFdReadyGuard<'a, OwnedFd>>> {
        self.0.poll_read_ready(context)
    }

    /// Ready when there may be room to write; the guard clears that.
    pub fn poll_write_ready<'a>(
        &'a self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<AsyncFdReadyGuard<'a, OwnedFd>>> {
        self.0.poll_write_ready(context)
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}
