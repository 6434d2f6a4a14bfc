//! Where a body ends, as its head says: what HTTP/1.1 leaves open to be read in two ways, and what cannot be undone.

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
    let mut codings = headers
        .get_all(header::TRANSFER_ENCODING)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|coding| !coding.is_empty());
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        // Which says that there is none. Old servers send it, and close at the end of the body.
        (Some(one), None) if one.eq_ignore_ascii_case(b"chunked") || one.eq_ignore_ascii_case(b"identity") => Ok(()),
        (Some(first), second) => {
            let is_chunked = first.eq_ignore_ascii_case(b"chunked");
            let name = second.filter(|_| is_chunked).unwrap_or(first);
            let name = String::from_utf8_lossy(&name[..name.len().min(MOST_SHOWN)]).escape_debug().to_string();
            broken(&format!("its body has the transfer coding `{name}`, which nobody asked for"))
        }
    }
}

const MOST_SHOWN: usize = 40;
