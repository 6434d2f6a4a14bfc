//! Header fields that a caller sets: which are its to set, and what they may hold.
//!
//! How a message is framed and what becomes of its connection is this crate's to say, since two opinions about it are how
//! a body is sent cut, or a second request is smuggled in (RFC 9112, section 11.2). Such a header is refused rather than
//! left out, so that nobody believes that it was sent. Checked where words are read, so that a mistake is known before
//! anything starts, and again before a request is sent, for those that come from elsewhere.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use unisono_core::ErrorKind;

use crate::{Error, Request};

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

/// What must hold of a request before it is sent, whoever made it.
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
