//! An address of http or https, taken apart once.
//!
//! Addresses are read as browsers read them (WHATWG URL), by the `url` crate. Most need nothing of that: they are
//! plain ASCII with nothing to normalise, and are taken as they are at a tenth of the cost. User information is kept
//! apart and never shown; text that is no address is shown by [`redacted`] alone.
//!
//! A password that is not percent-encoded can look like a port and a path (`http://bob:1/w@host`). What no port can be
//! is refused; a number and what follows it are taken as what they say they are.

use std::{borrow::Cow, fmt, net::Ipv4Addr};

use http::uri::PathAndQuery;
use percent_encoding::percent_decode_str;
use unisono_core::{ErrorKind, Secret, redacted};

use crate::Error;

/// Where a request goes.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    https: bool,
    /// Lower case; an IPv6 address without its brackets.
    host: Box<str>,
    port: u16,
    target: PathAndQuery,
    user: Option<Box<(String, Secret)>>,
}

/// Scheme, host and port: what a connection belongs to, and what a header may not leave.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Whether it is encrypted.
    pub https: bool,
    /// As in [`Url::host`].
    pub host: Box<str>,
    /// The port, given or by default.
    pub port: u16,
}

impl Url {
    /// Reads an absolute address.
    ///
    /// # Errors
    /// Of kind `input` when it is not one, or neither http nor https.
    ///
    /// ```
    /// let url = unisono_http::Url::parse("HTTP://User:pass@Example.com:80/a b").unwrap();
    /// assert_eq!(url.to_string(), "http://example.com/a%20b");
    /// ```
    pub fn parse(text: &str) -> Result<Self, Error> {
        if let Some(url) = plain(text) {
            return Ok(url);
        }
        let hint = match (text.contains('@'), text.contains("://")) {
            (true, _) => {
                " (what is not a letter or digit of a user name or password is to be percent-encoded: `/` is %2F, `#` %23, `?` %3F, `@` %40)"
            }
            (false, true) => "",
            (false, false) => " (it should begin with http:// or https://)",
        };
        let no_url = || Error::new(ErrorKind::Input, format!("`{}` is not a URL{hint}", redacted(text)));
        let parsed = url::Url::parse(text).map_err(|error| match text.contains("://") {
            true => no_url().with_source(error),
            // What is missing is said.
            false => no_url(),
        })?;
        Self::from_parsed(&parsed, text)
    }

    /// Resolves a reference found in an answer, such as `Location`, against this address. Within the same origin the
    /// user information stays, unless the reference brings its own.
    ///
    /// # Errors
    /// Of kind `input` when the result is not an http address.
    ///
    /// ```
    /// let url = unisono_http::Url::parse("http://bob:pw@host/a/b").unwrap();
    /// assert_eq!(url.join("../c").unwrap().user().unwrap().0, "bob");
    /// assert!(url.join("http://elsewhere/").unwrap().user().is_none());
    /// ```
    pub fn join(&self, reference: &str) -> Result<Self, Error> {
        let fail =
            |error| Error::new(ErrorKind::Input, format!("`{}` is not a URL", redacted(reference))).with_source(error);
        let base = self.parsed().map_err(fail)?;
        let joined = Self::from_parsed(&base.join(reference).map_err(fail)?, reference)?;
        Ok(match joined.user.is_none() && joined.is_same_origin(self) {
            true => Self { user: self.user.clone(), ..joined },
            false => joined,
        })
    }

    /// The same for a reference as it came in a header. It should be ASCII; many servers send UTF-8, which browsers
    /// take, and whatever else there is becomes percent-encoded, byte by byte.
    ///
    /// # Errors
    /// As [`Url::join`].
    pub fn join_bytes(&self, reference: &[u8]) -> Result<Self, Error> {
        self.join(&text_of(reference))
    }

