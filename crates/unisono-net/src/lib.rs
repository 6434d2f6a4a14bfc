//! From a name to a byte stream: addresses, TCP, Unix sockets, TLS, and the way through proxies.
//!
//! [`Connector::connect`] is the whole way; the files are its stretches. What is spoken over the stream is no matter of
//! this crate: it knows neither requests nor pools, and of a protocol only the id that TLS agrees on ([`Alpn`]). Which
//! proxy serves which address is the caller's choice as well ([`Route`]).
//!
//! All of it stays on one thread, needs an ambient tokio runtime, and starts no tasks. Lookups of names block, so they
//! run on threads of their own.

mod connector;
mod dns;
mod endpoint;
mod error;
mod failure;
mod http_tunnel;
mod login;
mod proxy;
mod refusal;
mod socket;
mod socks;
mod stream;
mod tcp;
mod tls;

pub use connector::{Connected, Connector, ConnectorOptions};
pub use dns::{Family, HostAddress, Local, LookupError, Resolve};
pub use endpoint::{Endpoint, Route};
pub use error::Error;
pub use failure::DialFailure;
#[doc(hidden)]
pub use http_tunnel::read_connect_answer;
pub use login::{LoginPermit, ProxyLogin};
pub use proxy::{Proxy, ProxyKind, basic_credentials};
pub use socket::Socket;
#[doc(hidden)]
pub use socks::read_socks_answers;
pub use stream::ByteStream;
pub use tls::{Alpn, ClientCertificate, Tls, Trust};
