//! The whole way from an endpoint to a byte stream: names, addresses, proxies, TLS.
//!
//! All of it has to be done within the connect timeout, except for the wait for another login at the same proxy.

use std::{net::IpAddr, rc::Rc, time::Duration};

use tokio::time::Instant;
use unisono_core::{ErrorKind, clock, format_duration, reactor};

use crate::{
    dns::{CachingResolver, Family, HostAddress, Resolve},
    endpoint::{Endpoint, Route},
    error::Error,
    failure::DialFailure,
    http_tunnel,
    login::LoginPermit,
    proxy::{Proxy, ProxyKind},
    socket::Socket,
    socks,
    stream::ByteStream,
    tcp,
    tls::{Alpn, Tls, TlsContext},
};

/// How a [`Connector`] connects.
pub struct ConnectorOptions {
    /// Name lookup, TCP, proxy and TLS together.
    pub connect_timeout: Duration,
    /// How names are looked up; `None`: by the system's resolver.
    pub resolver: Option<Rc<dyn Resolve>>,
    /// Hosts whose address is given instead of looked up.
    pub hosts: Vec<HostAddress>,
    /// Which addresses to use.
    pub family: Family,
    /// Which certificates to trust, and the one to show.
    pub tls: Tls,
    /// The protocols that TLS with an endpoint may agree on.
    pub alpn: Alpn,
    /// The same with a proxy that forwards, over which what is spoken is the caller's matter as well.
    pub forward_alpn: Alpn,
}

/// Makes connections.
pub struct Connector {
    names: CachingResolver,
    tls: TlsContext,
    alpn: Alpn,
    forward_alpn: Alpn,
    connect_timeout: Duration,
}

/// A connection over which nothing has been said yet.
pub struct Connected {
    /// To the endpoint, or to a proxy that forwards.
    pub stream: ByteStream,
    /// The socket below it.
    pub socket: Socket,
    /// The id of the protocol that TLS with the endpoint has agreed on.
    pub protocol: Option<&'static [u8]>,
}

impl Connector {
    /// A connector with these options.
    ///
    /// # Errors
    /// When a certificate or key is of no use.
    pub fn new(options: ConnectorOptions) -> Result<Self, Error> {
        let ConnectorOptions { connect_timeout, resolver, hosts, family, tls, alpn, forward_alpn } = options;
        Ok(Self {
            names: CachingResolver::new(resolver, hosts, family),
            tls: TlsContext::new(&tls)?,
            alpn,
            forward_alpn,
            connect_timeout,
        })
    }

    /// Connects, within the connect timeout. The time in which other connections log in to the same proxy does not
    /// count.
    ///
    /// # Errors
    /// When there is no connection; the message names the endpoint or the proxy, whichever failed.
    pub async fn connect(&self, to: Endpoint<'_>, route: Route<'_>) -> Result<Connected, Error> {
        let permit = match route {
            Route::Tunnel(login) => Some(login.acquire().await?),
            Route::Direct | Route::Unix(_) | Route::Forward(_) => None,
        };
        let result = self.connect_in_time(to, route, permit.as_ref()).await;
        if let (Err(error), Some(permit)) = (&result, &permit) {
            permit.failed(error);
        }
        result
    }

    async fn connect_in_time(
        &self,
        to: Endpoint<'_>,
        route: Route<'_>,
        permit: Option<&LoginPermit<'_>>,
    ) -> Result<Connected, Error> {
        let until = Instant::from_std(clock::now()) + self.connect_timeout;
        match reactor::timeout_at(until, self.connect_unbounded(to, route, permit)).await {
            Ok(result) => result,
            Err(_) => {
                let (named, timeout) = (to.named, format_duration(self.connect_timeout));
                let message = format!("connect to {named} failed: no answer within {timeout}");
                Err(Error::new(ErrorKind::Connect, message).met(DialFailure::NoConnection))
            }
        }
    }

    async fn connect_unbounded(
        &self,
        to: Endpoint<'_>,
        route: Route<'_>,
        permit: Option<&LoginPermit<'_>>,
    ) -> Result<Connected, Error> {
        let (stream, socket) = match route {
            Route::Direct => plain(self.dial(to).await?),
            Route::Unix(path) => plain(tcp::connect_unix(path).await?),
            Route::Forward(login) => self.reach(login.proxy(), self.forward_alpn).await?,
            Route::Tunnel(login) => {
                self.tunnel(to, login.proxy(), permit.expect("a tunnel has a permit to log in")).await?
            }
        };
        if !to.is_tls {
            return Ok(Connected { stream, socket, protocol: None });
        }
        let (stream, protocol) = self.tls.handshake(stream, &socket, to, self.alpn).await?;
        Ok(Connected { stream, socket, protocol })
    }

    /// A stream through the proxy to the endpoint.
    async fn tunnel(
        &self,
        to: Endpoint<'_>,
        proxy: &Proxy,
        permit: &LoginPermit<'_>,
    ) -> Result<(ByteStream, Socket), Error> {
        // Before the proxy is troubled: a name that cannot be found says nothing of it.
        let address = self.address_for(to, proxy).await?;
        let (stream, socket) = self.reach(proxy, http_tunnel::ALPN).await?;
        let tunnel = match proxy.kind {
            ProxyKind::Http | ProxyKind::Https => http_tunnel::open(stream, to, permit).await,
            ProxyKind::Socks { .. } => socks::open(stream, to, address, permit).await,
        };
        // Its refusal of our certificate may come where its answer should.
        let stream = tunnel.map_err(|error| socket.refused().unwrap_or(error))?;
        Ok((stream, socket))
    }

    /// The address that this proxy is to be told; `None` where it is told the name.
    async fn address_for(&self, to: Endpoint<'_>, proxy: &Proxy) -> Result<Option<IpAddr>, Error> {
        match proxy.kind {
            ProxyKind::Socks { remote_names: false } => Ok(self.names.lookup(to.host, to.port).await?.first().copied()),
            _ => Ok(None),
        }
    }

    /// A stream to the proxy itself.
    async fn reach(&self, proxy: &Proxy, alpn: Alpn) -> Result<(ByteStream, Socket), Error> {
        let named = format_args!("proxy {proxy}");
        let is_tls = proxy.kind == ProxyKind::Https;
        let to = Endpoint { host: &proxy.host, port: proxy.port, is_tls, named: &named };
        let socket = self.dial(to).await.map_err(|error| match error.kind() {
            ErrorKind::Connect => {
                Error::new(ErrorKind::Proxy, error.to_string()).of_peer(error.peer()).with_source(error)
            }
            _ => error,
        })?;
        let (stream, socket) = plain(socket);
        match is_tls {
            true => Ok((self.tls.handshake(stream, &socket, to, alpn).await?.0, socket)),
            false => Ok((stream, socket)),
        }
    }

    async fn dial(&self, to: Endpoint<'_>) -> Result<Socket, Error> {
        let addresses = self.names.lookup(to.host, to.port).await?;
        tcp::connect(&addresses, to).await
    }
}

fn plain(socket: Socket) -> (ByteStream, Socket) {
    (ByteStream::Plain(socket.clone()), socket)
}