    fn from_parsed(parsed: &url::Url, text: &str) -> Result<Self, Error> {
        let bad = |why: &str| Error::new(ErrorKind::Input, format!("`{}` {why}", redacted(text)));
        // `http://bob:/pw@host` would ask the host `bob`, and show the rest as a path.
        if text.contains('@') && has_colon_without_port(text) {
            return Err(bad("has a colon without a port (a `/`, `?` or `#` in a password is to be percent-encoded)"));
        }
        let https = match parsed.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err(bad("is neither http nor https (it should begin with http:// or https://)")),
        };
        let host = parsed.host_str().ok_or_else(|| bad("has no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = parsed.port_or_known_default().ok_or_else(|| bad("has no port"))?;
        let user = (!parsed.username().is_empty() || parsed.password().is_some()).then(|| {
            let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
            Box::new((decode(parsed.username()), Secret::new(decode(parsed.password().unwrap_or("")))))
        });
        let target = target_of(parsed).ok_or_else(|| bad("has a path that cannot be sent"))?;
        Ok(Self { https, host: host.into(), port, target, user })
    }

    /// Whether it is encrypted.
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// The host, lower case; an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, given or by default.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path and query, as they are sent.
    pub fn target(&self) -> &PathAndQuery {
        &self.target
    }

    /// User name and password, if the address had any.
    pub fn user(&self) -> Option<(&str, &Secret)> {
        self.user.as_deref().map(|(name, password)| (name.as_str(), password))
    }

    /// The same address with this user name and password, or none.
    pub(crate) fn with_user(mut self, user: Option<(String, Secret)>) -> Self {
        self.user = user.map(Box::new);
        self
    }

    /// What a connection to it belongs to.
    pub fn origin(&self) -> Origin {
        Origin { https: self.https, host: self.host.clone(), port: self.port }
    }

    /// Whether a request there stays with the same scheme, host and port.
    pub fn is_same_origin(&self, other: &Url) -> bool {
        (self.https, &self.host, self.port) == (other.https, &other.host, other.port)
    }

    /// Host and port as in a `Host` header: without the port where it is the scheme's own.
    pub fn authority(&self) -> String {
        let mut text = String::with_capacity(self.host.len() + 8);
        // Writing to a string cannot fail.
        let _ = self.write_authority(&mut text);
        text
    }

    /// The same address as the `url` crate has it, without user information.
    ///
    /// # Errors
    /// Never for an address that was read here, which reads back.
    pub fn parsed(&self) -> Result<url::Url, url::ParseError> {
        url::Url::parse(&self.to_string())
    }

    /// The same address, user information included, with path and query of another; `None` when these cannot be sent.
    pub fn with_target_of(&self, other: &url::Url) -> Option<Self> {
        Some(Self { target: target_of(other)?, ..self.clone() })
    }

    fn write_authority(&self, f: &mut impl fmt::Write) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]", self.host)?,
            false => f.write_str(&self.host)?,
        }
        match (self.https, self.port) {
            (false, 80) | (true, 443) => Ok(()),
            (_, port) => {
                f.write_char(':')?;
                f.write_str(itoa::Buffer::new().format(port))
            }
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.https { "https://" } else { "http://" })?;
        self.write_authority(f)?;
        f.write_str(self.target.as_str())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}

/// An address with nothing to normalise, or `None` to let the `url` crate look at it.
fn plain(text: &str) -> Option<Url> {
    let (https, rest) = match text.strip_prefix("http://") {
        Some(rest) => (false, rest),
        None => (true, text.strip_prefix("https://")?),
    };
    let end = rest.find('/')?;
    let (authority, target) = rest.split_at(end);
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (authority, if https { 443 } else { 80 }),
    };
    let is_plain_host =
        |host: &str| host.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.');
    let last = host.rsplit('.').next()?;
    let is_name = last.bytes().next()?.is_ascii_lowercase() && !host.contains("xn--");
    let is_plain_address = || host.parse::<Ipv4Addr>().is_ok();
    // What is graphic, without `"#'<>\^`{|}`.
    let is_plain_byte =
        |b| matches!(b, b'!' | b'$'..=b'&' | b'('..=b';' | b'=' | b'?'..=b'[' | b']' | b'_' | b'a'..=b'z' | b'~');
    let is_plain_target = target.bytes().all(is_plain_byte) && !target.contains("/.") && !target.contains("/%2");
    (is_plain_host(host) && (is_name || is_plain_address()) && is_plain_target).then_some(())?;
    Some(Url { https, host: host.into(), port, target: PathAndQuery::try_from(target).ok()?, user: None })
}

fn target_of(parsed: &url::Url) -> Option<PathAndQuery> {
    match parsed.query() {
        Some(query) => format!("{}?{query}", parsed.path()).try_into().ok(),
        None => parsed.path().try_into().ok(),
    }
}

/// Whether the host is followed by a colon, and that by no port.
fn has_colon_without_port(text: &str) -> bool {
    let text = text.trim_start();
    let scheme =
        text.split_once(':').filter(|(name, _)| ["http", "https"].iter().any(|s| name.eq_ignore_ascii_case(s)));
    let after = match scheme {
        Some((_, after)) => after,
        None if text.starts_with("//") => text,
        None => return false,
    };
    let after = after.trim_start_matches(['/', '\\']);
    after.split(['/', '\\', '?', '#']).next().is_some_and(|authority| authority.ends_with(':'))
}

