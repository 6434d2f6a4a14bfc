//! Bodies that lie, connections that break, servers that take their time.

mod support;

use std::{
    io::Write,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use support::*;
use unisono_batch::Settings;
use unisono_core::{ErrorKind, OutcomeKind, RetryPolicy, Times};
use unisono_http::{ClientOptions, Tls};
use unisono_testkit::{Certificates, Connection, Server, answer};

/// Answers every request with these bytes and closes, up to a number of times; then properly.
async fn broken(bytes: impl Into<Vec<u8>>, times: usize) -> Server {
    let (bytes, count) = (std::sync::Arc::new(bytes.into()), std::sync::Arc::new(AtomicUsize::new(0)));
    Server::start(move |mut connection| {
        let (bytes, count) = (bytes.clone(), count.clone());
        async move {
            while connection.request().await.is_some() {
                if count.fetch_add(1, Ordering::Relaxed) < times {
                    connection.send(&*bytes).await;
                    return;
                }
                connection.send(answer(200, &[], b"whole")).await;
            }
        }
    })
    .await
}

/// Never a partial success: repeated when that does no harm, otherwise an error.
async fn is_incomplete(bytes: impl Into<Vec<u8>> + Clone) {
    let server = broken(bytes.clone(), 1).await;
    let out = one(get(server.url("/"))).await;
    let what = String::from_utf8_lossy(&bytes.clone().into()).into_owned();
    assert_eq!((out.is_ok(), out.attempts, &out.body[..]), (true, 2, &b"whole"[..]), "{what:?}: {out:?}");
    let server = broken(bytes.clone(), usize::MAX).await;
    let out = one(get(server.url("/"))).await;
    assert_eq!((out.kind, out.error), (OutcomeKind::Failed, Some(ErrorKind::IncompleteBody)));
    let server = broken(bytes, usize::MAX).await;
    let out = one(post(server.url("/"))).await;
    assert_eq!((out.kind, server.seen().len()), (OutcomeKind::Ambiguous, 1));
}

#[tokio::test(start_paused = true)]
async fn a_body_shorter_than_its_content_length_is_incomplete() {
    is_incomplete("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort").await;
}

#[tokio::test(start_paused = true)]
async fn a_truncated_chunked_body_is_incomplete() {
    is_incomplete("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n").await;
    is_incomplete("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n50\r\nhel").await;
    is_incomplete("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0").await;
    is_incomplete("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n").await;
    is_incomplete("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y").await;
    is_incomplete("HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel").await;
}

/// How a connection ends that is the only end of its body (RFC 9112, section 8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// With the word for it, where there is one.
    Said,
    Cut,
    Reset,
}

