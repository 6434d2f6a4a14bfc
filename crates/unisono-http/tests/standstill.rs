//! The reactor stands (a signal, a suspended machine, a blocked thread) while answers come in: they are not late.

mod support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Waker},
};

use support::*;
use tokio::{sync::watch, task::yield_now, time::advance};
use unisono_core::Times;
use unisono_http::{Client, ClientOptions, HttpVersion};
use unisono_testkit::{Connection, answer, h2};

const COUNT: usize = 12;

/// A server that has all requests before it answers the first, and says when it has answered all.
struct Waiting {
    server: ServerThread,
    has_all: mpsc::Receiver<()>,
    go: watch::Sender<bool>,
    has_answered: mpsc::Receiver<()>,
}

impl Waiting {
    fn start(version: HttpVersion, body: Vec<u8>) -> Self {
        let (all, has_all) = mpsc::channel();
        let (go, wait) = watch::channel(false);
        let (answered, has_answered) = mpsc::channel();
        let shared = Arc::new((Mutex::new(all), wait, Mutex::new(answered), body));
        let (requests, answers) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let server = ServerThread::start(move |connection| {
            let (shared, requests, answers) = (shared.clone(), requests.clone(), answers.clone());
            async move {
                let (all, wait, answered, body) = &*shared;
                let request = || {
                    if requests.fetch_add(1, Ordering::Relaxed) + 1 == COUNT {
                        all.lock().unwrap().send(()).unwrap();
                    }
                };
                let go = async {
                    let _ = wait.clone().wait_for(|go| *go).await;
                };
                let done = || {
                    if answers.fetch_add(1, Ordering::Relaxed) + 1 == COUNT {
                        answered.lock().unwrap().send(()).unwrap();
                    }
                };
                match version {
                    HttpVersion::Http2 => serve_http2(connection, body, request, go, done).await,
                    _ => serve_http1(connection, body, request, go, done).await,
                }
            }
        });
        Self { server, has_all, go, has_answered }
    }

    /// Stands from the moment when all requests are there until all answers are.
    async fn stand(&self, seconds: u64) {
        while self.has_all.try_recv().is_err() {
            // Without a pause: a runtime that has nothing to do would pass the time.
            yield_now().await;
        }
        self.go.send(true).unwrap();
        self.has_answered.recv().unwrap();
        let mut passing = Box::pin(advance(support::seconds(seconds)));
        let _ = passing.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }
}

async fn serve_http1(
    mut connection: Connection,
    body: &[u8],
    request: impl Fn(),
    go: impl Future<Output = ()>,
    done: impl Fn(),
) {
    connection.request().await;
    request();
    go.await;
    connection.send(answer(200, &[], body)).await;
    done();
    connection.silence().await;
}

async fn serve_http2(
    mut connection: Connection,
    body: &[u8],
    request: impl Fn(),
    go: impl Future<Output = ()>,
    done: impl Fn(),
) {
    h2::begin(&mut connection, &[]).await;
    let mut streams = Vec::new();
    while streams.len() < COUNT {
        let Some(stream) = h2::request(&mut connection).await else { return };
        streams.push(stream);
        request();
    }
    go.await;
    for stream in streams {
        h2::answer(&mut connection, stream, body).await;
        done();
    }
    connection.silence().await;
}

async fn all_are_ok(version: HttpVersion, body: usize, times: Times) {
    let waiting = Waiting::start(version, vec![b'x'; body]);
    let client = Client::new(ClientOptions { version, ..options() }).unwrap();
    let settings = unisono_batch::Settings { times, ..without_retries() };
    let requests = (0..COUNT).map(|_| get(waiting.server.url("/"))).collect();
    let ((), outs) = tokio::join!(waiting.stand(60), run_with(&client, requests, settings));
    for out in outs {
        assert!(out.is_ok() && out.body.len() == body, "{version:?} {body} {times:?}: {}", out.message);
    }
}

#[tokio::test(start_paused = true)]
async fn answers_that_came_while_the_reactor_stood_are_not_late() {
    let limits = [
        Times { timeout: Some(seconds(1)), deadline: None, ..Times::default() },
        Times { timeout: None, deadline: Some(seconds(1)), ..Times::default() },
    ];
    for times in limits {
        for body in [2, 100_000] {
            all_are_ok(HttpVersion::Http1, body, times).await;
        }
        all_are_ok(HttpVersion::Http2, 2, times).await;
        all_are_ok(HttpVersion::Http2, 16_000, times).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_made_while_the_reactor_stood_is_not_late() {
    let server = ServerThread::start(|mut connection| async move {
        while connection.request().await.is_some() {
            connection.send(answer(200, &[], b"ok")).await;
        }
    });
    let client = Client::new(ClientOptions { connect_timeout: seconds(1), ..options() }).unwrap();
    // The kernel accepts while the server does not.
    let stand = async {
        let mut passing = Box::pin(advance(seconds(20)));
        let _ = passing.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        loop {
            yield_now().await;
        }
    };
    let out = tokio::select! {
        biased;
        out = run_with(&client, vec![get(server.url("/"))], without_retries()) => out,
        () = stand => unreachable!("it goes on for ever"),
    };
    assert!(out[0].is_ok(), "{}", out[0].message);
}

#[tokio::test(start_paused = true)]
async fn who_has_not_answered_by_then_is_late() {
    let server = ServerThread::start(|mut connection| async move { connection.silence().await });
    let times = Times { timeout: Some(seconds(1)), deadline: None, ..Times::default() };
    let settings = unisono_batch::Settings { times, ..without_retries() };
    let out = run(vec![get(server.url("/"))], options(), settings).await.remove(0);
    assert_eq!(out.error, Some(unisono_core::ErrorKind::Timeout));
}

#[tokio::test(start_paused = true)]
async fn a_standstill_does_not_make_a_body_slow() {
    let (halfway, mut is_halfway) = watch::channel(false);
    let server = unisono_testkit::Server::start(move |mut connection| {
        let halfway = halfway.clone();
        async move {
            connection.request().await;
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n").await;
            for second in 0..30 {
                connection.send([b'x'; 2000]).await;
                tokio::time::sleep(seconds(1)).await;
                halfway.send_replace(second >= 3);
            }
        }
    })
    .await;
    let stand = async {
        is_halfway.wait_for(|is| *is).await.unwrap();
        let mut passing = Box::pin(advance(seconds(60)));
        let _ = passing.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    };
    let client = Client::new(ClientOptions { min_throughput: Some(1500), ..options() }).unwrap();
    let times = Times { timeout: None, deadline: Some(seconds(600)), ..Times::default() };
    let settings = unisono_batch::Settings { times, ..without_retries() };
    let ((), outs) = tokio::join!(stand, run_with(&client, vec![get(server.url("/"))], settings));
    assert!(outs[0].is_ok(), "{}", outs[0].message);
}
