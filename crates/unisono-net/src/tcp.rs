//! The first of several addresses that answers: happy eyeballs (RFC 8305).

use std::{
    fmt::Display,
    io,
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::net::{TcpStream, UnixStream};
use unisono_core::ErrorKind;

use crate::{endpoint::Endpoint, error::Error, failure::DialFailure, socket::Socket};

/// Connects to the first that answers. The next one is tried when the one before has failed, or has not answered for
/// a while; the last error is reported when none does.
pub(crate) async fn connect(addresses: &[IpAddr], to: Endpoint<'_>) -> Result<Socket, Error> {
    let mut untried = addresses.iter().map(|address| SocketAddr::new(*address, to.port));
    let mut under_way = FuturesUnordered::new();
    let mut last = None;
    loop {
        match untried.next() {
            Some(address) => under_way.push(TcpStream::connect(address)),
            None if under_way.is_empty() => break,
            None => {}
        }
        let result = match untried.len() {
            0 => under_way.next().await,
            // A timeout that fires is the signal to start the next one.
            _ => tokio::time::timeout(ATTEMPT_DELAY, under_way.next()).await.unwrap_or(None),
        };
        match result {
            Some(Ok(stream)) => {
                // Requests are written whole; waiting for more would only delay them.
                let _ = stream.set_nodelay(true);
                return Ok(stream.into());
            }
            Some(Err(error)) => last = Some(error),
            None => {}
        }
    }
    Err(failed(to.named, last.expect("a lookup answers at least one address")))
}

/// Connects to a Unix socket.
pub(crate) async fn connect_unix(path: &Path) -> Result<Socket, Error> {
    let stream =
        UnixStream::connect(path).await.map_err(|error| failed(&format_args!("`{}`", path.display()), error))?;
    Ok(stream.into())
}

fn failed(named: &dyn Display, error: io::Error) -> Error {
    let failure = DialFailure::of_connecting(&error);
    Error::new(ErrorKind::Connect, format!("connect to {named} failed")).met(failure).with_source(error)
}

/// What RFC 8305, section 5, recommends; less opens connections that are then thrown away.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
