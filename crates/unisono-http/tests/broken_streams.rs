//! Where the answer of a stream ends: at END_STREAM, or where its own head says (RFC 9113, section 8.1). All else is an
//! answer that broke off, however politely.

mod support;

use http::Method;
use support::*;
use unisono_core::{Effect, ErrorKind, OutcomeKind};
use unisono_http::Request;
use unisono_testkit::{Connection, Server, h2};

/// How a server leaves a stream that it has not ended.
#[derive(Debug, Clone, Copy)]
enum Leave {
    /// By a reset of this code; the connection goes on.
    Reset(u32),
    /// By GOAWAY with this code, which counts the stream among those that are processed or not; then it closes.
    GoAway { counts: bool, code: u32 },
    /// By GOAWAY that does not count it; the connection goes on.
    LeftOut,
    /// By closing the connection.
    Close,
}

impl Leave {
    /// Returns whether the connection goes on.
    async fn leave(self, connection: &mut Connection, stream: u32) -> bool {
        match self {
            Self::Reset(code) => h2::reset(connection, stream, code).await,
            Self::GoAway { counts, code } => {
                h2::go_away_for(connection, if counts { stream } else { 0 }, code).await;
            }
            Self::LeftOut => h2::go_away(connection, 0).await,
            Self::Close => {}
        }
        matches!(self, Self::Reset(_) | Self::LeftOut)
    }
}

const LEAVES: [Leave; 10] = [
    Leave::Reset(h2::NO_ERROR),
    Leave::Reset(h2::CANCEL),
    Leave::Reset(h2::INTERNAL_ERROR),
    Leave::Reset(h2::REFUSED_STREAM),
    Leave::GoAway { counts: true, code: h2::NO_ERROR },
    Leave::GoAway { counts: false, code: h2::NO_ERROR },
    Leave::GoAway { counts: true, code: h2::INTERNAL_ERROR },
    Leave::GoAway { counts: false, code: h2::INTERNAL_ERROR },
    Leave::LeftOut,
    Leave::Close,
];

/// What comes of an answer before it is left: its head and its body.
#[derive(Debug, Clone, Copy)]
struct Beginning {
    head: &'static [(&'static str, &'static str)],
    body: &'static [u8],
}

async fn leaving(beginning: Beginning, leave: Leave) -> Server {
    server_h2(&[], move |mut connection| async move {
        while let Some(stream) = requested(&mut connection).await {
            h2::head(&mut connection, stream, beginning.head).await;
            if !beginning.body.is_empty() {
                h2::send(&mut connection, h2::DATA, 0, stream, beginning.body).await;
            }
            // Lets the client take what is there first, which must make no difference.
            tokio::time::sleep(seconds(1)).await;
            if !leave.leave(&mut connection, stream).await {
                return;
            }
        }
    })
    .await
}

/// The stream of the next request, once all of it is there, and its body.
async fn requested(connection: &mut Connection) -> Option<u32> {
    loop {
        let frame = h2::next(connection).await?;
        if matches!(frame.kind, h2::HEADERS | h2::DATA) && frame.flags & h2::END_STREAM != 0 {
            return Some(frame.stream);
        }
    }
}

async fn without_repeats(request: Request) -> Out {
    run(vec![request], http2(), without_retries()).await.remove(0)
}

