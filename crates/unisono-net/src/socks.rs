//! SOCKS 5 (RFC 1928), with a user name and password where they are wanted (RFC 1929).
//!
//! Every answer has a length that is known before it is read, at most 262 bytes; a proxy that drips is bounded by the
//! connect timeout.

use std::{io, net::IpAddr};

use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use unisono_core::{ErrorKind, Secret};

use crate::{endpoint::Endpoint, error::Error, failure::DialFailure, login::LoginPermit, stream::ByteStream};

/// Has the proxy connect us to this endpoint, at this address or, without one, at what it finds under its name.
pub(crate) async fn open(
    mut stream: ByteStream,
    to: Endpoint<'_>,
    address: Option<IpAddr>,
    login: &LoginPermit<'_>,
) -> Result<ByteStream, Error> {
    let (proxy, named) = (login.proxy(), to.named);
    let failed = |why: SocksFailure| {
        let message = format!("SOCKS proxy {proxy} does not connect us to {named}");
        match why {
            SocksFailure::Io(error) => {
                Error::new(ErrorKind::Proxy, message).met(DialFailure::ProxyCannotReach).with_source(error)
            }
            SocksFailure::Said(code) => {
                let may_pass = matches!(code, 1 | 3..=6);
                let failure = if may_pass { DialFailure::ProxyCannotReach } else { DialFailure::ProxyRefuses };
                Error::new(ErrorKind::Proxy, message).with_source(meaning(code)).retryable(may_pass).met(failure)
            }
            SocksFailure::Login(why) => login.refused(why),
            SocksFailure::Other(why) => {
                Error::new(ErrorKind::Proxy, message).with_source(why).retryable(false).met(DialFailure::ProxyRefuses)
            }
        }
    };
    greet(&mut stream, proxy.user.as_ref()).await.map_err(failed)?;
    login.accepted();
    ask(&mut stream, to, address).await.map_err(failed)?;
    Ok(stream)
}

/// For tests and fuzzing: what becomes of these bytes as a proxy's answers, and how many of them were taken.
#[doc(hidden)]
pub fn read_socks_answers(bytes: &[u8], with_password: bool) -> (Result<(), String>, usize) {
    let mut left = bytes;
    let user = with_password.then(|| ("bob".to_owned(), Secret::new("pw")));
    let to = Endpoint { host: "host", port: 443, is_tls: true, named: &"host" };
    let exchange = async {
        let mut stream = tokio::io::join(&mut left, tokio::io::sink());
        greet(&mut stream, user.as_ref()).await?;
        ask(&mut stream, to, None).await
    };
    let result = exchange.now_or_never().expect("bytes that are there are read at once");
    let result = result.map_err(|why| match why {
        SocksFailure::Io(error) => error.to_string(),
        SocksFailure::Said(code) => meaning(code).to_owned(),
        SocksFailure::Login(why) | SocksFailure::Other(why) => why.to_owned(),
    });
    (result, bytes.len() - left.len())
}

/// Both ways of a connection.
trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

