//! Hosts that take requests and answer nothing: what becomes of a batch of rows for them, and for others beside them.

mod support;

use std::{collections::HashSet, net::TcpListener, time::Duration};

use support::*;
use unisono_batch::Settings;
use unisono_core::{Effect, ErrorKind, Limits, OutcomeKind, RetryPolicy, Times, clock};
use unisono_http::Request;
use unisono_testkit::{Server, answer};

/// A server that reads what it is sent, and answers nothing for so long.
async fn silent_for(long: Duration) -> Server {
    let until = clock::now() + long;
    Server::start(move |mut connection| async move {
        while connection.request().await.is_some() {
            if clock::now() < until {
                return connection.silence().await;
            }
            connection.send(answer(200, &[], b"{}")).await;
        }
    })
    .await
}

fn rows(server: &Server, count: usize, make: fn(String) -> Request) -> Vec<Request> {
    (0..count).map(|row| make(server.url(&format!("/{row}")))).collect()
}

fn attempts_of(timeout: Duration) -> Settings {
    let limits = Limits::new(20.try_into().ok(), None);
    Settings { limits, times: Times { timeout: Some(timeout), ..Times::default() }, ..settings() }
}

#[tokio::test(start_paused = true)]
async fn rows_of_a_host_that_never_answers_end_with_the_time_that_is_waited_for_it() {
    for timeout in [seconds(1), Times::default().timeout.unwrap()] {
        let silent = silent_for(HOURS).await;
        let well = Server::answering(|_| answer(200, &[], b"{}")).await;
        let begun = clock::now();
        let requests = [rows(&silent, 30, get), rows(&well, 30, get)].concat();
        let outs = run_heard(requests, options(), attempts_of(timeout)).await;
        let took = clock::now() - begun;
        assert!(took <= seconds(60 + 5) + timeout * 4, "{took:?} with {timeout:?} each");
        assert!(outs[30..].iter().all(Out::is_ok), "the other is not disturbed");
        let away: Vec<_> = outs.iter().filter(|out| out.error == Some(ErrorKind::Away)).collect();
        assert!(away.iter().all(|out| out.message.contains("answered nothing for ")), "{away:?}");
        assert!(away.len() > 15, "{outs:?}");
        let others = outs[..30].iter().filter(|out| out.error != Some(ErrorKind::Away));
        assert!(others.clone().all(|out| (out.kind, out.attempts) == (OutcomeKind::TimedOut, 4)), "{outs:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn rows_of_a_host_that_begins_to_answer_are_all_done() {
    let server = silent_for(seconds(20)).await;
    let outs = run_heard(rows(&server, 200, get), options(), attempts_of(seconds(1))).await;
    assert!(outs.iter().all(Out::is_ok), "{outs:?}");
}

#[tokio::test(start_paused = true)]
async fn a_post_to_a_host_that_never_answers_is_ambiguous_or_was_never_sent() {
    let server = silent_for(HOURS).await;
    let outs = run_heard(rows(&server, 200, post), options(), attempts_of(seconds(1))).await;
    let seen: Vec<String> = server.seen().iter().map(|seen| seen.target.clone()).collect();
    let different: HashSet<&String> = seen.iter().collect();
    assert_eq!(seen.len(), different.len(), "none was sent twice");
    for (row, out) in outs.iter().enumerate() {
        let expected = match different.contains(&format!("/{row}")) {
            true => (OutcomeKind::Ambiguous, Effect::Maybe, Some(ErrorKind::Timeout), 1),
            false => (OutcomeKind::Failed, Effect::None, Some(ErrorKind::Away), 0),
        };
        assert_eq!((out.kind, out.effect, out.error, out.attempts), expected);
    }
    assert!(seen.len() < 80, "{} were sent", seen.len());
}

#[tokio::test]
async fn a_listener_that_is_not_served_is_given_up() {
    // The kernel accepts connections, and takes the requests.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let retry = RetryPolicy { repeats: 1000, host_away: Some(seconds(1)), budget: None, ..RetryPolicy::default() };
    let settings = Settings { retry, ..attempts_of(Duration::from_millis(50)) };
    let outs = run_heard((0..30).map(|_| get(&url)).collect(), options(), settings).await;
    assert!(outs.iter().all(|out| out.error == Some(ErrorKind::Away)), "{outs:?}");
}

const HOURS: Duration = Duration::from_secs(36_000);