fn head(url: String) -> Request {
    let mut request = get(url);
    request.method = Method::HEAD;
    request
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_left_before_its_end_is_incomplete_however_it_is_left() {
    const STATUS: (&str, &str) = (":status", "200");
    let beginnings = [
        Beginning { head: &[STATUS], body: b"" },
        Beginning { head: &[STATUS], body: b"half" },
        Beginning { head: &[STATUS, ("content-length", "8")], body: b"" },
        Beginning { head: &[STATUS, ("content-length", "8")], body: b"half" },
    ];
    for beginning in beginnings {
        for leave in LEAVES {
            let what = format!("{beginning:?} {leave:?}");
            let server = leaving(beginning, leave).await;
            let out = without_repeats(get(server.url("/"))).await;
            assert_eq!(
                (out.kind, out.error),
                (OutcomeKind::Failed, Some(ErrorKind::IncompleteBody)),
                "{what}: {out:?}"
            );
            let out = run(vec![get(server.url("/"))], http2(), settings()).await.remove(0);
            assert_eq!((out.error, out.attempts), (Some(ErrorKind::IncompleteBody), 4), "{what}: {out:?}");
            let out = run(vec![post(server.url("/"))], http2(), settings()).await.remove(0);
            assert_eq!(
                (out.kind, out.effect, out.error, out.attempts),
                (OutcomeKind::Ambiguous, Effect::Maybe, Some(ErrorKind::IncompleteBody), 1),
                "{what}: {out:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_there_by_its_own_head_is_whole_unless_the_server_says_that_something_went_wrong() {
    let whole = Beginning { head: &[(":status", "200"), ("content-length", "5")], body: b"whole" };
    let empty = Beginning { head: &[(":status", "200"), ("content-length", "0")], body: b"" };
    let no_content = Beginning { head: &[(":status", "204")], body: b"" };
    let not_modified = Beginning { head: &[(":status", "304"), ("content-length", "500")], body: b"" };
    for beginning in [whole, empty, no_content, not_modified] {
        for leave in LEAVES {
            let what = format!("{beginning:?} {leave:?}");
            let server = leaving(beginning, leave).await;
            let out = without_repeats(post(server.url("/"))).await;
            if matches!(leave, Leave::Reset(code) | Leave::GoAway { counts: false, code } if code != h2::NO_ERROR) {
                assert_eq!(out.error, Some(ErrorKind::IncompleteBody), "{what}: {out:?}");
            } else {
                assert!(out.is_ok() && out.body == beginning.body, "{what}: {out:?}");
            }
        }
    }
    // What its length would be is all that is said to a HEAD.
    for fields in [&[(":status", "200"), ("content-length", "500")][..], &[(":status", "200")]] {
        let server = leaving(Beginning { head: fields, body: b"" }, Leave::Reset(h2::NO_ERROR)).await;
        let out = without_repeats(head(server.url("/"))).await;
        assert!(out.is_ok() && out.body.is_empty(), "{fields:?}: {out:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_reset_after_its_end_was_whole_and_so_is_one_with_trailers() {
    for with_trailers in [false, true] {
        for leave in LEAVES {
            let server = server_h2(&[], move |mut connection| async move {
                while let Some(stream) = requested(&mut connection).await {
                    h2::head(&mut connection, stream, &[(":status", "200")]).await;
                    let flags = if with_trailers { 0 } else { h2::END_STREAM };
                    h2::send(&mut connection, h2::DATA, flags, stream, b"whole").await;
                    if with_trailers {
                        let trailers = h2::encode(&[("x-check", "1")]);
                        let flags = h2::END_HEADERS | h2::END_STREAM;
                        h2::send(&mut connection, h2::HEADERS, flags, stream, &trailers).await;
                    }
                    if !leave.leave(&mut connection, stream).await {
                        return;
                    }
                }
            })
            .await;
            let out = without_repeats(post(server.url("/"))).await;
            assert!(out.is_ok() && out.body == "whole", "{leave:?}, trailers: {with_trailers}: {out:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_short_of_its_announced_length_is_incomplete() {
    for by_trailers in [false, true] {
        let server = server_h2(&[], move |mut connection| async move {
            while let Some(stream) = requested(&mut connection).await {
                h2::head(&mut connection, stream, &[(":status", "200"), ("content-length", "100")]).await;
                h2::send(&mut connection, h2::DATA, 0, stream, b"half").await;
                tokio::time::sleep(seconds(1)).await;
                let flags = h2::END_HEADERS | h2::END_STREAM;
                match by_trailers {
                    true => h2::send(&mut connection, h2::HEADERS, flags, stream, &h2::encode(&[("x", "1")])).await,
                    false => h2::send(&mut connection, h2::DATA, h2::END_STREAM, stream, b"").await,
                }
            }
        })
        .await;
        let out = run(vec![get(server.url("/"))], http2(), settings()).await.remove(0);
        assert_eq!((out.error, out.attempts), (Some(ErrorKind::IncompleteBody), 4), "{out:?}");
        let out = run(vec![post(server.url("/"))], http2(), settings()).await.remove(0);
        assert_eq!((out.kind, out.attempts), (OutcomeKind::Ambiguous, 1), "{out:?}");
    }
}

/// A server that allows no streams from the beginning, and from `until` seconds on as many as are wanted.
async fn allowing_none(until: Option<u64>) -> Server {
    server_h2(&[(h2::MAX_CONCURRENT_STREAMS, 0)], move |mut connection| async move {
        let allowed = async || match until {
            Some(until) => tokio::time::sleep(seconds(until)).await,
            None => std::future::pending().await,
        };
        let refused = async |connection: &mut Connection| {
            // What was sent before the settings came is one too many.
            while let Some(stream) = requested(connection).await {
                h2::reset(connection, stream, h2::REFUSED_STREAM).await;
            }
        };
        tokio::select! {
            () = refused(&mut connection) => return,
            () = allowed() => {}
        }
        h2::send(&mut connection, h2::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9]).await;
        while let Some(stream) = requested(&mut connection).await {
            h2::answer(&mut connection, stream, b"{}").await;
        }
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_allows_no_streams_costs_a_row_some_seconds_an_attempt_and_not_its_deadline() {
    let server = allowing_none(None).await;
    let began = tokio::time::Instant::now();
    let outs = run((0..3).map(|_| post(server.url("/"))).collect(), http2(), settings()).await;
    let took = began.elapsed();
    for out in outs {
        assert_eq!((out.kind, out.effect), (OutcomeKind::Failed, Effect::None), "{out:?}");
        assert!(
            out.message.contains("SETTINGS_MAX_CONCURRENT_STREAMS") || out.error == Some(ErrorKind::Away),
            "{out:?}"
        );
    }
    assert!(took < seconds(180), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_allows_no_streams_for_a_moment_is_waited_for() {
    let server = allowing_none(Some(5)).await;
    let outs = run((0..3).map(|_| post(server.url("/"))).collect(), http2(), without_retries()).await;
    assert!(outs.iter().all(Out::is_ok), "{outs:?}");
}
