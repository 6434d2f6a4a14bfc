//! HTTP proxies: a tunnel by CONNECT (RFC 9110, section 9.3.6).

use http::HeaderValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use unisono_core::ErrorKind;

use super::Stream;
use crate::{Error, Proxy, basic_authorization, url::Origin};

/// The value of `Proxy-Authorization`, if this proxy wants to know who we are.
pub(super) fn authorization(proxy: &Proxy) -> Option<HeaderValue> {
    let (name, password) = proxy.user.as_ref()?;
    Some(basic_authorization(name, password))
}

/// Has the proxy connect us to the origin; when the origin needs no tunnel, the stream is left as it is.
pub(super) async fn tunnel_if(needed: bool, stream: Stream, origin: &Origin, proxy: &Proxy) -> Result<Stream, Error> {
    if !needed {
        return Ok(stream);
    }
    let failed =
        |why: &str| Error::new(ErrorKind::Proxy, format!("proxy {proxy} does not connect us to {origin}: {why}"));
    let mut stream = stream;
    let target = match origin.host.contains(':') {
        true => format!("[{}]:{}", origin.host, origin.port),
        false => format!("{}:{}", origin.host, origin.port),
    };
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
    if let Some(value) = authorization(proxy) {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(value.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).await.map_err(|error| failed("it hung up").with_source(error))?;
    let head = read_head(&mut stream).await.map_err(|why| failed(&why))?;
    let status = head.split(' ').nth(1).unwrap_or("");
    match status.as_bytes().first() {
        Some(b'2') => Ok(stream),
        _ if status == "407" => Err(failed("it wants a user name and password, or others").retryable(false)),
        _ => Err(failed(head.lines().next().unwrap_or("")).retryable(status.starts_with('5'))),
    }
}

/// The response's head, byte by byte, since what follows belongs to the tunnel.
async fn read_head(stream: &mut Stream) -> Result<String, String> {
    let mut head = Vec::with_capacity(256);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= LONGEST_HEAD {
            return Err("its answer is too long".to_owned());
        }
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(error) if head.is_empty() => return Err(format!("it hung up ({error})")),
            Err(error) => return Err(format!("its answer broke off ({error})")),
        }
    }
    let head = String::from_utf8(head).map_err(|_| "its answer is not HTTP".to_owned())?;
    match head.starts_with("HTTP/1.") {
        true => Ok(head),
        false => Err("its answer is not HTTP".to_owned()),
    }
}

const LONGEST_HEAD: usize = 16 << 10;
