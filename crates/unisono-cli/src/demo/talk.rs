//! A connection of HTTP/1.1 by hand: requests come in whole, and answers go out as wrong as they are to be.
//!
//! Leaves out HTTP/2 and TLS.

use std::{io, time::Duration};

use rustix::net::sockopt;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

/// A request as it came in.
#[derive(Debug, Default)]
pub struct Asked {
    pub method: String,
    /// The target: a path with its parameters, or a whole address from what takes this for a proxy.
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The peer asks no more on this connection.
    pub is_last: bool,
}

impl Asked {
    /// The first header of this name, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// The next request; `None` at the end of the connection.
pub async fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Asked>> {
    let line = line(stream).await?;
    if line.is_empty() {
        return Ok(None);
    }
    let mut words = line.trim_end().splitn(3, ' ').map(str::to_owned);
    let mut word = || words.next().unwrap_or_default();
    let (method, path, version) = (word(), word(), word());
    let mut asked = Asked { method, path, is_last: version == "HTTP/1.0", ..Asked::default() };
    while let Some((name, value)) = self::line(stream).await?.trim_end().split_once(':') {
        asked.headers.push((name.to_owned(), value.trim().to_owned()));
    }
    asked.is_last |= asked.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    if asked.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    if asked.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        asked.body = chunks(stream).await?;
    } else if let Some(length) = asked.header("content-length").and_then(|length| length.parse().ok()) {
        asked.body = exactly(stream, length).await?;
    }
    Ok(Some(asked))
}

/// Sends a whole answer; true, since the connection goes on.
pub async fn send(stream: &mut BufReader<TcpStream>, status: &str, headers: &str, body: &[u8]) -> io::Result<bool> {
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).await?;
    Ok(true)
}

/// Closes so that the peer sees a reset instead of an end; false, since the connection is over.
pub fn reset(stream: &BufReader<TcpStream>) -> io::Result<bool> {
    sockopt::set_socket_linger(stream.get_ref(), Some(Duration::ZERO))?;
    Ok(false)
}

/// A line with its end, a character for each byte; empty at the end of the connection.
async fn line(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut bytes = Vec::new();
    stream.read_until(b'\n', &mut bytes).await?;
    Ok(bytes.into_iter().map(char::from).collect())
}

/// A body that comes in chunks; its trailers are left out.
async fn chunks(stream: &mut BufReader<TcpStream>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = line(stream).await?;
        let size = size.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
        if size == 0 {
            while !matches!(line(stream).await?.as_str(), "" | "\r\n" | "\n") {}
            return Ok(body);
        }
        body.extend(exactly(stream, size).await?);
        line(stream).await?;
    }
}

/// So many bytes; what is not there yet takes no memory.
async fn exactly(stream: &mut BufReader<TcpStream>, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.take(length as u64).read_to_end(&mut bytes).await?;
    if bytes.len() == length { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}
