//! Which way a connection to an origin goes, and what is spoken over it.
//!
//! `unisono-net` makes it; here is what is HTTP's of that: the proxy for this scheme, whether it tunnels or is given
//! each request (a forwarding proxy, for plain http), and which versions TLS may agree on.

use std::path::PathBuf;

use http::HeaderValue;
use unisono_net::{
    Alpn, ByteStream, Connected, Connector, ConnectorOptions, Endpoint, LoginPermit, ProxyKind, ProxyLogin, Route,
    Socket,
};

use crate::{ClientOptions, Error, HttpVersion, Proxies, url::Origin};

/// Makes connections to origins.
pub(crate) struct Dialer {
    connector: Connector,
    proxies: Proxies,
    /// One of each proxy, so that http and https know of one another's logins.
    logins: Vec<ProxyLogin>,
    version: HttpVersion,
    unix_socket: Option<PathBuf>,
}

/// A connection, before any request.
pub(crate) struct Dialed {
    /// To the origin, or to a proxy that forwards.
    pub(crate) stream: ByteStream,
    /// The socket below it.
    pub(crate) socket: Socket,
    /// Whether both sides agreed on HTTP/2.
    pub(crate) http2: bool,
}

impl Dialer {
    pub(crate) fn new(options: &ClientOptions) -> Result<Self, Error> {
        let mut logins: Vec<ProxyLogin> = Vec::new();
        for proxy in options.proxies.http.iter().chain(&options.proxies.https) {
            if !logins.iter().any(|login| login.proxy() == proxy) {
                logins.push(ProxyLogin::new(proxy.clone()));
            }
        }
        let connector = Connector::new(ConnectorOptions {
            connect_timeout: options.connect_timeout,
            resolver: options.resolver.clone(),
            hosts: options.hosts.clone(),
            family: options.family,
            tls: options.tls.clone(),
            alpn: match options.version {
                HttpVersion::Auto => Alpn { offered: &[HTTP2, HTTP1], required: None },
                HttpVersion::Http1 => Alpn { offered: &[HTTP1], required: None },
                HttpVersion::Http2 => ONLY_HTTP2,
            },
            // Requests for plain http are HTTP/1.1 unless it is said that they are not, whatever a proxy could do.
            forward_alpn: match options.version {
                HttpVersion::Auto | HttpVersion::Http1 => Alpn { offered: &[HTTP1], required: None },
                HttpVersion::Http2 => ONLY_HTTP2,
            },
        })?;
        Ok(Self {
            connector,
            proxies: options.proxies.clone(),
            logins,
            version: options.version,
            unix_socket: options.unix_socket.clone(),
        })
    }

    pub(crate) fn version(&self) -> HttpVersion {
        self.version
    }

    /// Connects, within the connect timeout.
    pub(crate) async fn connect(&self, origin: &Origin) -> Result<Dialed, Error> {
        let Connected { stream, socket, protocol } =
            self.connector.connect(origin.endpoint(), self.route(origin)).await?;
        let http2 = match origin.https {
            true => protocol == Some(HTTP2),
            false => self.version == HttpVersion::Http2,
        };
        Ok(Dialed { stream, socket, http2 })
    }

    /// The value of `Proxy-Authorization` when requests to this origin go to a forwarding proxy, which wants the
    /// whole address in the request line; `None` when they go to the origin itself.
    pub(crate) fn forwarding(&self, origin: &Origin) -> Option<Option<HeaderValue>> {
        let Route::Forward(login) = self.route(origin) else { return None };
        Some(login.proxy().authorization().map(|credentials| {
            let mut value = HeaderValue::try_from(credentials.reveal()).expect("base64 is ASCII");
            value.set_sensitive(true);
            value
        }))
    }

    /// The permit to log in where requests to this origin go to a forwarding proxy, which wants the login with
    /// each of them.
    ///
    /// # Errors
    /// When the proxy has refused before.
    pub(crate) async fn permit_to_forward(&self, origin: &Origin) -> Result<Option<LoginPermit<'_>>, Error> {
        match self.route(origin) {
            Route::Forward(login) => Ok(Some(login.acquire().await?)),
            _ => Ok(None),
        }
    }

    fn route(&self, origin: &Origin) -> Route<'_> {
        if let Some(path) = &self.unix_socket {
            return Route::Unix(path);
        }
        let Some(proxy) = self.proxies.get(origin.https, &origin.host, origin.port) else { return Route::Direct };
        let login = self.logins.iter().find(|login| login.proxy() == proxy).expect("each proxy has its login");
        match proxy.kind {
            ProxyKind::Http | ProxyKind::Https if !origin.https => Route::Forward(login),
            _ => Route::Tunnel(login),
        }
    }
}

impl Origin {
    fn endpoint(&self) -> Endpoint<'_> {
        Endpoint { host: &self.host, port: self.port, is_tls: self.https, named: self }
    }
}

const HTTP1: &[u8] = b"http/1.1";
const HTTP2: &[u8] = b"h2";
const ONLY_HTTP2: Alpn = Alpn { offered: &[HTTP2], required: Some("HTTP/2") };
