//! Why a connection could not be made: what, to which peer, why, and what it says of that peer.
//!
//! Nothing secret gets in here: proxies are written without user information.

use std::{error::Error as StdError, fmt};

use unisono_core::{ErrorKind, Peer, error_chain};

use crate::failure::DialFailure;

/// Why a connection could not be made.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
    retryable: bool,
    peer: Peer,
}

impl Error {
    /// An error of this kind; whether a retry helps follows from the kind unless it is said otherwise.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let retryable = matches!(kind, ErrorKind::Connect | ErrorKind::Proxy);
        Self(Box::new(Inner { kind, message: message.into(), source: None, retryable, peer: Peer::Unknown }))
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

    /// The same, as this news of the peer.
    pub fn of_peer(mut self, peer: Peer) -> Self {
        self.0.peer = peer;
        self
    }

    /// The same, by what was met on the way.
    pub(crate) fn met(self, failure: DialFailure) -> Self {
        self.of_peer(failure.peer())
    }

    /// The same error for another caller; its causes become text.
    pub(crate) fn again(&self) -> Self {
        Self::new(self.0.kind, self.chain()).retryable(self.0.retryable).of_peer(self.0.peer)
    }

    /// The reason in one word.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same call may well succeed later.
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// What it says of the peer that the connection was for.
    pub fn peer(&self) -> Peer {
        self.0.peer
    }

    /// The message and those of its causes, on one line.
    pub fn chain(&self) -> String {
        error_chain(self)
    }

    /// Its message and its cause, for an error of a layer above that stands in its place.
    pub fn into_message(self) -> (String, Option<Box<dyn StdError + Send + Sync>>) {
        (self.0.message, self.0.source)
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
