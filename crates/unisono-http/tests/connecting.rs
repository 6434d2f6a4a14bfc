//! Connections that cannot be made, names that have no address, and certificates that are not to be trusted.

mod support;

use std::{cell::Cell, net::IpAddr, pin::Pin, rc::Rc, time::Duration};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
use support::*;
use unisono_core::{ErrorKind, OutcomeKind, Secret};
use unisono_http::{ClientCertificate, ClientOptions, Family, HostAddress, LookupError, Resolve, Tls};
use unisono_testkit::{Certificates, Server, answer};

/// A port where connections are neither accepted nor refused: its queue is full.
struct BlackHole {
    _listener: std::net::TcpListener,
    _waiting: Vec<std::net::TcpStream>,
    address: std::net::SocketAddr,
}

impl BlackHole {
    fn open(address: std::net::SocketAddr) -> Self {
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        bind(&socket, &address).unwrap();
        listen(&socket, 0).unwrap();
        let listener = std::net::TcpListener::from(socket);
        let address = listener.local_addr().unwrap();
        // Nothing accepts, so the kernel drops whatever comes after the first.
        let waiting = vec![std::net::TcpStream::connect(address).unwrap()];
        Self { _listener: listener, _waiting: waiting, address }
    }
}

#[tokio::test(start_paused = true)]
async fn a_black_hole_ends_at_the_connect_timeout() {
    let hole = BlackHole::open(([127, 0, 0, 1], 0).into());
    let begun = tokio::time::Instant::now();
    let out = once(get(format!("http://{}/", hole.address))).await;
    assert_eq!((out.kind, out.error), (OutcomeKind::Failed, Some(ErrorKind::Connect)));
    assert!(out.message.contains("no answer within 5s"), "{}", out.message);
    assert_eq!(begun.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_black_hole_behind_https_takes_all_requests_that_wait_no_longer() {
    let hole = BlackHole::open(([127, 0, 0, 1], 0).into());
    let begun = tokio::time::Instant::now();
    let requests = (0..20).map(|_| get(format!("https://{}/", hole.address))).collect();
    let outs = run(requests, options(), without_retries()).await;
    assert!(outs.iter().all(|out| out.error == Some(ErrorKind::Connect)), "{outs:?}");
    assert_eq!(begun.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_refused_connection_is_repeated_even_for_a_post() {
    let port = { std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port() };
    for request in [get, post] {
        let out = one(request(format!("http://127.0.0.1:{port}/"))).await;
        assert_eq!((out.kind, out.error, out.attempts), (OutcomeKind::Failed, Some(ErrorKind::Connect), 4));
    }
}

struct Scripted {
    asked: Cell<u32>,
    answer: Box<dyn Fn(u32) -> Result<Vec<IpAddr>, LookupError>>,
}

impl Resolve for Scripted {
    fn resolve(&self, _: &str) -> Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, LookupError>>>> {
        self.asked.set(self.asked.get() + 1);
        let answer = (self.answer)(self.asked.get());
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            answer
        })
    }
}

fn resolving(answer: impl Fn(u32) -> Result<Vec<IpAddr>, LookupError> + 'static) -> (ClientOptions, Rc<Scripted>) {
    let scripted = Rc::new(Scripted { asked: Cell::new(0), answer: Box::new(answer) });
    (ClientOptions { resolver: Some(scripted.clone()), ..options() }, scripted)
}

const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

#[tokio::test(start_paused = true)]
async fn a_name_that_does_not_exist_is_not_asked_for_again() {
    let (options, scripted) =
        resolving(|_| Err(LookupError { temporary: false, message: "Name or service not known".into() }));
    let outs = run((0..100).map(|_| get("http://nowhere.test/")).collect(), options, settings()).await;
    assert!(outs.iter().all(|out| out.error == Some(ErrorKind::Dns) && out.attempts == 1));
    assert!(outs[0].message.contains("`nowhere.test` has no address: Name or service not known"));
    assert_eq!(scripted.asked.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_resolver_that_fails_for_a_moment_is_asked_again() {
    let server = Server::answering(|_| answer(200, &[], b"")).await;
    let (options, _) = resolving(|asked| match asked {
        1 => Err(LookupError { temporary: true, message: "Temporary failure in name resolution".into() }),
        _ => Ok(vec![LOOPBACK]),
    });
    let url = format!("http://api.test:{}/", server.address.port());
    let out = run(vec![post(url)], options, settings()).await.remove(0);
    assert_eq!((out.is_ok(), out.attempts), (true, 2));
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_calls_of_one_name_are_one_query() {
    let server = Server::answering(|_| answer(200, &[], b"")).await;
    let (options, scripted) = resolving(|_| Ok(vec![LOOPBACK]));
    let url = format!("http://api.test:{}/", server.address.port());
    let outs = run((0..10_000).map(|_| get(&url)).collect(), options, settings()).await;
    assert!(outs.iter().all(Out::is_ok));
    assert_eq!(scripted.asked.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_next_address_is_tried_when_the_first_is_dead() {
    let server = Server::answering(|_| answer(200, &[], b"")).await;
    let port = server.address.port();
    let dead = IpAddr::from([127, 0, 0, 9]);
    let given = |addresses: Vec<IpAddr>| ClientOptions {
        hosts: vec![HostAddress { host: "api.test".into(), port: None, addresses }],
        ..options()
    };
    let url = format!("http://api.test:{port}/");
    // Refused: the next one at once.
    assert!(run(vec![get(&url)], given(vec![dead, LOOPBACK]), without_retries()).await[0].is_ok());
    // No answer at all: the next one after a quarter of a second.
    let _hole = BlackHole::open((dead, port).into());
    let begun = tokio::time::Instant::now();
    assert!(run(vec![get(&url)], given(vec![dead, LOOPBACK]), without_retries()).await[0].is_ok());
    assert!(begun.elapsed() >= Duration::from_millis(250) && begun.elapsed() < Duration::from_millis(400));
    let only = ClientOptions { family: Family::V6, ..given(vec![LOOPBACK]) };
    let out = run(vec![get(&url)], only, without_retries()).await.remove(0);
    assert_eq!(out.error, Some(ErrorKind::Dns));
    assert!(out.message.contains("no IPv6 address"));
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_is_not_to_be_trusted_is_refused_once() {
    let (ours, other) = (Certificates::new(), Certificates::new());
    for (signed, why) in [
        (other.sign(&["127.0.0.1"]), "UnknownIssuer"),
        (ours.sign_expired(&["127.0.0.1"]), "xpired"),
        (ours.sign(&["elsewhere.test"]), "not valid for name"),
    ] {
        let server = Server::start_tls(ours.server(&signed, &[], false), |mut connection| async move {
            connection.request().await;
        })
        .await;
        let tls = Tls { roots: vec![ours.authority().into_bytes()], ..Tls::default() };
        let url = format!("https://{}/", server.address);
        let out = run(vec![get(&url)], ClientOptions { tls, ..options() }, settings()).await.remove(0);
        assert_eq!((out.kind, out.error, out.attempts), (OutcomeKind::Failed, Some(ErrorKind::Tls), 1), "{why}");
        assert!(out.message.contains(why), "{why}: {}", out.message);
        assert!(server.seen().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_certificate_is_wanted_and_shown() {
    let certificates = Certificates::new();
    let signed = certificates.sign(&["127.0.0.1"]);
    let server = Server::start_tls(certificates.server(&signed, &["http/1.1"], true), |mut connection| async move {
        while connection.request().await.is_some() {
            connection.send(answer(200, &[], b"")).await;
        }
    })
    .await;
    let url = format!("https://{}/", server.address);
    let roots = vec![certificates.authority().into_bytes()];
    let without = Tls { roots: roots.clone(), ..Tls::default() };
    let out = run(vec![get(&url)], ClientOptions { tls: without, ..options() }, settings()).await.remove(0);
    assert_eq!((out.error, out.attempts), (Some(ErrorKind::Tls), 1), "{out:?}");
    let client = certificates.sign_client();
    let identity = Some(ClientCertificate { chain: client.certificate.into_bytes(), key: Secret::new(client.key) });
    let with = Tls { roots, identity, insecure: false };
    assert!(run(vec![get(&url)], ClientOptions { tls: with, ..options() }, settings()).await[0].is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_unix_socket_takes_the_place_of_whatever_the_address_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    let server = Server::start_unix(&path, |mut connection| async move {
        while connection.request().await.is_some() {
            connection.send(answer(200, &[], b"")).await;
        }
    });
    let options = ClientOptions { unix_socket: Some(path), ..options() };
    assert!(run(vec![get("http://docker/info")], options, without_retries()).await[0].is_ok());
    assert_eq!(server.seen()[0].header("host"), Some("docker"));
}
