//! From an origin to a byte stream: names, addresses, proxies, TLS.
//!
//! [`Connector::connect`] is the whole way; the files beside this one are its stretches. All of it has to be done
//! within the connect timeout.

mod dns;
mod encrypted;
mod login;
mod proxy;
mod socks;
mod stream;
mod tcp;
mod tls;

use std::fmt;

use unisono_core::{ErrorKind, reactor};

pub use dns::{LookupError, Resolve};
pub(crate) use login::Turn;
pub use proxy::read_connect_answer;
pub use socks::read_socks_answers;
pub(crate) use stream::{Socket, Stream};

use crate::{Error, HttpVersion, Options, Proxies, news::Sign, proxy::ProxyKind, url::Origin};

/// Makes connections.
pub(crate) struct Connector {
    names: dns::Names,
    tls: tls::TlsSetup,
    proxies: Proxies,
    logins: Vec<login::Login>,
    version: HttpVersion,
    unix_socket: Option<std::path::PathBuf>,
    connect_timeout: std::time::Duration,
}

/// A connection, before any request.
pub(crate) struct Connected {
    /// To the origin, or to a proxy that forwards.
    pub(crate) stream: Stream,
    /// The socket below it.
    pub(crate) socket: Socket,
    /// Whether both sides agreed on HTTP/2.
    pub(crate) http2: bool,
}

impl Connector {
    pub(crate) fn new(options: &Options) -> Result<Self, Error> {
        let mut logins: Vec<login::Login> = Vec::new();
        for proxy in options.proxies.http.iter().chain(&options.proxies.https) {
            if !logins.iter().any(|login| login.is_for(proxy)) {
                logins.push(login::Login::new(proxy.clone()));
            }
        }
        Ok(Self {
            logins,
            names: dns::Names::new(options),
            tls: tls::TlsSetup::new(&options.tls, options.version)?,
            proxies: options.proxies.clone(),
            version: options.version,
            unix_socket: options.unix_socket.clone(),
            connect_timeout: options.connect_timeout,
        })
    }

    /// The value of `Proxy-Authorization` when requests to this origin go to a forwarding proxy, which wants the
    /// whole address in the request line; `None` when they go to the origin itself.
    pub(crate) fn forwarding(&self, origin: &Origin) -> Option<Option<http::HeaderValue>> {
        let proxy =
            self.proxy(origin).filter(|proxy| !origin.https && !matches!(proxy.kind, ProxyKind::Socks { .. }))?;
        Some(proxy::authorization(proxy))
    }

    /// The turn to log in where requests to this origin go to a forwarding proxy, which is told with each of them who
    /// we are.
    ///
    /// # Errors
    /// When the proxy has refused before.
    pub(crate) async fn turn_to_forward(&self, origin: &Origin) -> Result<Option<Turn<'_>>, Error> {
        match self.forwarding(origin).and_then(|_| self.login(self.proxy(origin)?)) {
            Some(login) => login.turn().await.map(Some),
            None => Ok(None),
        }
    }

    fn login(&self, proxy: &crate::Proxy) -> Option<&login::Login> {
        self.logins.iter().find(|login| login.is_for(proxy))
    }

    pub(crate) fn version(&self) -> HttpVersion {
        self.version
    }

    /// Connects, within the connect timeout. That others try their luck with a proxy does not count.
    pub(crate) async fn connect(&self, origin: &Origin) -> Result<Connected, Error> {
        let login = self.proxy(origin).filter(|_| self.forwarding(origin).is_none());
        let turn = match login.and_then(|proxy| self.login(proxy)) {
            Some(login) => Some(login.turn().await?),
            None => None,
        };
        let result = self.connect_in_time(origin, turn.as_ref()).await;
        if let (Err(error), Some(turn)) = (&result, &turn) {
            turn.failed(error);
        }
        result
    }

    async fn connect_in_time(&self, origin: &Origin, turn: Option<&Turn<'_>>) -> Result<Connected, Error> {
        let until = tokio::time::Instant::now() + self.connect_timeout;
        match reactor::timeout_at(until, self.connect_unbounded(origin, turn)).await {
            Ok(result) => result,
            Err(_) => Err(Error::new(
                ErrorKind::Connect,
                format!(
                    "connect to {origin} failed: no answer within {}",
                    unisono_core::format_duration(self.connect_timeout)
                ),
            )
            .sign(Sign::NoConnection)),
        }
    }

    async fn connect_unbounded(&self, origin: &Origin, turn: Option<&Turn<'_>>) -> Result<Connected, Error> {
        let (stream, socket) = self.reach(origin, turn).await?;
        if !origin.https {
            return Ok(Connected { stream, socket, http2: self.version == HttpVersion::Http2 });
        }
        let (stream, http2) = self.tls.handshake(stream, &socket, &origin.host, &origin.to_string()).await?;
        Ok(Connected { stream, socket, http2 })
    }

    /// A stream to the origin, directly or through a tunnel; or to the proxy that forwards to it.
    async fn reach(&self, origin: &Origin, turn: Option<&Turn<'_>>) -> Result<(Stream, Socket), Error> {
        if let Some(path) = &self.unix_socket {
            let socket = tcp::connect_unix(path).await?;
            return Ok((Stream::Plain(socket.clone()), socket));
        }
        let Some(proxy) = self.proxy(origin) else {
            let socket = self.dial(&origin.host, origin.port, &origin.to_string()).await?;
            return Ok((Stream::Plain(socket.clone()), socket));
        };
        let named = format!("proxy {proxy}");
        // Before the proxy is troubled: a name that cannot be found says nothing of it.
        let address = match proxy.kind {
            ProxyKind::Socks { remote_names: false } => {
                self.names.lookup(&origin.host, origin.port).await?.first().copied()
            }
            _ => None,
        };
        let socket = self.dial(&proxy.host, proxy.port, &named).await.map_err(|error| match error.kind() {
            ErrorKind::Connect => {
                Error::new(ErrorKind::Proxy, error.to_string()).of_peer(error.peer()).with_source(error)
            }
            _ => error,
        })?;
        let stream = Stream::Plain(socket.clone());
        let stream = match proxy.kind {
            ProxyKind::Https => self.tls.handshake(stream, &socket, &proxy.host, &named).await?.0,
            _ => stream,
        };
        // A proxy that forwards is told who we are with each request.
        let Some(turn) = turn else { return Ok((stream, socket)) };
        let tunnel = match proxy.kind {
            ProxyKind::Http | ProxyKind::Https => proxy::tunnel(stream, origin, proxy, turn).await,
            ProxyKind::Socks { .. } => socks::tunnel(stream, origin, address, proxy, turn).await,
        };
        // Its refusal of our certificate may come where its answer should.
        let stream = tunnel.map_err(|error| socket.refused().unwrap_or(error))?;
        Ok((stream, socket))
    }

    async fn dial(&self, host: &str, port: u16, named: &str) -> Result<Socket, Error> {
        let addresses = self.names.lookup(host, port).await?;
        tcp::connect(&addresses, port, named).await
    }

    fn proxy(&self, origin: &Origin) -> Option<&crate::Proxy> {
        if self.unix_socket.is_some() {
            return None;
        }
        self.proxies.get(origin.https, &origin.host, origin.port)
    }
}

impl fmt::Debug for dyn Resolve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolve")
    }
}

/// A future that stays on its thread.
pub(crate) type Local<T> = std::pin::Pin<Box<dyn Future<Output = T>>>;
