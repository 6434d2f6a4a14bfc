//! What a body's framing says it is: `chunked` is undone, anything else was not asked for.

mod support;

use support::*;
use unisono_core::{ErrorKind, OutcomeKind};
use unisono_testkit::Server;

async fn answered(head: &'static str, body: Vec<u8>) -> Out {
    let server = Server::start(move |mut connection| {
        let text = [format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n").as_bytes(), &body].concat();
        async move {
            connection.request().await;
            connection.send(text).await;
        }
    })
    .await;
    one(get(server.url("/"))).await
}

fn chunked(bytes: &[u8]) -> Vec<u8> {
    let chunks = bytes.chunks(7).map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
    [chunks.collect::<Vec<_>>().concat(), b"0\r\n\r\n".to_vec()].concat()
}

#[tokio::test(start_paused = true)]
async fn a_body_with_a_transfer_coding_that_was_not_asked_for_is_never_passed_on() {
    for head in [
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: GZIP ,\tChunked",
        "Transfer-Encoding: x-gzip, chunked",
        "Transfer-Encoding: deflate, chunked",
        "Transfer-Encoding: compress, chunked",
        "Transfer-Encoding: br, chunked",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: gzip;q=1, chunked",
        "Transfer-Encoding: of-their-own",
        "Transfer-Encoding: , chunked ,",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding:",
    ] {
        let out = answered(head, chunked(&gzip(b"the body"))).await;
        assert_eq!(
            (out.kind, out.error, out.attempts, &out.body[..]),
            (OutcomeKind::Failed, Some(ErrorKind::Protocol), 1, &b""[..]),
            "{head}"
        );
        assert!(
            out.message.contains("transfer coding `") || out.message.contains("broke the protocol"),
            "{}",
            out.message
        );
    }
    let out = answered("Transfer-Encoding: gzip, chunked", chunked(&gzip(b"the body"))).await;
    assert!(
        out.message.contains("its body has the transfer coding `gzip, chunked`, which nobody asked for"),
        "{}",
        out.message
    );
}

#[tokio::test(start_paused = true)]
async fn chunked_alone_is_undone_and_identity_is_none() {
    for head in ["Transfer-Encoding: chunked", "transfer-encoding: CHUNKED", "Transfer-Encoding: \tchunked "] {
        let out = answered(head, chunked(b"the body")).await;
        assert_eq!((out.is_ok(), &out.body[..]), (true, &b"the body"[..]), "{head}: {}", out.message);
    }
    let out = answered("Transfer-Encoding: identity", b"the body".to_vec()).await;
    assert_eq!((out.is_ok(), &out.body[..]), (true, &b"the body"[..]));
    // A content coding is another matter.
    let out = answered("Transfer-Encoding: chunked\r\nContent-Encoding: gzip", chunked(&gzip(b"the body"))).await;
    assert_eq!((out.is_ok(), &out.body[..]), (true, &b"the body"[..]));
}
