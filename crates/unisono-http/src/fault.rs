//! What a connection's error means: whether the request was processed, and what to call it.

use std::{error::Error as StdError, fmt::Display, io};

use unisono_core::ErrorKind;

use crate::{Error, news::Sign};

/// How far the exchange had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExchangePhase {
    /// No answer yet.
    Head,
    /// The answer's head is there.
    Body,
}

/// Names the error of a connection over HTTP/1.1.
pub(crate) fn exchange_failed(error: hyper::Error, phase: ExchangePhase, named: &dyn Display) -> Error {
    if let Some(ours) = find::<Error>(&error) {
        // Of the body that was to be sent: the peer has no part in it.
        return ours.again();
    }
    let io = find::<io::Error>(&error).map(io::Error::kind);
    let (kind, message) = if is_of_tls(&error) {
        (ErrorKind::Tls, format!("{named} broke off the TLS session"))
    } else if error.is_parse_too_large() {
        (ErrorKind::HeaderTooLarge, format!("the header section from {named} is too large"))
    } else if error.is_parse() || is_nonsense(io) {
        (ErrorKind::Protocol, format!("{named} broke the protocol"))
    } else {
        phase.closed_by(named)
    };
    Error::new(kind, message).with_source(error)
}

/// Names the error of a stream of HTTP/2 whose head is there, with so many bytes of its body announced and not there.
pub(crate) fn body_failed(error: h2::Error, left: u64, is_unresponsive: bool, named: &dyn Display) -> Error {
    // So h2 calls a stream whose end comes too early or too late for its `content-length`.
    let is_malformed = error.is_library() && error.is_reset() && error.reason() == Some(h2::Reason::PROTOCOL_ERROR);
    if is_malformed && left > 0 {
        let message = format!("the body from {named} is not as long as its head says");
        return Error::new(ErrorKind::IncompleteBody, message).with_source(error);
    }
    stream_failed(error, ExchangePhase::Body, is_unresponsive, named)
}

/// Names the error of a stream of HTTP/2. `is_unresponsive` says that its connection was given up for want of an answer
/// to a ping.
pub(crate) fn stream_failed(
    error: h2::Error,
    phase: ExchangePhase,
    is_unresponsive: bool,
    named: &dyn Display,
) -> Error {
    // What began to be answered was processed, whatever its peer says afterwards.
    let unprocessed = not_processed(&error).filter(|_| phase == ExchangePhase::Head);
    let is_calm = error.is_remote() && error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM);
    let sign = if is_calm { Sign::Calm } else { unprocessed.unwrap_or(Sign::Other) };
    let (kind, message) = if error.get_io().is_some_and(|error| is_of_tls(error)) {
        (ErrorKind::Tls, format!("{named} broke off the TLS session"))
    } else if is_unresponsive {
        (ErrorKind::Closed, format!("{named} does not answer a ping"))
    } else if is_violation(&error) || is_nonsense(error.get_io().map(io::Error::kind)) {
        (ErrorKind::Protocol, format!("{named} broke the protocol"))
    } else {
        match unprocessed {
            Some(Sign::StreamsRefused) => (ErrorKind::Closed, format!("{named} refuses the request for now")),
            Some(_) => (ErrorKind::Closed, format!("{named} takes no more requests on its connections")),
            None => match error.reason().filter(|_| error.is_remote()) {
                Some(reason) => phase.reset_by(named, reason),
                None => phase.closed_by(named),
            },
        }
    };
    let unprocessed = unprocessed.is_some();
    // Another stream may do better at once, unless the peer asks for less of it.
    Error::new(kind, message).unprocessed(unprocessed).stale(unprocessed && !is_calm).sign(sign).with_source(error)
}

/// Whether a stream was refused by its peer.
pub(crate) fn is_refused(error: &h2::Error) -> bool {
    error.is_reset() && error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM)
}

impl ExchangePhase {
    fn closed_by(self, named: &dyn Display) -> (ErrorKind, String) {
        match self {
            Self::Head => (ErrorKind::Closed, format!("{named} closed the connection before it answered")),
            Self::Body => {
                (ErrorKind::IncompleteBody, format!("{named} closed the connection in the middle of the body"))
            }
        }
    }

    /// Of a stream alone: the connection goes on.
    fn reset_by(self, named: &dyn Display, reason: h2::Reason) -> (ErrorKind, String) {
        let reason = name_of(reason);
        match self {
            Self::Head => (ErrorKind::Closed, format!("{named} reset the stream before it answered ({reason})")),
            Self::Body => {
                (ErrorKind::IncompleteBody, format!("{named} reset the stream in the middle of the body ({reason})"))
            }
        }
    }
}

/// The name of an error code (RFC 9113, section 7), or its number where it has none.
fn name_of(reason: h2::Reason) -> String {
    match u32::from(reason) {
        // Their debug form is the name in that table.
        0..=13 => format!("{reason:?}"),
        other => format!("error code {other:#x}"),
    }
}

fn is_of_tls(error: &(dyn StdError + 'static)) -> bool {
    find::<rustls::Error>(error).is_some_and(|error| !matches!(error, rustls::Error::General(_)))
}

fn is_nonsense(io: Option<io::ErrorKind>) -> bool {
    matches!(io, Some(io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput))
}

/// RFC 9113: a stream that is refused (section 8.7), or above the last one that a GOAWAY names (section 6.8), was not
/// processed. h2 fails just those streams with the peer's GOAWAY. Returns what it says of the peer when it comes to
/// that again and again.
fn not_processed(error: &h2::Error) -> Option<Sign> {
    let refused = is_refused(error);
    let left_out = error.is_go_away() && error.is_remote();
    refused.then_some(Sign::StreamsRefused).or(left_out.then_some(Sign::Draining))
}

fn is_violation(error: &h2::Error) -> bool {
    let by_us = error.is_library() && (error.is_go_away() || error.is_reset());
    let told = [
        h2::Reason::PROTOCOL_ERROR,
        h2::Reason::FRAME_SIZE_ERROR,
        h2::Reason::COMPRESSION_ERROR,
        h2::Reason::FLOW_CONTROL_ERROR,
        h2::Reason::ENHANCE_YOUR_CALM,
    ];
    by_us && error.reason().is_some_and(|reason| told.contains(&reason))
}

/// The first error of this type in the chain of causes.
pub(crate) fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        // An io::Error hides what it wraps from `source`.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match wrapped {
            Some(inner) => match inner.downcast_ref::<E>() {
                Some(found) => return Some(found),
                None => inner.source(),
            },
            None => error.source(),
        };
    }
    None
}