fn text_of(reference: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(reference)
        .map_or_else(|_| percent_encoding::percent_encode(reference, NOT_ASCII).to_string().into(), Cow::Borrowed)
}

/// Bytes that are not ASCII are encoded by any set.
const NOT_ASCII: &percent_encoding::AsciiSet = &percent_encoding::AsciiSet::EMPTY;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_taken_as_it_is_is_what_a_browser_would_send(
            scheme in "https?", host in "[a-z0-9.-]{1,12}|[0-9]{1,3}([.][0-9]{1,3}){3}", port in prop::option::of(1u16..),
            target in "/[!-~]{0,20}",
        ) {
            let port = port.map_or(String::new(), |port| format!(":{port}"));
            let text = format!("{scheme}://{host}{port}{target}");
            if let Some(url) = plain(&text) {
                let parsed = url::Url::parse(&text).unwrap();
                let expected = Url::from_parsed(&parsed, &text).unwrap();
                prop_assert!(url == expected, "{url:?} {expected:?}");
            }
        }

        #[test]
        fn any_text_is_an_address_or_an_error(text in ".{0,40}") {
            let _ = Url::parse(&text);
            let _ = Url::parse("http://a/").unwrap().join(&text);
        }
    }

    #[test]
    fn user_information_is_kept_apart_and_never_shown() {
        let url = Url::parse("http://bob:s%20cret@host/x").unwrap();
        let (name, password) = url.user().unwrap();
        assert_eq!((name, password.reveal()), ("bob", "s cret"));
        assert!(!format!("{url} {url:?}").contains("cret"));
        for text in ["ftp://bob:hunter2@host/", "http://bob:hunter2@host:99999/", "http://bob:hunter2@[/"] {
            let error = Url::parse(text).unwrap_err();
            assert!(!error.chain().contains("hunter2"), "{}", error.chain());
        }
    }

    #[test]
    fn a_password_that_is_not_encoded_is_refused_or_taken_whole_and_never_shown() {
        for password in [
            "hun/ter2",
            "hun#ter2",
            "hun?ter2",
            "hun@ter2",
            "hun:ter2",
            "/hunter2",
            "#hunter2",
            "?hunter2",
            "hun\\ter2",
        ] {
            for text in [
                format!("http://bob:{password}@host/x"),
                format!("http:/bob:{password}@host/x"),
                format!("http:bob:{password}@host"),
                format!("bob:{password}@host"),
                format!("//bob:{password}@host"),
            ] {
                let base = Url::parse("http://base/").unwrap();
                for read in [Url::parse(&text), base.join(&format!("http://bob:{password}@host:1"))] {
                    match read {
                        Ok(url) => {
                            assert_eq!((url.user().unwrap().0, url.host()), ("bob", "host"), "{text}");
                            assert!(!format!("{url} {url:?}").contains("ter2"), "{text} {url}");
                        }
                        Err(error) => assert!(!error.chain().contains("ter2"), "{text} {}", error.chain()),
                    }
                }
            }
        }
    }

    #[test]
    fn a_reference_keeps_user_information_within_its_origin_and_brings_its_own() {
        let url = Url::parse("http://bob:pw@host/a").unwrap();
        let user = |reference: &str| {
            let joined = url.join(reference).unwrap();
            joined.user().map(|(name, password)| format!("{name}:{}", password.reveal()))
        };
        for same in ["b", "/b", "?q", "//host/b", "http://host:80/b"] {
            assert_eq!(user(same).as_deref(), Some("bob:pw"), "{same}");
        }
        for other in ["http://host:81/", "https://host/", "http://other/"] {
            assert_eq!(user(other), None, "{other}");
        }
        assert_eq!(user("http://eve:x@host/").as_deref(), Some("eve:x"));
    }

    #[test]
    fn a_reference_that_is_not_ascii_is_taken_as_browsers_take_it() {
        let url = Url::parse("http://host/").unwrap();
        assert_eq!(url.join_bytes("/\u{e9}".as_bytes()).unwrap().to_string(), "http://host/%C3%A9");
        assert_eq!(url.join_bytes(b"/caf\xe9%20").unwrap().to_string(), "http://host/caf%E9%20");
    }

    #[test]
    fn an_ipv6_address_keeps_its_brackets_where_they_belong() {
        let url = Url::parse("http://[::1]:8080/a").unwrap();
        assert_eq!((url.host(), url.authority().as_str()), ("::1", "[::1]:8080"));
    }
}
