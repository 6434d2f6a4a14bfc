//! What a head may be: of a bounded size, and clear about where its body ends and what it is.

use http::{HeaderMap, header};
use unisono_core::ErrorKind;

use crate::{Error, url::Origin};

/// Checks the head of an answer over HTTP/1.1.
///
/// RFC 9112, section 6.3: a message whose length can be read in two ways is an attack or a fault, and whatever follows
/// it on the connection is not to be trusted. Section 6.1: a server must not send a transfer coding other than
/// `chunked` unasked, and nothing here asks for one; passed on, its body would be taken for what it encodes.
pub(crate) fn check_framing(headers: &HeaderMap, origin: &Origin) -> Result<(), Error> {
    let broken = |what: &str| Err(Error::new(ErrorKind::Protocol, format!("{origin} broke the protocol: {what}")));
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let (first, second) = (lengths.next(), lengths.next());
    let is_twice = second.is_some()
        || first.is_some_and(|value| !value.as_bytes().iter().all(u8::is_ascii_digit))
        || (first.is_some() && headers.contains_key(header::TRANSFER_ENCODING));
    if is_twice {
        return broken("the length of its body is said twice");
    }
    let lines: Vec<&[u8]> = headers.get_all(header::TRANSFER_ENCODING).iter().map(|line| line.as_bytes()).collect();
    let is = |line: &[u8], coding: &str| line.trim_ascii().eq_ignore_ascii_case(coding.as_bytes());
    match lines[..] {
        [] => Ok(()),
        // `identity` says that there is none. Old servers send it, and close at the end of the body. Lists with gaps
        // are no more than odd, but hyper sees `chunked` only where nothing follows it.
        [line] if is(line, "chunked") || is(line, "identity") => Ok(()),
        _ => {
            let named = lines.join(&b", "[..]);
            let named = String::from_utf8_lossy(&named[..named.len().min(MOST_SHOWN)]).escape_debug().to_string();
            broken(&format!("its body has the transfer coding `{named}`, which nobody asked for"))
        }
    }
}

/// Checks how large a head is, over either version.
///
/// hyper's cap is on its buffer, which a head that comes in one piece may exceed; and h2 counts bytes alone.
pub(crate) fn check_size(headers: &HeaderMap, most: usize, origin: &Origin) -> Result<(), Error> {
    let size = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>();
    if size > most || headers.len() > MOST_HEADERS {
        let message = format!("the header section from {origin} is too large");
        return Err(Error::new(ErrorKind::HeaderTooLarge, message));
    }
    Ok(())
}

/// Enough for any API; beyond it is `header_too_large`. Over HTTP/1.1 room for them is cleared for each answer, so more
/// would cost.
pub(crate) const MOST_HEADERS: usize = 512;
const MOST_SHOWN: usize = 40;
