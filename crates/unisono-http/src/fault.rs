//! What a connection's error means: whether the request was processed, and what to call it.

use std::{error::Error as StdError, fmt::Display, io};

use unisono_core::ErrorKind;

use crate::{Error, news::Sign};

/// How far the exchange had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No answer yet.
    Head,
    /// The answer's head is there.
    Body,
}

/// Names the error of a connection.
pub(crate) fn exchange_failed(error: hyper::Error, phase: Phase, named: &dyn Display) -> Error {
    let unprocessed = find::<h2::Error>(&error).and_then(not_processed);
    let sign = match find::<h2::Error>(&error) {
        Some(h2) if h2.is_remote() && h2.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM) => Sign::Calm,
        _ => unprocessed.unwrap_or(Sign::Other),
    };
    let (kind, message) = name(&error, phase, named);
    Error::new(kind, message).unprocessed(unprocessed.is_some()).sign(sign).with_source(error)
}

fn name(error: &hyper::Error, phase: Phase, named: &dyn Display) -> (ErrorKind, String) {
    let io = find::<io::Error>(error).map(io::Error::kind);
    if find::<rustls::Error>(error).is_some_and(|error| !matches!(error, rustls::Error::General(_))) {
        return (ErrorKind::Tls, format!("{named} broke off the TLS session"));
    }
    if error.is_parse_too_large() {
        return (ErrorKind::HeaderTooLarge, format!("the header section from {named} is too large"));
    }
    if error.is_timeout() {
        return (ErrorKind::Closed, format!("{named} does not answer a ping"));
    }
    let is_broken = error.is_parse() || matches!(io, Some(io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput));
    if is_broken || find::<h2::Error>(error).is_some_and(is_violation) {
        return (ErrorKind::Protocol, format!("{named} broke the protocol"));
    }
    match phase {
        Phase::Head => (ErrorKind::Closed, format!("{named} closed the connection before it answered")),
        Phase::Body => (ErrorKind::IncompleteBody, format!("{named} closed the connection in the middle of the body")),
    }
}

/// RFC 9113: a stream that is refused (section 8.7), or above the last one that a GOAWAY names (section 6.8), was not
/// processed. h2 fails just those streams with the peer's GOAWAY. Returns what it says of the peer when it comes to that
/// again and again.
fn not_processed(error: &h2::Error) -> Option<Sign> {
    let refused = error.is_reset() && error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
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
