//! Where a request has got to that was carried out and then redirected.
//!
//! A POST that is answered with 303 has been carried out; what is left is to fetch its result. When that fails for now, only
//! the request for the result is repeated, never the POST. The trail is kept beside a request over all of its attempts.

use std::cell::RefCell;

use crate::Request;

/// The request that a repeat sends in place of the one that was asked for; empty as long as that is the same.
#[derive(Debug, Default)]
pub struct Trail(RefCell<Option<Box<Hop>>>);

/// A later hop of a request.
#[derive(Debug, Clone)]
pub(crate) struct Hop {
    pub(crate) request: Request,
    /// How many redirects led to it.
    pub(crate) redirects: u8,
}

impl Trail {
    /// Where the next attempt begins, if not with the request itself.
    pub(crate) fn last_hop(&self) -> Option<Hop> {
        self.0.borrow().as_deref().cloned()
    }

    /// Whether there is such a hop: it can be repeated, whatever the request before it did.
    pub(crate) fn has_hop(&self) -> bool {
        self.0.borrow().is_some()
    }

    pub(crate) fn go_on_from(&self, hop: Hop) {
        *self.0.borrow_mut() = Some(Box::new(hop));
    }
}
