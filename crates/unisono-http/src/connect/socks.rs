//! SOCKS 5 (RFC 1928), with a user name and password where they are wanted (RFC 1929).

use std::{io, net::IpAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use unisono_core::ErrorKind;

use super::Stream;
use crate::{Error, Proxy, url::Origin};

/// Has the proxy connect us to the origin, at this address or, without one, at what it finds under its name.
pub(super) async fn tunnel(
    mut stream: Stream,
    origin: &Origin,
    address: Option<IpAddr>,
    proxy: &Proxy,
) -> Result<Stream, Error> {
    let failed = |why: Refusal| {
        let message = format!("SOCKS proxy {proxy} does not connect us to {origin}");
        match why {
            Refusal::Io(error) => Error::new(ErrorKind::Proxy, message).with_source(error),
            Refusal::Said(code) => {
                Error::new(ErrorKind::Proxy, message).with_source(meaning(code)).retryable(matches!(code, 1 | 3..=6))
            }
            Refusal::Other(why) => Error::new(ErrorKind::Proxy, message).with_source(why).retryable(false),
        }
    };
    greet(&mut stream, proxy).await.map_err(failed)?;
    ask(&mut stream, origin, address).await.map_err(failed)?;
    Ok(stream)
}

enum Refusal {
    Io(io::Error),
    Said(u8),
    Other(&'static str),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

async fn greet(stream: &mut Stream, proxy: &Proxy) -> Result<(), Refusal> {
    let methods: &[u8] = if proxy.user.is_some() { &[VERSION, 2, OPEN, PASSWORD] } else { &[VERSION, 1, OPEN] };
    stream.write_all(methods).await?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).await?;
    match (answer, &proxy.user) {
        ([VERSION, OPEN], _) => Ok(()),
        ([VERSION, PASSWORD], Some((name, password))) => {
            let (name, password) = (name.as_bytes(), password.reveal().as_bytes());
            let length = |bytes: &[u8]| {
                u8::try_from(bytes.len())
                    .map_err(|_| Refusal::Other("the user name or password is longer than 255 bytes"))
            };
            let message = [&[1, length(name)?], name, &[length(password)?], password].concat();
            stream.write_all(&message).await?;
            stream.read_exact(&mut answer).await?;
            if answer[1] == 0 { Ok(()) } else { Err(Refusal::Other("it does not accept the user name and password")) }
        }
        ([VERSION, _], _) => Err(Refusal::Other("it wants a user name and password")),
        _ => Err(Refusal::Other("it does not speak SOCKS 5")),
    }
}

async fn ask(stream: &mut Stream, origin: &Origin, address: Option<IpAddr>) -> Result<(), Refusal> {
    let mut request = vec![VERSION, 1, 0];
    match address.or_else(|| origin.host.parse().ok()) {
        Some(IpAddr::V4(address)) => {
            request.push(1);
            request.extend_from_slice(&address.octets());
        }
        Some(IpAddr::V6(address)) => {
            request.push(4);
            request.extend_from_slice(&address.octets());
        }
        None => {
            let length = u8::try_from(origin.host.len())
                .map_err(|_| Refusal::Other("the host's name is longer than 255 bytes"))?;
            request.extend_from_slice(&[3, length]);
            request.extend_from_slice(origin.host.as_bytes());
        }
    }
    request.extend_from_slice(&origin.port.to_be_bytes());
    stream.write_all(&request).await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    if answer[0] != VERSION {
        return Err(Refusal::Other("it does not speak SOCKS 5"));
    }
    if answer[1] != 0 {
        return Err(Refusal::Said(answer[1]));
    }
    let bound = match answer[3] {
        1 => 4,
        4 => 16,
        _ => usize::from(stream.read_u8().await?),
    };
    // Where it bound its end, and the port: nobody needs it.
    stream.read_exact(&mut vec![0; bound + 2]).await?;
    Ok(())
}

fn meaning(code: u8) -> &'static str {
    match code {
        1 => "general failure",
        2 => "not allowed by its rules",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "expired on the way",
        7 => "command not supported",
        8 => "address type not supported",
        _ => "for a reason that RFC 1928 does not know",
    }
}

const VERSION: u8 = 5;
const OPEN: u8 = 0;
const PASSWORD: u8 = 2;
