//! HTTP proxies: a tunnel by CONNECT (RFC 9110, section 9.3.6).
//!
//! Its answer is read byte by byte, since what follows belongs to the tunnel, and it is bounded: in length here, in
//! time by the connect timeout, so that a proxy that drips costs no more than one that says nothing. What it says for a
//! reason is shown in part, and without control characters.

use std::io;

use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use unisono_core::ErrorKind;

use crate::{
    endpoint::Endpoint, error::Error, failure::DialFailure, login::LoginPermit, stream::ByteStream, tls::Alpn,
};

/// What is spoken to a proxy that is to connect us. One that was offered HTTP/2 as well would expect its frames.
pub(crate) const ALPN: Alpn = Alpn { offered: &[b"http/1.1"], required: None };

/// Has the proxy connect us to this endpoint.
pub(crate) async fn open(stream: ByteStream, to: Endpoint<'_>, login: &LoginPermit<'_>) -> Result<ByteStream, Error> {
    let (proxy, named) = (login.proxy(), to.named);
    let failed =
        |why: &str| Error::new(ErrorKind::Proxy, format!("proxy {proxy} does not connect us to {named}: {why}"));
    let mut stream = stream;
    let target = to.authority();
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
    if let Some(value) = proxy.authorization() {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(value.reveal().as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    stream
        .write_all(&request)
        .await
        .map_err(|error| failed("it hung up").met(DialFailure::ProxyCannotReach).with_source(error))?;
    let head = read_head(&mut stream).await.map_err(|why| {
        let hung_up = matches!(why, Unreadable::Ended(_) | Unreadable::BrokeOff(_));
        failed(&why.to_string()).met(if hung_up { DialFailure::ProxyCannotReach } else { DialFailure::Other })
    })?;
    match head.status {
        407 => return Err(login.refused_by_status()),
        // May be a rule that is looked at before the password.
        403 => {}
        _ => login.accepted(),
    }
    match head.status {
        200..=299 => Ok(stream),
        502..=504 => Err(failed(&head.to_string()).met(DialFailure::ProxyCannotReach)),
        status => Err(failed(&head.to_string()).retryable(status >= 500).met(DialFailure::ProxyRefuses)),
    }
}

/// What a proxy said first.
#[derive(Debug)]
struct ResponseHead {
    status: u16,
    /// Fit to be shown.
    reason: String,
}

#[derive(Debug)]
enum Unreadable {
    TooLong,
    NotHttp,
    Ended(io::Error),
    BrokeOff(io::Error),
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLong => f.write_str("its answer is too long"),
            Self::NotHttp => f.write_str("its answer is not HTTP"),
            Self::Ended(error) => write!(f, "it hung up ({error})"),
            Self::BrokeOff(error) => write!(f, "its answer broke off ({error})"),
        }
    }
}

impl std::fmt::Display for ResponseHead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HTTP {} {}", self.status, self.reason)
    }
}

/// The head of the answer that counts; those that only say "wait" are passed over, within the same bound.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Result<ResponseHead, Unreadable> {
    let mut left = LONGEST_HEAD_BYTES;
    loop {
        let head = parse_head(&read_lines(stream, &mut left).await?)?;
        // 101 is an answer to nothing that was asked.
        if !matches!(head.status, 100 | 102..=199) {
            return Ok(head);
        }
    }
}

/// Bytes up to an empty line.
async fn read_lines(stream: &mut (impl AsyncRead + Unpin), left: &mut usize) -> Result<Vec<u8>, Unreadable> {
    let mut head = Vec::with_capacity(256);
    // A line may end with LF alone (RFC 9112, section 2.2).
    while !head.ends_with(b"\n\r\n") && !head.ends_with(b"\n\n") {
        *left = left.checked_sub(1).ok_or(Unreadable::TooLong)?;
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(error) if head.is_empty() => return Err(Unreadable::Ended(error)),
            Err(error) => return Err(Unreadable::BrokeOff(error)),
        }
        // What speaks something else may never send an empty line.
        if !head.starts_with(&BEGINS[..head.len().min(BEGINS.len())]) {
            return Err(Unreadable::NotHttp);
        }
    }
    Ok(head)
}

