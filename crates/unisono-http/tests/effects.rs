//! What may have been carried out, and that it is not done twice: row by row, and over random histories with the
//! server's own ledger.

mod support;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use http::Method;
use proptest::prelude::*;
use support::*;
use unisono_batch::Settings;
use unisono_core::{Effect, ErrorKind, OutcomeKind, Times};
use unisono_http::{ClientOptions, Request};
use unisono_testkit::{Server, answer};

/// What the server does with one request.
#[derive(Debug, Clone, Copy)]
enum Reaction {
    /// Answers with this status, and `Retry-After` if there is one.
    Status(u16, Option<u16>),
    /// Sends the client elsewhere on the same server.
    Redirect(u16),
    /// Closes the connection without an answer.
    Close,
    /// Answers with something that is not HTTP.
    Garbage,
    /// Answers with 200, and with less than the body that it announces.
    CutShort,
    /// Answers with 200 and a whole body that is not what its coding says.
    BrokenCoding,
}

impl Reaction {
    fn bytes(self) -> Vec<u8> {
        match self {
            Self::Status(status, None) => answer(status, &[], b"{}"),
            Self::Status(status, Some(after)) => answer(status, &[&format!("Retry-After: {after}")], b"{}"),
            Self::Redirect(status) => answer(status, &["Location: /next"], b""),
            Self::Close => Vec::new(),
            Self::Garbage => b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
            Self::CutShort => b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}".to_vec(),
            Self::BrokenCoding => answer(200, &["Content-Encoding: gzip"], b"this is not gzip at all"),
        }
    }

    /// What the server has done with a POST that it reacts to like this, as its own ledger has it.
    fn ledger(self) -> Effect {
        match self {
            Self::Status(200..=299 | 304, _) | Self::BrokenCoding => Effect::Done,
            Self::Redirect(307 | 308) => Effect::None,
            Self::Redirect(_) => Effect::Done,
            Self::Status(503, Some(_)) | Self::Status(501 | 505 | 511, _) => Effect::None,
            Self::Status(408, _) => Effect::Maybe,
            Self::Status(400..=499, _) => Effect::None,
            Self::Status(..) | Self::Close | Self::Garbage | Self::CutShort => Effect::Maybe,
        }
    }
}

/// A server that reacts like this to its first requests, and with 200 to all others.
async fn reacting(script: Vec<Reaction>) -> Server {
    let (script, count) = (Arc::new(script), Arc::new(AtomicUsize::new(0)));
    Server::start(move |mut connection| {
        let (script, count) = (script.clone(), count.clone());
        async move {
            while connection.request().await.is_some() {
                let reaction = script.get(count.fetch_add(1, Ordering::Relaxed)).copied();
                let reaction = reaction.unwrap_or(Reaction::Status(200, None));
                connection.send(reaction.bytes()).await;
                if matches!(reaction, Reaction::Close | Reaction::Garbage | Reaction::CutShort) {
                    return;
                }
            }
        }
    })
    .await
}

fn with_method(method: Method, url: String) -> Request {
    let mut request = post(url);
    request.method = method;
    request
}

fn posts(server: &Server) -> usize {
    server.seen().iter().filter(|seen| seen.method == "POST").count()
}

/// What came back, how the row ends, and how often the request was sent.
type Row = (Vec<Reaction>, OutcomeKind, Effect, Option<ErrorKind>, usize);

