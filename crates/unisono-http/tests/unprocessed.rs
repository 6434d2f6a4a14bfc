//! Requests that a server has certainly not processed: they count for nothing and go out again, and it ends all the
//! same.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use support::*;
use unisono_batch::Settings;
use unisono_core::{Effect, ErrorKind, OutcomeKind, Peer, Times};
use unisono_http::{Client, ClientOptions, NoProxy, Proxies, Proxy, Request};
use unisono_testkit::{Connection, Server, h2};

/// Two thousand of each, none of which may be repeated by the engine.
async fn two_thousand_of_each(url: &str) -> Vec<Out> {
    let requests: Vec<Request> = (0..4000).map(|n| if n % 2 == 0 { get(url) } else { post(url) }).collect();
    run(requests, http2(), without_retries()).await
}

fn all_ok_at_once(outs: &[Out]) {
    let bad: Vec<&Out> = outs.iter().filter(|out| !out.is_ok() || out.attempts != 1).collect();
    assert!(bad.is_empty(), "{} of {}: {:?}", bad.len(), outs.len(), bad[0]);
}

/// Reads and drops what comes, so that the client sees no reset.
async fn drain(mut connection: Connection) {
    while h2::next(&mut connection).await.is_some() {}
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_ten_requests_a_connection_gets_all_of_them_and_none_twice() {
    let taken = Arc::new(AtomicUsize::new(0));
    let count = taken.clone();
    let server = server_h2(&[], move |mut connection| {
        let count = count.clone();
        async move {
            let mut streams = Vec::new();
            while streams.len() < 10 {
                let Some(stream) = h2::request(&mut connection).await else { return };
                streams.push(stream);
            }
            count.fetch_add(10, Ordering::Relaxed);
            // As nginx does: no stream above this one, and the answers of those that it took come later.
            h2::go_away(&mut connection, streams[9]).await;
            for stream in streams {
                h2::answer(&mut connection, stream, b"").await;
            }
            drain(connection).await;
        }
    })
    .await;
    all_ok_at_once(&two_thousand_of_each(&server.url("/")).await);
    assert_eq!((taken.load(Ordering::Relaxed), server.connections()), (4000, 400));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_eight_streams_is_never_given_a_ninth() {
    let refused = Arc::new(AtomicUsize::new(0));
    let count = refused.clone();
    let server = Server::start(move |mut connection| {
        let count = count.clone();
        async move {
            // Its settings come after the first request, and whatever comes beside that one is too many.
            connection.bytes(24).await;
            let first = h2::request(&mut connection).await.unwrap();
            let eight = [h2::MAX_CONCURRENT_STREAMS.to_be_bytes().as_slice(), &8u32.to_be_bytes()].concat();
            h2::send(&mut connection, h2::SETTINGS, 0, 0, &eight).await;
            h2::answer(&mut connection, first, b"").await;
            let mut open = Vec::new();
            while let Some(frame) = h2::next(&mut connection).await {
                if frame.kind == h2::HEADERS && open.len() == 8 {
                    count.fetch_add(1, Ordering::Relaxed);
                    h2::reset(&mut connection, frame.stream, h2::REFUSED_STREAM).await;
                } else if frame.kind == h2::HEADERS {
                    open.push((frame.stream, frame.flags & h2::END_STREAM != 0));
                } else if frame.kind == h2::DATA {
                    open.iter_mut().filter(|(stream, _)| *stream == frame.stream).for_each(|one| one.1 = true);
                }
                // Answers in full groups as long as there are such.
                while open.len() == 8 && open.iter().all(|(_, whole)| *whole) || open.first().is_some_and(|one| one.1) {
                    let (stream, _) = open.remove(0);
                    h2::answer(&mut connection, stream, b"").await;
                }
            }
        }
    })
    .await;
    all_ok_at_once(&two_thousand_of_each(&server.url("/")).await);
    assert_eq!((refused.load(Ordering::Relaxed), server.connections()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_without_having_said_how_many_streams_it_takes_is_asked_for_fewer() {
    let refused = Arc::new(AtomicUsize::new(0));
    let count = refused.clone();
    let server = server_h2(&[], move |mut connection| {
        let count = count.clone();
        async move {
            let mut open = Vec::new();
            loop {
                let frame = tokio::time::timeout(Duration::from_millis(1), h2::next(&mut connection)).await;
                match frame {
                    Ok(None) => return,
                    Ok(Some(frame)) if frame.kind == h2::HEADERS && open.len() == 8 => {
                        count.fetch_add(1, Ordering::Relaxed);
                        h2::reset(&mut connection, frame.stream, h2::REFUSED_STREAM).await;
                    }
                    Ok(Some(frame)) if frame.kind == h2::HEADERS => open.push(frame.stream),
                    Ok(Some(_)) => {}
                    Err(_) => {
                        for stream in open.drain(..) {
                            h2::answer(&mut connection, stream, b"").await;
                        }
                    }
                }
            }
        }
    })
    .await;
    all_ok_at_once(&two_thousand_of_each(&server.url("/")).await);
    assert_eq!(server.connections(), 1);
    // Those that were sent before it was known, and one more for each round of answers.
    let refused = refused.load(Ordering::Relaxed);
    assert!(refused < 1000, "{refused}");
}

#[tokio::test(start_paused = true)]
async fn one_request_goes_out_before_the_server_has_said_how_many_it_takes() {
    let server = Server::start(|mut connection| async move {
        connection.bytes(24).await;
        let first = h2::request(&mut connection).await.unwrap();
        // A ping is answered after all that was sent before it: had there been another request, it would have come.
        h2::send(&mut connection, h2::SETTINGS, 0, 0, &[]).await;
        loop {
            let frame = h2::next(&mut connection).await.unwrap();
            assert_ne!(frame.kind, h2::HEADERS, "a second request before the settings were acknowledged");
            if frame.kind == h2::SETTINGS && frame.flags == 1 {
                break;
            }
        }
        h2::answer(&mut connection, first, b"").await;
        while let Some(stream) = h2::request(&mut connection).await {
            h2::answer(&mut connection, stream, b"").await;
        }
    })
    .await;
    all_ok_at_once(&run((0..50).map(|_| get(server.url("/"))).collect(), http2(), without_retries()).await);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_for_ever_is_overloaded_and_the_attempt_ends() {
    let server = server_h2(&[], |mut connection| async move {
        while let Some(stream) = h2::request(&mut connection).await {
            h2::reset(&mut connection, stream, h2::REFUSED_STREAM).await;
        }
    })
    .await;
    let begun = tokio::time::Instant::now();
    let out = run(vec![post(server.url("/"))], http2(), without_retries()).await.remove(0);
    assert_eq!(
        (out.kind, out.effect, out.error, out.peer),
        (OutcomeKind::Failed, Effect::None, Some(ErrorKind::Closed), Peer::Overloaded)
    );
    assert!(out.message.contains("refuses the request for now"), "{}", out.message);
    assert!(begun.elapsed() < seconds(5), "{:?}", begun.elapsed());
    // With others beside it as well, and then it is repeated as any failure is.
    let outs = run((0..50).map(|_| post(server.url("/"))).collect(), http2(), settings()).await;
    assert!(outs.iter().all(|out| out.kind == OutcomeKind::Failed && out.effect == Effect::None), "{outs:?}");
    assert!(outs.iter().any(|out| out.attempts > 1));
    assert_eq!(server.connections(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_sends_every_request_away_is_away_and_the_attempt_ends() {
    let server = server_h2(&[], |mut connection| async move {
        h2::go_away(&mut connection, 0).await;
        drain(connection).await;
    })
    .await;
    let out = run(vec![post(server.url("/"))], http2(), without_retries()).await.remove(0);
    assert_eq!((out.kind, out.effect, out.peer), (OutcomeKind::Failed, Effect::None, Peer::Away), "{out:?}");
    assert_eq!(server.connections(), 5);
    let outs = run((0..50).map(|_| post(server.url("/"))).collect(), http2(), without_retries()).await;
    assert!(outs.iter().all(|out| out.effect == Effect::None && out.peer == Peer::Away), "{outs:?}");
    assert!(server.connections() < 5 + 50, "fewer than one for each: {}", server.connections() - 5);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_shuts_down_gracefully_finishes_what_it_has_and_gets_nothing_new() {
    let server = server_h2(&[], |mut connection| async move {
        if connection.number == 0 {
            let mut streams = Vec::new();
            while streams.len() < 4 {
                streams.push(h2::request(&mut connection).await.unwrap());
            }
            h2::go_away(&mut connection, i32::MAX as u32).await;
            h2::answer(&mut connection, streams[0], b"old").await;
            // The rows that the first answer made room for must come elsewhere.
            tokio::time::sleep(seconds(1)).await;
            for stream in &streams[1..] {
                h2::answer(&mut connection, *stream, b"old").await;
            }
            h2::go_away(&mut connection, streams[3]).await;
            while let Some(frame) = h2::next(&mut connection).await {
                assert_ne!(frame.kind, h2::HEADERS, "a new request after GOAWAY");
            }
            return;
        }
        while let Some(stream) = h2::request(&mut connection).await {
            h2::answer(&mut connection, stream, b"new").await;
        }
    })
    .await;
    let four = Settings { limits: unisono_core::Limits::new(4.try_into().ok(), None), ..without_retries() };
    let outs = run((0..100).map(|_| post(server.url("/"))).collect(), http2(), four).await;
    all_ok_at_once(&outs);
    assert_eq!(outs.iter().filter(|out| &out.body[..] == b"old").count(), 4);
    assert_eq!(server.connections(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_post_that_waits_for_a_stream_when_its_time_is_up_was_not_sent() {
    let server = server_h2(&[(h2::MAX_CONCURRENT_STREAMS, 1)], |mut connection| async move {
        h2::request(&mut connection).await;
        connection.silence().await;
    })
    .await;
    let limit = Settings { times: Times { timeout: Some(seconds(2)), ..Times::default() }, ..without_retries() };
    let outs = run((0..3).map(|_| post(server.url("/"))).collect(), http2(), limit).await;
    let unsent = outs.iter().filter(|out| (out.kind, out.effect) == (OutcomeKind::TimedOut, Effect::None)).count();
    let sent = outs.iter().filter(|out| (out.kind, out.effect) == (OutcomeKind::Ambiguous, Effect::Maybe)).count();
    // Those behind the first may have got its stream when it was taken back.
    assert!(unsent >= 1 && unsent + sent == 3, "{outs:?}");
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_stream_goes_elsewhere_when_the_connection_ends() {
    let server = server_h2(&[(h2::MAX_CONCURRENT_STREAMS, 1)], |mut connection| async move {
        if connection.number == 0 {
            h2::request(&mut connection).await;
            return;
        }
        while let Some(stream) = h2::request(&mut connection).await {
            h2::answer(&mut connection, stream, b"").await;
        }
    })
    .await;
    let outs = run((0..20).map(|_| post(server.url("/"))).collect(), http2(), without_retries()).await;
    assert_eq!(outs.iter().filter(|out| out.is_ok()).count(), 19, "{outs:?}");
    assert_eq!(outs.iter().filter(|out| out.kind == OutcomeKind::Ambiguous).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_calm_is_not_asked_again_at_once() {
    let server = server_h2(&[], |mut connection| async move {
        h2::request(&mut connection).await;
        let calm = [0u32.to_be_bytes(), 11u32.to_be_bytes()].concat();
        h2::send(&mut connection, h2::GOAWAY, 0, 0, &calm).await;
        drain(connection).await;
    })
    .await;
    let out = run(vec![post(server.url("/"))], http2(), without_retries()).await.remove(0);
    assert_eq!((out.effect, out.peer, server.connections()), (Effect::None, Peer::Overloaded, 1), "{out:?}");
}

#[tokio::test(start_paused = true)]
async fn one_stream_that_fails_is_no_reason_for_another_connection() {
    let server = server_h2(&[], |mut connection| async move {
        let mut count = 0;
        while let Some(stream) = h2::request(&mut connection).await {
            count += 1;
            match count % 4 {
                1 => h2::reset(&mut connection, stream, 2).await,
                2 => h2::reset(&mut connection, stream, h2::REFUSED_STREAM).await,
                _ => h2::answer(&mut connection, stream, b"").await,
            }
        }
    })
    .await;
    let client = Client::new(http2()).unwrap();
    for _ in 0..20 {
        run_with(&client, vec![get(server.url("/"))], without_retries()).await;
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_of_http2_that_was_closed_while_idle_is_noticed_before_a_post_goes_out() {
    let server = server_h2(&[], |mut connection| async move {
        if let Some(stream) = h2::request(&mut connection).await {
            h2::answer(&mut connection, stream, b"").await;
        }
        tokio::time::sleep(seconds(1)).await;
    })
    .await;
    let client = Client::new(http2()).unwrap();
    for _ in 0..5 {
        let out = run_with(&client, vec![post(server.url("/"))], without_retries()).await.remove(0);
        assert!(out.is_ok(), "{out:?}");
        // No reactor turns while this thread sleeps in the kernel, so nothing has heard of the end before the next
        // request.
        tokio::time::sleep(seconds(2)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_reset_in_the_middle_of_a_body_is_no_whole_answer_and_the_error_names_the_reason() {
    for (code, length, whole, reason) in [
        (0, None, false, "(NO_ERROR)"),
        (0, Some("9"), false, "(NO_ERROR)"),
        (0, Some("2"), true, ""),
        (8, None, false, "(CANCEL)"),
        (77, None, false, "(error code 0x4d)"),
    ] {
        let server = server_h2(&[], move |mut connection| async move {
            while let Some(stream) = h2::request(&mut connection).await {
                let mut head = vec![0x88];
                if let Some(length) = length {
                    // `content-length` is entry 28 of the static table.
                    head.extend_from_slice(&[0x0f, 0x0d, 1, length.as_bytes()[0]]);
                }
                h2::send(&mut connection, h2::HEADERS, h2::END_HEADERS, stream, &head).await;
                h2::send(&mut connection, h2::DATA, 0, stream, b"{}").await;
                h2::reset(&mut connection, stream, code).await;
            }
        })
        .await;
        let out = run(vec![get(server.url("/"))], http2(), without_retries()).await.remove(0);
        assert_eq!(out.is_ok(), whole, "{code} {length:?}: {out:?}");
        assert_eq!(out.error == Some(ErrorKind::IncompleteBody), !whole);
        assert!(whole || out.message.contains("reset the stream in the middle of the body"), "{}", out.message);
        assert!(out.message.contains(reason), "{}", out.message);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_reset_before_its_answer_says_so_and_why_and_no_connection_was_closed() {
    let server = server_h2(&[], |mut connection| async move {
        while let Some(stream) = h2::request(&mut connection).await {
            h2::reset(&mut connection, stream, 2).await;
        }
    })
    .await;
    let out = run(vec![post(server.url("/"))], http2(), without_retries()).await.remove(0);
    assert_eq!((out.kind, out.error), (OutcomeKind::Ambiguous, Some(ErrorKind::Closed)));
    assert!(out.message.contains("reset the stream before it answered (INTERNAL_ERROR)"), "{}", out.message);
    assert!(!out.message.contains("closed the connection"), "{}", out.message);
}

#[tokio::test(start_paused = true)]
async fn a_post_of_which_the_kernel_took_nothing_was_not_sent() {
    // A proxy that says that the connection stands, and resets it before anything can be written.
    let socks = Server::start(|mut connection| async move {
        connection.bytes(3).await;
        connection.send([5, 0]).await;
        connection.bytes(10).await;
        connection.send([5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await;
        connection.reset();
    })
    .await;
    let proxy = Proxy::parse(&format!("socks5h://{}", socks.address)).unwrap();
    let options = ClientOptions { proxies: Proxies::all(proxy, NoProxy::default()), ..options() };
    let out = run(vec![post("http://a.test/")], options, without_retries()).await.remove(0);
    assert_eq!((out.kind, out.effect), (OutcomeKind::Failed, Effect::None), "{out:?}");
}
