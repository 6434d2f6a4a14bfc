//! Header fields that a caller sets: which are its to set, and what they may hold.
//!
//! How a message is framed and what becomes of its connection is this crate's to say, since two opinions about it are
//! how a body is sent cut, or a second request is smuggled in (RFC 9112, section 11.2). Such a header is refused rather
//! than left out, so that the user does not believe that it was sent. Checked where words are read, so that a mistake
//! is known before anything starts, and again before a request is sent, for those that come from elsewhere.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use unisono_core::{ErrorKind, redacted};

use crate::{Error, Request, Url};

/// Reads a header of a request. Blanks around its value do not count.
///
/// # Errors
/// Of kind `input` when its name or value cannot be sent, or is not the caller's to say. No value is in the message.
///
/// ```
/// use unisono_http::request_header;
/// assert_eq!(request_header("X-Name", " caf\u{e9} ").unwrap().1.as_bytes(), "caf\u{e9}".as_bytes());
/// let error = request_header("X-Name", "a\r\nX-Other: b").unwrap_err();
/// assert_eq!(error.to_string(), "the value of header `x-name` has a line break or another control character");
/// ```
pub fn request_header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), Error> {
    let blanks = [' ', '\t'];
    let name = name.trim_matches(blanks);
    let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
        // What follows a word may be a secret that lost its colon.
        let word = name.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte)).count();
        let shown = if word == name.len() { name.to_owned() } else { format!("{}...", &name[..word]) };
        bad(format!("`{shown}` is not the name of a header"))
    })?;
    let mut value = HeaderValue::from_bytes(value.trim_matches(blanks).as_bytes())
        .map_err(|_| bad(format!("the value of header `{parsed}` has a line break or another control character")))?;
    let secret = [header::AUTHORIZATION, header::COOKIE];
    value.set_sensitive(secret.contains(&parsed));
    check_field(&parsed, &value)?;
    Ok((parsed, value))
}

/// A header of an answer, without the passwords of addresses in it and without the values of cookies. Nothing else is
/// changed.
///
/// ```
/// use http::header::{LINK, LOCATION};
/// use unisono_http::shown_header;
/// assert_eq!(shown_header(&LOCATION, b"http://bob:pw@host/x"), "http://host/x");
/// assert_eq!(shown_header(&LINK, b"<//bob:p/w@host/>; rel=next"), "<//***@host/>; rel=next");
/// assert_eq!(shown_header(&LOCATION, b"/@scope/package"), "/@scope/package");
/// ```
pub fn shown_header<'a>(name: &HeaderName, value: &'a [u8]) -> Cow<'a, str> {
    let text = String::from_utf8_lossy(value);
    if *name == header::SET_COOKIE {
        return Cow::Borrowed("***");
    }
    // Of all headers these hold addresses.
    if ![header::LOCATION, header::CONTENT_LOCATION, header::LINK, header::REFRESH].contains(name)
        || !text.contains('@')
    {
        return text;
    }
    if *name == header::LINK {
        return Cow::Owned(shown_links(&text));
    }
    if *name == header::REFRESH {
        let at = text.find(['u', 'U']).and_then(|at| Some(at + text[at..].find('=')? + 1)).unwrap_or(0);
        return Cow::Owned(format!("{}{}", &text[..at], shown_reference(&text[at..])));
    }
    Cow::Owned(shown_reference(&text).into_owned())
}

/// The targets of a `Link` header fit to be shown; what is no target stays, unless it may be a part of one.
fn shown_links(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(begin) = rest.find('<') {
        let (before, link) = rest.split_at(begin + 1);
        shown.push_str(&outside(before));
        let end = link.find('>').unwrap_or(link.len());
        shown.push_str(&shown_reference(&link[..end]));
        rest = &link[end..];
    }
    shown.push_str(&outside(rest));
    shown
}

/// Between targets there may be titles with addresses of mail. An address, or an `@` outside of quotes, is a target
/// that is broken, or what a link is about.
fn outside(text: &str) -> Cow<'_, str> {
    let is_loose = text.split('"').step_by(2).any(|unquoted| unquoted.contains('@'));
    if is_loose || (text.contains('@') && text.contains("//")) { redacted(text) } else { Cow::Borrowed(text) }
}

fn shown_reference(reference: &str) -> Cow<'_, str> {
    let base = Url::parse("http://base.invalid/").expect("it is an address");
    let begins_with_scheme = reference.trim_start().get(..4).is_some_and(|begin| begin.eq_ignore_ascii_case("http"));
    match base.join(reference) {
        // `http:/bob:pw@host`, which to some is a path and to others an address.
        Ok(url) if begins_with_scheme && reference.contains('@') && url.is_same_origin(&base) => redacted(reference),
        // As it was written, when there is no user in it.
        Ok(url) if url.user().is_none() => Cow::Borrowed(reference),
        Ok(url) if url.is_same_origin(&base) => redacted(reference),
        Ok(url) => Cow::Owned(url.to_string()),
        Err(_) => redacted(reference),
    }
}

/// What must hold of a request before it is sent, wherever it was made.
pub(crate) fn check(request: &Request, headers: &HeaderMap) -> Result<(), Error> {
    if request.method == Method::CONNECT {
        return Err(bad("CONNECT asks for a tunnel, which is nothing that can be fetched".to_owned()));
    }
    headers.iter().try_for_each(|(name, value)| check_field(name, value))?;
    match headers.get_all(header::HOST).iter().nth(1) {
        Some(_) => Err(bad("the header `host` is there twice: who it is for must be certain".to_owned())),
        None => Ok(()),
    }
}