/// The rows of the table in docs/fetch.md: what came back for a POST, how it ends, and how often it is sent.
#[tokio::test(start_paused = true)]
async fn each_answer_to_an_unsafe_request_ends_as_the_table_says() {
    use Effect::{Done, Maybe, None};
    use OutcomeKind::{Ambiguous, Failed, Ok};
    let status = |status| vec![Reaction::Status(status, Option::None)];
    let rows: Vec<Row> = vec![
        (status(200), Ok, Done, Option::None, 1),
        (status(404), Failed, None, Some(ErrorKind::Status), 1),
        (status(501), Failed, None, Some(ErrorKind::Status), 1),
        (status(500), Ambiguous, Maybe, Some(ErrorKind::Status), 1),
        (status(520), Ambiguous, Maybe, Some(ErrorKind::Status), 1),
        (status(522), Ambiguous, Maybe, Some(ErrorKind::Status), 1),
        (status(599), Ambiguous, Maybe, Some(ErrorKind::Status), 1),
        (status(421), Ok, Done, Option::None, 2),
        (status(425), Ok, Done, Option::None, 2),
        (vec![Reaction::Status(503, Some(0))], Ok, Done, Option::None, 2),
        (vec![Reaction::Status(429, Option::None)], Ok, Done, Option::None, 2),
        (vec![Reaction::Status(500, Some(1))], Ambiguous, Maybe, Some(ErrorKind::Status), 1),
        (vec![Reaction::Garbage], Ambiguous, Maybe, Some(ErrorKind::Protocol), 1),
        (vec![Reaction::Close], Ambiguous, Maybe, Some(ErrorKind::Closed), 1),
        (vec![Reaction::CutShort], Ambiguous, Maybe, Some(ErrorKind::IncompleteBody), 1),
        (vec![Reaction::BrokenCoding], Failed, Done, Some(ErrorKind::Decode), 1),
        // A redirect that says that it was carried out, and what then becomes of its result.
        (vec![Reaction::Redirect(303), Reaction::Status(404, Option::None)], Failed, Done, Some(ErrorKind::Status), 1),
        (vec![Reaction::Redirect(302), Reaction::Status(400, Option::None)], Failed, Done, Some(ErrorKind::Status), 1),
        // For now: only the last request is repeated.
        (vec![Reaction::Redirect(303), Reaction::Status(429, Some(1))], Ok, Done, Option::None, 1),
        (vec![Reaction::Redirect(303), Reaction::Status(503, Some(1))], Ok, Done, Option::None, 1),
        (vec![Reaction::Redirect(303), Reaction::Status(502, Option::None)], Ok, Done, Option::None, 1),
        (vec![Reaction::Redirect(303), Reaction::Status(421, Option::None)], Ok, Done, Option::None, 1),
        (vec![Reaction::Redirect(303), Reaction::Status(425, Option::None)], Ok, Done, Option::None, 1),
        (vec![Reaction::Redirect(303), Reaction::Close], Ok, Done, Option::None, 1),
        (vec![Reaction::Redirect(303), Reaction::CutShort], Ok, Done, Option::None, 1),
        // One that says that it is to be asked elsewhere: the same request again.
        (vec![Reaction::Redirect(307), Reaction::Status(429, Some(1))], Ok, Done, Option::None, 3),
        (
            vec![Reaction::Redirect(308), Reaction::Status(500, Option::None)],
            Ambiguous,
            Maybe,
            Some(ErrorKind::Status),
            2,
        ),
    ];
    for (script, kind, effect, error, sent) in rows {
        let server = reacting(script.clone()).await;
        let out = one(post(server.url("/orders"))).await;
        let found = (out.kind, out.effect, out.error, posts(&server));
        assert_eq!(found, (kind, effect, error, sent), "{script:?}: {}", out.message);
    }
}

#[tokio::test(start_paused = true)]
async fn a_post_whose_answer_is_found_wrong_was_done_all_the_same() {
    let server = reacting(vec![Reaction::Status(201, None)]).await;
    let strict = ClientOptions { expect: "200".parse().unwrap(), ..options() };
    let out = run(vec![post(server.url("/"))], strict, settings()).await.remove(0);
    assert_eq!((out.kind, out.effect, posts(&server)), (OutcomeKind::Failed, Effect::Done, 1));
    let server = reacting(vec![]).await;
    let small = ClientOptions { max_body: 1, ..options() };
    let out = run(vec![post(server.url("/"))], small, settings()).await.remove(0);
    assert_eq!((out.kind, out.effect, out.error), (OutcomeKind::Failed, Effect::Done, Some(ErrorKind::TooLarge)));
}

#[tokio::test(start_paused = true)]
async fn a_redirect_loop_after_a_post_is_no_doubt_about_the_post() {
    let server = reacting(vec![Reaction::Redirect(303); 100]).await;
    let out = one(post(server.url("/"))).await;
    assert_eq!((out.kind, out.effect, out.error), (OutcomeKind::Failed, Effect::Done, Some(ErrorKind::Redirect)));
    assert_eq!(posts(&server), 1);
}

#[tokio::test(start_paused = true)]
async fn a_post_whose_result_does_not_come_in_time_is_late_and_not_in_doubt() {
    let server = Server::start(|mut connection| async move {
        while let Some(seen) = connection.request().await {
            match seen.method.as_str() {
                "POST" => connection.send(Reaction::Redirect(303).bytes()).await,
                _ => connection.silence().await,
            }
        }
    })
    .await;
    let times = Times { timeout: Some(seconds(1)), deadline: Some(seconds(3)), ..Times::default() };
    let out = run(vec![post(server.url("/"))], options(), Settings { times, ..settings() }).await.remove(0);
    assert_eq!((out.kind, out.effect, posts(&server)), (OutcomeKind::TimedOut, Effect::Done, 1));
    assert!(out.attempts > 1, "its result is asked for again");
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_asked_for_with_an_error_is_kept_and_one_that_is_too_long_ends_the_row() {
    let clock = Clock::default();
    let ticks = clock.clone();
    let count = AtomicUsize::new(0);
    let server = Server::answering(move |_| {
        ticks.tick();
        match count.fetch_add(1, Ordering::Relaxed) {
            0 => answer(502, &["Retry-After: 7"], b""),
            _ => answer(200, &[], b""),
        }
    })
    .await;
    assert!(one(get(server.url("/"))).await.is_ok());
    assert!(clock.since_first()[1] >= seconds(7));
    let server = reacting(vec![Reaction::Status(504, Some(3600))]).await;
    let out = one(get(server.url("/"))).await;
    assert_eq!((out.error, out.may_resume, server.seen().len()), (Some(ErrorKind::RateLimited), true, 1));
}

#[tokio::test(start_paused = true)]
async fn a_key_goes_along_to_another_origin_since_only_it_makes_a_repeat_harmless() {
    let other = reacting(vec![Reaction::Status(500, None)]).await;
    let to = other.url("/there");
    let server = Server::answering(move |_| answer(307, &[&format!("Location: {to}")], b"")).await;
    let out = one(keyed(server.url("/"))).await;
    assert!(out.is_ok(), "{}", out.message);
    let seen = other.seen();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|seen| seen.header("idempotency-key") == Some("k")));
}