fn parse_head(head: &[u8]) -> Result<ResponseHead, Unreadable> {
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii_end();
    let rest =
        line.strip_prefix(BEGINS).and_then(|rest| rest.split_first()).filter(|(minor, _)| minor.is_ascii_digit());
    let rest = rest.map(|(_, rest)| rest).filter(|rest| rest.starts_with(b" ")).ok_or(Unreadable::NotHttp)?;
    let rest = rest.trim_ascii_start();
    let (code, reason) = rest.split_at_checked(3).ok_or(Unreadable::NotHttp)?;
    let is_code = code.iter().all(u8::is_ascii_digit) && (reason.is_empty() || reason.starts_with(b" "));
    if !is_code || code[0] == b'0' {
        return Err(Unreadable::NotHttp);
    }
    let status = code.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    let reason = String::from_utf8_lossy(&reason[..reason.len().min(LONGEST_REASON_BYTES)]);
    let reason = reason.trim().chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect();
    Ok(ResponseHead { status, reason })
}

/// For tests and fuzzing: what becomes of these bytes as a proxy's answer to CONNECT, and how many of them were taken.
#[doc(hidden)]
pub fn read_connect_answer(bytes: &[u8]) -> (Result<u16, String>, usize) {
    let mut left = bytes;
    let head = read_head(&mut left).now_or_never().expect("bytes that are there are read at once");
    (head.map(|head| head.status).map_err(|why| why.to_string()), bytes.len() - left.len())
}

const BEGINS: &[u8] = b"HTTP/1.";
const LONGEST_HEAD_BYTES: usize = 16 << 10;
/// More is no reason but an attempt at something.
const LONGEST_REASON_BYTES: usize = 100;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_answer_is_read_to_its_empty_line_and_not_one_byte_further() {
        for (answer, expected) in [
            ("HTTP/1.1 200 Connection established\r\n\r\n", Ok(200)),
            ("HTTP/1.0 200\r\nVia: x\r\n\r\n", Ok(200)),
            ("HTTP/1.1 200 OK\nContent-Length: 5\n\n", Ok(200)),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", Ok(200)),
            ("HTTP/1.1 503 \u{1b}[2J\0\r\n\r\n", Ok(503)),
            ("HTTP/1.1 2\r\n\r\n", Err("its answer is not HTTP")),
            ("HTTP/1.1 2000 OK\r\n\r\n", Err("its answer is not HTTP")),
            ("HTTP/1.1 2xx OK\r\n\r\n", Err("its answer is not HTTP")),
            ("HTTP/1.1200 OK\r\n\r\n", Err("its answer is not HTTP")),
        ] {
            let with_more = format!("{answer}rest");
            let (read, taken) = read_connect_answer(with_more.as_bytes());
            assert_eq!((read.as_ref().map_err(String::as_str).copied(), taken), (expected, answer.len()), "{answer:?}");
        }
        // Without waiting for an empty line.
        assert_eq!(read_connect_answer(b"SSH-2.0-OpenSSH").0.unwrap_err(), "its answer is not HTTP");
        assert_eq!(read_connect_answer(&[0; 4]), (Err("its answer is not HTTP".to_owned()), 1));
        assert!(read_connect_answer(b"HTTP/1.1 200 OK\r\n").0.unwrap_err().starts_with("its answer broke off"));
        assert!(read_connect_answer(b"").0.unwrap_err().starts_with("it hung up"));
    }

    #[test]
    fn an_answer_without_an_end_is_bounded_and_so_are_answers_that_only_say_wait() {
        let endless = [b"HTTP/1.1 200 ".as_slice(), &[b'x'; 100_000]].concat();
        let waits = b"HTTP/1.1 100 \r\n\r\n".repeat(10_000);
        for bytes in [endless, waits] {
            let (read, taken) = read_connect_answer(&bytes);
            assert_eq!((read.unwrap_err().as_str(), taken), ("its answer is too long", LONGEST_HEAD_BYTES));
        }
    }

    #[test]
    fn a_reason_is_shown_short_and_without_control_characters() {
        let head = parse_head(format!("HTTP/1.1 502 \u{1b}[31m\r\0{}\r\n\r\n", "x".repeat(1000)).as_bytes()).unwrap();
        assert!(head.reason.len() < 120 && !head.reason.chars().any(char::is_control), "{head}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_an_error(noise in prop::collection::vec(any::<u8>(), 0..60), begin in any::<bool>()) {
            let bytes = if begin { [b"HTTP/1.1 ".as_slice(), &noise].concat() } else { noise };
            let (read, taken) = read_connect_answer(&bytes);
            prop_assert!(taken <= bytes.len());
            prop_assert!(read.map_or(true, |status| (100..1000).contains(&status)));
        }
    }
}
