//! The address of a proxy, as people write it.
//!
//! Which proxy serves which address is the caller's choice; the words for that are those of the environment, and belong
//! to HTTP.

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use percent_encoding::percent_decode_str;
use unisono_core::{ErrorKind, Secret, redacted};

use crate::error::Error;

/// One proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// How to speak to it.
    pub kind: ProxyKind,
    /// Its host, lower case; IPv6 without its brackets.
    pub host: Box<str>,
    /// Its port.
    pub port: u16,
    /// User name and password, if it wants to know them.
    pub user: Option<(String, Secret)>,
}

/// How to speak to a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProxyKind {
    /// Plain HTTP to it.
    Http,
    /// HTTP over TLS to it.
    Https,
    /// SOCKS 5.
    Socks {
        /// Whether it looks up names, or we do.
        remote_names: bool,
    },
}

impl Proxy {
    /// Reads `[http|https|socks5|socks5h]://[user:password@]host[:port]`; without a scheme it is http.
    ///
    /// # Errors
    /// When it is not the address of a proxy.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let bad = |why: &str| Error::new(ErrorKind::Input, format!("`{}` {why}", redacted(text)));
        // A password may hold `://`, but what comes before it then is no word.
        let is_word = |scheme: &str| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let (scheme, rest) = text.split_once("://").filter(|(scheme, _)| is_word(scheme)).unwrap_or(("http", text));
        let (kind, port, carrier) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (ProxyKind::Http, 1080, "http"),
            "https" => (ProxyKind::Https, 443, "https"),
            "socks5" => (ProxyKind::Socks { remote_names: false }, 1080, "http"),
            "socks5h" => (ProxyKind::Socks { remote_names: true }, 1080, "http"),
            _ => return Err(bad("is not a kind of proxy (try http, https, socks5 or socks5h)")),
        };
        let no_address = || bad("is not the address of a proxy");
        let url = url::Url::parse(&format!("{carrier}://{rest}"))
            .map_err(|error| no_address().with_source(error.to_string()))?;
        let host = url.host_str().ok_or_else(no_address)?.trim_start_matches('[').trim_end_matches(']');
        // `bob:/pw@host` would ask the host `bob`, and show the rest as a path.
        let is_cut_short = |text: &str| text.split(['/', '\\', '?', '#']).next().is_some_and(|at| at.ends_with(':'));
        if rest.contains('@') && is_cut_short(rest.trim_start_matches(['/', '\\'])) {
            return Err(no_address());
        }
        // Anything after the host is passed over, as curl does, unless it may have been meant for a password.
        let authority = rest.split(['/', '\\', '?', '#']).next().unwrap_or("");
        if rest[authority.len()..].contains('@') {
            return Err(bad("has an `@` behind its host (a `/`, `?` or `#` in a password is to be percent-encoded)"));
        }
        // Read as an http address, whose default port would hide whether one was given.
        let has_port = authority
            .rsplit('@')
            .next()
            .and_then(|host| host.rsplit(']').next())
            .is_some_and(|tail| tail.contains(':'));
        let port = url.port_or_known_default().filter(|_| has_port).unwrap_or(port);
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let has_user = !url.username().is_empty() || url.password().is_some();
        let user = has_user.then(|| (decode(url.username()), Secret::new(decode(url.password().unwrap_or("")))));
        Ok(Self { kind, host: host.into(), port, user })
    }

    /// The same, with a user name and password.
    pub fn with_user(mut self, name: impl Into<String>, password: Secret) -> Self {
        self.user = Some((name.into(), password));
        self
    }

    /// The value of `Proxy-Authorization`, if this proxy wants a login.
    pub fn authorization(&self) -> Option<Secret> {
        let (name, password) = self.user.as_ref()?;
        Some(basic_credentials(name, password))
    }
}

/// User name and password as HTTP and its proxies want them (RFC 7617).
pub fn basic_credentials(name: &str, password: &Secret) -> Secret {
    Secret::new(format!("Basic {}", BASE64_STANDARD.encode(format!("{name}:{}", password.reveal()))))
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({:?} {self})", self.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_the_schemes_own_is_kept() {
        assert_eq!(Proxy::parse("proxy:80").unwrap().to_string(), "proxy:80");
        assert_eq!(Proxy::parse("[::1]").unwrap().to_string(), "[::1]:1080");
    }

    #[test]
    fn a_password_of_a_proxy_is_taken_whole_or_refused_and_never_shown() {
        for password in [
            "hun/ter2",
            "hun#ter2",
            "hun?ter2",
            "hun@ter2",
            "hun:ter2",
            "/hunter2",
            "1/hunter2",
            "hun://ter2",
            "hun\\ter2",
        ] {
            for text in [
                format!("http://bob:{password}@proxy:3128"),
                format!("http:/bob:{password}@proxy:3128"),
                format!("bob:{password}@proxy:3128"),
                format!("socks5h://bob:{password}@proxy"),
                format!("socks9://bob:{password}@proxy"),
                format!("//bob:{password}@proxy"),
            ] {
                match Proxy::parse(&text) {
                    Ok(proxy) => {
                        assert_eq!((proxy.user.as_ref().unwrap().0.as_str(), &*proxy.host), ("bob", "proxy"), "{text}");
                        assert!(!format!("{proxy} {proxy:?}").contains("ter2"), "{text}");
                    }
                    Err(error) => assert!(!error.chain().contains("ter2"), "{text} {}", error.chain()),
                }
            }
        }
        let proxy = Proxy::parse("http://bob:a%2Fb@proxy:3128/").unwrap();
        assert_eq!((proxy.user.unwrap().1.reveal(), proxy.port), ("a/b", 3128));
    }
}