enum SocksFailure {
    Io(io::Error),
    Said(u8),
    /// Whatever the way: this name and password do not get in.
    Login(&'static str),
    Other(&'static str),
}

impl From<io::Error> for SocksFailure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

async fn greet(stream: &mut impl Duplex, user: Option<&(String, Secret)>) -> Result<(), SocksFailure> {
    let methods: &[u8] = if user.is_some() { &[VERSION, 2, OPEN, PASSWORD] } else { &[VERSION, 1, OPEN] };
    stream.write_all(methods).await?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).await?;
    match (answer, user) {
        ([VERSION, OPEN], _) => Ok(()),
        ([VERSION, PASSWORD], Some((name, password))) => {
            let (name, password) = (name.as_bytes(), password.reveal().as_bytes());
            let length = |bytes: &[u8]| {
                u8::try_from(bytes.len())
                    .map_err(|_| SocksFailure::Other("the user name or password is longer than 255 bytes"))
            };
            let message = [&[1, length(name)?], name, &[length(password)?], password].concat();
            stream.write_all(&message).await?;
            stream.read_exact(&mut answer).await?;
            if answer[1] == 0 {
                Ok(())
            } else {
                Err(SocksFailure::Login("it does not accept the user name and password"))
            }
        }
        ([VERSION, PASSWORD | NONE], None) => Err(SocksFailure::Login("it wants a user name and password")),
        ([VERSION, NONE], Some(_)) => {
            Err(SocksFailure::Login("it takes no user name and password, and nobody without"))
        }
        ([VERSION, _], _) => Err(SocksFailure::Login("it wants a way to log in that was not offered")),
        _ => Err(SocksFailure::Other("it does not speak SOCKS 5")),
    }
}

async fn ask(stream: &mut impl Duplex, to: Endpoint<'_>, address: Option<IpAddr>) -> Result<(), SocksFailure> {
    let mut request = vec![VERSION, 1, 0];
    match address.or_else(|| to.host.parse().ok()) {
        Some(IpAddr::V4(address)) => {
            request.push(1);
            request.extend_from_slice(&address.octets());
        }
        Some(IpAddr::V6(address)) => {
            request.push(4);
            request.extend_from_slice(&address.octets());
        }
        None => {
            let length = u8::try_from(to.host.len())
                .map_err(|_| SocksFailure::Other("the host's name is longer than 255 bytes"))?;
            request.extend_from_slice(&[3, length]);
            request.extend_from_slice(to.host.as_bytes());
        }
    }
    request.extend_from_slice(&to.port.to_be_bytes());
    stream.write_all(&request).await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    if answer[0] != VERSION {
        return Err(SocksFailure::Other("it does not speak SOCKS 5"));
    }
    if answer[1] != 0 {
        return Err(SocksFailure::Said(answer[1]));
    }
    let bound = match answer[3] {
        1 => 4,
        4 => 16,
        3 => usize::from(stream.read_u8().await?),
        _ => return Err(SocksFailure::Other("it does not say where it is connected to")),
    };
    // Where it bound its end, and the port: of no use, but to be read before what follows.
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
const NONE: u8 = 0xff;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_proxy_answers_is_taken_to_its_last_byte_and_no_further() {
        let name = [&[5, 0, 5, 0, 0, 3, 255][..], &[b'x'; 255], &[1, 187]].concat();
        for (answers, with_password, expected) in [
            (&[5, 0, 5, 0, 0, 1, 127, 0, 0, 1, 1, 187][..], false, Ok(())),
            (&name, false, Ok(())),
            (&[5, 2, 1, 0, 5, 0, 0, 1, 127, 0, 0, 1, 1, 187], true, Ok(())),
            (&[5, 2, 1, 1], true, Err("it does not accept the user name and password")),
            (&[5, 2], false, Err("it wants a user name and password")),
            (&[5, 255], false, Err("it wants a user name and password")),
            (&[5, 255], true, Err("it takes no user name and password, and nobody without")),
            (&[5, 7], true, Err("it wants a way to log in that was not offered")),
            (b"HT", false, Err("it does not speak SOCKS 5")),
            (&[4, 0], false, Err("it does not speak SOCKS 5")),
            (&[5, 0, 4, 0, 0, 1], false, Err("it does not speak SOCKS 5")),
            (&[5, 0, 5, 5, 0, 1], false, Err("connection refused")),
            (&[5, 0, 5, 0xee, 0, 1], false, Err("for a reason that RFC 1928 does not know")),
            (&[5, 0, 5, 0, 0, 9], false, Err("it does not say where it is connected to")),
        ] {
            let with_more = [answers, b"rest"].concat();
            let (read, taken) = read_socks_answers(&with_more, with_password);
            assert_eq!(read.as_ref().err().map(String::as_str), expected.err(), "{answers:?}");
            assert_eq!(taken, answers.len(), "{answers:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_an_error(noise in prop::collection::vec(0u8..7, 0..40), with_password in any::<bool>()) {
            let (_, taken) = read_socks_answers(&noise, with_password);
            prop_assert!(taken <= noise.len());
        }
    }
}
