//! Servers that break the protocol, and the protocol's own odd corners.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::Method;
use support::*;
use unisono_core::{ErrorKind, OutcomeKind, Times};
use unisono_http::Client;
use unisono_testkit::{Server, answer, h2};

#[tokio::test(start_paused = true)]
async fn bytes_after_an_answer_are_never_handed_to_the_next_request() {
    let server = Server::start(|mut connection| async move {
        while connection.request().await.is_some() {
            let poison = answer(200, &[], b"poison");
            connection.send([answer(200, &[], b"mine"), poison].concat()).await;
        }
    })
    .await;
    let client = Client::new(options()).unwrap();
    for _ in 0..3 {
        let out = run_with(&client, vec![get(server.url("/"))], without_retries()).await.remove(0);
        assert_eq!(&out.body[..], b"mine");
    }
    assert_eq!(server.connections(), 3);
}

#[tokio::test(start_paused = true)]
async fn bytes_behind_any_kind_of_end_close_the_connection() {
    for (method, mine, body) in [
        (Method::GET, "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nmine\r\n0\r\n\r\n", "mine"),
        (Method::GET, "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nmine\r\n0\r\nX: y\r\n\r\n", "mine"),
        (Method::GET, "HTTP/1.1 204 X\r\n\r\n", ""),
        (Method::GET, "HTTP/1.1 204 X\r\nContent-Length: 50\r\n\r\n", ""),
        (Method::GET, "HTTP/1.1 304 X\r\nContent-Length: 50\r\n\r\n", ""),
        (Method::HEAD, "HTTP/1.1 200 X\r\nContent-Length: 50\r\n\r\n", ""),
        (Method::HEAD, "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n", ""),
        (Method::POST, "HTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n", ""),
        (Method::GET, "HTTP/1.1 200 X\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n", ""),
    ] {
        for rest in [answer(200, &[], b"poison"), b"x".to_vec(), b"\r\n".to_vec()] {
            let bytes = [mine.as_bytes(), &rest].concat();
            let server = Server::start(move |mut connection| {
                let bytes = bytes.clone();
                async move {
                    while connection.request().await.is_some() {
                        connection.send(&bytes).await;
                    }
                }
            })
            .await;
            let client = Client::new(options()).unwrap();
            for _ in 0..3 {
                let mut request = get(server.url("/"));
                request.method = method.clone();
                let out = run_with(&client, vec![request], without_retries()).await.remove(0);
                assert!(out.is_ok() && out.body == body, "{method} {mine:?} {rest:?}: {out:?}");
            }
            assert_eq!(server.connections(), 3, "{method} {mine:?} {rest:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_unsolicited_408_while_idle_answers_no_request() {
    let server = Server::start(|mut connection| async move {
        connection.request().await;
        connection.send(answer(200, &[], b"mine")).await;
        tokio::time::sleep(seconds(1)).await;
        connection.send(answer(408, &["Connection: close"], b"")).await;
    })
    .await;
    let client = Client::new(options()).unwrap();
    for _ in 0..3 {
        let out = run_with(&client, vec![post(server.url("/"))], without_retries()).await.remove(0);
        assert_eq!((out.status, &out.body[..]), (Some(200), &b"mine"[..]));
        tokio::time::sleep(seconds(2)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_can_be_read_in_two_ways_breaks_the_protocol() {
    for head in [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Content-Length: -5",
        "Content-Length: 99999999999999999999999999",
        "X-Folded: a\r\n b",
        "X-Nul: a\0b",
        "No colon",
    ] {
        let text = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\nhello");
        let server = Server::start(move |mut connection| {
            let text = text.clone();
            async move {
                connection.request().await;
                connection.send(text).await;
                connection.silence().await;
            }
        })
        .await;
        let out = one(get(server.url("/"))).await;
        assert_eq!(
            (out.kind, out.error, out.attempts),
            (OutcomeKind::Failed, Some(ErrorKind::Protocol), 1),
            "{head}: {out:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn large_and_many_headers_are_accepted_up_to_the_cap() {
    let large = format!("X-Large: {}", "x".repeat(100 << 10));
    let many: Vec<String> = (0..500).map(|n| format!("X-{n}: v")).collect();
    let huge = format!("X-Huge: {}", "x".repeat(300 << 10));
    let server = Server::answering(move |seen| match seen.target.as_str() {
        "/large" => answer(200, &[&large], b""),
        "/many" => answer(200, &many.iter().map(String::as_str).collect::<Vec<_>>(), b""),
        _ => answer(200, &[&huge], b""),
    })
    .await;
    assert!(once(get(server.url("/large"))).await.is_ok());
    assert!(once(get(server.url("/many"))).await.is_ok());
    let out = one(get(server.url("/huge"))).await;
    assert_eq!((out.kind, out.error, out.attempts), (OutcomeKind::Failed, Some(ErrorKind::HeaderTooLarge), 1));
}

#[tokio::test(start_paused = true)]
async fn answers_without_a_body_are_ok_and_empty() {
    for text in [
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n",
    ] {
        let server = Server::start(move |mut connection| async move {
            while connection.request().await.is_some() {
                connection.send(text).await;
            }
        })
        .await;
        let client = Client::new(options()).unwrap();
        for _ in 0..2 {
            let out = run_with(&client, vec![get(server.url("/"))], without_retries()).await.remove(0);
            assert!(out.is_ok() && out.body.is_empty(), "{text}: {out:?}");
        }
        assert_eq!(server.connections(), 1, "{text}");
    }
    let server = Server::answering(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n".to_vec()).await;
    let mut request = get(server.url("/"));
    request.method = Method::HEAD;
    let out = once(request).await;
    assert!(out.is_ok() && out.body.is_empty());
}

#[tokio::test(start_paused = true)]
async fn streams_that_a_goaway_leaves_out_are_sent_again_even_a_post() {
    let server = server_h2(&[], |mut connection| async move {
        if connection.number == 0 {
            let first = h2::request(&mut connection).await.unwrap();
            let _second = h2::request(&mut connection).await.unwrap();
            h2::go_away(&mut connection, first).await;
            h2::answer(&mut connection, first, b"").await;
        }
        while let Some(stream) = h2::request(&mut connection).await {
            h2::answer(&mut connection, stream, b"").await;
        }
    })
    .await;
    let requests = vec![post(server.url("/")), post(server.url("/"))];
    let outs = run(requests, http2(), settings()).await;
    assert!(outs.iter().all(Out::is_ok), "{outs:?}");
    assert!(outs.iter().all(|out| out.attempts == 1), "what was not processed is no attempt: {outs:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_stream_is_sent_again_even_a_post() {
    let refusals = Arc::new(AtomicUsize::new(0));
    let count = refusals.clone();
    let server = server_h2(&[], move |mut connection| {
        let count = count.clone();
        async move {
            while let Some(stream) = h2::request(&mut connection).await {
                match count.fetch_add(1, Ordering::Relaxed) {
                    0 => h2::reset(&mut connection, stream, h2::REFUSED_STREAM).await,
                    _ => h2::answer(&mut connection, stream, b"").await,
                }
            }
        }
    })
    .await;
    let out = run(vec![post(server.url("/"))], http2(), settings()).await.remove(0);
    assert_eq!((out.is_ok(), out.attempts), (true, 1), "{out:?}");
    assert_eq!(server.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_processed_and_lost_is_not_sent_again() {
    let server = server_h2(&[], |mut connection| async move {
        h2::request(&mut connection).await;
    })
    .await;
    let out = run(vec![post(server.url("/"))], http2(), settings()).await.remove(0);
    assert_eq!((out.kind, out.attempts), (OutcomeKind::Ambiguous, 1), "{out:?}");
    let out = run(vec![get(server.url("/"))], http2(), settings()).await.remove(0);
    assert_eq!((out.kind, out.attempts), (OutcomeKind::Failed, 4), "{out:?}");
}

#[tokio::test(start_paused = true)]
async fn one_stream_at_a_time_is_kept_to() {
    let server = server_h2(&[(h2::MAX_CONCURRENT_STREAMS, 1)], |mut connection| async move {
        let mut open: Option<u32> = None;
        loop {
            let frame = match open {
                None => h2::next(&mut connection).await,
                // A second request while one is open would come now.
                Some(stream) => {
                    match tokio::time::timeout(Duration::from_millis(10), h2::next(&mut connection)).await {
                        Ok(frame) => frame,
                        Err(_) => {
                            h2::answer(&mut connection, stream, b"").await;
                            open = None;
                            continue;
                        }
                    }
                }
            };
            let Some(frame) = frame else { return };
            if frame.kind == h2::HEADERS {
                assert_eq!(open, None, "two streams at once");
                open = Some(frame.stream);
            }
        }
    })
    .await;
    // The first request may go out before the settings have come, so it goes alone.
    let client = Client::new(http2()).unwrap();
    assert!(run_with(&client, vec![get(server.url("/"))], without_retries()).await[0].is_ok());
    let outs = run_with(&client, (0..20).map(|_| get(server.url("/"))).collect(), without_retries()).await;
    assert!(outs.iter().all(Out::is_ok), "{outs:?}");
    assert_eq!(server.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_does_not_answer_a_ping_is_given_up() {
    let server = server_h2(&[], |mut connection| async move {
        if connection.number == 0 {
            // Reads everything and answers nothing.
            connection.silence().await;
        }
        while let Some(stream) = h2::request(&mut connection).await {
            h2::answer(&mut connection, stream, b"").await;
        }
    })
    .await;
    let times = Times { timeout: None, ..Times::default() };
    let begun = tokio::time::Instant::now();
    let patient = unisono_batch::Settings { times, ..settings() };
    let out = run(vec![get(server.url("/"))], http2(), patient).await.remove(0);
    assert_eq!((out.is_ok(), out.attempts), (true, 2), "{out:?}");
    assert!(begun.elapsed() < seconds(60), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_thousand_requests_per_connection_and_a_goaway_lose_nothing() {
    let server = server_h2(&[], |mut connection| async move {
        for _ in 0..1000 {
            let Some(stream) = h2::request(&mut connection).await else { return };
            h2::answer(&mut connection, stream, b"").await;
            if stream == 1999 {
                h2::go_away(&mut connection, stream).await;
            }
        }
        // Streams that were already under way stay without an answer.
        connection.silence().await;
    })
    .await;
    let outs = run((0..2500).map(|_| post(server.url("/"))).collect(), http2(), settings()).await;
    let lost: Vec<&Out> = outs.iter().filter(|out| !out.is_ok()).collect();
    assert!(lost.is_empty(), "{} of 2500: {:?}", lost.len(), lost.first());
    assert!(server.connections() >= 3);
}
