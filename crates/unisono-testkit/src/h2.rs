//! Frames of HTTP/2 by hand (RFC 9113), as far as faults need them.

use crate::Connection;

/// A frame that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http2Frame {
    /// Its type: see the constants here.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream.
    pub stream: u32,
    /// What is in it.
    pub payload: Vec<u8>,
}

/// DATA.
pub const DATA: u8 = 0;
/// HEADERS.
pub const HEADERS: u8 = 1;
/// RST_STREAM.
pub const RST_STREAM: u8 = 3;
/// SETTINGS.
pub const SETTINGS: u8 = 4;
/// PING.
pub const PING: u8 = 6;
/// GOAWAY.
pub const GOAWAY: u8 = 7;

/// END_STREAM of DATA and HEADERS, ACK of SETTINGS and PING.
pub const END_STREAM: u8 = 1;
/// END_HEADERS.
pub const END_HEADERS: u8 = 4;

/// NO_ERROR.
pub const NO_ERROR: u32 = 0;
/// INTERNAL_ERROR.
pub const INTERNAL_ERROR: u32 = 2;
/// REFUSED_STREAM.
pub const REFUSED_STREAM: u32 = 7;
/// CANCEL.
pub const CANCEL: u32 = 8;
/// SETTINGS_MAX_CONCURRENT_STREAMS.
pub const MAX_CONCURRENT_STREAMS: u16 = 3;

/// Takes the client's preface, and sends settings.
pub async fn begin(connection: &mut Connection, settings: &[(u16, u32)]) {
    connection.bytes(24).await;
    let mut payload = Vec::new();
    for (name, value) in settings {
        payload.extend_from_slice(&name.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    send(connection, SETTINGS, 0, 0, &payload).await;
}

/// The next frame; settings are acknowledged on the way. `None` when the client has closed.
pub async fn next(connection: &mut Connection) -> Option<Http2Frame> {
    let head = connection.bytes(9).await?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
    let payload = connection.bytes(length).await?;
    let frame = Http2Frame { kind: head[3], flags: head[4], stream, payload };
    if frame.kind == SETTINGS && frame.flags == 0 {
        send(connection, SETTINGS, END_STREAM, 0, &[]).await;
    }
    Some(frame)
}

/// The stream of the next request; `None` when the client has closed.
pub async fn request(connection: &mut Connection) -> Option<u32> {
    loop {
        let frame = next(connection).await?;
        if frame.kind == HEADERS {
            return Some(frame.stream);
        }
    }
}

/// Sends a frame.
pub async fn send(connection: &mut Connection, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("a test's frame is small").to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    connection.send(bytes).await;
}

/// Answers a request with 200 and a body.
pub async fn answer(connection: &mut Connection, stream: u32, body: &[u8]) {
    // `:status: 200` is the eighth entry of the static table (RFC 7541, appendix A).
    send(connection, HEADERS, END_HEADERS, stream, &[0x88]).await;
    send(connection, DATA, END_STREAM, stream, body).await;
}

/// Sends the head of an answer, or trailers: the fields as they are given, none of them compressed. The stream goes on.
pub async fn head(connection: &mut Connection, stream: u32, fields: &[(&str, &str)]) {
    send(connection, HEADERS, END_HEADERS, stream, &encode(fields)).await;
}

/// Fields as HPACK's literals without indexing (RFC 7541, section 6.2.2).
pub fn encode(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            // Longer ones take a second byte.
            assert!(text.len() < 127, "a test's field is short");
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// Resets a stream.
pub async fn reset(connection: &mut Connection, stream: u32, code: u32) {
    send(connection, RST_STREAM, 0, stream, &code.to_be_bytes()).await;
}

/// Says that no stream above this one will be processed.
pub async fn go_away(connection: &mut Connection, last: u32) {
    go_away_for(connection, last, NO_ERROR).await;
}

/// The same, and why.
pub async fn go_away_for(connection: &mut Connection, last: u32, code: u32) {
    let payload = [last.to_be_bytes(), code.to_be_bytes()].concat();
    send(connection, GOAWAY, 0, 0, &payload).await;
}