fn check_field(name: &HeaderName, value: &HeaderValue) -> Result<(), Error> {
    if let Some(why) = why_not_yours(name) {
        return Err(bad(format!("the header `{name}` cannot be set: {why}")));
    }
    let is_authority = || {
        let text = std::str::from_utf8(value.as_bytes()).unwrap_or("");
        text.parse::<http::uri::Authority>().is_ok() && !text.contains('@')
    };
    match *name == header::HOST && !is_authority() {
        true => Err(bad("the header `host` needs a host, and a port at most".to_owned())),
        false => Ok(()),
    }
}

/// Why a header is not the caller's to set, and what to do instead.
fn why_not_yours(name: &HeaderName) -> Option<&'static str> {
    Some(match name.as_str() {
        "content-length" | "transfer-encoding" => "how long the body is follows from the body (leave it out)",
        "connection" | "keep-alive" | "te" | "trailer" | "upgrade" | "http2-settings" => {
            "it is about the connection, which is shared with other requests (leave it out)"
        }
        "expect" => "bodies are sent at once (leave it out)",
        "proxy-authorization" => {
            "it would go to the server as well (give the proxy's address a user name and password instead)"
        }
        name if name.starts_with("proxy-") => "it is about the connection to a proxy (leave it out)",
        _ => return None,
    })
}

fn bad(why: String) -> Error {
    Error::new(ErrorKind::Input, why)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_frames_a_message_is_not_the_callers_to_say() {
        for name in [
            "Content-Length",
            "TRANSFER-ENCODING",
            "connection",
            "Keep-Alive",
            "TE",
            "Trailer",
            "Upgrade",
            "Expect",
            "Proxy-Connection",
            "Proxy-Authorization",
            "Proxy-Anything",
            "HTTP2-Settings",
        ] {
            let error = request_header(name, "3").unwrap_err();
            assert!(error.to_string().contains("cannot be set") && error.kind() == ErrorKind::Input, "{error}");
            let mut request = Request::get("http://host/").unwrap();
            request
                .headers
                .insert(HeaderName::from_bytes(name.to_lowercase().as_bytes()).unwrap(), "3".parse().unwrap());
            assert!(check(&request, &request.headers).is_err(), "{name}");
        }
    }

    #[test]
    fn a_host_is_one_and_a_host() {
        for (value, good) in [
            ("a.test", true),
            ("a.test:80", true),
            ("[::1]:80", true),
            ("", false),
            ("a b", false),
            ("u@a", false),
            ("a/b", false),
            ("a,b", true),
        ] {
            assert_eq!(request_header("Host", value).is_ok(), good, "{value:?}");
        }
        let mut request = Request::get("http://host/").unwrap();
        for count in [Ok(()), Err(())] {
            request.headers.append(header::HOST, "a".parse().unwrap());
            assert_eq!(check(&request, &request.headers).map_err(|_| ()), count);
        }
    }

    #[test]
    fn line_breaks_and_zero_bytes_are_refused_and_secrets_not_repeated() {
        for (name, value) in [
            ("A", "x\r\ny: z"),
            ("A", "x\n"),
            ("A", "\rx"),
            ("A", "x\0"),
            ("A\r\n", "x"),
            ("A\0B", "x"),
            ("A b", "x"),
            ("", "x"),
            (" ", "x"),
            ("\u{e9}", "x"),
        ] {
            assert!(request_header(name, value).is_err(), "{name:?} {value:?}");
        }
        let error = request_header("Authorization Bearer hunter2", "x").unwrap_err().to_string();
        assert_eq!(error, "`Authorization...` is not the name of a header");
        assert!(!request_header("Authorization", "hunter2\n").unwrap_err().to_string().contains("hunter2"));
    }

    #[test]
    fn a_password_in_a_header_of_an_answer_is_not_shown() {
        for address in [
            "http://bob:hunter2@h/",
            "//bob:hunter2@h/",
            "http://bob:hun/ter2@h",
            "http:/bob:hun#ter2@h",
            "http://bob:hun>ter2@h/",
            "http://bob:hun,ter2@h/",
        ] {
            for (name, value) in [
                (header::LOCATION, address.to_owned()),
                (header::CONTENT_LOCATION, address.to_owned()),
                (header::REFRESH, format!("0; URL={address}")),
                (header::REFRESH, address.to_owned()),
                (header::LINK, format!("</1>; rel=prev; title=\"x@y\", <{address}>; rel=next")),
                (header::LINK, format!("{address}; rel=next")),
                (header::SET_COOKIE, address.to_owned()),
            ] {
                let shown = shown_header(&name, value.as_bytes());
                assert!(!shown.contains("ter2"), "{name}: {value}: {shown}");
            }
        }
        for (name, value) in [
            (header::LINK, "</@a>; title=\"me@x.org\"; rel=next"),
            (header::LOCATION, "https://host/@me"),
            (header::ETAG, "http://a:b@c"),
        ] {
            assert_eq!(shown_header(&name, value.as_bytes()), value);
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_is_one_line_of_a_head(name in ".{0,8}", value in ".{0,12}") {
            if let Ok((name, value)) = request_header(&name, &value) {
                prop_assert!(!name.as_str().is_empty());
                prop_assert!(!value.as_bytes().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
            }
        }
    }
}
