//! Peers that always have something more to say: a reader of theirs lets others have their turn.

mod support;

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use support::*;
use unisono_core::ErrorKind;
use unisono_http::{ClientOptions, HttpVersion};
use unisono_testkit::{answer, h2};

/// What a peer sends: something first, and then the same again and again.
struct Flood {
    head: Vec<u8>,
    again: Vec<u8>,
    version: HttpVersion,
}

fn http1(head: &str, again: impl AsRef<[u8]>) -> Flood {
    let again = again.as_ref().repeat((64 << 10) / again.as_ref().len() + 1);
    Flood { head: head.as_bytes().to_vec(), again, version: HttpVersion::Http1 }
}

fn http2(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Flood {
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    };
    Flood {
        // A head without an end of the stream.
        head: if kind == CONTINUATION {
            frame(h2::HEADERS, 0, 1, &[0x88])
        } else {
            frame(h2::HEADERS, h2::END_HEADERS, 1, &[0x88])
        },
        again: frame(kind, flags, stream, payload).repeat(4096),
        version: HttpVersion::Http2,
    }
}

/// Asks such a peer and an honest one at once. The peer goes on until the honest one has answered all, or for far
/// longer than it takes.
async fn beside(named: &str, flood: Flood) {
    let is_done = Arc::new(AtomicBool::new(false));
    let (over, Flood { head, again, version }) = (is_done.clone(), flood);
    let (head, again) = (Arc::new(head), Arc::new(again));
    let hostile = ServerThread::start(move |mut connection| {
        let (over, head, again) = (over.clone(), head.clone(), again.clone());
        async move {
            match version {
                HttpVersion::Http2 => {
                    h2::begin(&mut connection, &[]).await;
                    if h2::request(&mut connection).await.is_none() {
                        return;
                    }
                }
                _ => _ = connection.request().await,
            }
            connection.send(&*head).await;
            for _ in 0..MOST / again.len() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                connection.send(&*again).await;
            }
        }
    });
    let honest = ServerThread::start(|mut connection| async move {
        while connection.request().await.is_some() {
            connection.send(answer(200, &[], b"honest")).await;
        }
    });
    let mut asked = Box::pin(async {
        let options = ClientOptions { version, max_body: 8 << 30, ..options() };
        run(vec![get(hostile.url("/"))], options, without_retries()).await.remove(0)
    });
    let mut beside = Box::pin(async {
        // Several rounds, one after the other: each step of each takes a turn.
        let mut settings = without_retries();
        settings.limits.limit = 2.try_into().unwrap();
        run((0..6).map(|_| get(honest.url("/"))).collect(), options(), settings).await
    });
    let (outs, broken_off) = tokio::select! {
        outs = &mut beside => (outs, None),
        out = &mut asked => (beside.await, Some(out)),
    };
    is_done.store(true, Ordering::Relaxed);
    assert!(outs.iter().all(Out::is_ok), "{named}: {outs:?}");
    // Some are broken off at once, for what they do; no other comes to an end before the honest one does.
    if let Some(out) = broken_off {
        let is_known = matches!(out.error, Some(ErrorKind::Protocol | ErrorKind::HeaderTooLarge | ErrorKind::Decode));
        assert!(is_known, "{named}: {:?}, {}", out.error, out.message);
    }
}

/// Takes a while even for a reader that does nothing else.
const MOST: usize = 256 << 20;
const CONTINUATION: u8 = 9;

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

#[tokio::test]
async fn chunks_of_one_byte_keep_no_other_host_waiting() {
    beside("chunks", http1(CHUNKED, "1\r\nx\r\n")).await;
}

#[tokio::test]
async fn a_large_body_keeps_no_other_host_waiting() {
    beside("body", http1("HTTP/1.1 200 OK\r\n\r\n", "x")).await;
}

#[tokio::test]
async fn interim_answers_without_end_keep_no_other_host_waiting() {
    beside("1xx", http1("", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")).await;
}

#[tokio::test]
async fn a_head_without_end_keeps_no_other_host_waiting() {
    beside("head", http1("HTTP/1.1 200 OK\r\n", "a: b\r\n")).await;
    beside("one header", http1("HTTP/1.1 200 OK\r\na: ", "b")).await;
    beside("trailers", http1(&format!("{CHUNKED}0\r\n"), "a: b\r\n")).await;
}

#[tokio::test]
async fn a_body_that_expands_keeps_no_other_host_waiting() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![0; 8 << 20]).unwrap();
    let bomb = encoder.finish().unwrap();
    let head = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n";
    // Each round is a member of 8 MiB.
    beside("bomb", Flood { head: head.into(), again: bomb, version: HttpVersion::Http1 }).await;
    let empty = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()).finish().unwrap();
    beside("members without content", http1(head, empty)).await;
    let head = "HTTP/1.1 200 OK\r\nContent-Encoding: zstd\r\n\r\n";
    beside("skippable frames", http1(head, [0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0])).await;
}

#[tokio::test]
async fn small_frames_of_http2_keep_no_other_host_waiting() {
    beside("data", http2(h2::DATA, 0, 1, b"x")).await;
    beside("empty data", http2(h2::DATA, 0, 1, b"")).await;
    beside("pings", http2(h2::PING, 0, 0, &[0; 8])).await;
    beside("settings", http2(h2::SETTINGS, 0, 0, &[])).await;
    beside("continuations", http2(CONTINUATION, 0, 1, &[])).await;
    // `:status: 103`, as a literal with the indexed name.
    beside("interim answers", http2(h2::HEADERS, h2::END_HEADERS, 1, &[0x08, 3, b'1', b'0', b'3'])).await;
}

#[tokio::test]
async fn a_body_in_many_small_frames_of_http2_comes_whole() {
    let server = ServerThread::start(|mut connection| async move {
        h2::begin(&mut connection, &[(INITIAL_WINDOW, 1 << 20)]).await;
        if let Some(stream) = h2::request(&mut connection).await {
            let Flood { head, again, .. } = http2(h2::DATA, 0, stream, b"a small piece of it");
            connection.send(head).await;
            // As much as the window of a stream holds.
            for _ in 0..12 {
                connection.send(&again).await;
            }
            h2::send(&mut connection, h2::DATA, h2::END_STREAM, stream, b"").await;
            while h2::next(&mut connection).await.is_some() {}
        }
    });
    let options = ClientOptions { version: HttpVersion::Http2, ..options() };
    let out = run(vec![get(server.url("/"))], options, without_retries()).await.remove(0);
    assert_eq!((out.is_ok(), out.body.len()), (true, 12 * 4096 * 19), "{}", out.message);
}

const INITIAL_WINDOW: u16 = 4;
