//! Servers that close connections which they had promised to keep, and requests that must not be sent twice.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use support::*;
use unisono_core::{Effect, Limits, OutcomeKind, Peer};
use unisono_http::{Client, Request};
use unisono_testkit::{Server, answer};

/// A server that answers the first request of a connection, keeps it, and closes it under the second. It counts what it
/// did.
async fn treacherous(headers: &'static [&'static str]) -> (Server, Arc<AtomicUsize>) {
    let done = Arc::new(AtomicUsize::new(0));
    let count = done.clone();
    let server = Server::start(move |mut connection| {
        let count = count.clone();
        async move {
            if connection.request().await.is_some() {
                count.fetch_add(1, Ordering::Relaxed);
                connection.send(answer(200, headers, b"")).await;
                connection.request().await;
            }
        }
    })
    .await;
    (server, done)
}

#[tokio::test(start_paused = true)]
async fn after_the_first_loss_what_must_not_be_sent_twice_gets_a_connection_of_its_own() {
    let (server, done) = treacherous(&[]).await;
    let client = Client::new(options()).unwrap();
    let one_at_a_time = unisono_batch::Settings { limits: Limits::new(1.try_into().ok(), None), ..settings() };
    let outs = run_with(&client, (0..100).map(|_| post(server.url("/"))).collect(), one_at_a_time).await;
    let lost: Vec<&Out> = outs.iter().filter(|out| !out.is_ok()).collect();
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert_eq!((lost[0].kind, lost[0].effect, lost[0].peer), (OutcomeKind::Ambiguous, Effect::Maybe, Peer::Unknown));
    assert_eq!(done.load(Ordering::Relaxed), 99);
    assert_eq!(client.in_doubt(), [(format!("http://{}", server.address), 1)]);
    // The server is told that it need not keep them.
    let alone = server.seen().iter().filter(|seen| seen.header("connection") == Some("close")).count();
    assert_eq!(alone, 98);
}

#[tokio::test(start_paused = true)]
async fn a_loss_under_a_get_is_a_lesson_for_posts_and_nothing_is_lost_at_all() {
    let (server, _) = treacherous(&[]).await;
    let client = Client::new(options()).unwrap();
    for _ in 0..2 {
        assert!(run_with(&client, vec![get(server.url("/"))], without_retries()).await[0].is_ok());
    }
    let mut requests: Vec<Request> = (0..50).map(|_| post(server.url("/"))).collect();
    requests.extend((0..50).map(|_| keyed(server.url("/"))));
    let outs = run_with(&client, requests, without_retries()).await;
    assert!(outs.iter().all(|out| out.is_ok() && out.attempts == 1), "{outs:?}");
    assert!(client.in_doubt().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_promise_that_is_broken_while_nothing_is_on_the_way_is_a_lesson_too() {
    let server = Server::start(|mut connection| async move {
        if connection.request().await.is_none() {
            return;
        }
        connection.send(answer(200, &["Keep-Alive: timeout=60"], b"")).await;
        match connection.number {
            0 => tokio::time::sleep(Duration::from_millis(500)).await,
            _ => drop(connection.request().await),
        }
    })
    .await;
    let client = Client::new(options()).unwrap();
    for _ in 0..10 {
        let out = run_with(&client, vec![post(server.url("/"))], without_retries()).await.remove(0);
        assert!(out.is_ok(), "{out:?}");
        tokio::time::sleep(seconds(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_is_taken_at_its_word_about_how_long_and_how_often() {
    let closes_late = |headers: &'static [&'static str], after: Duration| {
        Server::start(move |mut connection| async move {
            if connection.request().await.is_some() {
                connection.send(answer(200, headers, b"")).await;
                tokio::time::sleep(after).await;
                // The next one would come into a closing door.
                connection.request().await;
            }
        })
    };
    for (headers, wait) in [(&["Keep-Alive: timeout=5, max=100"][..], 4500), (&["Keep-Alive: timeout=5, max=0"], 0)] {
        let server = closes_late(headers, Duration::from_millis(wait)).await;
        let client = Client::new(options()).unwrap();
        for _ in 0..3 {
            let out = run_with(&client, vec![post(server.url("/"))], without_retries()).await.remove(0);
            assert!(out.is_ok(), "{headers:?}: {out:?}");
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
        assert_eq!(server.connections(), 3);
    }
    // Within its word a connection is used again.
    let server = Server::answering(|_| answer(200, &["Keep-Alive: timeout=5"], b"")).await;
    let client = Client::new(options()).unwrap();
    for _ in 0..3 {
        assert!(run_with(&client, vec![post(server.url("/"))], without_retries()).await[0].is_ok());
        tokio::time::sleep(seconds(3)).await;
    }
    assert_eq!(server.connections(), 1);
}
