//! How many connections the process can afford.
//!
//! There is no limit until the process has run out of file descriptors. From then on it is what was open at that
//! moment, less a few, and a request that would connect waits for a connection to be closed or returned.

use std::{cell::Cell, rc::Rc};

use tokio::sync::Notify;

/// Counts open connections against what the process can afford.
#[derive(Default)]
pub(crate) struct ConnectionLimit {
    open: Cell<usize>,
    /// `None` until the process ran out of file descriptors.
    most: Cell<Option<usize>>,
    waiting: Cell<usize>,
    /// Keeps one permit, so that a connection that is closed before the wait begins is not missed.
    returned: Notify,
}

/// The right to one open connection, for as long as it is open.
pub(crate) struct ConnectionPermit(Rc<ConnectionLimit>);

impl ConnectionLimit {
    /// A permit for one more connection; `None` at the limit.
    pub(crate) fn try_acquire(self: &Rc<Self>) -> Option<ConnectionPermit> {
        if self.most.get().is_some_and(|most| self.open.get() >= most) {
            return None;
        }
        self.open.set(self.open.get() + 1);
        Some(ConnectionPermit(self.clone()))
    }

    /// Limits connections to those that there are now, less a few for files.
    pub(crate) fn settle(&self) {
        let most = self.open.get().saturating_sub(SPARE_FILES).max(1);
        self.most.set(Some(self.most.get().map_or(most, |known| known.min(most))));
    }

    /// How many connections are open.
    pub(crate) fn open(&self) -> usize {
        self.open.get()
    }

    /// The limit, once there is one.
    pub(crate) fn most(&self) -> Option<usize> {
        self.most.get()
    }

    /// Whether a request waits for a connection.
    pub(crate) fn has_waiters(&self) -> bool {
        self.waiting.get() > 0
    }

    /// Tells one waiter that an idle connection can be had.
    pub(crate) fn note_idle(&self) {
        self.returned.notify_one();
    }

    /// Waits until a connection was closed, or became idle.
    pub(crate) async fn changed(&self) {
        struct Waiting<'a>(&'a Cell<usize>);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.set(self.0.get() - 1);
            }
        }
        self.waiting.set(self.waiting.get() + 1);
        let _waiting = Waiting(&self.waiting);
        self.returned.notified().await;
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.returned.notify_one();
    }
}

/// For the results, their lock and whatever a body is saved to.
const SPARE_FILES: usize = 8;
