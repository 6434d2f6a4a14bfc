//! Where a connection leads to, and which way.

use std::{fmt, path::Path};

use crate::login::ProxyLogin;

/// The far end of a connection.
#[derive(Clone, Copy)]
pub struct Endpoint<'a> {
    /// The name, lower case, or an address; IPv6 without its brackets.
    pub host: &'a str,
    /// The port.
    pub port: u16,
    /// Whether the stream is encrypted.
    pub is_tls: bool,
    /// What errors call it.
    pub named: &'a dyn fmt::Display,
}

/// The way to it.
#[derive(Clone, Copy)]
pub enum Route<'a> {
    /// To its address.
    Direct,
    /// To this socket, whatever the address says.
    Unix(&'a Path),
    /// Through a proxy that passes bytes on. The way includes the login.
    Tunnel(&'a ProxyLogin),
    /// To a proxy that is given each request and passes it on. Each request brings the login; the endpoint has no TLS
    /// of its own.
    Forward(&'a ProxyLogin),
}

impl Endpoint<'_> {
    /// Host and port as one word, as proxies read it.
    pub(crate) fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}
