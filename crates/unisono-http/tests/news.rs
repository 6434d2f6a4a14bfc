//! What the end of an attempt says of the host, met on real sockets; src/news.rs has the rule, docs/http.md the table.

mod support;

use std::{cell::Cell, net::IpAddr, pin::Pin, rc::Rc};

use support::*;
use unisono_batch::{Context, Settings};
use unisono_core::{Peer, Times};
use unisono_http::{AttemptClassifier, Client, ClientOptions, HttpVersion, LookupError, Resolve, Tls, Trail};
use unisono_testkit::{Certificates, Server, answer, h2};

/// An address where nothing listens: the port was in use until now.
fn refused() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}/", listener.local_addr().unwrap())
}

/// The news of one attempt.
async fn news(url: impl AsRef<str>, options: ClientOptions) -> Peer {
    let job = AttemptClassifier::new(Client::new(options).unwrap());
    let (.., reply) = job.attempt(&get(url), &Trail::default(), &Context::detached()).await;
    reply.peer
}

/// A server that closes each connection when it has heard something, or at once.
async fn closing(at_once: bool) -> Server {
    Server::start(move |mut connection| async move {
        if !at_once {
            connection.request().await;
        }
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_host_that_cannot_be_reached_is_away() {
    assert_eq!(news(refused(), options()).await, Peer::Away);
    let folder = tempfile::tempdir().unwrap();
    let missing = ClientOptions { unix_socket: Some(folder.path().join("api.sock")), ..options() };
    assert_eq!(news("http://docker/info", missing).await, Peer::Away);
    for at_once in [true, false] {
        let server = closing(at_once).await;
        assert_eq!(news(server.url("/"), options()).await, Peer::Away, "closed at once: {at_once}");
        // The handshake of TLS begins with our own words.
        let https = format!("https://{}/", server.address);
        assert_eq!(news(&https, options()).await, Peer::Away, "https, closed at once: {at_once}");
        let http2 = ClientOptions { version: HttpVersion::Http2, ..options() };
        assert_eq!(news(server.url("/"), http2).await, Peer::Away, "http2, closed at once: {at_once}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_post_that_is_ambiguous_is_news_of_its_host_all_the_same() {
    let server = closing(false).await;
    let out = one(post(server.url("/"))).await;
    assert_eq!((out.kind, out.peer), (unisono_core::OutcomeKind::Ambiguous, Peer::Away));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_used_before_may_be_closed_without_any_news() {
    let server = Server::start(|mut connection| async move {
        connection.request().await;
        connection.send(answer(200, &[], b"")).await;
        connection.request().await;
    })
    .await;
    let client = Client::new(options()).unwrap();
    let outs = [
        run_with(&client, vec![post(server.url("/"))], without_retries()).await.remove(0),
        run_with(&client, vec![post(server.url("/"))], without_retries()).await.remove(0),
    ];
    assert_eq!([outs[0].peer, outs[1].peer], [Peer::Fine, Peer::Unknown]);
}

struct Scripted(Cell<bool>);

impl Resolve for Scripted {
    fn resolve(&self, _: &str) -> Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, LookupError>>>> {
        let error = LookupError { temporary: self.0.get(), message: "no".into() };
        Box::pin(async move { Err(error) })
    }
}

#[tokio::test(start_paused = true)]
async fn a_resolver_without_an_answer_is_news_and_a_name_that_does_not_exist_is_none() {
    for (temporary, expected) in [(true, Peer::Away), (false, Peer::Unknown)] {
        let options = ClientOptions { resolver: Some(Rc::new(Scripted(Cell::new(temporary)))), ..options() };
        assert_eq!(news("http://api.test/", options).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_proxy_tells_whether_the_host_is_away() {
    for (status, expected) in
        [(502, Peer::Away), (503, Peer::Away), (504, Peer::Away), (403, Peer::Unknown), (407, Peer::Unknown)]
    {
        let proxy = Server::answering(move |_| answer(status, &[], b"")).await;
        let options = through(&proxy.address.to_string());
        assert_eq!(news("https://api.test/", options).await, expected, "{status}");
    }
    for (code, expected) in [(1, Peer::Away), (2, Peer::Unknown), (3, Peer::Away), (5, Peer::Away), (7, Peer::Unknown)]
    {
        let socks = Server::start(move |mut connection| async move {
            connection.bytes(3).await;
            connection.send([5, 0]).await;
            connection.bytes(4).await;
            connection.send([5, code, 0, 1, 0, 0, 0, 0, 0, 0]).await;
        })
        .await;
        let options = through(&format!("socks5h://{}", socks.address));
        assert_eq!(news("http://api.test/", options).await, expected, "SOCKS {code}");
    }
    let silent = closing(false).await;
    assert_eq!(news("https://api.test/", through(&silent.address.to_string())).await, Peer::Away);
    assert_eq!(news("http://api.test/", through(&refused())).await, Peer::Away);
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_is_not_trusted_is_no_news() {
    let certificates = Certificates::new();
    let signed = certificates.sign(&["elsewhere.test"]);
    let server = Server::start_tls(certificates.server(&signed, &[], false), |mut connection| async move {
        connection.request().await;
    })
    .await;
    let tls = Tls { roots: vec![certificates.authority().into_bytes()], ..Tls::default() };
    assert_eq!(news(format!("https://{}/", server.address), ClientOptions { tls, ..options() }).await, Peer::Unknown);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_news_by_its_status() {
    for (status, headers, expected) in [
        (200, &[][..], Peer::Fine),
        (404, &[], Peer::Fine),
        (429, &[], Peer::Fine),
        (500, &[], Peer::Fine),
        (503, &[], Peer::Overloaded),
        (503, &["Retry-After: 1"], Peer::Fine),
        (502, &[], Peer::Overloaded),
        (521, &[], Peer::Away),
    ] {
        let server = Server::answering(move |_| answer(status, headers, b"")).await;
        assert_eq!(news(server.url("/"), options()).await, expected, "{status} {headers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_is_no_news() {
    let server = Server::start(|mut connection| async move {
        connection.request().await;
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}").await;
    })
    .await;
    assert_eq!(news(server.url("/"), options()).await, Peer::Unknown);
}

#[tokio::test(start_paused = true)]
async fn time_that_runs_out_is_news_of_what_was_waited_for() {
    let limit = Settings { times: Times { timeout: Some(seconds(2)), ..Times::default() }, ..without_retries() };
    let silent = Server::start(|mut connection| async move {
        connection.request().await;
        connection.silence().await;
    })
    .await;
    let client = Client::new(options()).unwrap();
    let out = run_with(&client, vec![get(silent.url("/"))], limit).await.remove(0);
    assert_eq!(out.peer, Peer::Silent);
    // By a deadline that is shorter, as well.
    let times = Times { timeout: None, deadline: Some(seconds(2)), ..Times::default() };
    let by_deadline = Settings { times, ..without_retries() };
    let out = run_with(&client, vec![get(silent.url("/"))], by_deadline).await.remove(0);
    assert_eq!(out.peer, Peer::Silent);
    let begins = Server::start(|mut connection| async move {
        connection.request().await;
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}").await;
        connection.silence().await;
    })
    .await;
    let out = run_with(&client, vec![get(begins.url("/"))], limit).await.remove(0);
    assert_eq!(out.peer, Peer::Overloaded);
    // A server that accepts and never shakes hands: there is no connection yet.
    let mute = Server::start(|mut connection| async move { connection.silence().await }).await;
    let https = format!("https://{}/", mute.address);
    let out = run_with(&client, vec![get(&https), get(&https)], limit).await;
    assert_eq!([out[0].peer, out[1].peer], [Peer::Away; 2]);
    assert_eq!(news(&https, options()).await, Peer::Away, "by the connect timeout");
}

#[tokio::test(start_paused = true)]
async fn a_redirect_to_a_host_that_is_away_is_no_news_of_the_host_that_redirects() {
    let away = refused();
    let location = format!("Location: {away}");
    let server = Server::answering(move |_| answer(302, &[&location], b"")).await;
    assert_eq!(news(server.url("/"), options()).await, Peer::Fine);
    // There and back: the row's own host has the last word.
    let own = std::sync::Arc::new(std::sync::OnceLock::<String>::new());
    let back = own.clone();
    let there = Server::answering(move |_| answer(302, &[back.get().unwrap()], b"")).await;
    let location = format!("Location: {}", there.url("/"));
    let server = Server::answering(move |seen| match seen.target.as_str() {
        "/" => answer(302, &[&location], b""),
        _ => answer(503, &[], b""),
    })
    .await;
    own.set(format!("Location: {}", server.url("/back"))).unwrap();
    assert_eq!(news(server.url("/"), options()).await, Peer::Overloaded);
    // A silent host elsewhere: time runs out, and that says nothing of the row's own.
    let silent = Server::start(|mut connection| async move {
        connection.request().await;
        connection.silence().await;
    })
    .await;
    let location = format!("Location: {}", silent.url("/"));
    let server = Server::answering(move |_| answer(302, &[&location], b"")).await;
    let limit = Settings { times: Times { timeout: Some(seconds(2)), ..Times::default() }, ..without_retries() };
    let out = run(vec![get(server.url("/"))], options(), limit).await.remove(0);
    assert_eq!(out.peer, Peer::Unknown);
}

#[tokio::test(start_paused = true)]
async fn a_repeat_that_begins_with_a_later_hop_elsewhere_is_no_news() {
    let location = format!("Location: {}", refused());
    let server = Server::answering(move |_| answer(303, &[&location], b"")).await;
    let out = one(post(server.url("/"))).await;
    assert_eq!((out.attempts > 1, out.peer, server.seen().len()), (true, Peer::Unknown, 1));
}

#[tokio::test(start_paused = true)]
async fn http2s_own_words_are_news() {
    let http2 = || ClientOptions { version: HttpVersion::Http2, ..options() };
    let calm = Server::start(|mut connection| async move {
        h2::begin(&mut connection, &[]).await;
        let stream = h2::request(&mut connection).await.unwrap();
        h2::reset(&mut connection, stream, 11).await;
        while h2::next(&mut connection).await.is_some() {}
    })
    .await;
    assert_eq!(news(calm.url("/"), http2()).await, Peer::Overloaded);
}