#[tokio::test(start_paused = true)]
async fn a_body_that_lasts_to_the_end_of_its_connection_is_whole_only_if_that_end_is_a_proper_one() {
    let certificates = Certificates::new();
    let signed = certificates.sign(&["127.0.0.1"]);
    let tls = || Tls { roots: vec![certificates.authority().into_bytes()], ..Tls::default() };
    for head in ["HTTP/1.1 200 OK", "HTTP/1.0 200 OK", "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity"] {
        for (is_tls, ending) in
            [false, true].iter().flat_map(|tls| [Ending::Said, Ending::Cut, Ending::Reset].map(|ending| (*tls, ending)))
        {
            let script = move |mut connection: Connection| async move {
                connection.request().await;
                connection.send(format!("{head}\r\n\r\nto the end")).await;
                // What is reset takes along what is still on its way.
                tokio::time::sleep(seconds(1)).await;
                match ending {
                    Ending::Said => connection.close().await,
                    Ending::Cut => {}
                    Ending::Reset => connection.reset(),
                }
            };
            let server = match is_tls {
                true => Server::start_tls(certificates.server(&signed, &["http/1.1"], false), script).await,
                false => Server::start(script).await,
            };
            let url = if is_tls { server.url("/").replace("http:", "https:") } else { server.url("/") };
            let out = run(vec![post(url)], ClientOptions { tls: tls(), ..options() }, settings()).await.remove(0);
            let what = format!("{head:?}, TLS: {is_tls}, {ending:?}: {out:?}");
            // Without TLS there is no word for it: that a process died is seen as if it had said all.
            if ending == Ending::Said || (ending == Ending::Cut && !is_tls) {
                assert!(out.is_ok() && out.body == "to the end", "{what}");
            } else {
                assert_eq!((out.kind, out.error), (OutcomeKind::Ambiguous, Some(ErrorKind::IncompleteBody)), "{what}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_truncated_compressed_body_is_incomplete() {
    let text = b"a text that is compressed, and then cut short".repeat(20);
    let brotli = [
        0x1b, 0x3f, 0x00, 0xf8, 0x8d, 0x54, 0xb5, 0xbf, 0x06, 0x71, 0x9b, 0xab, 0x53, 0x69, 0x6f, 0xf1, 0x4f, 0x38,
        0x40, 0x56, 0x0d,
    ];
    for (coding, body) in
        [("gzip", gzip(&text)), ("zstd", zstd::bulk::compress(&text, 3).unwrap()), ("br", brotli.to_vec())]
    {
        let cut = &body[..body.len() - 3];
        is_incomplete(answer(200, &[&format!("Content-Encoding: {coding}")], cut)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_corrupt_compressed_body_is_an_error_without_a_retry() {
    let mut body = gzip(b"a text that is damaged on its way");
    body[12] ^= 0xff;
    let server = broken(answer(200, &["Content-Encoding: gzip"], &body), usize::MAX).await;
    let out = one(get(server.url("/"))).await;
    assert_eq!((out.error, out.attempts), (Some(ErrorKind::Decode), 1));
}

#[tokio::test(start_paused = true)]
async fn a_bomb_and_an_endless_body_are_cut_at_the_cap() {
    let options = || ClientOptions { max_body: 1 << 20, ..options() };
    let bomb = gzip(&vec![0; 100 << 20]);
    let server = broken(answer(200, &["Content-Encoding: gzip"], &bomb), usize::MAX).await;
    let out = run(vec![get(server.url("/"))], options(), settings()).await.remove(0);
    assert_eq!((out.kind, out.error, out.attempts), (OutcomeKind::Failed, Some(ErrorKind::TooLarge), 1));
    let endless = Server::start(|mut connection| async move {
        connection.request().await;
        connection.send("HTTP/1.1 200 OK\r\n\r\n").await;
        for _ in 0..1000 {
            connection.send([b'x'; 4096]).await;
        }
    })
    .await;
    let out = run(vec![get(endless.url("/"))], options(), settings()).await.remove(0);
    assert_eq!(out.error, Some(ErrorKind::TooLarge));
}

#[tokio::test(start_paused = true)]
async fn a_reset_before_the_headers_is_repeated_and_a_post_is_not() {
    let server = Server::start(|mut connection| async move {
        connection.request().await;
        connection.reset();
    })
    .await;
    let out = one(get(server.url("/"))).await;
    assert_eq!((out.kind, out.error, out.attempts), (OutcomeKind::Failed, Some(ErrorKind::Closed), 4));
    let out = one(post(server.url("/"))).await;
    assert_eq!((out.kind, out.attempts, server.seen().len()), (OutcomeKind::Ambiguous, 1, 5));
}

#[tokio::test(start_paused = true)]
async fn a_reset_in_the_body_is_never_a_partial_success() {
    let server = Server::start(|mut connection| async move {
        connection.request().await;
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await;
        connection.reset();
    })
    .await;
    let out = one(get(server.url("/"))).await;
    assert_eq!((out.kind, out.error, out.attempts), (OutcomeKind::Failed, Some(ErrorKind::IncompleteBody), 4));
    assert_eq!(one(post(server.url("/"))).await.kind, OutcomeKind::Ambiguous);
}

#[tokio::test(start_paused = true)]
async fn a_reused_connection_that_closes_is_replaced_once_and_never_for_a_post() {
    for (request, kind, seen) in [(get as fn(String) -> _, OutcomeKind::Ok, 3), (post, OutcomeKind::Ambiguous, 2)] {
        let server = Server::start(|mut connection| async move {
            connection.request().await;
            connection.send(answer(200, &[], b"")).await;
            // The second request on a connection is taken and never answered.
            if connection.number == 0 {
                connection.request().await;
            } else {
                while connection.request().await.is_some() {
                    connection.send(answer(200, &[], b"")).await;
                }
            }
        })
        .await;
        let client = unisono_http::Client::new(options()).unwrap();
        assert!(run_with(&client, vec![get(server.url("/"))], without_retries()).await[0].is_ok());
        let out = run_with(&client, vec![request(server.url("/"))], without_retries()).await.remove(0);
        assert_eq!((out.kind, out.attempts, server.seen().len()), (kind, 1, seen));
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_closes_between_requests_is_no_error() {
    for every in [1, 3] {
        let server = Server::start(move |mut connection| async move {
            for _ in 0..every {
                if connection.request().await.is_none() {
                    return;
                }
                connection.send(answer(200, &[], b"")).await;
            }
        })
        .await;
        let mut settings = without_retries();
        settings.limits.limit = 4.try_into().unwrap();
        let outs = run((0..60).map(|_| get(server.url("/"))).collect(), options(), settings).await;
        assert!(outs.iter().all(Out::is_ok), "{outs:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_idled_too_long_is_not_used_again() {
    let server = Server::answering(|_| answer(200, &[], b"")).await;
    let client = unisono_http::Client::new(options()).unwrap();
    for wait in [59, 61] {
        run_with(&client, vec![get(server.url("/"))], without_retries()).await;
        tokio::time::advance(seconds(wait)).await;
    }
    run_with(&client, vec![get(server.url("/"))], without_retries()).await;
    assert_eq!(server.connections(), 2);
}

fn within(timeout: Option<u64>, deadline: u64) -> Settings {
    let times = Times { timeout: timeout.map(seconds), deadline: Some(seconds(deadline)), ..Times::default() };
    Settings { times, retry: RetryPolicy { repeats: 1, ..RetryPolicy::default() }, ..settings() }
}

#[tokio::test(start_paused = true)]
async fn silence_ends_at_the_timeout_of_the_attempt() {
    let server = Server::start(|mut connection| async move { connection.silence().await }).await;
    let begun = tokio::time::Instant::now();
    let out = run(vec![get(server.url("/"))], options(), within(Some(3), 60)).await.remove(0);
    assert_eq!((out.kind, out.error, out.attempts), (OutcomeKind::TimedOut, Some(ErrorKind::Timeout), 2));
    assert!(begun.elapsed() >= seconds(6) && begun.elapsed() < seconds(7));
    let out = run(vec![post(server.url("/"))], options(), within(Some(3), 60)).await.remove(0);
    assert_eq!((out.kind, out.attempts), (OutcomeKind::Ambiguous, 1));
}

#[tokio::test(start_paused = true)]
async fn headers_that_drip_do_not_outlive_the_deadline() {
    let server = Server::start(|mut connection| async move {
        connection.request().await;
        connection.drip("HTTP/1.1 200 OK\r\nX-Slow: ".to_owned() + &"x".repeat(1000), Duration::from_millis(200)).await;
    })
    .await;
    let begun = tokio::time::Instant::now();
    let out = run(vec![get(server.url("/"))], options(), within(None, 10)).await.remove(0);
    assert_eq!((out.kind, out.error), (OutcomeKind::TimedOut, Some(ErrorKind::Deadline)));
    assert_eq!(begun.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_drips_does_not_outlive_the_deadline_or_its_least_throughput() {
    let server = Server::start(|mut connection| async move {
        connection.request().await;
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n").await;
        connection.drip("x".repeat(100_000), Duration::from_millis(200)).await;
    })
    .await;
    let out = run(vec![get(server.url("/"))], options(), within(None, 10)).await.remove(0);
    assert_eq!((out.kind, out.error), (OutcomeKind::TimedOut, Some(ErrorKind::Deadline)));
    let options = ClientOptions { min_throughput: Some(1000), ..options() };
    let begun = tokio::time::Instant::now();
    let out = run(vec![get(server.url("/"))], options, without_retries()).await.remove(0);
    assert_eq!(out.error, Some(ErrorKind::Timeout));
    assert!(out.message.contains("slower than"), "{}", out.message);
    assert_eq!(begun.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_ends_at_the_border_of_a_block_is_whole() {
    // The last block of zstd is full; raw deflate has one byte beyond its window's.
    let zeros = vec![0; 131_072];
    let body = zstd::bulk::compress(&zeros, 3).unwrap();
    let server = broken(answer(200, &["Content-Encoding: zstd"], &body), usize::MAX).await;
    let out = one(get(server.url("/"))).await;
    assert!(out.is_ok() && out.body == zeros, "{}", out.message);
    let text = b"as long as it takes, ".repeat(60_000);
    for end in [1 << 15, 1 << 17, 1 << 20].iter().flat_map(|border| [border - 1, *border, border + 1]) {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&text[..end]).unwrap();
        let body = encoder.finish().unwrap();
        let server = broken(answer(200, &["Content-Encoding: deflate"], &body), usize::MAX).await;
        let out = one(get(server.url("/"))).await;
        assert!(out.is_ok() && out.body == text[..end], "{end}: {}", out.message);
    }
}

#[tokio::test(start_paused = true)]
async fn zeros_after_a_compressed_body_are_padding_and_anything_else_is_damage() {
    let text = b"followed by something";
    for (rest, is_fine) in [(vec![0; 512], true), (b"garbage".to_vec(), false)] {
        for (coding, body) in [("gzip", gzip(text)), ("zstd", zstd::bulk::compress(text, 3).unwrap())] {
            let coding = format!("Content-Encoding: {coding}");
            let server = broken(answer(200, &[&coding], [body, rest.clone()].concat()), usize::MAX).await;
            let out = one(get(server.url("/"))).await;
            match is_fine {
                true => assert!(out.is_ok() && out.body[..] == text[..], "{coding}: {}", out.message),
                false => assert_eq!((out.error, out.attempts), (Some(ErrorKind::Decode), 1), "{coding}"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn more_than_five_codings_are_refused_and_only_where_there_is_something_to_decode() {
    let codings = format!("Content-Encoding: {}", ["gzip"; 6].join(", "));
    let server = broken(answer(200, &[&codings], gzip(b"x")), usize::MAX).await;
    let out = one(get(server.url("/"))).await;
    assert_eq!((out.kind, out.error, out.attempts), (OutcomeKind::Failed, Some(ErrorKind::Decode), 1));
    let out =
        run(vec![get(server.url("/"))], ClientOptions { decompress: false, ..options() }, settings()).await.remove(0);
    assert!(out.is_ok() && out.body == gzip(b"x"), "as it came, when that is what is wanted");
    let empty = broken(answer(200, &[&codings], b""), usize::MAX).await;
    assert!(one(get(empty.url("/"))).await.is_ok());
}
