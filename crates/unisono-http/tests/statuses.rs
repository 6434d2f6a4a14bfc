//! What a status and its headers mean.

mod support;

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, SystemTime},
};

use support::*;
use unisono_core::{ErrorKind, OutcomeKind, RetryPolicy, Secret, Times};
use unisono_http::{ClientOptions, IDEMPOTENCY_KEY, TokenSource};
use unisono_testkit::{Server, answer};

/// Refuses the first request with these headers, and answers the others.
async fn refusing_once(status: u16, headers: &'static [&'static str]) -> (Server, Clock) {
    let (clock, count) = (Clock::default(), AtomicUsize::new(0));
    let ticks = clock.clone();
    let server = Server::answering(move |_| {
        ticks.tick();
        match count.fetch_add(1, Ordering::Relaxed) {
            0 => answer(status, headers, b"later"),
            _ => answer(200, &[], b"now"),
        }
    })
    .await;
    (server, clock)
}

#[tokio::test(start_paused = true)]
async fn retry_after_pauses_the_whole_host_and_does_not_count_against_retries() {
    let (server, clock) = refusing_once(429, &["Retry-After: 2"]).await;
    let requests = (0..10).map(|n| get(server.url(&format!("/{n}")))).collect();
    let mut settings = without_retries();
    settings.limits.limit = 1.try_into().unwrap();
    let outs = run(requests, options(), settings).await;
    assert!(outs.iter().all(Out::is_ok), "{outs:?}");
    let times = clock.since_first();
    assert_eq!(times.len(), 11);
    assert!(times[1..].iter().all(|time| *time >= seconds(2)), "{times:?}");
    assert!(times[1] < Duration::from_millis(2300), "jitter only adds, and not much: {times:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wait_counts_against_the_deadline() {
    let (server, _) = refusing_once(429, &["Retry-After: 20"]).await;
    let settings =
        unisono_batch::Settings { times: Times { deadline: Some(seconds(5)), ..Times::default() }, ..settings() };
    let out = run(vec![get(server.url("/"))], options(), settings).await.remove(0);
    assert_eq!((out.kind, out.error), (OutcomeKind::Failed, Some(ErrorKind::RateLimited)));
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_post_may_be_sent_again() {
    let (server, _) = refusing_once(429, &["Retry-After: 1"]).await;
    assert!(one(post(server.url("/"))).await.is_ok());
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_date_is_taken_by_the_clock_of_the_server() {
    for status in [429, 503] {
        let clock = Clock::default();
        let (ticks, count) = (clock.clone(), AtomicUsize::new(0));
        let server = Server::answering(move |_| {
            ticks.tick();
            if count.fetch_add(1, Ordering::Relaxed) > 0 {
                return answer(200, &[], b"");
            }
            // An hour behind: what counts is the distance between its two dates.
            let now = SystemTime::now() - seconds(3600);
            let date = format!("Date: {}", httpdate::fmt_http_date(now));
            let until = format!("Retry-After: {}", httpdate::fmt_http_date(now + seconds(3)));
            answer(status, &[&date, &until], b"")
        })
        .await;
        assert!(once(get(server.url("/"))).await.is_ok());
        let wait = clock.since_first()[1];
        assert!(wait >= seconds(3) && wait < seconds(4), "{wait:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nonsense_in_retry_after_is_a_plain_backoff() {
    for headers in [
        &["Retry-After: Sun, 06 Nov 1994 08:49:37 GMT"][..],
        &["Retry-After: 0"],
        &["Retry-After: -5"],
        &["Retry-After: nan"],
        &["Retry-After: 1e400"],
        &["Retry-After: soon"],
        &["Retry-After: 50", "Retry-After: 60"],
        &["Retry-After: \u{e9}"],
    ] {
        let headers: &'static [&'static str] = Box::leak(headers.to_vec().into_boxed_slice());
        let (server, clock) = refusing_once(429, headers).await;
        assert!(one(get(server.url("/"))).await.is_ok(), "{headers:?}");
        assert!(clock.since_first()[1] <= RetryPolicy::default().backoff.base, "{headers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_too_long_is_left_to_a_later_run() {
    for wait in ["Retry-After: 3600", "Retry-After: 1000000000000000000000000000000"] {
        let (server, _) = refusing_once(429, [wait].to_vec().leak()).await;
        let begun = tokio::time::Instant::now();
        let outs = run((0..20).map(|_| get(server.url("/"))).collect(), options(), settings()).await;
        let limited: Vec<&Out> = outs.iter().filter(|out| out.error == Some(ErrorKind::RateLimited)).collect();
        assert!(!limited.is_empty(), "{wait}");
        assert!(limited.iter().all(|out| out.kind == OutcomeKind::Failed && out.may_resume), "{wait}");
        assert!(begun.elapsed() < seconds(1), "nothing sleeps for it: {wait}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_too_long_says_who_asked_for_it_and_what_forbids_it() {
    let refusing = |headers: &'static [&'static str]| Server::answering(move |_| answer(429, headers, b""));
    let refused = |server: &Server, count: usize, times: Times, max_wait: Duration| {
        let retry = RetryPolicy { max_wait, ..RetryPolicy::default() };
        let mut settings = unisono_batch::Settings { times, retry, ..settings() };
        settings.limits.limit = 1.try_into().unwrap();
        run((0..count).map(|_| get(server.url("/"))).collect(), options(), settings)
    };
    let short = Times { deadline: Some(seconds(5)), ..Times::default() };
    for (headers, times, max_wait, said) in [
        (&["Retry-After: 3600"][..], Times::default(), 60, "asks to wait 1h, longer than max_wait (1m)"),
        (&["RateLimit: \"a\";r=0;t=90"], Times::default(), 60, "asks to wait 1m30s, longer than max_wait (1m)"),
        (&["Retry-After: 20"], short, 60, "asks to wait 20s, and the item's deadline (5s) comes first"),
        (&[], Times::default(), 0, "refuses and does not say for how long"),
    ] {
        let server = refusing(headers).await;
        let out = refused(&server, 1, times, seconds(max_wait)).await.remove(0);
        assert_eq!((out.kind, out.error), (OutcomeKind::Failed, Some(ErrorKind::RateLimited)), "{}", out.message);
        assert!(out.message.contains(said) && out.message.ends_with(": HTTP 429 Too Many Requests"), "{}", out.message);
    }
    // Those that were never sent do not claim that they were answered.
    let server = refusing(&["Retry-After: 3600"]).await;
    let outs = refused(&server, 3, Times::default(), seconds(60)).await;
    assert_eq!(server.seen().len(), 1);
    for out in &outs[1..] {
        assert!(
            out.message.ends_with("is paused by an earlier answer for another 1h, longer than max_wait (1m)"),
            "{}",
            out.message
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_just_allowed_is_waited_for() {
    for asked in [&["Retry-After: 60"][..], &["Retry-After: 59.9"]] {
        let headers: &'static [&'static str] = asked;
        let (server, clock) = refusing_once(429, headers).await;
        assert!(one(get(server.url("/"))).await.is_ok());
        assert!(clock.since_first()[1] >= Duration::from_millis(59_900));
    }
}

#[tokio::test(start_paused = true)]
async fn a_503_without_a_header_is_tried_again_after_a_backoff() {
    let (server, _) = refusing_once(503, &[]).await;
    let out = one(get(server.url("/"))).await;
    assert_eq!((out.is_ok(), out.attempts), (true, 2));
}

#[tokio::test(start_paused = true)]
async fn a_server_error_is_repeated_when_that_does_no_harm() {
    for status in [500, 502, 504] {
        let (server, _) = refusing_once(status, &[]).await;
        assert_eq!(one(get(server.url("/"))).await.attempts, 2);
        let (server, _) = refusing_once(status, &[]).await;
        let out = one(post(server.url("/"))).await;
        assert_eq!((out.kind, server.seen().len()), (OutcomeKind::Ambiguous, 1));
        let (server, _) = refusing_once(status, &[]).await;
        let mut request = post(server.url("/"));
        request.headers.insert(IDEMPOTENCY_KEY, "once".parse().unwrap());
        assert!(one(request).await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn status_408_425_and_421_are_repeated_the_last_on_a_new_connection() {
    for status in [408, 425, 421] {
        let (server, _) = refusing_once(status, &[]).await;
        assert_eq!(one(get(server.url("/"))).await.attempts, 2);
        assert_eq!(server.connections(), if status == 421 { 2 } else { 1 });
    }
    // What the server says it has not processed may be sent again, whatever it is.
    let (server, _) = refusing_once(421, &[]).await;
    assert!(one(post(server.url("/"))).await.is_ok());
}

struct Counting(Cell<u32>);

impl TokenSource for Counting {
    fn token(&self) -> Pin<Box<dyn Future<Output = Result<Secret, String>>>> {
        self.0.set(self.0.get() + 1);
        let token = Secret::new(format!("t{}", self.0.get()));
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok(token)
        })
    }
}

#[tokio::test(start_paused = true)]
async fn an_expired_token_is_refreshed_once_for_all_and_the_call_replayed() {
    let server = Server::answering(|seen| match seen.header("authorization") {
        Some("Bearer t2") => answer(200, &[], b""),
        _ => answer(401, &[], b""),
    })
    .await;
    let tokens = Rc::new(Counting(Cell::new(0)));
    let options = ClientOptions { tokens: Some(tokens.clone()), ..options() };
    let outs = run((0..50).map(|_| post(server.url("/"))).collect(), options, without_retries()).await;
    assert!(outs.iter().all(|out| out.is_ok() && out.attempts == 1), "{outs:?}");
    assert_eq!(tokens.0.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_stays_is_an_answer() {
    let server = Server::answering(|_| answer(401, &[], b"")).await;
    let tokens = Rc::new(Counting(Cell::new(0)));
    let options = ClientOptions { tokens: Some(tokens.clone()), ..options() };
    let outs = run((0..50).map(|_| get(server.url("/"))).collect(), options, settings()).await;
    assert!(outs.iter().all(|out| out.status == Some(401) && out.kind == OutcomeKind::Failed));
    assert_eq!(tokens.0.get(), 2, "no storm of refreshes");
}

#[tokio::test(start_paused = true)]
async fn a_403_with_nothing_left_of_the_quota_is_throttled() {
    let (server, clock) = refusing_once(403, &["X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 4"]).await;
    assert!(once(get(server.url("/"))).await.is_ok());
    assert!(clock.since_first()[1] >= seconds(4));
    let (server, _) = refusing_once(403, &["X-RateLimit-Remaining: 7"]).await;
    assert_eq!(once(get(server.url("/"))).await.status, Some(403));
}

#[tokio::test(start_paused = true)]
async fn an_announced_quota_paces_the_host_before_it_refuses() {
    let epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 5;
    for header in [
        "RateLimit: \"default\";r=0;t=5".to_owned(),
        "X-RateLimit-Remaining: 0\r\nX-RateLimit-Reset: 5".to_owned(),
        format!("X-RateLimit-Remaining: 0\r\nX-RateLimit-Reset: {epoch}"),
        format!("X-RateLimit-Remaining: 0\r\nX-RateLimit-Reset: {epoch}000"),
    ] {
        let clock = Clock::default();
        let (ticks, said) = (clock.clone(), header.clone());
        let server = Server::answering(move |_| {
            ticks.tick();
            answer(200, &[&said], b"")
        })
        .await;
        let mut settings = settings();
        settings.limits.limit = 1.try_into().unwrap();
        let outs = run((0..2).map(|_| get(server.url("/"))).collect(), options(), settings).await;
        assert!(outs.iter().all(Out::is_ok));
        let wait = clock.since_first()[1];
        assert!(wait >= seconds(3) && wait < seconds(7), "{header}: {wait:?}");
    }
    let (server, clock) = refusing_once(200, &["RateLimit: nonsense;r=;t=-1", "X-RateLimit-Reset: never"]).await;
    run((0..2).map(|_| get(server.url("/"))).collect(), options(), settings()).await;
    assert!(clock.since_first()[1] < seconds(1));
}
