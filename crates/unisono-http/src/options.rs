//! Everything that can be set about a client, as types: words and environment variables are read before, by the faces.

use std::{path::PathBuf, rc::Rc, time::Duration};

use http::{HeaderMap, HeaderValue};
use unisono_net::{Family, HostAddress, Resolve, Tls};

use crate::{CookieJar, Proxies, StatusSet, TokenSource};

/// How a [`Client`](crate::Client) connects, what it accepts and what it sends along.
#[derive(Clone)]
pub struct ClientOptions {
    /// Name lookup, TCP, proxy and TLS together. Default: 5 s.
    pub connect_timeout: Duration,
    /// Which versions of HTTP to speak.
    pub version: HttpVersion,
    /// Which certificates to trust, and the one to show.
    pub tls: Tls,
    /// The proxies to connect through.
    pub proxies: Proxies,
    /// Hosts whose address is given instead of looked up.
    pub hosts: Vec<HostAddress>,
    /// How names are looked up; `None`: by the system's resolver.
    pub resolver: Option<Rc<dyn Resolve>>,
    /// Which addresses to use.
    pub family: Family,
    /// Connect to this socket, whatever the address says.
    pub unix_socket: Option<PathBuf>,
    /// Redirects to follow; 0 takes a redirect for the answer. Default: 20.
    pub max_redirects: u8,
    /// The largest body, in decoded bytes. Default: 64 MiB.
    pub max_body: u64,
    /// The largest header section, in bytes. Default: 256 KiB.
    pub max_header: usize,
    /// The statuses that are a success. Default: 2xx, and 304, which answers a condition that the caller set.
    pub expect: StatusSet,
    /// Where cookies are kept that are to be sent back; `None`: nowhere.
    pub cookies: Option<CookieJar>,
    /// Where bearer tokens come from, for requests that bring no `Authorization` of their own.
    pub tokens: Option<Rc<dyn TokenSource>>,
    /// Sent with every request, unless it brings its own.
    pub headers: HeaderMap,
    /// Whether to ask for compressed bodies, and to decode them.
    pub decompress: bool,
    /// A body that comes in slower than this many bytes per second, over [`SLOW_WINDOW`], is given up.
    pub min_throughput: Option<u64>,
    /// A connection that was not used for so long is closed. Default: 60 s.
    pub idle_timeout: Duration,
}

impl ClientOptions {
    /// What of it holds for one machine alone; `None` when all of it can be sent to another.
    pub fn only_here(&self) -> Option<OnlyHere> {
        [
            (self.unix_socket.is_some(), OnlyHere::UnixSocket),
            (self.cookies.is_some(), OnlyHere::Cookies),
            (self.tokens.is_some(), OnlyHere::Tokens),
            (self.tls.identity.is_some(), OnlyHere::Identity),
            (self.resolver.is_some(), OnlyHere::Resolver),
        ]
        .into_iter()
        .find_map(|(is_set, what)| is_set.then_some(what))
    }
}

/// An option that holds for one machine alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnlyHere {
    /// A socket is a path on one machine.
    UnixSocket,
    /// Each machine would keep cookies of its own.
    Cookies,
    /// Each machine would refresh a token of its own.
    Tokens,
    /// A private key stays where it is.
    Identity,
    /// A resolver is code.
    Resolver,
}

impl OnlyHere {
    /// Why it is of no use elsewhere.
    pub fn why(self) -> &'static str {
        match self {
            Self::UnixSocket => "a Unix socket is on one machine alone",
            Self::Cookies => "each machine would keep cookies of its own",
            Self::Tokens => "each machine would refresh a token of its own",
            Self::Identity => "a private key does not leave its machine",
            Self::Resolver => "a resolver cannot be sent",
        }
    }
}

impl Default for ClientOptions {
    fn default() -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        headers.insert(http::header::ACCEPT, HeaderValue::from_static("*/*"));
        Self {
            connect_timeout: Duration::from_secs(5),
            version: HttpVersion::Auto,
            tls: Tls::default(),
            proxies: Proxies::default(),
            hosts: Vec::new(),
            resolver: None,
            family: Family::Any,
            unix_socket: None,
            max_redirects: DEFAULT_MAX_REDIRECTS,
            max_body: 64 << 20,
            max_header: 256 << 10,
            expect: StatusSet::default(),
            cookies: None,
            tokens: None,
            headers,
            decompress: true,
            min_throughput: None,
            idle_timeout: Duration::from_secs(60),
        }
    }
}

/// Which versions of HTTP to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HttpVersion {
    /// What the server prefers (ALPN), and HTTP/1.1 without TLS.
    #[default]
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only; without TLS by prior knowledge.
    Http2,
}

/// Over which time [`ClientOptions::min_throughput`] is taken.
pub const SLOW_WINDOW: Duration = Duration::from_secs(10);

/// As curl and browsers, of which the latter stop there.
pub(crate) const DEFAULT_MAX_REDIRECTS: u8 = 20;

const USER_AGENT: &str = concat!("unisono/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode, framing};

    #[test]
    fn the_bounds_of_bodies_and_headers_are_those_that_are_documented() {
        let page = include_str!("../../../docs/http.md");
        let row = |begins: &str| {
            let line = page.lines().find(|line| line.starts_with(begins)).expect("the table has the row");
            line.split('|').nth(2).expect("a row has cells").to_owned()
        };
        let options = ClientOptions::default();
        let shown = |bytes: u64| match bytes >> 20 {
            0 => format!("{} KiB", bytes >> 10),
            mebibytes => format!("{mebibytes} MiB"),
        };
        assert!(row("| a body, decoded").contains(&shown(options.max_body)), "{}", shown(options.max_body));
        assert_eq!(row("| codings of one body").trim(), decode::MOST_CODINGS.to_string());
        assert!(row("| the window that a zstd").contains(&shown(1 << decode::LARGEST_ZSTD_WINDOW_LOG)));
        let headers = row("| headers of one answer");
        assert!(headers.contains(&shown(options.max_header as u64)), "{headers}");
        assert!(headers.contains(&framing::MOST_HEADERS.to_string()), "{headers}");
        assert!(row("| a body that comes in too slowly").contains(&format!("over {} s", SLOW_WINDOW.as_secs())));
    }
}
