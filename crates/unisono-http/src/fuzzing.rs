//! The body of a fuzz target that needs what is private here: what must hold of any bytes from another machine of a
//! cluster.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use unisono_core::{Effect, ErrorKind};

use crate::{
    Client, ClientOptions, Error, Request, decode_options, encode_options,
    remote::stopped_at_once,
    wire::{RemoteEnd, decode_end, decode_request, encode_end, encode_request},
};

/// Bytes as options, as a request and as an end: each is refused with a reason or read, and what is read is the same
/// after it has been written and read again. Whatever is ordered from this machine has an end that the other one can
/// read.
pub fn wire(bytes: &[u8]) {
    let whole = Bytes::copy_from_slice(bytes);
    if let Some(options) = taken(decode_options(whole.clone())) {
        let written = encode_options(&options).expect("nothing that was read is of one machine alone");
        let again = read_back(&written, decode_options);
        assert_eq!(encode_options(&again).expect("as before"), written);
        assert_eq!((&again.hosts, &again.expect), (&options.hosts, &options.expect));
        assert_eq!(again.proxies.exceptions, options.proxies.exceptions);
        assert!(same_headers(&again.headers, &options.headers));
    }
    let order = taken(decode_request(whole.clone()));
    if let Some((request, redirects)) = &order {
        let (again, followed) = read_back(&encode_request(request, *redirects), decode_request);
        assert_eq!((same_request(&again, request), followed), (true, *redirects));
    }
    if let Some(end) = taken(decode_end(whole.clone())) {
        same_end(&read_back(&encode_end(&end), decode_end), &end);
    }
    let end = CLIENT.with(|client| read_back(&stopped_at_once(client, whole), decode_end));
    let why = if order.is_some() { ErrorKind::Cancelled } else { ErrorKind::Input };
    assert_eq!(end.outcome.expect_err("nothing was asked").kind(), why);
    assert_eq!((end.effect, end.hop.is_some()), (Effect::None, false), "it was not sent");
}

fn taken<T>(read: Result<T, Error>) -> Option<T> {
    read.inspect_err(|error| {
        assert_eq!(error.kind(), ErrorKind::Input);
        assert!(error.to_string().contains("same version of unisono"), "{error}");
    })
    .ok()
}

/// What we have written is read, and only whole: not without its last byte, and not with one more.
fn read_back<T>(written: &[u8], read: impl Fn(Bytes) -> Result<T, Error>) -> T {
    let short = &written[..written.len() - 1];
    assert!(read(Bytes::copy_from_slice(short)).is_err(), "a message is read without its end");
    assert!(read([written, b"\0"].concat().into()).is_err(), "a message is read with something behind it");
    read(Bytes::copy_from_slice(written)).expect("what was written reads back")
}

fn same_request(one: &Request, other: &Request) -> bool {
    (&one.method, &one.url, one.body.as_bytes(), one.is_cross_origin)
        == (&other.method, &other.url, other.body.as_bytes(), other.is_cross_origin)
        && one.options == other.options
        && same_headers(&one.headers, &other.headers)
}

fn same_headers(one: &HeaderMap, other: &HeaderMap) -> bool {
    one == other && one.values().map(HeaderValue::is_sensitive).eq(other.values().map(HeaderValue::is_sensitive))
}

fn same_end(one: &RemoteEnd, other: &RemoteEnd) {
    assert_eq!(one.effect, other.effect);
    let same_hop = match (&one.hop, &other.hop) {
        (Some(one), Some(other)) => one.redirects == other.redirects && same_request(&one.request, &other.request),
        (one, other) => one.is_none() && other.is_none(),
    };
    assert!(same_hop, "{:?} became {:?}", other.hop, one.hop);
    match (&one.outcome, &other.outcome) {
        (Ok(one), Ok(other)) => {
            assert_eq!((one.status, one.version, &one.body), (other.status, other.version, &other.body));
            assert_eq!((one.wire_bytes, one.redirects), (other.wire_bytes, other.redirects));
            assert!(one.url == other.url && same_headers(&one.headers, &other.headers));
        }
        (Err(one), Err(other)) => {
            let flags = |error: &Error| [error.is_retryable(), error.is_unprocessed(), error.is_stale()];
            assert_eq!((one.kind(), one.levels(), flags(one)), (other.kind(), other.levels(), flags(other)));
        }
        _ => panic!("an answer is not an error"),
    }
}

thread_local! {
    // It is never asked for anything, so one does for all.
    static CLIENT: Client = Client::new(ClientOptions::default()).expect("the default options are in order");
}
