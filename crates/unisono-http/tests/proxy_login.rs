//! Logging in to a proxy: one refusal decides, and the first login goes alone.

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use http::Method;
use support::*;
use unisono_core::{Effect, ErrorKind, OutcomeKind};
use unisono_http::{Client, Request};
use unisono_testkit::{Server, answer};

/// How often a client tried to log in, and how many at once at most.
#[derive(Debug, Clone, Default)]
struct Tries {
    all: Arc<AtomicUsize>,
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Tries {
    async fn one(&self) {
        self.all.fetch_add(1, Ordering::Relaxed);
        self.most.fetch_max(self.now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        tokio::time::sleep(seconds(1)).await;
        self.now.fetch_sub(1, Ordering::Relaxed);
    }

    fn all(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }
}

/// An HTTP proxy that lets in the clients that it likes: forwards by answering itself, and tunnels to `target`.
async fn http_proxy(accepts: bool, target: std::net::SocketAddr, tries: Tries) -> Server {
    Server::start(move |mut connection| {
        let tries = tries.clone();
        async move {
            while let Some(seen) = connection.request().await {
                tries.one().await;
                if !accepts {
                    connection.send(answer(407, &["Proxy-Authenticate: Basic realm=\"x\""], b"")).await;
                } else if seen.method == "CONNECT" {
                    connection.send("HTTP/1.1 200 Connected\r\n\r\n").await;
                    return connection.pass_on(target).await;
                } else {
                    connection.send(answer(200, &[], b"")).await;
                }
            }
        }
    })
    .await
}

/// A SOCKS proxy that lets no client in.
async fn socks_proxy(tries: Tries) -> Server {
    Server::start(move |mut connection| {
        let tries = tries.clone();
        async move {
            let Some(()) = socks_login(&mut connection).await else { return };
            tries.one().await;
            connection.send([1, 1]).await;
        }
    })
    .await
}

/// A hundred rows to as many hosts, of all kinds.
fn hundred(scheme: &str) -> Vec<Request> {
    let row = |n: usize| {
        let mut request = get(format!("{scheme}://host-{n}.test/"));
        request.method = if n.is_multiple_of(2) { Method::GET } else { Method::POST };
        request
    };
    (0..100).map(row).collect()
}

fn nowhere() -> std::net::SocketAddr {
    ([127, 0, 0, 1], 1).into()
}

#[tokio::test(start_paused = true)]
async fn a_wrong_password_is_tried_once_whatever_the_kind_of_proxy() {
    for (kind, scheme) in [("http", "http"), ("http", "https"), ("socks5h", "http"), ("socks5h", "https")] {
        let tries = Tries::default();
        let server = match kind {
            "http" => http_proxy(false, nowhere(), tries.clone()).await,
            _ => socks_proxy(tries.clone()).await,
        };
        let client = Client::new(through(&format!("{kind}://bob:hunter2@{}", server.address))).unwrap();
        // A second batch of the same client knows as well.
        for _ in 0..2 {
            let outs = run_with(&client, hundred(scheme), settings()).await;
            for out in &outs {
                assert_eq!(
                    (out.kind, out.effect, out.error, out.attempts),
                    (OutcomeKind::Failed, Effect::None, Some(ErrorKind::Proxy), 1),
                    "{kind} {scheme}: {out:?}"
                );
                let expected = format!("proxy {} does not let us in: it does not accept", server.address);
                assert!(out.message.starts_with(&expected), "{}", out.message);
                assert!(!out.message.contains("hunter2"));
            }
        }
        assert_eq!(tries.all(), 1, "{kind} {scheme}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_for_plain_http_counts_for_tunnels_as_well() {
    let tries = Tries::default();
    let server = http_proxy(false, nowhere(), tries.clone()).await;
    let client = Client::new(through(&format!("http://bob:pw@{}", server.address))).unwrap();
    for scheme in ["http", "https"] {
        let outs = run_with(&client, hundred(scheme), settings()).await;
        assert!(outs.iter().all(|out| out.error == Some(ErrorKind::Proxy)));
    }
    assert_eq!(tries.all(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_wants_a_name_and_is_given_none_says_so_to_all() {
    let tries = Tries::default();
    let server = http_proxy(false, nowhere(), tries.clone()).await;
    let outs = run(hundred("http"), through(&server.address.to_string()), settings()).await;
    let expected = format!("proxy {} does not let us in: it wants a user name and password (HTTP 407)", server.address);
    assert!(outs.iter().all(|out| out.message == expected && out.error == Some(ErrorKind::Proxy)), "{outs:?}");
    // Without a name there is no account to be locked, so those did not wait for one another.
    assert!(tries.all() <= 50, "{}", tries.all());
}

#[tokio::test(start_paused = true)]
async fn the_first_login_goes_alone_until_it_is_accepted_and_then_no_other_waits() {
    let server = Server::answering(|_| answer(200, &[], b"")).await;
    for kind in ["forward", "tunnel"] {
        let tries = Tries::default();
        let proxy = http_proxy(true, server.address, tries.clone()).await;
        let begun = tokio::time::Instant::now();
        let options = through(&format!("http://bob:pw@{}", proxy.address));
        let rows = hundred(if kind == "forward" { "http" } else { "https" });
        let outs = run(rows, options, without_retries()).await;
        match kind {
            "forward" => assert!(outs.iter().all(Out::is_ok), "{outs:?}"),
            // Behind the tunnel nothing speaks TLS.
            _ => assert!(outs.iter().all(|out| out.error != Some(ErrorKind::Proxy)), "{outs:?}"),
        }
        let most = tries.most.load(Ordering::Relaxed);
        assert!(most > 20 && begun.elapsed() < seconds(20), "{kind}: {most} at once, {:?}", begun.elapsed());
    }
    // While the first is undecided, no other has tried.
    let tries = Tries::default();
    let proxy = http_proxy(true, server.address, tries.clone()).await;
    let client = Client::new(through(&format!("http://bob:pw@{}", proxy.address))).unwrap();
    let half_a_second = unisono_core::Times { timeout: Some(seconds(1) / 2), ..unisono_core::Times::default() };
    let limit = unisono_batch::Settings { times: half_a_second, ..without_retries() };
    let outs = run_with(&client, hundred("http").into_iter().take(50).collect(), limit).await;
    assert!(outs.iter().all(|out| !out.is_ok()));
    assert_eq!(tries.most.load(Ordering::Relaxed), 1);
    // Those that only waited have sent nothing.
    assert_eq!(outs.iter().filter(|out| out.effect == Effect::None).count(), 49);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_cannot_be_reached_keeps_no_requests_waiting_in_a_row() {
    let mute = Server::start(|mut connection| async move { connection.silence().await }).await;
    let begun = tokio::time::Instant::now();
    let outs = run(hundred("https"), through(&format!("http://bob:pw@{}", mute.address)), without_retries()).await;
    assert!(outs.iter().all(|out| out.kind == OutcomeKind::Failed && out.effect == Effect::None), "{outs:?}");
    assert!(begun.elapsed() <= seconds(15), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_407_of_a_server_that_is_no_proxy_is_an_answer() {
    let server = Server::answering(|_| answer(407, &[], b"")).await;
    let outs = run((0..5).map(|_| get(server.url("/"))).collect(), options(), settings()).await;
    assert!(outs.iter().all(|out| out.error == Some(ErrorKind::Status) && out.status == Some(407)));
    assert_eq!(server.seen().len(), 5);
}
