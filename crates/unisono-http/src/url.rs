//! An address of http or https, taken apart once.
//!
//! Addresses are read as browsers read them (WHATWG URL), by the `url` crate. Most need nothing of that: they are
//! plain ASCII with nothing to normalise, and are taken as they are at a tenth of the cost. User information is kept
//! apart and never shown.

use std::fmt;

use http::uri::PathAndQuery;
use percent_encoding::percent_decode_str;
use unisono_core::{ErrorKind, Secret};

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
        let parsed = url::Url::parse(text).map_err(|error| {
            let hint = if text.contains("://") { "" } else { " (it should begin with http:// or https://)" };
            Error::new(ErrorKind::Input, format!("`{}` is not a URL{hint}", without_user(text))).with_source(error)
        })?;
        Self::from_parsed(&parsed)
    }

    /// Resolves a reference found in an answer, such as `Location`, against this address.
    ///
    /// # Errors
    /// Of kind `input` when the result is not an http address.
    pub fn join(&self, reference: &str) -> Result<Self, Error> {
        let fail = |error| {
            Error::new(ErrorKind::Input, format!("`{}` is not a URL", without_user(reference))).with_source(error)
        };
        let base = self.parsed().map_err(fail)?;
        Self::from_parsed(&base.join(reference).map_err(fail)?)
    }

    fn from_parsed(parsed: &url::Url) -> Result<Self, Error> {
        let bad = |why: &str| Error::new(ErrorKind::Input, format!("`{}` {why}", without_user(parsed.as_str())));
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
            (_, port) => write!(f, ":{port}"),
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
    let is_plain_address = host.split('.').count() == 4
        && host.split('.').all(|part| part.parse::<u8>().is_ok_and(|n| n.to_string() == part));
    let last = host.rsplit('.').next()?;
    let is_name = last.bytes().next()?.is_ascii_lowercase() && !host.contains("xn--");
    let is_plain_target = target.bytes().all(|b| b.is_ascii_graphic() && !b"\"#'<>\\^`{|}".contains(&b))
        && !target.contains("/.")
        && !target.contains("/%2");
    (is_plain_host(host) && (is_name || is_plain_address) && is_plain_target).then_some(())?;
    Some(Url { https, host: host.into(), port, target: PathAndQuery::try_from(target).ok()?, user: None })
}

fn target_of(parsed: &url::Url) -> Option<PathAndQuery> {
    match parsed.query() {
        Some(query) => format!("{}?{query}", parsed.path()).try_into().ok(),
        None => parsed.path().try_into().ok(),
    }
}

/// For messages about what could not be read: nothing between scheme and host.
fn without_user(text: &str) -> String {
    match text.split_once("://") {
        Some((scheme, rest)) => {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            match rest[..end].rfind('@') {
                Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
                None => text.to_owned(),
            }
        }
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_taken_as_it_is_is_what_a_browser_would_send(
            scheme in "https?", host in "[a-z0-9.-]{1,12}", port in prop::option::of(1u16..), target in "/[!-~]{0,20}",
        ) {
            let port = port.map_or(String::new(), |port| format!(":{port}"));
            let text = format!("{scheme}://{host}{port}{target}");
            if let Some(url) = plain(&text) {
                let parsed = url::Url::parse(&text).unwrap();
                let expected = Url::from_parsed(&parsed).unwrap();
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
    fn an_ipv6_address_keeps_its_brackets_where_they_belong() {
        let url = Url::parse("http://[::1]:8080/a").unwrap();
        assert_eq!((url.host(), url.authority().as_str()), ("::1", "[::1]:8080"));
    }
}
