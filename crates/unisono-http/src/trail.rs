//! Where a request has got to that was carried out and then redirected.
//!
//! A POST that is answered with 303 has been carried out; what is left is to fetch its result. When that fails for now,
//! only the request for the result is repeated, never the POST. The trail is kept beside a request over all of its
//! attempts.
//!
//! It also knows how far the hop has come that is under way: when an attempt runs out of time, its future can no longer
//! be asked, and whether the peer had been given anything to do is news of the peer.

use std::cell::{Cell, RefCell};

use unisono_net::DialFailure;

use crate::{Request, news::Sign};

/// The request that a repeat sends in place of the one that was asked for; empty as long as that is the same.
#[derive(Debug, Default)]
pub struct Trail {
    hop: RefCell<Option<Box<Hop>>>,
    stage: Cell<HopStage>,
}

/// A later hop of a request.
#[derive(Debug, Clone)]
pub(crate) struct Hop {
    pub(crate) request: Request,
    /// How many redirects led to it.
    pub(crate) redirects: u8,
}

/// How far the hop has come that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum HopStage {
    /// It does not go to the row's own host, or waits for something of this side.
    #[default]
    Apart,
    /// It waits for a connection.
    Connecting,
    /// It has been sent.
    Sent,
    /// The head of its answer has come.
    Answered,
}

impl Trail {
    /// Where the next attempt begins, if not with the request itself.
    pub(crate) fn last_hop(&self) -> Option<Hop> {
        self.hop.borrow().as_deref().cloned()
    }

    /// Whether there is such a hop: it can be repeated, whatever the request before it did.
    pub fn has_hop(&self) -> bool {
        self.hop.borrow().is_some()
    }

    pub(crate) fn go_on_from(&self, hop: Hop) {
        *self.hop.borrow_mut() = Some(Box::new(hop));
    }

    /// Before a hop is sent. How far it comes is followed only where it goes to the row's own host.
    pub(crate) fn begin_hop(&self, is_own: bool) -> Option<&Self> {
        self.stage.set(HopStage::Apart);
        is_own.then_some(self)
    }

    pub(crate) fn reached(&self, stage: HopStage) {
        self.stage.set(stage);
    }

    /// What it is a sign of that time runs out now.
    pub(crate) fn sign_of_timeout(&self) -> Sign {
        match self.stage.get() {
            HopStage::Apart => Sign::Other,
            HopStage::Connecting => Sign::Dial(DialFailure::NoConnection),
            HopStage::Sent => Sign::Silent,
            HopStage::Answered => Sign::Unfinished,
        }
    }
}