fn reactions() -> impl Strategy<Value = Reaction> {
    const STATUSES: [u16; 18] =
        [200, 201, 204, 400, 404, 408, 409, 421, 425, 429, 500, 501, 502, 503, 504, 505, 520, 599];
    prop_oneof![
        4 => (prop::sample::select(&STATUSES[..]), prop::option::weighted(0.3, 0u16..3))
            .prop_map(|(status, after)| Reaction::Status(status, after)),
        4 => prop::sample::select(&[301u16, 302, 303, 307, 308][..]).prop_map(Reaction::Redirect),
        1 => Just(Reaction::Close),
        1 => Just(Reaction::Garbage),
        1 => Just(Reaction::CutShort),
        1 => Just(Reaction::BrokenCoding),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// The law: once the server may have carried out an unsafe request without a key, it never sees that request again.
    #[test]
    fn an_unsafe_request_is_never_sent_again_after_it_may_have_been_carried_out(
        script in prop::collection::vec(reactions(), 0..10), method in 0usize..4,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let (out, seen) = runtime.block_on(async {
            let server = reacting(script.clone()).await;
            let url = server.url("/orders");
            let request = match method {
                0 => post(url),
                1 => keyed(url),
                2 => get(url),
                _ => with_method(Method::PATCH, url),
            };
            (one(request).await, server.seen())
        });
        let of = |at: usize| script.get(at).map_or(Effect::Done, |reaction| reaction.ledger());
        let unsafe_ones: Vec<usize> =
            (0..seen.len()).filter(|at| matches!(seen[*at].method.as_str(), "POST" | "PATCH")).collect();
        if method == 0 || method == 3 {
            let last = *unsafe_ones.last().expect("it is sent at least once");
            let before = unsafe_ones.iter().take_while(|at| **at < last);
            for at in before {
                // 301 and 302 keep the method of a PATCH: that server has not carried it out.
                let kept = seen[*at].method == "PATCH" && matches!(script[*at], Reaction::Redirect(301 | 302));
                prop_assert!(kept || of(*at) == Effect::None, "{at}: {:?}", script);
            }
            let patched = seen[last].method == "PATCH" && matches!(script.get(last), Some(Reaction::Redirect(301 | 302)));
            let truth = if patched { Effect::None } else { of(last) };
            // What is said of it is what the server knows, or that it is not known.
            match out.effect {
                Effect::None => prop_assert_eq!(truth, Effect::None),
                Effect::Maybe => prop_assert!(truth != Effect::None || out.kind == OutcomeKind::Ambiguous),
                Effect::Done => prop_assert_eq!(truth, Effect::Done),
            }
            prop_assert!(out.effect != Effect::Maybe || out.kind == OutcomeKind::Ambiguous, "{:?}", out);
        }
        prop_assert_eq!(out.kind == OutcomeKind::Ambiguous, out.effect == Effect::Maybe && matches!(method, 0 | 3));
        prop_assert!(out.kind != OutcomeKind::Ok || out.effect == Effect::Done);
    }
}

/// Where an attempt is stopped in the middle of a body, its server may still be at it.
#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_in_time_leaves_a_post_in_doubt() {
    let sent = Arc::new(Mutex::new(0));
    let count = sent.clone();
    let server = Server::start(move |mut connection| {
        let count = count.clone();
        async move {
            if connection.request().await.is_some() {
                *count.lock().unwrap() += 1;
                connection.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{").await;
                connection.silence().await;
            }
        }
    })
    .await;
    let times = Times { timeout: Some(seconds(1)), ..Times::default() };
    let out = run(vec![post(server.url("/"))], options(), Settings { times, ..settings() }).await.remove(0);
    assert_eq!((out.kind, out.effect, *sent.lock().unwrap()), (OutcomeKind::Ambiguous, Effect::Maybe, 1));
}
