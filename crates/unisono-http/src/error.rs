//! One error for everything that can go wrong with a call: what, to which thing, why, and whether it was sent.
//!
//! Nothing secret gets in here: addresses are written without user information, headers not at all.

use std::{error::Error as StdError, fmt};

use unisono_core::{ErrorKind, Peer, error_chain};

use crate::news::{Sign, news};

/// Why a call failed.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
    retryable: bool,
    unprocessed: bool,
    stale: bool,
    peer: Peer,
}

impl Error {
    /// An error of this kind; whether a retry helps follows from the kind unless it is said otherwise.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let retryable = matches!(
            kind,
            ErrorKind::Connect
                | ErrorKind::Closed
                | ErrorKind::IncompleteBody
                | ErrorKind::Timeout
                | ErrorKind::Proxy
                | ErrorKind::RateLimited
        );
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            source: None,
            retryable,
            unprocessed: false,
            stale: false,
            peer: Peer::Unknown,
        }))
    }

    /// The same, with what caused it.
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The same, worth another attempt or not.
    pub fn retryable(mut self, retryable: bool) -> Self {
        self.0.retryable = retryable;
        self
    }

    /// The same, of a request that the peer says it has not processed.
    pub(crate) fn unprocessed(mut self, unprocessed: bool) -> Self {
        self.0.unprocessed = unprocessed;
        self
    }

    /// The same, on a connection that had been used before: it may just have been closed for idling.
    pub(crate) fn stale(mut self, stale: bool) -> Self {
        self.0.stale = stale;
        self
    }

    /// The same, as a sign of how its peer is.
    pub(crate) fn sign(self, sign: Sign) -> Self {
        self.of_peer(news(sign))
    }

    /// The same, as this news of the peer.
    pub(crate) fn of_peer(mut self, peer: Peer) -> Self {
        self.0.peer = peer;
        self
    }

    /// The same error for the connections that wait to log in to the same proxy; its causes become text.
    pub(crate) fn for_other_logins(&self) -> unisono_net::Error {
        unisono_net::Error::new(self.0.kind, self.chain()).retryable(self.0.retryable).of_peer(self.0.peer)
    }

    /// The same error for another request; its causes become text.
    pub(crate) fn again(&self) -> Self {
        let mut copy = Self::new(self.0.kind, self.chain());
        (copy.0.retryable, copy.0.unprocessed, copy.0.stale) = (self.0.retryable, self.0.unprocessed, self.0.stale);
        copy.0.peer = self.0.peer;
        copy
    }

    /// Its message and those of its causes, as many as [`Error::of_levels`] takes.
    pub(crate) fn levels(&self) -> Vec<String> {
        let (mut levels, mut next) = (vec![self.to_string()], self.source());
        while let (Some(error), true) = (next, levels.len() < MOST_LEVELS) {
            levels.push(error.to_string());
            next = error.source();
        }
        levels
    }

    /// An error with these messages, each the cause of the one before; `None` when there are none, or too many.
    pub(crate) fn of_levels(kind: ErrorKind, levels: Vec<String>) -> Option<Self> {
        if levels.len() > MOST_LEVELS {
            return None;
        }
        let mut levels = levels.into_iter();
        let error = Self::new(kind, levels.next()?);
        let cause = levels.rev().fold(None, |source, message| Some(Box::new(Cause { message, source })));
        Some(match cause {
            Some(cause) => error.with_source(cause as Box<dyn StdError + Send + Sync>),
            None => error,
        })
    }

    /// The reason in one word.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same call may well succeed later.
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// What it says of the peer that the request was for (docs/http.md has the table).
    pub fn peer(&self) -> Peer {
        self.0.peer
    }

    /// Whether the peer has certainly not processed the request.
    pub(crate) fn is_unprocessed(&self) -> bool {
        self.0.unprocessed
    }

    /// Whether a fresh connection may do better at once.
    pub(crate) fn is_stale(&self) -> bool {
        self.0.stale
    }

    /// The message and those of its causes, on one line.
    pub fn chain(&self) -> String {
        error_chain(self)
    }
}

/// The one place where an error of connecting becomes one of a call: all of it stays.
impl From<unisono_net::Error> for Error {
    fn from(error: unisono_net::Error) -> Self {
        let (kind, retryable, peer) = (error.kind(), error.is_retryable(), error.peer());
        let (message, source) = error.into_message();
        let mut error = Self::new(kind, message).retryable(retryable).of_peer(peer);
        error.0.source = source;
        error
    }
}

/// A cause of which only the text is left.
#[derive(Debug)]
struct Cause {
    message: String,
    source: Option<Box<Cause>>,
}

/// An error has a handful of causes. Each lies inside of the one before, so that a chain of any length would be dropped
/// by as many nested calls, and take the whole stack.
const MOST_LEVELS: usize = 32;

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Cause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_connecting_stays_what_it_was_to_the_letter() {
        let cause = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let below = unisono_net::Error::new(ErrorKind::Proxy, "connect to proxy p:1 failed").of_peer(Peer::Away);
        let chain = format!("connect to proxy p:1 failed: {cause}");
        let error = Error::from(below.retryable(false).with_source(cause));
        assert_eq!((error.kind(), error.is_retryable(), error.peer()), (ErrorKind::Proxy, false, Peer::Away));
        assert_eq!((error.to_string().as_str(), error.chain()), ("connect to proxy p:1 failed", chain.clone()));
        assert!(error.source().is_some_and(|source| source.is::<std::io::Error>()), "the cause is still found");
        let shared = Error::from(error.for_other_logins());
        assert_eq!((shared.chain(), shared.is_retryable(), shared.peer()), (chain, false, Peer::Away));
    }
}
